"""Training of one network: pure steps, and the loop around them."""

import contextlib
import dataclasses
import functools
import itertools
import math
import time
from collections.abc import Callable
from typing import Any, Literal, Protocol

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int, PyTree

from crnn_jax import parallel
from crnn_jax.config import ModelConfig, TrainConfig
from crnn_jax.datasets import PreparedSet
from crnn_jax.errors import UserError
from crnn_jax.metrics import TagScores, score_tags
from crnn_jax.models import build, matmul_precision
from crnn_jax.pipeline import (
    Batch,
    evaluation_batches,
    frames_of,
    steps_of_epoch,
    training_batches,
)
from crnn_jax.signals import Terminated

# Operations are counted as these platforms get them: what minimal filtering saves on a CPU is not
# to be counted as work not done, and XLA counts a loop's body once.
PLAIN = ("tpu",)


class Diverged(Exception):
    """The loss or a gradient is no longer a finite number."""


@flax.struct.dataclass
class TrainState:
    """All that a training step changes.

    Attributes
    ----------
    step
        Steps done.
    params, batch_stats
        The network's trainable parameters and running statistics.
    opt_state
        The optimiser's state.
    key
        Random key, from which every step derives its own.
    """

    step: Int[Array, ""]
    params: PyTree
    batch_stats: PyTree
    opt_state: PyTree
    key: Array

    @property
    def variables(self) -> dict[str, PyTree]:
        """What the network's `apply` takes."""
        return {"params": self.params, "batch_stats": self.batch_stats}


def initial_state(
    model: nn.Module, optimizer: optax.GradientTransformation, seed: int, n_mels: int, frames: int
) -> TrainState:
    """A state before the first step, determined by the seed."""
    # XLA's own generator: the default one takes seconds to compile for a dozen initialisers. The
    # numbers are the same on every device of one kind, whatever their number.
    init_key = jax.random.key(seed, impl="rbg")
    log_mel = jnp.zeros((1, n_mels, frames))
    variables = model.init(init_key, log_mel, train=False)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        opt_state=optimizer.init(variables["params"]),
        key=jax.random.key_data(jax.random.key(seed)),
    )


def train_step(
    state: TrainState,
    batch: Batch,
    *,
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    axis_name: str | None,
) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
    """One step of Adam on the binary cross-entropy, averaged over examples and tags.

    A pure function. With `axis_name`, `batch` holds this device's rows of the batch, and gradients
    and batch statistics are averaged over that axis of the mesh.

    Returns
    -------
    TrainState
        After the step.
    dict
        ``loss``, of the batch before the step, and ``gradient_norm``.
    """
    log_mel = batch["log_mel"].astype(jnp.float32)
    targets = batch["tags"].astype(jnp.float32)
    dropout_key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)

    def loss_of(params: PyTree) -> tuple[Float[Array, ""], PyTree]:
        logits, updated = model.apply(
            {"params": params, "batch_stats": state.batch_stats},
            log_mel,
            train=True,
            rngs={"dropout": dropout_key},
            mutable=["batch_stats"],
        )
        loss = optax.sigmoid_binary_cross_entropy(logits, targets).mean()
        return loss, updated["batch_stats"]

    with matmul_precision(model):
        (loss, batch_stats), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
    if axis_name is not None:
        loss, gradients = lax.pmean((loss, gradients), axis_name)
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    after = TrainState(
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        batch_stats=batch_stats,
        opt_state=opt_state,
        key=state.key,
    )
    return after, {"loss": loss, "gradient_norm": optax.tree.norm(gradients)}


def eval_step(
    variables: PyTree, log_mel: Float[Array, "batch mel frames"], *, model: nn.Module
) -> Float[Array, "batch tags"]:
    """Logits of a batch, with running statistics and without dropout. A pure function."""
    with matmul_precision(model):
        logits: Float[Array, "batch tags"] = model.apply(  # type: ignore[assignment]
            variables, log_mel.astype(jnp.float32), train=False
        )
    return logits


