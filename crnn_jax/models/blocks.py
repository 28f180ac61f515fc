"""What the three networks are built of: batch norm, convolution, GRU, dropout.

Every block is a pure Flax Linen module. Where a block needs statistics or random numbers of the
whole batch, `axis_name` is the mesh axis over which the batch is split (None: not split), so that
one device and eight compute the same numbers.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from crnn_jax.config import ModelConfig


def example_keys(key: Array, batch: int, axis_name: str | None) -> Array:
    """One random key an example, by its place in the *global* batch."""
    first = 0 if axis_name is None else lax.axis_index(axis_name) * batch
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, first + jnp.arange(batch))


class Dropout(nn.Module):
    """Dropout whose mask does not depend on how the batch is split over devices."""

    rate: float
    axis_name: str | None

    @nn.compact
    def __call__(self, x: Float[Array, "batch ..."], *, train: bool) -> Float[Array, "batch ..."]:
        if not train or self.rate == 0.0:
            return x
        keys = example_keys(self.make_rng("dropout"), x.shape[0], self.axis_name)
        keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1.0 - self.rate, x.shape[1:]))(keys)
        return jnp.where(keep, x / (1.0 - self.rate), 0.0)


class BatchNorm(nn.Module):
    """Batch norm over all axes but `feature_axis` (Ioffe & Szegedy 2015), in float32."""

    config: ModelConfig
    feature_axis: int
    axis_name: str | None

    @nn.compact
    def __call__(self, x: Float[Array, "batch ..."], *, train: bool) -> Float[Array, "batch ..."]:
        axis = self.feature_axis % x.ndim
        features = x.shape[axis]
        scale = self.param("scale", nn.initializers.ones, (features,))
        offset = self.param("offset", nn.initializers.zeros, (features,))
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (features,))
        running_variance = self.variable("batch_stats", "variance", jnp.ones, (features,))
        if train:
            others = tuple(i for i in range(x.ndim) if i != axis)
            x32 = x.astype(jnp.float32)
            mean, square = x32.mean(others), jnp.square(x32).mean(others)
            if self.axis_name is not None:
                mean, square = lax.pmean((mean, square), self.axis_name)
            variance = jnp.maximum(square - jnp.square(mean), 0.0)
            if not self.is_initializing():
                old = self.config.norm_momentum
                running_mean.value = old * running_mean.value + (1 - old) * mean
                running_variance.value = old * running_variance.value + (1 - old) * variance
        else:
            mean, variance = running_mean.value, running_variance.value
        multiplier = scale * lax.rsqrt(variance + self.config.norm_epsilon)
        shape = [1] * x.ndim
        shape[axis] = features
        shifted = (x - mean.reshape(shape)) * multiplier.reshape(shape) + offset.reshape(shape)
        return shifted.astype(x.dtype)


class ConvolutionBlock(nn.Module):
    """Convolution, batch norm, ELU, max-pooling, dropout.

    A pooling window is clipped to what is left of the array, so that short clips pool less.
    """

    config: ModelConfig
    features: int
    kernel_size: tuple[int, int]
    pool: tuple[int, int]
    axis_name: str | None

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch mel frames channels"], *, train: bool
    ) -> Float[Array, "batch pooled_mel pooled_frames features"]:
        kernel_shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.he_normal(), kernel_shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        x = lax.conv_general_dilated(
            x,
            kernel.astype(x.dtype),
            window_strides=(1, 1),
            padding="SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        ) + bias.astype(x.dtype)
        x = nn.elu(BatchNorm(self.config, -1, self.axis_name, name="norm")(x, train=train))
        window = (min(self.pool[0], x.shape[1]), min(self.pool[1], x.shape[2]))
        x = nn.max_pool(x, window, strides=window)
        return Dropout(self.config.dropout_pool, self.axis_name)(x, train=train)


class DenseBlock(nn.Module):
    """Fully-connected layer, batch norm, ELU."""

    config: ModelConfig
    features: int
    axis_name: str | None

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch inputs"], *, train: bool
    ) -> Float[Array, "batch features"]:
        x = nn.Dense(self.features, dtype=x.dtype, name="dense")(x)
        return nn.elu(BatchNorm(self.config, -1, self.axis_name, name="norm")(x, train=train))


def hard_sigmoid(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """clip(0.2 x + 0.5, 0, 1): Theano's and Keras 1's, not `jax.nn.hard_sigmoid`'s x / 6."""
    return jnp.clip(0.2 * x + 0.5, 0.0, 1.0)


