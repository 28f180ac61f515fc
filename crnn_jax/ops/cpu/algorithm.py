"""The interface of the algorithms that compute the tiles of a strip."""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Array

from crnn_jax.ops.cpu.layout import Layout


class Algorithm(NamedTuple):
    """A way to compute the tiles of a strip from its patches.

    Attributes
    ----------
    place_axis
        Axis of a tile's places in a strip's output: (places, tiles, features) if 0, the first two
        swapped if 1. Each algorithm produces one of the two without a transposition.
    keeps_output
        Whether the output is stored for the gradient or recomputed.
    transform_kernel
        (layout, kernel) to the transformed kernel.
    transform_patches
        (layout, inputs of each place of a patch: (places, tiles, channels)) to the transformed
        patches.
    transpose_patches
        The transpose of `transform_patches`.
    compute_tiles
        (layout, transformed patches, transformed kernel) to a strip's output.
    """

    place_axis: int
    keeps_output: bool
    transform_kernel: Callable[[Layout, Array], Array]
    transform_patches: Callable[[Layout, Array], Array]
    transpose_patches: Callable[[Layout, Array], Array]
    compute_tiles: Callable[[Layout, Array, Array], Array]
