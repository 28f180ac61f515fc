"""Convolution, batch moments and max-pooling on a CPU, in strips that stay in the cache.

XLA's CPU backend has three costs here that are not arithmetic: the gradient with respect to a
convolution's kernel runs at a tenth of the speed of a matrix product, the gradient of max-pooling
(select-and-scatter) at a fortieth of the speed of a comparison, and every fresh megabyte that a
step touches costs 0.4 ms of page faults where huge pages are off. So the output is computed in
*strips*, and each strip in *tiles*:

- a tile is the block of outputs that one pooling window (or an integer fraction of it) covers;
- a patch is the block of inputs that a tile depends on;
- an algorithm computes tiles from patches: `direct` with one input channel, else
  `minimal_filtering`;
- max-pooling is the maximum over the tile's places; its gradient goes to the place recorded in the
  forward pass;
- the dense gradient with respect to the convolution's output (from the maxima, the mean and the
  variance) is computed once per strip, and used there for both the kernel's and the input's
  gradient.
"""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from crnn_jax.ops.cpu.algorithm import Algorithm
from crnn_jax.ops.cpu.direct import DIRECT
from crnn_jax.ops.cpu.layout import Layout
from crnn_jax.ops.cpu.minimal_filtering import MINIMAL_FILTERING
from crnn_jax.ops.pooled import Pooled


def _choose_algorithm(layout: Layout) -> Algorithm:
    return DIRECT if layout.channels == 1 else MINIMAL_FILTERING


def convolve_and_pool(
    x: Float[Array, "batch mel frames channels"],
    kernel: Float[Array, "kernel_mel kernel_frames channels features"],
    window: tuple[int, int],
) -> Pooled:
    """See `crnn_jax.ops.convolution_max_pool`."""
    layout = Layout.from_arrays(x, kernel, window)
    maxima, mean, variance = _tiled(layout, x, kernel)
    whole, (tiles_mel, tiles_frames) = layout.windows, layout.tiles_of_window
    maxima = maxima[:, : whole[0] * tiles_mel, : whole[1] * tiles_frames]
    if (tiles_mel, tiles_frames) != (1, 1):
        maxima = nn.max_pool(maxima, layout.tiles_of_window, layout.tiles_of_window)
    return Pooled(maxima, mean, variance)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _tiled(layout: Layout, x: Array, kernel: Array) -> tuple[Array, Array, Array]:
    """Compute the maxima of all tiles, the mean and the variance, strip by strip."""
    return _tiled_forward(layout, x, kernel, for_gradient=False)[0]


def _tiled_forward(layout: Layout, x: Array, kernel: Array, for_gradient: bool = True):
    algorithm = _choose_algorithm(layout)
    padded = jnp.pad(x, layout.padding)
    points = algorithm.transform_kernel(layout, kernel)
    # The output's mean, except for its borders: the sums below are of small numbers, and the
    # variance is not lost in the difference of two large ones.
    # (From the padded input, so that `x` itself need not be kept.)
    count = layout.batch * math.prod(layout.size)
    mean_input = padded.sum((0, 1, 2), dtype=jnp.float32) / count
    about = jnp.einsum("c,hwcf->f", mean_input, kernel.astype(jnp.float32))

    def of_strip(_: None, strip: Array):
        y = algorithm.compute_tiles(
            layout, _patches_at_points(layout, _cut(layout, padded, strip)), points
        )
        maxima, place = _first_maximum(layout, y)
        deviation = _where_real(layout, strip, y - about)
        sums = deviation.sum((0, 1)), jnp.square(deviation).sum((0, 1))
        kept = (place, y if algorithm.keeps_output else None) if for_gradient else None
        return None, (maxima.astype(x.dtype), *sums, kept)

    _, (maxima, first, second, kept) = lax.scan(of_strip, None, jnp.arange(layout.strips))
    from_about = first.sum(0) / count
    mean, variance = about + from_about, second.sum(0) / count - jnp.square(from_about)
    maxima = maxima.reshape(layout.batch, *layout.grid, layout.features)
    return (maxima, mean, variance), (padded, kernel, mean, kept)


