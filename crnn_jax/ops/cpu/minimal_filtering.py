"""Tiles of several input channels, by minimal filtering.

Winograd (1980); Lavin & Gray (2016), arXiv 1509.09308. Small fixed matrices transform the patches
and the kernel, and the convolution becomes one matrix product for each point of the patch: 25
multiplications instead of 81 for a 3×3 kernel and a 3×3 window.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from crnn_jax.ops.cpu.algorithm import Algorithm
from crnn_jax.ops.cpu.layout import MOST_POINTS, Layout

# Interpolation points (one more is at infinity): small numbers and their inverses keep the
# transforms' rounding errors small.
POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)
assert len(POINTS) + 1 == MOST_POINTS


class Filtering(NamedTuple):
    """Matrices of minimal filtering: outputs = tile @ ((kernel @ taps) * (patch @ inputs))."""

    tile: np.ndarray
    kernel: np.ndarray
    patch: np.ndarray


def _transforms(layout: Layout) -> Filtering:
    """Return a layout's 2-D transforms; places, taps, inputs and points in row-major order."""
    mel, frames = (
        make_transforms(outputs, taps)
        for outputs, taps in zip(layout.tile, layout.taps, strict=True)
    )
    return Filtering(*(np.kron(a, b).astype(np.float32) for a, b in zip(mel, frames, strict=True)))


def make_transforms(outputs: int, taps: int) -> Filtering:
    """Return transforms that compute `outputs` values of a filter in outputs + taps − 1 products.

    The filter is the transpose of a product of polynomials, and that product is computed by
    evaluating both at outputs + taps − 1 points (Toom–Cook; Winograd 1980, section V).
    """
    points = outputs + taps - 1

    def values(coefficients: int) -> np.ndarray:
        finite = [[point**k for k in range(coefficients)] for point in POINTS[: points - 1]]
        return np.array([*finite, [0.0] * (coefficients - 1) + [1.0]])

    return Filtering(values(outputs).T, values(taps), np.linalg.inv(values(points)).T)


def transform_kernel(layout: Layout, kernel: Array) -> Float[Array, "points channels features"]:
    """Evaluate the kernel at each point."""
    taps = kernel.astype(jnp.float32).reshape(-1, layout.channels, layout.features)
    return _combine(_transforms(layout).kernel, taps)


def transform_patches(layout: Layout, inputs: Array) -> Float[Array, "points tiles channels"]:
    """Evaluate the patches at each point."""
    return _combine(_transforms(layout).patch, inputs)


def transpose_patches(layout: Layout, d_patches: Array) -> Array:
    """Apply the transpose of `transform_patches`."""
    return _combine(_transforms(layout).patch.T, d_patches)


def compute_tiles(
    layout: Layout, patches: Array, points: Array
) -> Float[Array, "places tiles features"]:
    """Multiply at each point, and combine the products into the places of the tiles."""
    return _combine(_transforms(layout).tile, patches @ points)


def _combine(matrix: np.ndarray, arrays: Array) -> Array:
    """Form linear combinations of the arrays along the first axis."""
    flat = jnp.asarray(matrix) @ arrays.reshape(arrays.shape[0], -1)
    return flat.reshape(matrix.shape[0], *arrays.shape[1:])


MINIMAL_FILTERING = Algorithm(
    place_axis=0,
    keeps_output=True,
    transform_kernel=transform_kernel,
    transform_patches=transform_patches,
    transpose_patches=transpose_patches,
    compute_tiles=compute_tiles,
)
