"""What the ways to compute the tiles of a strip have in common."""

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
        exchanged if 1. Each algorithm gives one of them without a transposition.
    keeps_output
        Whether the output is kept for the gradient, or computed again.
    transform_kernel
        (layout, kernel) to what patches are multiplied by.
    transform_patches
        (layout, inputs of each place of a patch: (places, tiles, channels)) to what is multiplied.
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
