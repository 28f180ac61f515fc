"""Tiles of one input channel: one product of the patches with the kernel written as a matrix.

The matrix is a block of a Toeplitz matrix. With one channel, the matrix products of minimal
filtering would be too thin.
"""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from crnn_jax.ops.cpu.algorithm import Algorithm
from crnn_jax.ops.cpu.layout import Layout


def transform_kernel(layout: Layout, kernel: Array) -> Float[Array, "inputs places features"]:
    """Return the kernel as a matrix from the inputs of a patch to the places of its tile."""
    taps = kernel.astype(jnp.float32).reshape(-1, layout.channels, layout.features)
    return jnp.einsum("ipt,tf->ipf", _toeplitz(layout), taps[:, 0])


def transform_patches(layout: Layout, inputs: Array) -> Float[Array, "inputs tiles"]:
    """Drop the one channel."""
    return inputs[..., 0]


def transpose_patches(layout: Layout, d_patches: Array) -> Array:
    """Apply the transpose of `transform_patches`."""
    return d_patches[..., None]


def compute_tiles(
    layout: Layout, patches: Array, points: Array
) -> Float[Array, "tiles places features"]:
    """Compute all tiles by one matrix product."""
    inputs = points.shape[0]
    y = patches.T @ points.reshape(inputs, -1)
    return y.reshape(-1, layout.places, layout.features)


def _toeplitz(layout: Layout) -> np.ndarray:
    """Mark with 1 the kernel tap that links an input of a patch to a place of its tile."""
    sides = (
        np.eye(patch)[:, np.arange(tile)[:, None] + np.arange(kernel)]
        for patch, tile, kernel in zip(layout.patch, layout.tile, layout.taps, strict=True)
    )
    links = np.einsum("ipt,jqu->ijpqtu", *sides)
    inputs, places, taps = (math.prod(s) for s in (layout.patch, layout.tile, layout.taps))
    return links.reshape(inputs, places, taps).astype(np.float32)


# One channel's output is cheaper to recompute than to store.
DIRECT = Algorithm(
    place_axis=1,
    keeps_output=False,
    transform_kernel=transform_kernel,
    transform_patches=transform_patches,
    transpose_patches=transpose_patches,
    compute_tiles=compute_tiles,
)
