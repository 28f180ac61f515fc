"""The training loop: steps, evaluations and snapshots until epochs, patience or time run out."""

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from crnn_jax.config import ModelConfig, RuntimeConfig, TrainConfig
from crnn_jax.data.batches import count_frames, count_steps
from crnn_jax.data.prepared import PreparedSet
from crnn_jax.errors import UserError
from crnn_jax.signals import Terminated
from crnn_jax.train import parallel
from crnn_jax.train.clock import Clock
from crnn_jax.train.compile import Compiled, compile_steps
from crnn_jax.train.devices import batch_mesh, is_cpu
from crnn_jax.train.events import EpochDone, OnTrainEvent, StepDone
from crnn_jax.train.feed import Feed, TrainingFeed
from crnn_jax.train.metrics import TagScores, score_tags
from crnn_jax.train.pace import Pace
from crnn_jax.train.predict import predict
from crnn_jax.train.progress import EndedBy, EpochRecord, Progress
from crnn_jax.train.state import TrainState


class Diverged(Exception):
    """The loss, a gradient, a parameter or an output is no longer a finite number."""


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """All that a run needs to resume, and the best variables so far."""

    state: TrainState
    best: PyTree
    progress: Progress


class Checkpoints(Protocol):
    """Where snapshots are kept (`crnn_jax.train.checkpoints`)."""

    def restore(self, like: Snapshot) -> Snapshot | None:
        """Return the newest snapshot, or None if there is none."""

    def save(self, snapshot: Snapshot) -> None:
        """Start writing a snapshot; the arrays may be freed as soon as this returns."""


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A trained network, its progress and its scores."""

    variables: PyTree
    progress: Progress
    compiled: Compiled
    n_devices: int
    valid: TagScores
    test: TagScores


def fit(
    model_config: ModelConfig,
    config: TrainConfig,
    seed: int,
    data: PreparedSet,
    checkpoints: Checkpoints,
    *,
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
        model_config, config, seed, count_frames(data.mel, config.clip_seconds), mesh
    )
    feed = Feed(data, config, mesh, runtime, compiled.peak_memory_bytes)
    run = _Run(
        compiled, config, runtime, feed, n_steps, checkpoints, on_event, stop_requested, state
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
            progress.loss_sum, progress.steps_in_epoch = 0.0, 0
            on_event(EpochDone(progress.history))
            if stop or due or progress.ended_by:
                run.save()
            if stop:
                raise Terminated
        valid, test = (run.score(run.best, split) for split in ("valid", "test"))
    except UserError:
        # A record cannot be read. Other processes do not know, but would have to take part.
        if jax.process_count() == 1:
            run.settle()
            run.save()
        raise
    finally:
        batches.close()
    progress.seconds = run.clock.seconds()
    return Fitted(run.best, progress, compiled, mesh.size, valid, test)


@jax.jit
def _copy(variables: PyTree) -> PyTree:
    """Copy all arrays, as one program."""
    return jax.tree.map(jnp.copy, variables)


class _Run:
    """The mutable state of a training run, and the operations on it."""

    def __init__(
        self,
        compiled: Compiled,
        config: TrainConfig,
        runtime: RuntimeConfig,
        feed: Feed,
        n_steps: int,
        checkpoints: Checkpoints,
        on_event: OnTrainEvent,
        stop_requested: Callable[[], bool],
        state: TrainState,
    ):
        self.compiled, self.config, self.runtime = compiled, config, runtime
        self.feed, self.n_steps, self.checkpoints = feed, n_steps, checkpoints
        self.on_event, self.stop_requested = on_event, stop_requested
        self.state = state
        # A step donates the memory of the state before it.
        self.best = _copy(state.variables)
        self.progress = Progress()
        self.clock = Clock()
        # XLA's products on CPUs are slower inside a loop, and a step there takes long.
        self._pace = Pace(n_steps, runtime.steps_per_dispatch or (1 if is_cpu(feed.mesh) else None))
        self._dispatches = 0
        # Metrics of the steps in progress, if there are any.
        self._pending: dict[str, Array] | None = None
        self._last_save = time.perf_counter()
        self._saved_at: tuple[int, int, bool] | None = None

    def restore(self) -> None:
        """Resume from the newest snapshot, if there is one."""
        found = self.checkpoints.restore(Snapshot(self.state, self.best, self.progress))
        if found is not None:
            self.state, self.best, self.progress = found.state, found.best, found.progress
            if self.progress.history:
                self.on_event(EpochDone(self.progress.history))

    def train_epoch(self, batches: TrainingFeed) -> None:
        """Train to the end of the epoch, or until time is up."""
        progress, n_steps = self.progress, self.n_steps
        _, _, time_is_up = self.ask()
        while progress.steps_in_epoch < n_steps and not time_is_up:
            count = self._pace.next_steps(n_steps - progress.steps_in_epoch)
            step = self.step_of(count, batches)
            before = self.clock["train"]
            batch = batches.take(count)
            # While the previous steps are in progress, reading does not delay the devices.
            if self._pending is None or self._pending["loss"].is_ready():  # type: ignore[attr-defined]
                self.clock.credit("input_wait", self.clock["train"] - before)
            self.state, metrics = step(self.state, batch)
            # Wait for the previous steps, not these: an accelerator works on these while the next
            # batch is read.
            self.settle()
            self._pending = metrics
            progress.step += count
            progress.steps_in_epoch += count
            self._dispatches += 1
            self._pace.observe(self.clock["train"] - before)
            if self._dispatches % parallel.dispatches_between_questions() == 0:
                stop, due, time_is_up = self.ask()
                if stop or due:
                    self.settle()
                    self.save()
                if stop:
                    raise Terminated
        self.settle()

    def step_of(self, count: int, batches: TrainingFeed) -> Callable:
        """Return the compiled program of as many steps."""
        if count == 1:
            return self.compiled.train
        with self.clock.pause("compile"):
            batches.compile(count)
            return self.compiled.train_several(count)

    def settle(self) -> None:
        """Wait for the steps in progress, and record their losses."""
        if self._pending is None:
            return
        metrics, self._pending = self._pending, None
        fetched = jax.device_get(metrics)
        losses = np.atleast_1d(fetched["loss"]).astype(float).tolist()
        norms = np.atleast_1d(fetched["gradient_norm"]).astype(float).tolist()
        progress = self.progress
        for back, loss, norm in zip(range(len(losses) - 1, -1, -1), losses, norms, strict=True):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise self.diverged(f"loss {loss}, gradient norm {norm}", progress.step - back)
            progress.loss_sum += loss
            self.on_event(
                StepDone(progress.epoch, progress.steps_in_epoch - back, self.n_steps, loss)
            )

    def score_epoch(self) -> None:
        """Score the validation split, and keep the parameters if they are the best so far."""
        progress = self.progress
        scores = self.score(self.state.variables, "valid")
        assert scores.macro_auc is not None, "checked before training by check_scorable"
        if scores.macro_auc > progress.best_valid_auc:
            progress.best_valid_auc = scores.macro_auc
            progress.best_epoch = progress.epoch + 1
            self.best = _copy(self.state.variables)
        record = EpochRecord(
            epoch=progress.epoch + 1,
            step=progress.step,
            loss=progress.loss_sum / max(1, progress.steps_in_epoch),
            valid_auc=scores.macro_auc,
            valid_ap=scores.macro_average_precision,
            train_s=self.clock["train"],
        )
        progress.history = (*progress.history, record)

    def score(self, variables: PyTree, split: str) -> TagScores:
        """Score a split."""
        with self.clock.pause("eval"):
            logits, targets = predict(
                self.compiled.evaluate,
                variables,
                self.feed,
                split,
                between_batches=self._between_batches,
            )
            if not np.isfinite(logits).all():
                raise self.diverged("the network's outputs are no longer finite")
            return score_tags(targets, logits)

    def _between_batches(self) -> None:
        """Save or stop: an evaluation may outlast the time left to a process asked to stop."""
        stop, due, _ = self.ask()
        if stop or due:
            self.save()
        if stop:
            raise Terminated

    def ask(self) -> tuple[bool, bool, bool]:
        """Return whether to stop, to save, and whether time is up: the same in all processes."""
        limit = self.config.max_train_seconds
        due = time.perf_counter() - self._last_save > self.runtime.checkpoint_seconds
        time_is_up = limit is not None and self.clock["train"] >= limit
        stop, due, time_is_up = parallel.agree(self.stop_requested(), due, time_is_up)
        return stop, due, time_is_up

    def reason_to_end(self, time_is_up: bool) -> EndedBy | None:
        """Return what ends the training after this epoch, or None."""
        progress, config = self.progress, self.config
        if time_is_up:
            return "time"
        if progress.epoch == config.epochs:
            return "epochs"
        if progress.epoch - progress.best_epoch >= config.patience:
            return "patience"
        return None

    def save(self) -> None:
        """Write a snapshot, unless the last one has the same position."""
        progress = self.progress
        position = (progress.step, progress.epoch, progress.ended_by is not None)
        if position == self._saved_at:
            return
        with self.clock.pause("checkpoint"):
            # The loss is from before the update, which may be the first that is not finite.
            variables = jax.tree.leaves(self.state.variables)
            if not all(np.isfinite(leaf).all() for leaf in variables):
                raise self.diverged("the parameters are no longer finite")
            progress.seconds = self.clock.seconds()
            self.checkpoints.save(Snapshot(self.state, self.best, progress))
        self._last_save, self._saved_at = time.perf_counter(), position

    def diverged(self, what: str, step: int | None = None) -> Diverged:
        """Return an error that names the step, by default the last one."""
        step = self.progress.step if step is None else step
        return Diverged(f"diverged at step {step}: {what}; try a lower learning rate")