GATES: dict[str, Callable[[Array], Array]] = {
    "sigmoid": nn.sigmoid,
    "hard_sigmoid": hard_sigmoid,
}


class GRU(nn.Module):
    """Gated recurrent unit (Cho et al. 2014, arXiv 1406.1078), one bias a gate.

    With update gate z, reset gate r and candidate n, the new state is z h + (1 − z) n. The
    products with the inputs are one matrix product for all steps, before the loop.
    """

    config: ModelConfig
    features: int

    @nn.compact
    def __call__(
        self, steps: Float[Array, "batch steps inputs"]
    ) -> Float[Array, "batch steps features"]:
        batch, _, inputs = steps.shape
        width = self.features
        gate = GATES[self.config.gru_gate]
        input_kernel = self.param(
            "input_kernel", _three(nn.initializers.glorot_uniform()), (inputs, 3 * width)
        ).astype(steps.dtype)
        recurrent_kernel = self.param(
            "recurrent_kernel", _three(nn.initializers.orthogonal()), (width, 3 * width)
        ).astype(steps.dtype)
        bias = self.param("bias", nn.initializers.zeros, (3 * width,)).astype(steps.dtype)
        projected = steps @ input_kernel + bias

        def step_reset_after(state: Array, inputs_now: Array) -> tuple[Array, Array]:
            update_in, reset_in, candidate_in = jnp.split(inputs_now, 3, axis=-1)
            update_re, reset_re, candidate_re = jnp.split(state @ recurrent_kernel, 3, axis=-1)
            update = gate(update_in + update_re)
            candidate = jnp.tanh(candidate_in + gate(reset_in + reset_re) * candidate_re)
            state = update * state + (1 - update) * candidate
            return state, state

        def step_reset_before(state: Array, inputs_now: Array) -> tuple[Array, Array]:
            update_in, reset_in, candidate_in = jnp.split(inputs_now, 3, axis=-1)
            update_re, reset_re = jnp.split(state @ recurrent_kernel[:, : 2 * width], 2, axis=-1)
            update = gate(update_in + update_re)
            gated = gate(reset_in + reset_re) * state
            candidate = jnp.tanh(candidate_in + gated @ recurrent_kernel[:, 2 * width :])
            state = update * state + (1 - update) * candidate
            return state, state

        step = step_reset_after if self.config.gru_reset == "after" else step_reset_before
        start = jnp.zeros((batch, width), steps.dtype)
        # Zero times the input: the state then varies over the same mesh axes as the input does,
        # which the loop's types ask for under shard_map.
        start = start + 0 * projected[:, 0, :width]
        _, states = lax.scan(step, start, projected.swapaxes(0, 1))
        return states.swapaxes(0, 1)


def _three(initializer: Callable) -> Callable:
    """Initialise the three gates' kernels one by one: their shape is what the fans come from."""

    def initialise(key: Array, shape: tuple[int, int], dtype=jnp.float32) -> Array:
        each = (shape[0], shape[1] // 3)
        kernels = [initializer(k, each, dtype) for k in jax.random.split(key, 3)]
        return jnp.concatenate(kernels, axis=1)

    return initialise


def flatten(x: Float[Array, "batch ..."]) -> Float[Array, "batch features"]:
    """All axes but the first, as one."""
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))
