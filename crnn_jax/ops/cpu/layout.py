"""How a convolution's output is divided into tiles, and the tiles into strips."""

import dataclasses
import math

from jaxtyping import Array

# Points of minimal filtering along a side, including the one at infinity.
MOST_POINTS = 8
# Bytes that a strip may take between its input and its maxima: a few times the L2 cache, so that a
# matrix product still has a few hundred rows.
STRIP_BYTES = 6_000_000


@dataclasses.dataclass(frozen=True)
class Layout:
    """Static shapes of the division of an output into tiles and strips."""

    batch: int
    size: tuple[int, int]
    channels: int
    features: int
    taps: tuple[int, int]
    window: tuple[int, int]

    @classmethod
    def from_arrays(cls, x: Array, kernel: Array, window: tuple[int, int]) -> "Layout":
        """Return the layout of an operation on these arrays."""
        batch, mel, frames, channels = x.shape
        kernel_mel, kernel_frames, _, features = kernel.shape
        taps = kernel_mel, kernel_frames
        return cls(batch, (mel, frames), channels, features, taps, window)

    @property
    def products_per_tile(self) -> int:
        """Products per feature that are combined into the outputs of a tile."""
        return self.places if self.channels == 1 else math.prod(self.patch)

    @property
    def windows(self) -> tuple[int, int]:
        """Whole windows along either side of the output."""
        return self.size[0] // self.window[0], self.size[1] // self.window[1]

    @property
    def tile(self) -> tuple[int, int]:
        """Size of a tile: that of the window, or an integer fraction of it.

        No side takes more than `MOST_POINTS` points. A window that is split along frames has tiles
        of one row, so that its tiles, and the places in each, are in the order of the window's
        places: the first of equal maxima is then found in two steps.
        """
        mel, frames = (
            largest_divisor(side, MOST_POINTS + 1 - taps)
            for side, taps in zip(self.window, self.taps, strict=True)
        )
        return (mel if frames == self.window[1] else 1), frames

    @property
    def places(self) -> int:
        """Number of outputs of a tile."""
        return math.prod(self.tile)

    @property
    def tiles_of_window(self) -> tuple[int, int]:
        """Tiles along either side of a window."""
        return self.window[0] // self.tile[0], self.window[1] // self.tile[1]

    @property
    def patch(self) -> tuple[int, int]:
        """Size of the block of inputs that a tile depends on."""
        return self.tile[0] + self.taps[0] - 1, self.tile[1] + self.taps[1] - 1

    @property
    def grid(self) -> tuple[int, int]:
        """Tiles that cover the output; the last row and column may extend beyond its edge."""
        return -(-self.size[0] // self.tile[0]), -(-self.size[1] // self.tile[1])

    @property
    def strip(self) -> tuple[int, int]:
        """Images and rows of tiles in a strip; several images only if they are whole."""
        numbers = (
            math.prod(self.patch) * self.channels
            + (self.products_per_tile + self.places) * self.features
        )
        row_bytes = 4 * self.grid[1] * numbers
        rows = largest_divisor(self.grid[0], STRIP_BYTES // row_bytes)
        if rows < self.grid[0]:
            return 1, rows
        return largest_divisor(self.batch, STRIP_BYTES // (rows * row_bytes)), rows

    @property
    def strips(self) -> int:
        """Number of strips."""
        images, rows = self.strip
        return (self.batch // images) * (self.grid[0] // rows)

    @property
    def padding(self) -> tuple[tuple[int, int], ...]:
        """SAME padding, extended to whole tiles."""
        sides = []
        for size, taps, tile, tiles in zip(self.size, self.taps, self.tile, self.grid, strict=True):
            before = (taps - 1) // 2
            sides.append((before, tiles * tile + taps - 1 - before - size))
        return ((0, 0), *sides, (0, 0))

    def start(self, strip: Array) -> tuple[Array, Array]:
        """Return the first image and the first row of tiles of a strip."""
        images, rows = self.strip
        strips_of_image = self.grid[0] // rows
        return strip // strips_of_image * images, strip % strips_of_image * rows


def largest_divisor(number: int, limit: int) -> int:
    """Return the largest divisor of `number` up to a limit."""
    return max(d for d in range(1, number + 1) if number % d == 0 and d <= max(limit, 1))
