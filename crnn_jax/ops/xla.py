"""Convolution, moments and max-pooling by XLA's own operations."""

import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from crnn_jax.ops.pooled import Pooled


def convolve_and_pool(
    x: Float[Array, "batch mel frames channels"],
    kernel: Float[Array, "kernel_mel kernel_frames channels features"],
    window: tuple[int, int],
) -> Pooled:
    """See `crnn_jax.ops.convolution_max_pool`."""
    y = lax.conv_general_dilated(
        x,
        kernel.astype(x.dtype),
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    y32 = y.astype(jnp.float32)
    return Pooled(nn.max_pool(y, window, window), y32.mean((0, 1, 2)), y32.var((0, 1, 2)))
