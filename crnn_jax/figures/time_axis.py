"""The axis of training time."""

import math

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from crnn_jax.figures.canvas import COLUMN_WIDTH, FONT_SIZE


def scale_time_axis(axes: Axes, seconds: pd.Series) -> None:
    """Make the axis logarithmic where times differ by more than a factor of 10."""
    decades = math.log10(seconds.max() / seconds.min())
    if decades > 1:
        # As many ticks per decade as fit with labels; 0.75: the axes' share of the column.
        label_width = 0.62 * FONT_SIZE * len(f"{seconds.max():,.0f}")
        room = 0.75 * COLUMN_WIDTH * 72 / (1.2 * decades)
        steps = (1, 2, 5) if 0.3 * room > label_width else (1, 3)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=steps if 0.5 * room > label_width else (1,)))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=(1, 2, 2.5, 5, 10)))
    axes.margins(x=0.07, y=0.07)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
