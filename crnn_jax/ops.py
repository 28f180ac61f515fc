"""Convolution, batch moments and max-pooling as one operation that is fast on a CPU.

XLA's CPU backend has three costs here that have nothing to do with arithmetic: the gradient to a
convolution's kernel runs at a tenth of the speed of a matrix product, the gradient of max-pooling
(select-and-scatter) at a fortieth of the speed of a comparison, and every fresh megabyte that a
step touches costs 0.4 ms of page faults where huge pages are off. On a CPU, `convolution_max_pool`
therefore computes in *strips* that stay in the cache, and in each strip in *tiles*:

- a tile is the block of outputs that one pooling window (or a whole fraction of it) covers;
- a patch is the block of inputs that a tile depends on;
- with two or more input channels, a tile is computed from its patch by minimal filtering
  (Winograd 1980; Lavin & Gray 2016, arXiv 1509.09308): both are seen through small fixed
  matrices between which the convolution is one product of matrices for each point of the patch,
  25 products in place of 81 multiplications for a 3×3 kernel under a 3×3 window;
- with one input channel, the products would be too thin, and a tile is one product of its patch
  with the kernel written out as a matrix, a block of a Toeplitz matrix;
- max-pooling is the maximum over the tile's places, whose gradient goes back to the place that
  was noted on the way forward;
- the dense gradient to the convolution's output (from the maxima, the mean and the variance) is
  made once for a strip, and used there for both the kernel's and the input's gradient.

Other platforms get XLA's own convolution and pooling. The choice is made in
`convolution_max_pool`, nowhere else: as a step is traced for a mesh of other devices, otherwise as
it is lowered.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

# Interpolation points of minimal filtering (one more is at infinity): small numbers and their
# inverses keep the transforms' rounding errors small.
POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)
# What a strip may hold between its input and its maxima: some multiple of the L2 cache, but so
# that a matrix product still has some hundred rows.
STRIP_BYTES = 6_000_000


class Pooled(NamedTuple):
    """Maxima of a convolution's output in each window, and its moments over all of it.

    Attributes
    ----------
    maxima
        Of each whole window.
    mean, variance
        Of each feature over batch, mel bands and frames (biased), float32, what no window covers
        included.
    """

    maxima: Float[Array, "batch pooled_mel pooled_frames features"]
    mean: Float[Array, " features"]
    variance: Float[Array, " features"]


def convolution_max_pool(
    x: Float[Array, "batch mel frames channels"],
    kernel: Float[Array, "kernel_mel kernel_frames channels features"],
    window: tuple[int, int],
) -> Pooled:
    """Convolve (stride 1, SAME), take moments, and max-pool in windows that do not overlap.

    Equals ``lax.conv_general_dilated``, ``jnp.mean``, ``jnp.var`` and ``lax.reduce_window``
    (VALID: rows and columns that fill no window are left out) to rounding, in values and in
    gradients; among equal maxima the gradient goes to the first in the window, as XLA's does.
    (Minimal filtering may tell apart in the last bit what would be equal on paper.)

    Parameters
    ----------
    x, kernel
        Computed in float32 on a CPU, whatever their type; the maxima have the type of `x`. The
        kernel has at most eight taps along either side.
    window
        Mel bands and frames, at most those of `x`.
    """
    layout = _Layout.of(x, kernel, window)
    # Under shard_map, the kernel is the same on all devices and `x` is not. Adding a zero of the
    # varying kind lets JAX sum the kernel's gradient over the devices, by its own rules.
    kernel = kernel + jnp.full_like(x, 0, shape=kernel.shape, dtype=kernel.dtype)
    if _for_mesh_without_cpu():
        return plain(x, kernel, window)
    return lax.platform_dependent(
        x,
        kernel,
        cpu=functools.partial(_in_strips, layout),
        default=functools.partial(plain, window=window),
    )


def _for_mesh_without_cpu() -> bool:
    """Whether this is traced for devices that are known not to be CPUs (in `jax.shard_map`).

    `lax.platform_dependent` differentiates all of its branches, and the one that is lowered fills
    what only the others keep for their gradients with zeros.
    """
    device = jax.sharding.get_abstract_mesh().abstract_device
    return device is not None and device.device_kind != "cpu"


@dataclasses.dataclass(frozen=True)
class _Layout:
    """Static shapes: how the output falls into tiles, and the tiles into strips."""

    batch: int
    size: tuple[int, int]
    channels: int
    features: int
    taps: tuple[int, int]
    window: tuple[int, int]

    @classmethod
    def of(cls, x: Array, kernel: Array, window: tuple[int, int]) -> "_Layout":
        batch, mel, frames, channels = x.shape
        kernel_mel, kernel_frames, _, features = kernel.shape
        taps = kernel_mel, kernel_frames
        return cls(batch, (mel, frames), channels, features, taps, window)

    @property
    def windows(self) -> tuple[int, int]:
        """Whole windows."""
        return self.size[0] // self.window[0], self.size[1] // self.window[1]

    @property
    def tile(self) -> tuple[int, int]:
        """Outputs of a tile: the window, or a whole fraction of it.

        No side is longer than `POINTS` allow. A window that is split along frames has tiles of one
        row, so that the order of its tiles, and of the places in them, is the order of its places:
        the first of equal maxima is then found in two steps.
        """
        mel, frames = (
            _largest_divisor(side, len(POINTS) + 2 - taps)
            for side, taps in zip(self.window, self.taps, strict=True)
        )
        return (mel if frames == self.window[1] else 1), frames

    @property
    def places(self) -> int:
        return math.prod(self.tile)

    @property
    def tiles_of_window(self) -> tuple[int, int]:
        return self.window[0] // self.tile[0], self.window[1] // self.tile[1]

    @property
    def patch(self) -> tuple[int, int]:
        """Inputs that a tile depends on."""
        return self.tile[0] + self.taps[0] - 1, self.tile[1] + self.taps[1] - 1

    @property
    def grid(self) -> tuple[int, int]:
        """Tiles that cover the output; the last row and column may reach over its edge."""
        return -(-self.size[0] // self.tile[0]), -(-self.size[1] // self.tile[1])

    @property
    def direct(self) -> bool:
        """Whether a tile is one matrix product, without minimal filtering."""
        return self.channels == 1

    @property
    def place_axis(self) -> int:
        """Axis of the places in a strip's output, (places, tiles, features) or the first two
        exchanged: each way of computing gives one of them without a transposition."""
        return 1 if self.direct else 0

    @property
    def strip(self) -> tuple[int, int]:
        """Images and rows of tiles in a strip; several images only if they are whole."""
        points = self.places if self.direct else math.prod(self.patch)
        numbers = math.prod(self.patch) * self.channels + (points + self.places) * self.features
        row_bytes = 4 * self.grid[1] * numbers
        rows = _largest_divisor(self.grid[0], STRIP_BYTES // row_bytes)
        if rows < self.grid[0]:
            return 1, rows
        return _largest_divisor(self.batch, STRIP_BYTES // (rows * row_bytes)), rows

    @property
    def strips(self) -> int:
        images, rows = self.strip
        return (self.batch // images) * (self.grid[0] // rows)

    @property
    def padding(self) -> tuple[tuple[int, int], ...]:
        """SAME, and up to whole tiles."""
        sides = []
        for size, taps, tile, tiles in zip(self.size, self.taps, self.tile, self.grid, strict=True):
            before = (taps - 1) // 2
            sides.append((before, tiles * tile + taps - 1 - before - size))
        return ((0, 0), *sides, (0, 0))

    def start(self, strip: Array) -> tuple[Array, Array]:
        """First image and first row of tiles of a strip."""
        images, rows = self.strip
        strips_of_image = self.grid[0] // rows
        return strip // strips_of_image * images, strip % strips_of_image * rows


def _largest_divisor(number: int, limit: int) -> int:
    return max(d for d in range(1, number + 1) if number % d == 0 and d <= max(limit, 1))


def plain(x: Array, kernel: Array, window: tuple[int, int]) -> Pooled:
    """`convolution_max_pool` by XLA's own operations."""
    y = lax.conv_general_dilated(
        x,
        kernel.astype(x.dtype),
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    y32 = y.astype(jnp.float32)
    return Pooled(nn.max_pool(y, window, window), y32.mean((0, 1, 2)), y32.var((0, 1, 2)))


def _in_strips(layout: _Layout, x: Array, kernel: Array) -> Pooled:
    """By strips of tiles."""
    maxima, mean, variance = _tiled(layout, x, kernel)
    whole, (tiles_mel, tiles_frames) = layout.windows, layout.tiles_of_window
    maxima = maxima[:, : whole[0] * tiles_mel, : whole[1] * tiles_frames]
    if (tiles_mel, tiles_frames) != (1, 1):
        maxima = nn.max_pool(maxima, layout.tiles_of_window, layout.tiles_of_window)
    return Pooled(maxima, mean, variance)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _tiled(layout: _Layout, x: Array, kernel: Array) -> tuple[Array, Array, Array]:
    """Maxima of all tiles, mean and variance, strip by strip."""
    return _tiled_forward(layout, x, kernel, for_gradient=False)[0]


def _tiled_forward(layout: _Layout, x: Array, kernel: Array, for_gradient: bool = True):
    padded = jnp.pad(x, layout.padding)
    points = _kernel_at_points(layout, kernel)
    # The output's mean, but for its borders: the sums below are of small numbers, and the
    # variance is not lost in the difference of two large ones.
    # (Of the padded input, so that `x` itself need not be there.)
    count = layout.batch * math.prod(layout.size)
    mean_input = padded.sum((0, 1, 2), dtype=jnp.float32) / count
    about = jnp.einsum("c,hwcf->f", mean_input, kernel.astype(jnp.float32))

    def of_strip(_: None, strip: Array):
        y = _tiles(layout, _patches_at_points(layout, _cut(layout, padded, strip)), points)
        maxima, place = _first_maximum(layout, y)
        deviation = _where_real(layout, strip, y - about)
        sums = deviation.sum((0, 1)), jnp.square(deviation).sum((0, 1))
        # One channel's output is cheaper to compute again than to keep.
        kept = (place, None if layout.direct else y) if for_gradient else None
        return None, (maxima.astype(x.dtype), *sums, kept)

    _, (maxima, first, second, kept) = lax.scan(of_strip, None, jnp.arange(layout.strips))
    from_about = first.sum(0) / count
    mean, variance = about + from_about, second.sum(0) / count - jnp.square(from_about)
    maxima = maxima.reshape(layout.batch, *layout.grid, layout.features)
    return (maxima, mean, variance), (padded, kernel, mean, kept)


def _tiled_backward(layout: _Layout, residuals, cotangents):
    padded, kernel, mean, (place, y_kept) = residuals
    d_maxima, d_mean, d_variance = cotangents
    points, kernel_from_points = jax.vjp(functools.partial(_kernel_at_points, layout), kernel)
    # The moments' share of the gradient to the output y is slope · y + level.
    count = layout.batch * math.prod(layout.size)
    slope = 2 * d_variance / count
    level = d_mean / count - slope * mean

    def of_strip(sums: tuple[Array, Array], inputs):
        d_padded, d_points = sums
        strip, place, d_maximum, y = inputs
        patches = _patches_at_points(layout, _cut(layout, padded, strip))
        y_again, tiles_from = jax.vjp(functools.partial(_tiles, layout), patches, points)
        y = y_again if layout.direct else y
        is_first = _places(layout) == jnp.expand_dims(place, layout.place_axis)
        d_maximum = jnp.expand_dims(d_maximum.astype(jnp.float32), layout.place_axis)
        # No whole window reaches over the edge: `d_maximum` is 0 there.
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


def _kernel_at_points(layout: _Layout, kernel: Array) -> Array:
    """What the patches are multiplied by: (points, channels, features), or, with one channel,
    (inputs of a patch, places of a tile, features)."""
    taps = kernel.astype(jnp.float32).reshape(-1, layout.channels, layout.features)
    if layout.direct:
        return jnp.einsum("ipt,tf->ipf", _toeplitz(layout), taps[:, 0])
    return _combine(_filtering(layout).kernel, taps)


def _patches_at_points(layout: _Layout, strip: Array) -> Array:
    """A strip's patches: (points, tiles, channels), or, with one channel, (inputs, tiles)."""
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
    return inputs[..., 0] if layout.direct else _combine(_filtering(layout).patch, inputs)


def _stack(arrays: Sequence[Array]) -> Array:
    """`jnp.stack`, each array written into its place.

    XLA fuses a concatenation with what it is made of into one loop that asks for every number
    which array it is of; it took up to a third of a layer's time.
    """
    stacked = jnp.zeros((len(arrays), *arrays[0].shape), arrays[0].dtype)
    for place, array in enumerate(arrays):
        stacked = lax.dynamic_update_index_in_dim(stacked, array, place, 0)
    return stacked


def _add_patches(layout: _Layout, d_patches: Array) -> Array:
    """The transpose of `_patches_at_points`: where patches overlap, they add up."""
    if layout.direct:
        inputs = d_patches[..., None]
    else:
        inputs = _combine(_filtering(layout).patch.T, d_patches)
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
    """Add what a patch holds beyond its tile to the tiles that follow, along one side."""
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


def _tiles(layout: _Layout, patches: Array, points: Array) -> Array:
    """A strip's output: (places, tiles, features), or, with one channel, (tiles, places, …)."""
    if layout.direct:
        inputs = points.shape[0]
        y = patches.T @ points.reshape(inputs, -1)
        return y.reshape(-1, layout.places, layout.features)
    return _combine(_filtering(layout).tile, patches @ points)


def _first_maximum(layout: _Layout, y: Array) -> tuple[Array, Array]:
    """Each tile's maximum, and the first place that holds it."""
    at_place = functools.partial(lax.index_in_dim, y, axis=layout.place_axis, keepdims=False)
    maximum = at_place(0)
    place = jnp.zeros_like(maximum, jnp.uint8)
    for index in range(1, layout.places):
        place = jnp.where(at_place(index) > maximum, np.uint8(index), place)
        maximum = jnp.maximum(maximum, at_place(index))
    return maximum, place


def _places(layout: _Layout) -> Array:
    """0, 1, … along the places' axis of a strip's output."""
    shape = (1, layout.places, 1) if layout.direct else (layout.places, 1, 1)
    return jnp.arange(layout.places, dtype=jnp.uint8).reshape(shape)


def _where_real(layout: _Layout, strip: Array, y: Array) -> Array:
    """`y`, and 0 at places that lie over the output's edge."""
    images, rows = layout.strip
    tiles, places = (images, rows, layout.grid[1]), layout.tile
    shape = (*tiles, *places) if layout.direct else (*places, *tiles)
    split = y.reshape(*shape, layout.features)
    row_axis, mel_axis = (1, 3) if layout.direct else (3, 0)
    _, first_row = layout.start(strip)
    # A strip has the last of the columns always, the last of the rows at the end of an image.
    is_edge = (first_row + rows == layout.grid[0], jnp.array(True))
    # Only what lies over it is touched: a mask for all would cost as much as all the rest.
    for side in range(2):
        over = layout.grid[side] * layout.tile[side] - layout.size[side]
        if over:
            start = [0] * split.ndim
            start[row_axis + side] = split.shape[row_axis + side] - 1
            start[mel_axis + side] = layout.tile[side] - over
            edge = lax.slice(split, start, split.shape)
            split = lax.dynamic_update_slice(split, jnp.where(is_edge[side], 0, edge), start)
    return split.reshape(y.shape)


def _strip_start(layout: _Layout, strip: Array) -> tuple[Array | int, ...]:
    image, row = layout.start(strip)
    return image, row * layout.tile[0], 0, 0


def _cut(layout: _Layout, padded: Array, strip: Array) -> Array:
    """The inputs of a strip, neighbouring rows included, in float32."""
    images, rows = layout.strip
    mel = (rows - 1) * layout.tile[0] + layout.patch[0]
    shape = (images, mel, *padded.shape[2:])
    return lax.dynamic_slice(padded, _strip_start(layout, strip), shape).astype(jnp.float32)


class _Filtering(NamedTuple):
    """Minimal filtering: tile @ ((kernel @ taps) * (patch @ inputs))."""

    tile: np.ndarray
    kernel: np.ndarray
    patch: np.ndarray


def _filtering(layout: _Layout) -> _Filtering:
    """The two-dimensional transforms of a layout; places, taps, inputs and points in row order."""
    mel, frames = (
        minimal_filtering(outputs, taps)
        for outputs, taps in zip(layout.tile, layout.taps, strict=True)
    )
    return _Filtering(*(np.kron(a, b).astype(np.float32) for a, b in zip(mel, frames, strict=True)))


def minimal_filtering(outputs: int, taps: int) -> _Filtering:
    """Transforms that compute so many outputs of a filter with outputs + taps − 1 products.

    The filter is the transpose of a product of polynomials, and that product is found by
    evaluating both at outputs + taps − 1 points (Toom–Cook; Winograd 1980, section V).
    """
    points = outputs + taps - 1

    def values(coefficients: int) -> np.ndarray:
        finite = [[point**k for k in range(coefficients)] for point in POINTS[: points - 1]]
        return np.array([*finite, [0.0] * (coefficients - 1) + [1.0]])

    return _Filtering(values(outputs).T, values(taps), np.linalg.inv(values(points)).T)


def _toeplitz(layout: _Layout) -> np.ndarray:
    """Which tap of the kernel links an input of a patch to a place of its tile: 0 or 1."""
    sides = (
        np.eye(patch)[:, np.arange(tile)[:, None] + np.arange(kernel)]
        for patch, tile, kernel in zip(layout.patch, layout.tile, layout.taps, strict=True)
    )
    links = np.einsum("ipt,jqu->ijpqtu", *sides)
    inputs, places, taps = (math.prod(s) for s in (layout.patch, layout.tile, layout.taps))
    return links.reshape(inputs, places, taps).astype(np.float32)


def _combine(matrix: np.ndarray, arrays: Array) -> Array:
    """Linear combinations of the arrays along the first axis."""
    flat = jnp.asarray(matrix) @ arrays.reshape(arrays.shape[0], -1)
    return flat.reshape(matrix.shape[0], *arrays.shape[1:])
