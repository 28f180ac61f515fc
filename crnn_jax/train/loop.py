"""The training loop: steps, evaluations and snapshots until epochs, patience or time run out."""

import dataclasses
from collections.abc import Callable, Mapping

import jax
from jaxtyping import PyTree

from crnn_jax.config import ModelConfig, RuntimeConfig, TrainConfig
from crnn_jax.data.batches import count_crop, count_frames, count_steps
from crnn_jax.data.prepared import PreparedSet
from crnn_jax.errors import UserError
from crnn_jax.signals import Terminated
from crnn_jax.train.clock import Clock
from crnn_jax.train.compile import Compiled, compile_steps
from crnn_jax.train.devices import batch_mesh
from crnn_jax.train.events import EpochDone, OnTrainEvent
from crnn_jax.train.feed import Feed
from crnn_jax.train.progress import Progress
from crnn_jax.train.snapshots import Branching, Checkpoints
from crnn_jax.train.training_run import SplitScores, TrainingRun


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A trained network, its progress and its scores."""

    variables: PyTree
    progress: Progress
    compiled: Compiled
    n_devices: int
    scores: Mapping[str, SplitScores]


def fit(
    model_config: ModelConfig,
    config: TrainConfig,
    seed: int,
    data: PreparedSet,
    checkpoints: Checkpoints,
    *,
    branching: Branching = Branching(),
    runtime: RuntimeConfig = RuntimeConfig(),
    on_event: OnTrainEvent = lambda event: None,
    stop_requested: Callable[[], bool] = lambda: False,
) -> Fitted:
    """Train until epochs, patience or time run out, and score the best parameters.

    The best parameters are those after the epoch with the highest macro AUC on the validation
    split. A run that finds a snapshot resumes from it, and ends with the same numbers as an
    uninterrupted run.

    Parameters
    ----------
    model_config, config, data
        The network, how it is trained, and the data set.
    seed
        Seed of the parameters, of dropout and of the order of the examples.
    checkpoints
        Where snapshots are kept.
    branching
        Runs that share a beginning with this one.
    runtime
        How the run is executed; no number depends on it, beyond rounding.
    on_event
        Called with each `crnn_jax.train.events.TrainEvent`.
    stop_requested
        Called after every dispatch of steps (with several processes, after some), and between the
        batches of an evaluation; once it returns True, a snapshot is written and training stops.

    Raises
    ------
    UserError
        If the batch size is not a multiple of the number of devices, the training split does not
        fill one batch, or a record cannot be read; in the last case a snapshot is written if one
        process trains alone.
    Diverged
        If a number stops being finite.
    Terminated
        If a stop was requested: the same call resumes from the snapshot.
    """
    mesh = batch_mesh(config.batch_size, runtime.devices)
    n_steps = count_steps(data, config)
    for split in data.n_examples:
        # A split that cannot be opened is an error now, not after the first epoch.
        data.source(split)
    compiled, state = compile_steps(
        model_config,
        config,
        seed,
        count_frames(data.mel, config.clip_seconds),
        mesh,
        crop=count_crop(data.mel, config),
        steps_per_epoch=n_steps,
    )
    feed = Feed(data, config, mesh, runtime, compiled.peak_memory_bytes)
    run = TrainingRun(
        compiled,
        config,
        runtime,
        feed,
        n_steps,
        checkpoints,
        branching,
        on_event,
        stop_requested,
        state,
    )
    run.restore()
    progress = run.progress
    # What is kept in memory is read now: that is neither training time nor evaluation time.
    feed.load()
    batches = feed.training(seed, first=progress.step)
    try:
        if progress.ended_by is None:
            # Nor is the start of processes that read ahead, which takes seconds.
            batches.start()
            batches.compile(1)
        run.clock = Clock(progress.seconds)
        while progress.ended_by is None:
            run.train_epoch(batches)
            run.score_epoch()
            stop, due, time_is_up = run.ask()
            progress.ended_by = run.reason_to_end(time_is_up)
            on_event(EpochDone(progress.history))
            if stop or due or progress.ended_by:
                run.save()
            if stop:
                raise Terminated
        scores = {
            split: run.score(run.best, split) for split in data.n_examples if split != "train"
        }
    except UserError:
        # A record cannot be read. Other processes do not know, but would have to take part.
        if jax.process_count() == 1:
            run.settle()
            run.save()
        raise
    finally:
        batches.close()
    progress.seconds = run.clock.seconds()
    return Fitted(run.best, progress, compiled, mesh.size, scores)
