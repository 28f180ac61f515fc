"""Ahead-of-time compilation of the steps, for one batch shape, on all devices."""

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, PyTree

from crnn_jax.config import ModelConfig, TrainConfig
from crnn_jax.data.batches import Batch
from crnn_jax.errors import UserError
from crnn_jax.models import build
from crnn_jax.train import parallel, parametrization
from crnn_jax.train.devices import AXIS
from crnn_jax.train.feed import evaluation_batch_size
from crnn_jax.train.optimizer import make_optimizer, with_plan
from crnn_jax.train.schedule import NEVER, Plan, make_plan
from crnn_jax.train.state import TrainState, initial_state
from crnn_jax.train.steps import eval_step, train_step, train_steps

# Operations are counted as lowered for these platforms: what minimal filtering saves on a CPU still
# counts as work done, and XLA counts a loop's body only once.
PLAIN = ("tpu",)
# Numbers of a schedule of which only the shapes count.
PLACEHOLDER = Plan(np.float32(0), np.int32(0), np.int32(NEVER), np.int32(1))


@dataclasses.dataclass(frozen=True)
class Compiled:
    """The steps, compiled for one batch shape, and what they cost.

    Attributes
    ----------
    train
        (state, batch) → (state, metrics); donates the memory of its state.
    train_several
        Compiles as many steps into one program, in s: (state, batches along a new first axis) →
        (state, metrics of each step).
    evaluate
        (variables, log_mel) → logits.
    compile_s
        Wall time of compiling `train` and `evaluate`, in s.
    flops_per_sample
        Floating-point operations of a training step, per clip.
    peak_memory_bytes
        Memory of a training step on one device, in XLA's plan.
    """

    train: Callable
    train_several: Callable[[int], Callable]
    evaluate: Callable
    compile_s: float
    flops_per_sample: float
    peak_memory_bytes: int


def compile_steps(
    model_config: ModelConfig,
    config: TrainConfig,
    seed: int,
    frames: int,
    mesh: Mesh,
    *,
    crop: int | None = None,
    steps_per_epoch: int = 1,
) -> tuple[Compiled, TrainState]:
    """Compile both steps ahead of time, so that no step's time includes compilation.

    Parameters
    ----------
    model_config, config, seed
        The network, how it is trained, and the seed of its parameters and dropout.
    frames, crop
        Frames of an example, and of the part of it that the network sees; None: all.
    mesh
        The devices.
    steps_per_epoch
        Steps of an epoch, which with the number of epochs is the length of the schedule.

    Returns
    -------
    Compiled
        The steps.
    TrainState
        The state before the first step, on the mesh.
    """
    start = time.perf_counter()
    seen = crop or frames
    optimizer = optimizer_for(model_config, config, seen)
    model = build(model_config, AXIS)

    def scale(params: PyTree) -> PyTree:
        if config.parametrization == "standard":
            return params
        return parametrization.scale_initial(params, model_config, seen)

    # Initialisation runs outside the mesh, where there is no axis to average over.
    state = parallel.put_replicated(
        mesh,
        # The seed is an argument: cells that only differ in it share what is compiled.
        jax.jit(
            lambda seed: initial_state(
                build(model_config), optimizer, seed, model_config.n_mels, seen, scale
            )
        )(np.uint32(seed % 2**32)),
    )
    # So do those that only differ in the numbers of their schedule.
    plan = parallel.put_replicated(mesh, make_plan(config, steps_per_epoch))
    state = dataclasses.replace(state, opt_state=with_plan(state.opt_state, plan))
    rows = config.batch_size // jax.process_count()
    batch = parallel.put_batch(
        mesh,
        Batch(
            log_mel=np.zeros((rows, model_config.n_mels, frames), np.float16),
            tags=np.zeros((rows, model_config.n_tags), np.uint8),
        ),
    )
    options = {"model": model, "optimizer": optimizer, "axis_name": AXIS, "crop": crop}
    train, several = (
        parallel.split_over(
            mesh,
            functools.partial(step, **options),
            in_specs=(P(), spec),
            out_specs=(P(), P()),
            donate_argnums=0,
        )
        for step, spec in ((train_step, P(AXIS)), (train_steps, P(None, AXIS)))
    )
    evaluate = evaluation_step(model_config, mesh, crop)
    evaluated = jax.ShapeDtypeStruct(
        (evaluation_batch_size(config, mesh), *batch["log_mel"].shape[1:]),
        np.float16,
        sharding=batch["log_mel"].sharding,
    )
    traced = train.trace(state, batch)
    compiled_train = traced.lower().compile()
    compiled_evaluate = evaluate.lower(state.variables, evaluated).compile()
    counted = traced.lower(lowering_platforms=PLAIN).cost_analysis()
    # The plugins for GPUs and TPUs do not count operations.
    flops = (
        flops_of_step(model_config, config, seen)
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

    state_shapes = jax.tree.map(_shape, state)

    @functools.cache
    def train_several(n_steps: int) -> Callable:
        sharding = NamedSharding(mesh, P(None, AXIS))
        batches = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((n_steps, *x.shape), x.dtype, sharding=sharding), batch
        )
        return several.lower(state_shapes, batches).compile()

    return Compiled(
        train=compiled_train,
        train_several=train_several,
        evaluate=compiled_evaluate,
        compile_s=compile_s,
        flops_per_sample=flops,
        peak_memory_bytes=peak_memory,
    ), state


def _shape(array: Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=array.sharding)


def optimizer_for(
    model_config: ModelConfig, config: TrainConfig, frames: int
) -> optax.GradientTransformation:
    """Return the optimiser of a network; the numbers of its schedule are in its state."""
    standard = config.parametrization == "standard"
    rates = None if standard else parametrization.learning_rates(model_config, frames)
    # Every state gets the numbers of its run.
    return make_optimizer(config, PLACEHOLDER, rates)


def flops_of_step(model_config: ModelConfig, config: TrainConfig, frames: int) -> float:
    """Count the floating-point operations of a training step per sample, with XLA on a CPU.

    Raises
    ------
    UserError
        If JAX has no CPU in this environment.
    """
    try:
        (cpu, *_) = jax.local_devices(backend="cpu")
    except RuntimeError as error:
        raise UserError(
            f"JAX_PLATFORMS: no CPU to count operations on ({error}); add cpu to it, such as "
            f"cuda,cpu"
        ) from error
    optimizer, model = optimizer_for(model_config, config, frames), build(model_config)
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


def evaluation_step(model_config: ModelConfig, mesh: Mesh, crop: int | None = None) -> Any:
    """Jit `eval_step` on all devices of the mesh: (variables, log_mel) → logits."""
    model = build(model_config, AXIS)
    return parallel.split_over(
        mesh,
        lambda variables, log_mel: eval_step(variables, log_mel, model=model, crop=crop),
        in_specs=(P(), P(AXIS)),
        out_specs=P(AXIS),
    )