def _tiled_backward(layout: Layout, residuals, cotangents):
    algorithm = _choose_algorithm(layout)
    padded, kernel, mean, (place, y_kept) = residuals
    d_maxima, d_mean, d_variance = cotangents
    points, kernel_from_points = jax.vjp(
        functools.partial(algorithm.transform_kernel, layout), kernel
    )
    # The moments add slope · y + level to the gradient with respect to the output y.
    count = layout.batch * math.prod(layout.size)
    slope = 2 * d_variance / count
    level = d_mean / count - slope * mean

    def of_strip(sums: tuple[Array, Array], inputs):
        d_padded, d_points = sums
        strip, place, d_maximum, y = inputs
        patches = _patches_at_points(layout, _cut(layout, padded, strip))
        y_again, tiles_from = jax.vjp(
            functools.partial(algorithm.compute_tiles, layout), patches, points
        )
        y = y if algorithm.keeps_output else y_again
        is_first = _places(layout) == jnp.expand_dims(place, algorithm.place_axis)
        d_maximum = jnp.expand_dims(d_maximum.astype(jnp.float32), algorithm.place_axis)
        # No whole window extends beyond the edge: `d_maximum` is 0 there.
        d_y = _where_real(layout, strip, jnp.where(is_first, d_maximum, 0) + slope * y + level)
        d_patches, d_points_here = tiles_from(d_y)
        d_strip = _add_patches(layout, d_patches)
        start = _strip_start(layout, strip)
        d_strip += lax.dynamic_slice(d_padded, start, d_strip.shape)
        d_padded = lax.dynamic_update_slice(d_padded, d_strip, start)
        return (d_padded, d_points + d_points_here), None

    def by_strip(array: Array) -> Array:
        return array.reshape(layout.strips, -1, layout.features)

    zeros = (
        jnp.zeros_like(padded, jnp.float32),
        jnp.full_like(padded, 0, shape=points.shape, dtype=jnp.float32),
    )
    (d_padded, d_points), _ = lax.scan(
        of_strip, zeros, (jnp.arange(layout.strips), place, by_strip(d_maxima), y_kept)
    )
    _, (top, _), (left, _), _ = layout.padding
    mel, frames = layout.size
    d_x = d_padded[:, top : top + mel, left : left + frames].astype(padded.dtype)
    return d_x, *kernel_from_points(d_points)


_tiled.defvjp(_tiled_forward, _tiled_backward)


def _patches_at_points(layout: Layout, strip: Array) -> Array:
    """Return a strip's patches, transformed."""
    (tile_mel, tile_frames), (_, columns) = layout.tile, layout.grid
    _, rows = layout.strip
    mel_end, frames_end = tile_mel * (rows - 1) + 1, tile_frames * (columns - 1) + 1
    inputs = _stack(
        [
            strip[:, i : i + mel_end : tile_mel, j : j + frames_end : tile_frames].reshape(
                -1, layout.channels
            )
            for i in range(layout.patch[0])
            for j in range(layout.patch[1])
        ]
    )
    return _choose_algorithm(layout).transform_patches(layout, inputs)


def _stack(arrays: Sequence[Array]) -> Array:
    """Stack arrays as `jnp.stack` does, writing each into its place.

    XLA fuses a concatenation with its operands into one loop that selects the array for every
    element; it took up to a third of a layer's time.
    """
    stacked = jnp.zeros((len(arrays), *arrays[0].shape), arrays[0].dtype)
    for place, array in enumerate(arrays):
        stacked = lax.dynamic_update_index_in_dim(stacked, array, place, 0)
    return stacked


