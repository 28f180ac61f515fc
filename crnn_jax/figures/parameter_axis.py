"""The logarithmic axis of trainable parameters."""

import math
from collections.abc import Iterable

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from crnn_jax.figures.canvas import COLUMN_WIDTH, FONT_SIZE


def scale_parameter_axis(axes: Axes, params: Iterable[float], targets: Iterable[int]) -> None:
    """Scale a horizontal axis, with a tick at each target whose label has room."""
    targets = sorted(set(targets))
    numbers = [*params, *targets]
    low, high = min(numbers) / 1.25, max(numbers) * 1.25
    # In points; the axes take 0.8 of the column's width.
    room = 0.8 * COLUMN_WIDTH * 72 / math.log(high / low)
    ticks: list[int] = []
    for target in targets:
        labels = [format_parameters(tick) for tick in (target, *ticks[-1:])]
        half_widths = sum(0.3 * FONT_SIZE * len(label) for label in labels)
        if not ticks or math.log(target / ticks[-1]) * room > half_widths + FONT_SIZE / 3:
            ticks.append(target)
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: format_parameters(value))
    axes.set_xlabel("Trainable parameters")


def format_parameters(parameters: float) -> str:
    """Format a number of parameters: ``0.1M``, ``3M``, and below 0.1M in thousands, ``25k``."""
    if parameters < 100_000:
        return f"{parameters / 1e3:.3g}k"
    return f"{parameters / 1e6:.3g}M"
