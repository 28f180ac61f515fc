"""Ahead-of-time compilation of the steps, for one batch shape, on all devices."""

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array

from crnn_jax.config import ModelConfig, TrainConfig
from crnn_jax.data.batches import Batch
from crnn_jax.errors import UserError
from crnn_jax.models import build
from crnn_jax.train import parallel
from crnn_jax.train.devices import AXIS
from crnn_jax.train.feed import evaluation_batch_size
from crnn_jax.train.optimizer import make_optimizer
from crnn_jax.train.state import TrainState, initial_state
from crnn_jax.train.steps import eval_step, train_step, train_steps

# Operations are counted as lowered for these platforms: what minimal filtering saves on a CPU still
# counts as work done, and XLA counts a loop's body only once.
PLAIN = ("tpu",)


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
    model_config: ModelConfig, config: TrainConfig, seed: int, frames: int, mesh: Mesh
) -> tuple[Compiled, TrainState]:
    """Compile both steps ahead of time, so that no step's time includes compilation.

    Returns
    -------
    Compiled
        The steps.
    TrainState
        The state before the first step, on the mesh.
    """
    start = time.perf_counter()
    optimizer = make_optimizer(config)
    model = build(model_config, AXIS)
    # Initialisation runs outside the mesh, where there is no axis to average over.
    state = parallel.put_replicated(
        mesh,
        # The seed is an argument: cells that only differ in it share what is compiled.
        jax.jit(
            lambda seed: initial_state(
                build(model_config), optimizer, seed, model_config.n_mels, frames
            )
        )(np.uint32(seed % 2**32)),
    )
    rows = config.batch_size // jax.process_count()
    batch = parallel.put_batch(
        mesh,
        Batch(
            log_mel=np.zeros((rows, model_config.n_mels, frames), np.float16),
            tags=np.zeros((rows, model_config.n_tags), np.uint8),
        ),
    )
    options = {"model": model, "optimizer": optimizer, "axis_name": AXIS}
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
    evaluate = evaluation_step(model_config, mesh)
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
    optimizer, model = make_optimizer(config), build(model_config)
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
    """Jit `eval_step` on all devices of the mesh: (variables, log_mel) → logits."""
    model = build(model_config, AXIS)
    return parallel.split_over(
        mesh,
        lambda variables, log_mel: eval_step(variables, log_mel, model=model),
        in_specs=(P(), P(AXIS)),
        out_specs=P(AXIS),
    )
