"""Building blocks of the networks: batch norm, convolution, GRU, dropout.

Every block is a pure Flax Linen module. Where a block needs statistics or random numbers of the
whole batch, `axis_name` is the mesh axis over which the batch is split (None: not split), so that
one device and eight compute the same numbers.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable
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
    """Derive a random key per example from its position in the *global* batch."""
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
    """Return random bits for an array: a hash of each element's index, parametrised by the key.

    Two rounds of xor-shift and multiplication, with the constants of the low-bias integer hashes
    found by C. Wellons' search (github.com/skeeto/hash-prospector). That is random enough for
    dropout, and on a CPU `jax.random.bits` for the first layer's output would take as long as a
    third of the training step.
    """
    first, second = jax.random.key_data(key)
    bits = lax.iota(np.uint32, math.prod(shape)) * np.uint32(0x9E3779B9) + first
    bits = (bits ^ (bits >> 16)) * np.uint32(0x21F0AAAD) + second
    bits = (bits ^ (bits >> 15)) * np.uint32(0x735A2D97)
    return (bits ^ (bits >> 15)).reshape(shape)


class NormVariables(NamedTuple):
    """Parameters and running statistics of a batch norm, one value per feature."""

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
        """Combine the moments of each device's equal part of the batch into those of the whole.

        The devices exchange both in one message. (Averages of the moments would take two; those of
        values and their squares would lose digits where the mean is large.)
        """
        if self.axis_name is None:
            return mean, variance
        means, variances = jnp.moveaxis(
            lax.all_gather(jnp.stack([mean, variance]), self.axis_name), 1, 0
        )
        whole = means.mean(0)
        return whole, (variances + jnp.square(means - whole)).mean(0)

    def follow(
        self,
        variables: NormVariables,
        mean: Float[Array, " features"],
        variance: Float[Array, " features"],
    ) -> None:
        """Update the running statistics from those of a batch."""
        if self.is_initializing():
            return
        old = self.config.norm_momentum
        for running, new in (
            (variables.running_mean, mean),
            (variables.running_variance, variance),
        ):
            running.value = old * running.value + (1 - old) * new

    def __call__(
        self,
        x: Float[Array, "batch ..."],
        *,
        train: bool,
        bias: Float[Array, " features"] | float = 0,
    ) -> Float[Array, "batch ..."]:
        """Normalise `x + bias`, of which the caller gives the summands.

        A training step subtracts the bias with the mean. If it were added first, its gradient, 0,
        would be computed as rounding errors, of which Adam makes steps as large as any other.
        """
        axis = self.feature_axis % x.ndim
        variables = self.variables_of(x.shape[axis])
        shape = [1] * x.ndim
        shape[axis] = x.shape[axis]
        if train:
            others = tuple(i for i in range(x.ndim) if i != axis)
            x32 = x.astype(jnp.float32)
            mean, variance = self.over_devices(x32.mean(others), x32.var(others))
            self.follow(variables, mean + bias, variance)
        else:
            mean = variables.running_mean.value - bias
            variance = variables.running_variance.value
        multiplier = variables.scale * lax.rsqrt(variance + self.config.norm_epsilon)
        normed = (x - mean.reshape(shape)) * multiplier.reshape(shape)
        return (normed + variables.offset.reshape(shape)).astype(x.dtype)


class ConvolutionBlock(nn.Module):
    """Convolution, batch norm, ELU, max-pooling, dropout.

    A pooling window is clipped to the array's size, so that short clips are pooled less.

    Pooling is computed before batch norm and ELU, which then run on an array 4 to 16 times smaller
    than the convolution's output. The result is that of the order above: ELU is monotonic, so it
    commutes with the maximum, and so does batch norm where its scale is not negative. Where the
    scale is negative, its sign moves to the convolution's kernel. The convolution's bias shifts the
    mean, which a training step subtracts again; it only shows in the running mean.
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
        # Initialisation needs only shapes, and XLA's operations are traced much faster.
        convolve = ops.by_xla if self.is_initializing() else ops.convolution_max_pool
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
    """Return elu(x · multiplier + summand).

    It is recomputed for the gradient, which is faster than storing the intermediate values.
    """
    return nn.elu(x * multiplier + summand)


class DenseVariables(nn.Module):
    """Parameters of a fully-connected layer, named and initialised as those of `nn.Dense`."""

    features: int

    @nn.compact
    def __call__(
        self, inputs: int
    ) -> tuple[Float[Array, "inputs features"], Float[Array, " features"]]:
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (inputs, self.features))
        return kernel, self.param("bias", nn.initializers.zeros, (self.features,))


class DenseBlock(nn.Module):
    """Fully-connected layer, batch norm, ELU."""

    config: ModelConfig
    features: int
    axis_name: str | None

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch inputs"], *, train: bool
    ) -> Float[Array, "batch features"]:
        kernel, bias = DenseVariables(self.features, name="dense")(x.shape[-1])
        norm = BatchNorm(self.config, -1, self.axis_name, name="norm")
        return nn.elu(norm(x @ kernel.astype(x.dtype), train=train, bias=bias))


