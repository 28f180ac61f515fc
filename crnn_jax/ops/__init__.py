"""Convolution, batch moments and max-pooling as one operation, by platform.

On a CPU it is computed in strips that stay in the cache (`crnn_jax.ops.cpu.strips` explains why);
other platforms get XLA's own convolution, and pooling as a maximum of a reshaped array. The choice
is made only here: while a step is traced if its mesh is known to have no CPUs, otherwise when it is
lowered.
"""

import functools

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from crnn_jax.ops.cpu import strips
from crnn_jax.ops.mesh import for_mesh_without_cpu
from crnn_jax.ops.pooled import Pooled
from crnn_jax.ops.xla import convolve_and_pool as by_xla

__all__ = ["Pooled", "by_xla", "convolution_max_pool", "for_mesh_without_cpu"]


def convolution_max_pool(
    x: Float[Array, "batch mel frames channels"],
    kernel: Float[Array, "kernel_mel kernel_frames channels features"],
    window: tuple[int, int],
) -> Pooled:
    """Convolve (stride 1, SAME), compute moments, and max-pool in non-overlapping windows.

    Equals ``lax.conv_general_dilated``, ``jnp.mean``, ``jnp.var`` and ``lax.reduce_window``
    (VALID: rows and columns that fill no window are dropped) up to rounding, in values and in
    gradients; among equal maxima the gradient goes to the first in the window, as XLA's does.
    (With minimal filtering, values that are equal on paper may differ in the last bit.)

    Parameters
    ----------
    x, kernel
        Computed in float32 on a CPU, whatever their dtype; the maxima have the dtype of `x`. The
        kernel has at most eight taps along either side.
    window
        Mel bands and frames, at most those of `x`.
    """
    # Under shard_map, the kernel is replicated and `x` varies over the devices. Adding a varying
    # zero lets JAX sum the kernel's gradient over the devices, by its own rules.
    kernel = kernel + jnp.full_like(x, 0, shape=kernel.shape, dtype=kernel.dtype)
    in_strips = functools.partial(strips.convolve_and_pool, window=window)
    # `lax.platform_dependent` differentiates all of its branches, and the one that is lowered fills
    # the residuals of the others with zeros.
    if for_mesh_without_cpu():
        return by_xla(x, kernel, window)
    default = functools.partial(by_xla, window=window)
    return lax.platform_dependent(x, kernel, cpu=in_strips, default=default)
