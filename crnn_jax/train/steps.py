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
from crnn_jax.models.blocks import example_keys
from crnn_jax.train.state import TrainState


def train_step(
    state: TrainState,
    batch: Batch,
    *,
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    axis_name: str | None,
    crop: int | None = None,
) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
    """Take one step of Adam on the binary cross-entropy, averaged over examples and tags.

    A pure function. With `axis_name`, `batch` holds this device's rows of the batch, and gradients
    and batch statistics are averaged over that axis of the mesh. With `crop`, the step sees as many
    successive frames of each example, from a random one on.

    Returns
    -------
    TrainState
        The state after the step.
    dict
        ``loss`` of the batch before the step, and ``gradient_norm``.
    """
    log_mel: Array = jnp.asarray(batch["log_mel"]).astype(jnp.float32)
    targets = batch["tags"].astype(jnp.float32)
    dropout_key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
    if crop is not None and crop < log_mel.shape[2]:
        log_mel = crop_randomly(log_mel, crop, jax.random.fold_in(dropout_key, 0), axis_name)

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


def crop_randomly(
    log_mel: Float[Array, "batch mel frames"], crop: int, key: Array, axis_name: str | None
) -> Float[Array, "batch mel crop"]:
    """Cut `crop` successive frames out of each example, from a random one on.

    Where an example is cut depends on the key and its place in the whole batch, not on how the
    batch is split over `axis_name`.
    """
    batch, _, frames = log_mel.shape
    keys = example_keys(key, batch, axis_name)
    starts = jax.vmap(lambda key: jax.random.randint(key, (), 0, frames - crop + 1))(keys)
    return jax.vmap(lambda x, start: lax.dynamic_slice_in_dim(x, start, crop, axis=1))(
        log_mel, starts
    )


def eval_step(
    variables: PyTree,
    log_mel: Float[Array, "batch mel frames"],
    *,
    model: nn.Module,
    crop: int | None = None,
) -> Float[Array, "batch tags"]:
    """Compute the logits of a batch, with running statistics and without dropout (pure).

    With `crop`, the network sees parts of as many frames that together cover an example; the mean
    of its outputs, which are probabilities, is returned as logits.
    """

    def predict(log_mel: Float[Array, "rows mel frames"]) -> Float[Array, "rows tags"]:
        with matmul_precision(model):
            return model.apply(variables, log_mel.astype(jnp.float32), train=False)  # type: ignore[return-value]

    frames = log_mel.shape[2]
    if crop is None or crop >= frames:
        return predict(log_mel)
    n_windows = -(-frames // crop)
    # Evenly spread, the first at the start and the last at the end; they overlap as little as
    # possible.
    starts = [round(i * (frames - crop) / (n_windows - 1)) for i in range(n_windows)]
    windows = jnp.stack([log_mel[:, :, start : start + crop] for start in starts])
    logits = predict(windows.reshape(-1, *windows.shape[2:])).reshape(n_windows, len(log_mel), -1)
    # logit(mean(p)) = log Σ p − log Σ (1 − p), without the rounding of a p near 0 or 1.
    positive = jax.nn.logsumexp(jax.nn.log_sigmoid(logits), axis=0)
    return positive - jax.nn.logsumexp(jax.nn.log_sigmoid(-logits), axis=0)