@dataclasses.dataclass(frozen=True)
class Compiled:
    """The two steps, compiled for one shape of batch, and what XLA says of them."""

    train: Callable
    evaluate: Callable
    compile_s: float
    flops_per_sample: float
    peak_memory_bytes: int


def compile_steps(
    model_config: ModelConfig, config: TrainConfig, seed: int, frames: int, mesh: Mesh
) -> tuple[Compiled, TrainState]:
    """Compile both steps ahead of time, so that no step's time has compilation in it.

    Returns
    -------
    Compiled
        ``train(state, batch)`` gives up the memory of the state that it is given.
    TrainState
        The state before the first step, on the mesh.
    """
    start = time.perf_counter()
    optimizer = optax.adam(config.learning_rate)
    model = build(model_config, parallel.AXIS)
    # Initialisation runs outside the mesh, where there is no axis to average over.
    state = parallel.put_replicated(
        mesh,
        jax.jit(
            lambda: initial_state(build(model_config), optimizer, seed, model_config.n_mels, frames)
        )(),
    )
    rows = config.batch_size // jax.process_count()
    batch = parallel.put_batch(
        mesh,
        Batch(
            log_mel=np.zeros((rows, model_config.n_mels, frames), np.float16),
            tags=np.zeros((rows, model_config.n_tags), np.uint8),
        ),
    )
    train = parallel.split_over(
        mesh,
        lambda state, batch: train_step(
            state, batch, model=model, optimizer=optimizer, axis_name=parallel.AXIS
        ),
        in_specs=(P(), P(parallel.AXIS)),
        out_specs=(P(), P()),
        donate_argnums=0,
    )
    evaluate = evaluation_step(model_config, mesh)
    traced = train.trace(state, batch)
    compiled_train = traced.lower().compile()
    compiled_evaluate = evaluate.lower(state.variables, batch["log_mel"]).compile()
    counted = traced.lower(lowering_platforms=PLAIN).cost_analysis()
    # The plugins of GPUs and TPUs do not count.
    flops = (
        flops_of_step(model_config, config, frames)
        if counted is None
        else counted["flops"] * mesh.size / config.batch_size
    )
    memory = compiled_train.memory_analysis()
    peak_memory = (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
    )
    jax.block_until_ready(state)
    compile_s = time.perf_counter() - start
    compiled = Compiled(compiled_train, compiled_evaluate, compile_s, flops, peak_memory)
    return compiled, state


def flops_of_step(model_config: ModelConfig, config: TrainConfig, frames: int) -> float:
    """Floating-point operations of a training step for a sample, counted by XLA on a CPU.

    Raises
    ------
    UserError
        If the environment leaves JAX no CPU.
    """
    try:
        (cpu, *_) = jax.local_devices(backend="cpu")
    except RuntimeError as error:
        raise UserError(
            f"JAX_PLATFORMS: without a CPU ({error}), on which operations are counted; "
            f"add cpu to it, such as cuda,cpu"
        ) from error
    optimizer, model = optax.adam(config.learning_rate), build(model_config)
    state = jax.eval_shape(lambda: initial_state(model, optimizer, 0, model_config.n_mels, frames))
    rows = config.batch_size
    batch = {
        "log_mel": jax.ShapeDtypeStruct((rows, model_config.n_mels, frames), jnp.float16),
        "tags": jax.ShapeDtypeStruct((rows, model_config.n_tags), jnp.uint8),
    }
    step = functools.partial(train_step, model=model, optimizer=optimizer, axis_name=None)
    with jax.default_device(cpu):
        lowered = jax.jit(step).trace(state, batch).lower(lowering_platforms=PLAIN)
    counted = lowered.cost_analysis()
    assert counted is not None
    return counted["flops"] / rows