def _add_patches(layout: Layout, d_patches: Array) -> Array:
    """Apply the transpose of `_patches_at_points`: overlapping patches add up."""
    inputs = _choose_algorithm(layout).transpose_patches(layout, d_patches)
    images, rows = layout.strip
    inputs = inputs.reshape(*layout.patch, images, rows, layout.grid[1], layout.channels)
    inputs = _overlap(inputs, layout.tile[1], place_axis=1, tile_axis=4)
    inputs = _overlap(inputs, layout.tile[0], place_axis=0, tile_axis=3)
    # (mel in tile, frame in tile, image, row, column, channel) → images
    places = inputs.transpose(2, 3, 0, 4, 1, 5)
    mel, frames = (places.shape[1] * places.shape[2], places.shape[3] * places.shape[4])
    strip = places.reshape(images, mel, frames, layout.channels)
    return strip[
        :,
        : (rows - 1) * layout.tile[0] + layout.patch[0],
        : (layout.grid[1] - 1) * layout.tile[1] + layout.patch[1],
    ]


def _overlap(inputs: Array, tile: int, place_axis: int, tile_axis: int) -> Array:
    """Add the part of each patch beyond its tile to the tiles that follow, along one side."""
    patch = inputs.shape[place_axis]
    reach = -(-patch // tile)

    def shifted(tiles_on: int) -> Array:
        places = slice(tiles_on * tile, min((tiles_on + 1) * tile, patch))
        part = lax.slice_in_dim(inputs, places.start, places.stop, axis=place_axis)
        padding = [(0, 0)] * inputs.ndim
        padding[place_axis] = (0, tile - (places.stop - places.start))
        padding[tile_axis] = (tiles_on, reach - 1 - tiles_on)
        return jnp.pad(part, padding)

    return functools.reduce(jnp.add, map(shifted, range(reach)))


def _first_maximum(layout: Layout, y: Array) -> tuple[Array, Array]:
    """Return each tile's maximum, and the first place that has it."""
    at_place = functools.partial(
        lax.index_in_dim, y, axis=_choose_algorithm(layout).place_axis, keepdims=False
    )
    maximum = at_place(0)
    place = jnp.zeros_like(maximum, jnp.uint8)
    for index in range(1, layout.places):
        place = jnp.where(at_place(index) > maximum, np.uint8(index), place)
        maximum = jnp.maximum(maximum, at_place(index))
    return maximum, place


def _places(layout: Layout) -> Array:
    """Return 0, 1, … along the place axis of a strip's output."""
    shape = [1, 1, 1]
    shape[_choose_algorithm(layout).place_axis] = layout.places
    return jnp.arange(layout.places, dtype=jnp.uint8).reshape(shape)


def _where_real(layout: Layout, strip: Array, y: Array) -> Array:
    """Return `y`, with 0 at places beyond the output's edge."""
    images, rows = layout.strip
    tiles, places = (images, rows, layout.grid[1]), layout.tile
    places_first = _choose_algorithm(layout).place_axis == 0
    shape = (*places, *tiles) if places_first else (*tiles, *places)
    split = y.reshape(*shape, layout.features)
    row_axis, mel_axis = (3, 0) if places_first else (1, 3)
    _, first_row = layout.start(strip)
    # Every strip has the last column; the last one of an image has the last row.
    is_edge = (first_row + rows == layout.grid[0], jnp.array(True))
    # Only places beyond the edge are touched: masking all would cost as much as all the rest.
    for side in range(2):
        over = layout.grid[side] * layout.tile[side] - layout.size[side]
        if over:
            start = [0] * split.ndim
            start[row_axis + side] = split.shape[row_axis + side] - 1
            start[mel_axis + side] = layout.tile[side] - over
            edge = lax.slice(split, start, split.shape)
            split = lax.dynamic_update_slice(split, jnp.where(is_edge[side], 0, edge), start)
    return split.reshape(y.shape)


def _strip_start(layout: Layout, strip: Array) -> tuple[Array | int, ...]:
    image, row = layout.start(strip)
    return image, row * layout.tile[0], 0, 0


def _cut(layout: Layout, padded: Array, strip: Array) -> Array:
    """Return the inputs of a strip in float32, including neighbouring rows."""
    images, rows = layout.strip
    mel = (rows - 1) * layout.tile[0] + layout.patch[0]
    shape = (images, mel, *padded.shape[2:])
    return lax.dynamic_slice(padded, _strip_start(layout, strip), shape).astype(jnp.float32)
