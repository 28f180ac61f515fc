"""What the three networks are built of: batch norm, convolution, GRU, dropout.

Every block is a pure Flax Linen module. Where a block needs statistics or random numbers of the
whole batch, `axis_name` is the mesh axis over which the batch is split (None: not split), so that
one device and eight compute the same numbers.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float, UInt32

from crnn_jax import ops
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
        bits = jax.vmap(lambda key: hashed_bits(key, x.shape[1:]))(keys)
        keep = bits >= np.uint32(round(self.rate * 2**32))
        return jnp.where(keep, x / (1.0 - self.rate), 0.0)


def hashed_bits(key: Array, shape: tuple[int, ...]) -> UInt32[Array, "..."]:
    """Random bits for an array: its places, numbered, through a hash that the key parametrises.

    Two rounds of xor-shift and multiplication, with the constants of the low-bias integer hashes
    found by C. Wellons' search (github.com/skeeto/hash-prospector). Dropout asks no more of its
    bits, and on a CPU `jax.random.bits` for the first layer's output would take as long as a
    third of the training step.
    """
    first, second = jax.random.key_data(key)
    bits = lax.iota(np.uint32, math.prod(shape)) * np.uint32(0x9E3779B9) + first
    bits = (bits ^ (bits >> 16)) * np.uint32(0x21F0AAAD) + second
    bits = (bits ^ (bits >> 15)) * np.uint32(0x735A2D97)
    return (bits ^ (bits >> 15)).reshape(shape)


class NormVariables(NamedTuple):
    """What a batch norm holds, one value a feature."""

    scale: Float[Array, " features"]
    offset: Float[Array, " features"]
    running_mean: nn.Variable
    running_variance: nn.Variable


class BatchNorm(nn.Module):
    """Batch norm over all axes but `feature_axis` (Ioffe & Szegedy 2015), in float32."""

    config: ModelConfig
    feature_axis: int
    axis_name: str | None

    @nn.compact
    def variables_of(self, features: int) -> NormVariables:
        """Create or look up the variables."""
        return NormVariables(
            self.param("scale", nn.initializers.ones, (features,)),
            self.param("offset", nn.initializers.zeros, (features,)),
            self.variable("batch_stats", "mean", jnp.zeros, (features,)),
            self.variable("batch_stats", "variance", jnp.ones, (features,)),
        )

    def over_devices(
        self, mean: Float[Array, " features"], variance: Float[Array, " features"]
    ) -> tuple[Float[Array, " features"], Float[Array, " features"]]:
        """Moments of the whole batch, from those of each device's equal part of it."""
        if self.axis_name is None:
            return mean, variance
        whole = lax.pmean(mean, self.axis_name)
        return whole, lax.pmean(variance + jnp.square(mean - whole), self.axis_name)

    def follow(
        self,
        variables: NormVariables,
        mean: Float[Array, " features"],
        variance: Float[Array, " features"],
    ) -> None:
        """Let the running statistics follow those of a batch."""
        if self.is_initializing():
            return
        old = self.config.norm_momentum
        for running, new in (
            (variables.running_mean, mean),
            (variables.running_variance, variance),
        ):
            running.value = old * running.value + (1 - old) * new

    def __call__(self, x: Float[Array, "batch ..."], *, train: bool) -> Float[Array, "batch ..."]:
        axis = self.feature_axis % x.ndim
        variables = self.variables_of(x.shape[axis])
        shape = [1] * x.ndim
        shape[axis] = x.shape[axis]
        if train:
            others = tuple(i for i in range(x.ndim) if i != axis)
            x32 = x.astype(jnp.float32)
            mean, variance = self.over_devices(x32.mean(others), x32.var(others))
            self.follow(variables, mean, variance)
        else:
            mean, variance = variables.running_mean.value, variables.running_variance.value
        multiplier = variables.scale * lax.rsqrt(variance + self.config.norm_epsilon)
        normed = (x - mean.reshape(shape)) * multiplier.reshape(shape)
        return (normed + variables.offset.reshape(shape)).astype(x.dtype)


class ConvolutionBlock(nn.Module):
    """Convolution, batch norm, ELU, max-pooling, dropout.

    A pooling window is clipped to what is left of the array, so that short clips pool less.

    Pooling comes first here, on an array 4 to 16 times smaller than the convolution's output, and
    the numbers are those of the order above: ELU never falls, so it commutes with the maximum, and
    so does batch norm where its scale is not negative. Where it is, the convolution's kernel takes
    the sign over. The convolution's bias moves the mean, which a training step subtracts again; it
    only shows in the running mean.
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
        norm = BatchNorm(self.config, -1, self.axis_name, name="norm")
        variables = norm.variables_of(self.features)
        window = (min(self.pool[0], x.shape[1]), min(self.pool[1], x.shape[2]))
        sign = jnp.where(variables.scale < 0, -1.0, 1.0)
        # While initialising, an array's shape alone is of use; XLA's way is traced much sooner.
        convolve = ops.plain if self.is_initializing() else ops.convolution_max_pool
        maxima, mean, variance = convolve(x, kernel * sign, window)
        if train:
            mean, variance = norm.over_devices(mean, variance)
            norm.follow(variables, sign * mean + bias, variance)
        else:
            mean = sign * (variables.running_mean.value - bias)
            variance = variables.running_variance.value
        multiplier = sign * variables.scale * lax.rsqrt(variance + self.config.norm_epsilon)
        summand = variables.offset - mean * multiplier
        x = _elu_of_affine(maxima, multiplier, summand).astype(x.dtype)
        return Dropout(self.config.dropout_pool, self.axis_name)(x, train=train)


@jax.checkpoint
def _elu_of_affine(
    x: Float[Array, "... features"],
    multiplier: Float[Array, " features"],
    summand: Float[Array, " features"],
) -> Float[Array, "... features"]:
    """elu(x · multiplier + summand).

    Computed again for its gradient, which takes less time than to keep what lies between.
    """
    return nn.elu(x * multiplier + summand)


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


def pad_to_whole_windows(
    x: Float[Array, "batch mel frames"], pools: Sequence[int], *, unless: int | None = None
) -> Float[Array, "batch mel padded_frames"]:
    """Centre the frames between zeros, so that successive poolings leave none of them out.

    Parameters
    ----------
    x
        96 frames or more; zero is the mean of a band after the input's batch norm.
    pools
        Windows of the poolings along time, first to last; each is clipped to what is left.
    unless
        A number of frames that is left as it is: that of the paper's clips, where its tables give
        the networks' geometry.
    """
    before, after = frame_padding(x.shape[2], pools) if x.shape[2] != unless else (0, 0)
    return jnp.pad(x, ((0, 0), (0, 0), (before, after)))


def frame_padding(frames: int, pools: Sequence[int]) -> tuple[int, int]:
    """The least padding before and after, with which the poolings leave no frame out.

    Examples
    --------
    >>> frame_padding(1366, (2, 3, 4, 4))
    (37, 37)
    """

    def leaves_none_out(left: int) -> bool:
        for pool in pools:
            window = min(pool, left)
            if left % window:
                return False
            left //= window
        return True

    padded = next(number for number in itertools.count(frames) if leaves_none_out(number))
    before = (padded - frames) // 2
    return before, padded - frames - before


def flatten(x: Float[Array, "batch ..."]) -> Float[Array, "batch features"]:
    """All axes but the first, as one."""
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))
