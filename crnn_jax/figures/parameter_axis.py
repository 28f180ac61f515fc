"""The logarithmic axis of trainable parameters."""

import math
from collections.abc import Iterable

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator


def scale_parameter_axis(axes: Axes, params: Iterable[float], targets: Iterable[int]) -> None:
    """Scale a horizontal axis, with a tick at each target whose label has room."""
    targets = sorted(set(targets))
    numbers = [*params, *targets]
    low, high = min(numbers) / 1.25, max(numbers) * 1.25
    ticks: list[int] = []
    for target in targets:
        if not ticks or math.log(target / ticks[-1]) > 0.12 * math.log(high / low):
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
