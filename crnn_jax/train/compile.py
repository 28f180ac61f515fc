"""Ahead-of-time compilation of the steps, for one batch shape, on all devices."""

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from crnn_jax.config import ModelConfig, TrainConfig
from crnn_jax.data.batches import Batch
from crnn_jax.errors import UserError
from crnn_jax.models import build
from crnn_jax.train import parallel
from crnn_jax.train.devices import AXIS
from crnn_jax.train.optimizer import make_optimizer
from crnn_jax.train.state import TrainState, initial_state
from crnn_jax.train.steps import eval_step, train_step

# Operations are counted as lowered for these platforms: what minimal filtering saves on a CPU still
# counts as work done, and XLA counts a loop's body only once.
PLAIN = ("tpu",)


@dataclasses.dataclass(frozen=True)
class Compiled:
    """The two steps, compiled for one batch shape, and what they cost."""

    train: Callable
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
        ``train(state, batch)`` donates the memory of its state.
    TrainState
        The state before the first step, on the mesh.
    """
    start = time.perf_counter()
    optimizer = make_optimizer(config)
    model = build(model_config, AXIS)
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
            state, batch, model=model, optimizer=optimizer, axis_name=AXIS
        ),
        in_specs=(P(), P(AXIS)),
        out_specs=(P(), P()),
        donate_argnums=0,
    )
    evaluate = evaluation_step(model_config, mesh)
    traced = train.trace(state, batch)
    compiled_train = traced.lower().compile()
    compiled_evaluate = evaluate.lower(state.variables, batch["log_mel"]).compile()
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
    compiled = Compiled(compiled_train, compiled_evaluate, compile_s, flops, peak_memory)
    return compiled, state


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