def evaluation_step(model_config: ModelConfig, mesh: Mesh) -> Any:
    """`eval_step` on all devices of the mesh, jitted: (variables, log_mel) → logits."""
    model = build(model_config, parallel.AXIS)
    return parallel.split_over(
        mesh,
        lambda variables, log_mel: eval_step(variables, log_mel, model=model),
        in_specs=(P(), P(parallel.AXIS)),
        out_specs=P(parallel.AXIS),
    )


def predict(
    evaluate: Callable,
    variables: PyTree,
    data: PreparedSet,
    split: str,
    config: TrainConfig,
    mesh: Mesh,
    *,
    between_batches: Callable[[], None] = lambda: None,
) -> tuple[Float[np.ndarray, "examples tags"], Int[np.ndarray, "examples tags"]]:
    """Logits and targets of a whole split, in its stored order; the short last batch included.

    What `between_batches` raises ends it; all processes call it at the same batches.

    Raises
    ------
    UserError
        If there is no such split.
    """
    process, n_processes = jax.process_index(), jax.process_count()
    rows = config.batch_size // n_processes
    frames = frames_of(data.mel, config.clip_seconds)
    # What a process reads whose rows of the last batch are all past the end. It takes part all the
    # same: the others' arrays are gathered with it.
    nothing = Batch(
        log_mel=np.zeros((0, data.mel.n_mels, frames), np.float16),
        tags=np.zeros((0, len(data.tag_names)), np.uint8),
    )
    n_examples = len(data.source(split))
    logits, targets = [], []
    with contextlib.closing(
        evaluation_batches(data, split, config, process=process, n_processes=n_processes)
    ) as reader:
        for number in range(math.ceil(n_examples / config.batch_size)):
            if number % parallel.steps_between_questions() == 0:
                between_batches()
            batch = next(reader, nothing)
            log_mel = parallel.put_batch(mesh, parallel.pad_rows(batch["log_mel"], rows))
            logits.append(parallel.gather(evaluate(variables, log_mel)))
            targets.append(parallel.gather(parallel.pad_rows(batch["tags"], rows)))
    # The rows that were made up are the last ones.
    return np.concatenate(logits)[:n_examples], np.concatenate(targets)[:n_examples]


@dataclasses.dataclass
class Progress:
    """Where a run stands, but for its arrays: what is plain enough for JSON.

    Attributes
    ----------
    history
        One entry a finished epoch: a line of ``metrics.jsonl``.
    step
        Steps so far, and so the number of the next batch.
    loss_sum
        Sum of the losses of this epoch's steps so far.
    steps_in_epoch
        Steps of this epoch so far.
    best_valid_auc, best_epoch
        Of the parameters that are kept. Epochs count from 1.
    train_s, eval_s, input_wait_s, checkpoint_s
        Wall time spent so far, in s. `train_s` has the waiting for input in it, and neither
        compilation, evaluation nor checkpoints. `input_wait_s` is at most too long: the whole time
        of reading a batch, if the devices had nothing left to do by the end of it.
    ended_by
        What ended the training, once it has ended.
    """

    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    step: int = 0
    loss_sum: float = 0.0
    steps_in_epoch: int = 0
    best_valid_auc: float = -1.0
    best_epoch: int = 0
    train_s: float = 0.0
    eval_s: float = 0.0
    input_wait_s: float = 0.0
    checkpoint_s: float = 0.0
    ended_by: Literal["epochs", "patience", "time"] | None = None

    @property
    def epoch(self) -> int:
        """Finished epochs."""
        return len(self.history)


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """The arrays of a run: the state, and the best variables so far."""

    state: TrainState
    best: PyTree


