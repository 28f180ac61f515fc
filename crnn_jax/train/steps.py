"""The pure steps of training and evaluation, for one device or for one of several."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float, PyTree

from crnn_jax.data.batches import Batch
from crnn_jax.models import matmul_precision
from crnn_jax.train.state import TrainState


def train_step(
    state: TrainState,
    batch: Batch,
    *,
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    axis_name: str | None,
) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
    """Take one step of Adam on the binary cross-entropy, averaged over examples and tags.

    A pure function. With `axis_name`, `batch` holds this device's rows of the batch, and gradients
    and batch statistics are averaged over that axis of the mesh.

    Returns
    -------
    TrainState
        The state after the step.
    dict
        ``loss`` of the batch before the step, and ``gradient_norm``.
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


def train_steps(
    state: TrainState, batches: Batch, **options: Any
) -> tuple[TrainState, dict[str, Float[Array, "steps"]]]:
    """Take a step for each batch along the first axis; the metrics of all steps are returned.

    A pure function; `options` are those of `train_step`.
    """
    return lax.scan(functools.partial(train_step, **options), state, batches)


def eval_step(
    variables: PyTree, log_mel: Float[Array, "batch mel frames"], *, model: nn.Module
) -> Float[Array, "batch tags"]:
    """Compute the logits of a batch, with running statistics and without dropout (pure)."""
    with matmul_precision(model):
        logits: Float[Array, "batch tags"] = model.apply(  # type: ignore[assignment]
            variables, log_mel.astype(jnp.float32), train=False
        )
    return logits
