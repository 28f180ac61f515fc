"""Convolution, moments and max-pooling by XLA's own operations."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

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
    return Pooled(max_pool(y, window), y32.mean((0, 1, 2)), y32.var((0, 1, 2)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def max_pool(
    y: Float[Array, "batch mel frames features"], window: tuple[int, int]
) -> Float[Array, "batch pooled_mel pooled_frames features"]:
    """Return the maximum of each whole window.

    A reduction of a reshaped array, whose gradient is a comparison: XLA fuses both with what is
    around them. ``lax.reduce_window`` has a gradient of its own (``select_and_scatter``) that is
    not fused, and that GPUs compute slowly. Among equal maxima the first one gets the gradient, as
    there.
    """
    return _windows(y, window).max((2, 4))


def _max_pool_forward(y: Array, window: tuple[int, int]) -> tuple[Array, Array]:
    # The output is kept for the gradient of its variance anyway.
    return max_pool(y, window), y


def _max_pool_backward(window: tuple[int, int], y: Array, d_maxima: Array) -> tuple[Array]:
    windows = _windows(y, window)
    # Of the rows with the window's maximum the first, and in it the first of the row's maxima.
    in_row = _is_first_maximum(windows, axis=4)
    is_row = _is_first_maximum(windows.max(4, keepdims=True), axis=2)
    d_windows = jnp.where(in_row & is_row, d_maxima[:, :, None, :, None], 0)
    batch, bands, _, steps, _, features = windows.shape
    d_y = d_windows.reshape(batch, bands * window[0], steps * window[1], features)
    left_out = [(0, whole - used) for whole, used in zip(y.shape, d_y.shape, strict=True)]
    return (jnp.pad(d_y, left_out),)


max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def _windows(
    y: Float[Array, "batch mel frames features"], window: tuple[int, int]
) -> Float[Array, "batch pooled_mel in_mel pooled_frames in_frames features"]:
    """Reshape into whole windows; what fills none is left out."""
    bands, steps = (size // side for size, side in zip(y.shape[1:3], window, strict=True))
    used = y[:, : bands * window[0], : steps * window[1]]
    return used.reshape(len(y), bands, window[0], steps, window[1], y.shape[3])


def _is_first_maximum(x: Float[Array, "..."], axis: int) -> Bool[Array, "..."]:
    return jnp.argmax(x, axis, keepdims=True) == lax.broadcasted_iota(jnp.int32, x.shape, axis)