class Checkpoints(Protocol):
    """Where snapshots are kept (`crnn_jax.checkpoints`)."""

    def restore(self, like: Snapshot) -> tuple[Snapshot, dict[str, Any]] | None:
        """The newest snapshot and its progress, or None if there is none."""

    def save(self, snapshot: Snapshot, progress: dict[str, Any]) -> None:
        """Begin to write a snapshot; the arrays may be given up as soon as this returns."""


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A trained network and how it came about."""

    variables: PyTree
    progress: Progress
    compiled: Compiled
    valid: TagScores
    test: TagScores


# Called after every step with finished epochs, steps of this epoch, steps of an epoch, loss.
Report = Callable[[int, int, int, float], None]


def fit(
    model_config: ModelConfig,
    config: TrainConfig,
    seed: int,
    data: PreparedSet,
    checkpoints: Checkpoints,
    *,
    on_step: Report,
    on_epoch: Callable[[list[dict[str, Any]]], None],
    stop_requested: Callable[[], bool] = lambda: False,
) -> Fitted:
    """Train until epochs, patience or time run out, and score the best parameters.

    The best parameters are those after the epoch with the highest macro AUC on the validation
    split. A run that finds a snapshot goes on from there, and ends with the same numbers as if it
    had never stopped.

    Parameters
    ----------
    model_config, config, data
        What is trained, how, and on what.
    seed
        Of the parameters, of dropout and of the order of the examples.
    checkpoints
        Where snapshots are kept.
    on_step
        Told of every step.
    on_epoch
        Given the whole history after every epoch, and when a run goes on.
    stop_requested
        Asked after every step, and between the batches of an evaluation; if so, a snapshot is
        written and the run left.

    Raises
    ------
    UserError
        If the devices do not divide the batch size, the training split does not fill one batch, or
        a record cannot be read; in the last case a snapshot is written, where one process trains.
    Diverged
        If the loss or a gradient stops being a finite number.
    Terminated
        If a stop was requested: the same call goes on from there.
    """
    mesh = parallel.batch_mesh()
    parallel.check_batch_size(config.batch_size, mesh)
    frames = frames_of(data.mel, config.clip_seconds)
    steps_per_epoch = steps_of_epoch(data, config)
    for split in data.n_examples:
        # What cannot be opened is an error now, not after the first epoch.
        data.source(split)
    compiled, state = compile_steps(model_config, config, seed, frames, mesh)

    progress = Progress()
    # A copy: a step gives up the memory of the state before it.
    best = jax.tree.map(jnp.copy, state.variables)
    if (restored := checkpoints.restore(Snapshot(state, best))) is not None:
        state, best = restored[0].state, restored[0].best
        # Older snapshots tell the number of the next batch twice.
        progress = Progress(**{k: v for k, v in restored[1].items() if k != "reader"})
        if progress.history:
            on_epoch(progress.history)
    last_save, last_saved = time.perf_counter(), (-1, -1, False)

    def save() -> None:
        nonlocal last_save, last_saved
        stands_at = (progress.step, progress.epoch, progress.ended_by is not None)
        if stands_at == last_saved:
            return
        start = time.perf_counter()
        # The loss is that before the step: its update may be the first that is not finite.
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.variables)):
            raise Diverged(
                f"diverged at step {progress.step}: the parameters are no longer finite; try a "
                f"lower --learning-rate"
            )
        checkpoints.save(Snapshot(state, best), dataclasses.asdict(progress))
        last_save, last_saved = time.perf_counter(), stands_at
        progress.checkpoint_s += last_save - start

    def save_is_due() -> bool:
        return time.perf_counter() - last_save > config.checkpoint_seconds

    def ask() -> tuple[bool, ...]:
        """Whether to stop, whether to save, and whether the time is up."""
        up = config.max_train_seconds is not None and progress.train_s >= config.max_train_seconds
        return parallel.agree(stop_requested(), save_is_due(), up)

    def between_batches() -> None:
        """An evaluation may take longer than is left to a process that is asked to stop."""
        stop, due, _ = ask()
        if stop or due:
            save()
        if stop:
            raise Terminated

    def scores_of(variables: PyTree, split: str) -> TagScores:
        start, checkpoint_s = time.perf_counter(), progress.checkpoint_s
        logits, targets = predict(
            compiled.evaluate,
            variables,
            data,
            split,
            config,
            mesh,
            between_batches=between_batches,
        )
        if not np.isfinite(logits).all():
            raise Diverged(
                f"diverged at step {progress.step}: the network's outputs are no longer finite; "
                f"try a lower --learning-rate"
            )
        scores = score_tags(targets, logits)
        progress.eval_s += time.perf_counter() - start - (progress.checkpoint_s - checkpoint_s)
        return scores

    unsettled: list[dict[str, Array]] = []

    def settle() -> None:
        """Wait for the steps under way, and take up their losses."""
        while unsettled:
            metrics = unsettled.pop(0)
            loss, gradient_norm = float(metrics["loss"]), float(metrics["gradient_norm"])
            if not (math.isfinite(loss) and math.isfinite(gradient_norm)):
                raise Diverged(
                    f"diverged at step {progress.step - len(unsettled)}: loss {loss}, "
                    f"gradient norm {gradient_norm}; try a lower --learning-rate"
                )
            progress.loss_sum += loss
            on_step(progress.epoch, progress.steps_in_epoch, steps_per_epoch, loss)

    reader = training_batches(
        data,
        config,
        seed,
        first=progress.step,
        process=jax.process_index(),
        n_processes=jax.process_count(),
    )
    try:
        if progress.ended_by is None:
            # Processes that read ahead take seconds to start, which are no time of training.
            batches = itertools.chain([next(reader)], reader)
        while progress.ended_by is None:
            start = time.perf_counter()
            _, _, time_is_up = ask()
            while progress.steps_in_epoch < steps_per_epoch and not time_is_up:
                batch = parallel.put_batch(mesh, next(batches))
                # While the step before is under way, reading costs the devices nothing.
                if not unsettled or unsettled[-1]["loss"].is_ready():  # type: ignore[attr-defined]
                    progress.input_wait_s += time.perf_counter() - start
                state, metrics = compiled.train(state, batch)
                # The step before is waited for, not this one: an accelerator works on this one
                # while the next batch is read.
                settle()
                unsettled.append(metrics)
                progress.step += 1
                progress.steps_in_epoch += 1
                progress.train_s += time.perf_counter() - start
                start = time.perf_counter()
                stop = due = False
                if progress.step % parallel.steps_between_questions() == 0:
                    stop, due, time_is_up = ask()
                if stop or due:
                    settle()
                progress.train_s += time.perf_counter() - start
                if stop or due:
                    save()
                if stop:
                    raise Terminated
                start = time.perf_counter()
            settle()
            progress.train_s += time.perf_counter() - start

            scores = scores_of(state.variables, "valid")
            assert scores.macro_auc is not None, "checked before training by check_scorable"
            if scores.macro_auc > progress.best_valid_auc:
                progress.best_valid_auc = scores.macro_auc
                progress.best_epoch = progress.epoch + 1
                best = jax.tree.map(jnp.copy, state.variables)
            progress.history.append(
                {
                    "epoch": progress.epoch + 1,
                    "step": progress.step,
                    "loss": progress.loss_sum / max(1, progress.steps_in_epoch),
                    "valid_auc": scores.macro_auc,
                    "valid_ap": scores.macro_average_precision,
                    "train_s": progress.train_s,
                }
            )
            stop, due, time_is_up = ask()
            if time_is_up:
                progress.ended_by = "time"
            elif progress.epoch == config.epochs:
                progress.ended_by = "epochs"
            elif progress.epoch - progress.best_epoch >= config.patience:
                progress.ended_by = "patience"
            progress.loss_sum, progress.steps_in_epoch = 0.0, 0
            on_epoch(progress.history)
            if stop or due or progress.ended_by:
                save()
            if stop:
                raise Terminated
        valid, test = (scores_of(best, split) for split in ("valid", "test"))
    except UserError:
        # A record cannot be read. Other processes do not know of it, and would have to take part.
        if jax.process_count() == 1:
            settle()
            save()
        raise
    finally:
        reader.close()
    return Fitted(best, progress, compiled, valid, test)