def hard_sigmoid(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return clip(0.2 x + 0.5, 0, 1), as in Theano and Keras 1 (`jax.nn.hard_sigmoid`: x / 6)."""
    return jnp.clip(0.2 * x + 0.5, 0.0, 1.0)


# Steps of a GRU that are compiled without a loop for accelerators: all 15 of the paper's clips.
UNROLLED_STEPS = 16

GATES: dict[str, Callable[[Array], Array]] = {
    "sigmoid": nn.sigmoid,
    "hard_sigmoid": hard_sigmoid,
}


class GRU(nn.Module):
    """Gated recurrent unit (Cho et al. 2014, arXiv 1406.1078), with one bias per gate.

    With update gate z, reset gate r and candidate n, the new state is z h + (1 − z) n. One matrix
    product before the loop projects the inputs of all steps.
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
        # Adding zero times the input makes the state vary over the same mesh axes as the input,
        # which the types of `lax.scan` require under shard_map.
        start = start + 0 * projected[:, 0, :width]
        # On an accelerator each step of a loop is launched by the host.
        unroll = UNROLLED_STEPS if ops.for_mesh_without_cpu() else 1
        _, states = lax.scan(step, start, projected.swapaxes(0, 1), unroll=unroll)
        return states.swapaxes(0, 1)


def _three(initializer: Callable) -> Callable:
    """Initialise the three gates' kernels separately, so that the fans are those of one gate."""

    def initialise(key: Array, shape: tuple[int, int], dtype=jnp.float32) -> Array:
        each = (shape[0], shape[1] // 3)
        kernels = [initializer(k, each, dtype) for k in jax.random.split(key, 3)]
        return jnp.concatenate(kernels, axis=1)

    return initialise


@dataclasses.dataclass(frozen=True)
class FramePadding:
    """Zero padding around a clip's frames, so that successive poolings drop none of them.

    Attributes
    ----------
    pools
        Windows of the poolings along time, first to last; each is clipped to the frames left.
    unless
        A number of frames that is not padded: that of the paper's clips, for which its tables
        give the networks' geometry.

    Examples
    --------
    >>> FramePadding((2, 3, 4, 4)).of(1366)
    (37, 37)
    """

    pools: tuple[int, ...]
    unless: int | None = None

    def of(self, frames: int) -> tuple[int, int]:
        """Return the fewest frames to add before and after `frames`, with the clip centred."""
        if frames == self.unless:
            return 0, 0
        padded = next(n for n in itertools.count(frames) if self._leaves_none_out(n))
        before = (padded - frames) // 2
        return before, padded - frames - before

    def pad(self, x: Float[Array, "batch mel frames"]) -> Float[Array, "batch mel padded_frames"]:
        """Pad an array of at least 96 frames; zero is the mean of a band after the batch norm."""
        return jnp.pad(x, ((0, 0), (0, 0), self.of(x.shape[2])))

    def _leaves_none_out(self, frames: int) -> bool:
        for pool in self.pools:
            window = min(pool, frames)
            if frames % window:
                return False
            frames //= window
        return True


def normalize_input(
    network: nn.Module,
    log_mel: Float[Array, "batch mel frames"],
    padding: FramePadding,
    *,
    train: bool,
) -> Float[Array, "batch mel padded_frames 1"]:
    """Batch-normalise a network's input, pad it so that every frame counts, add a channel axis.

    The norm is ``input_norm`` in the network's variables and acts along ``config.input_norm``: per
    mel band it comes before the padding, so that padded frames are zero, the mean of every band;
    per frame it comes after the padding, as in the published CRNN.

    Parameters
    ----------
    network
        The network that calls this in its ``__call__``.
    log_mel
        In dB, at least 96 frames.
    padding
        The network's padding.
    train
        Whether to use the batch's own statistics.
    """
    config: ModelConfig = network.config  # type: ignore[attr-defined]
    axis_name: str | None = network.axis_name  # type: ignore[attr-defined]
    per_band = config.input_norm == "mel"
    norm = BatchNorm(config, 1 if per_band else 2, axis_name, name="input_norm")
    if per_band:
        x = padding.pad(norm(log_mel, train=train))
    else:
        x = norm(padding.pad(log_mel), train=train)
    return x[..., None].astype(config.precision)


def classify(
    network: nn.Module, features: Float[Array, "batch features"], *, train: bool
) -> Float[Array, "batch tags"]:
    """Sow a network's features, apply dropout to them, and compute logits in float32."""
    config: ModelConfig = network.config  # type: ignore[attr-defined]
    axis_name: str | None = network.axis_name  # type: ignore[attr-defined]
    network.sow("intermediates", "features", features)
    features = Dropout(config.dropout_output, axis_name)(features, train=train)
    return nn.Dense(config.n_tags, name="output")(features.astype(jnp.float32))


def flatten(x: Float[Array, "batch ..."]) -> Float[Array, "batch features"]:
    """Flatten all axes but the first into one."""
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))
