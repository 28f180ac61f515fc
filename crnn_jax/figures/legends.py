"""Legends outside the axes, and the notes in their titles."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from crnn_jax.config import Rule
from crnn_jax.figures.canvas import FONT_SIZE, GREY, wrap_text
from crnn_jax.figures.looks import RULE_LOOKS, ArchitectureLook, line_style

OutsidePlace = Literal["outside upper center", "outside lower center"]


def add_curves_legend(
    figure: Figure, points: pd.DataFrame, looks: Mapping[str, ArchitectureLook], note: str
) -> None:
    """Add the architectures and rules of `points`, and a note above them.

    Rules have a row of their own; if there is only one, the note names it instead.
    """
    shown = [look for arch, look in looks.items() if arch in set(points["arch"])]
    rules = [rule for rule in RULE_LOOKS if rule in set(points["rule"])]
    if len(rules) == 1:
        add_legend(
            figure,
            [architecture_handle(look, rules[0]) for look in shown],
            title=f"{RULE_LOOKS[rules[0]].name}, {note}",
        )
    else:
        add_legend(
            figure,
            [architecture_handle(look) for look in shown],
            [_rule_handle(rule) for rule in rules],
            title=note,
        )


def add_legend(
    figure: Figure,
    *groups: Sequence[Line2D],
    title: str,
    loc: OutsidePlace = "outside upper center",
    **options: Any,
) -> None:
    """Add a legend outside the axes, in which each group of entries starts a row.

    A row has as many entries as the figure has room for. Further keyword arguments are those of
    Matplotlib's ``Figure.legend``.
    """
    blank = Line2D([], [], linestyle="", label=" ")
    for per_row in range(max(map(len, groups)), 0, -1):
        rows = [
            group[start : start + per_row]
            for group in groups
            for start in range(0, len(group), per_row)
        ]
        # Matplotlib fills a legend column by column.
        columns = itertools.zip_longest(*rows, fillvalue=blank)
        handles = [handle for column in columns for handle in column]
        legend = figure.legend(handles=handles, loc=loc, ncols=per_row, **options)
        # The frame is not drawn: its padding may lie outside of the figure.
        padding = 2 * legend.borderpad * (FONT_SIZE - 1) * figure.dpi / 72
        if per_row == 1 or legend.get_window_extent().width - padding <= figure.bbox.width:
            break
        legend.remove()
    legend.set_title(wrap_text(title, figure.get_figwidth()))
    legend.get_title().set_multialignment("center")
    for text in (legend.get_title(), *legend.get_texts()):
        text.set_parse_math(False)


def architecture_handle(look: ArchitectureLook, rule: Rule = "uniform") -> Line2D:
    """Make the legend entry of an architecture."""
    return Line2D([], [], **line_style(look, rule) | {"label": look.name})


def _rule_handle(rule: Rule) -> Line2D:
    look = RULE_LOOKS[rule]
    return Line2D(
        [],
        [],
        color=GREY,
        marker="o",
        markerfacecolor=GREY if look.filled else "white",
        linestyle=look.line_style,
        label=look.name,
    )


def seeds_note(statistic: str, counts: Sequence[int]) -> str:
    """Describe how many seeds a point averages, such as ``mean and range of 3 seeds``."""
    fewest, most = min(counts), max(counts)
    if most == 1:
        return "one seed"
    return f"{statistic} of {most if fewest == most else f'{fewest} to {most}'} seeds"
