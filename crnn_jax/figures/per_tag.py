"""AUC of each tag."""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from crnn_jax.analysis.tables import mean_tag_auc
from crnn_jax.figures.canvas import (
    COLUMN_WIDTH,
    FONT_SIZE,
    GREY,
    SMALL_FONT_SIZE,
    new_figure,
    style,
    wrap_text,
)
from crnn_jax.figures.legends import add_legend, architecture_handle, seeds_note
from crnn_jax.figures.looks import RULE_LOOKS, ArchitectureLook, architecture_looks
from crnn_jax.figures.names import drawable
from crnn_jax.figures.parameter_axis import format_parameters

CATEGORIES = ("genre", "mood", "instrument", "era")
# Within a category tags are sorted by the first of these that is present.
SORTED_BY = ("conv2d", "crnn", "conv1d")
DIFFERENCES = (("crnn", "conv2d"), ("conv2d", "conv1d"))
# Inches from one tag to the next: the height of a line in the small font.
SLOT_WIDTH = 0.115


def per_tag_auc(scores: pd.DataFrame, target: int) -> Figure:
    """Draw the ROC-AUC of each tag at one size, grouped by category.

    As in Choi et al. (2017), section 3.3, within a category the AUC of Conv2D falls from left to
    right. Dashed lines are means of a category. The bars below are differences of two
    architectures, in the colour of the better one. If both width rules are present, the one with
    more architectures is drawn, or else ``uniform``. Tags for which an architecture has no AUC are
    left out and named below the figure.

    Parameters
    ----------
    scores
        Rows of ``per_tag.csv``; see `crnn_jax.analysis.tables.read_per_tag`.
    target
        The size, in trainable parameters.
    """
    all_looks = architecture_looks(scores["arch"])
    drawn = _with_one_rule(scores, target)
    auc = mean_tag_auc(drawn)
    looks = {arch: look for arch, look in all_looks.items() if arch in auc}
    differences = [pair for pair in DIFFERENCES if set(pair) <= set(looks)]
    groups = _group_tags(drawn, auc.dropna())
    labels = [label for group in groups for label in group.labels]

    width = max(COLUMN_WIDTH, groups[-1].right * SLOT_WIDTH + 0.75)
    note = "In parentheses: the tag's rank by popularity in the training split."
    if without_auc := auc.index[auc.isna().any(axis=1)].tolist():
        names = ", ".join(map(drawable, without_auc))
        note += f" Left out, one class only in the test split: {names}."
    note = wrap_text(note, width)
    height = 2.4 + 0.65 * len(differences)
    lines = 0.6 * max(map(len, labels)) + 1.3 * len(note.splitlines())
    height += lines * SMALL_FONT_SIZE / 72

    with style():
        figure = new_figure(width, height)
        rows = figure.subplots(
            1 + len(differences),
            1,
            sharex=True,
            squeeze=False,
            height_ratios=[3.2, *[1] * len(differences)],
        )[:, 0]
        _draw_auc(rows[0], groups, looks)
        for axes in rows[2:]:
            # Bars of equal length are equal differences in both rows.
            axes.sharey(rows[1])
        for axes, (minuend, subtrahend) in zip(rows[1:], differences, strict=True):
            _draw_differences(axes, groups, looks, minuend, subtrahend)
        rows[0].set_xlim(groups[0].left - 0.5, groups[-1].right + 0.5)
        for axes in rows:
            axes.grid(axis="x")
            axes.tick_params(axis="x", length=0)
        rows[-1].set_xticks(
            np.concatenate([group.positions for group in groups]),
            labels,
            rotation=90,
            fontsize=SMALL_FONT_SIZE,
            parse_math=False,
        )
        figure.align_ylabels(rows)
        n_seeds = drawn.groupby("arch")["seed"].nunique()
        mean = Line2D([], [], color=GREY, linestyle="--", linewidth=0.8, label="category mean")
        add_legend(
            figure,
            [*map(architecture_handle, looks.values()), mean],
            title=f"{format_parameters(target)} parameters, "
            f"{RULE_LOOKS[drawn['rule'].iloc[0]].name}, {seeds_note('mean', n_seeds)}",
        )
        figure.supxlabel(
            note, x=0.01, ha="left", fontsize=SMALL_FONT_SIZE, color=GREY, parse_math=False
        )
    return figure


def complete_targets(scores: pd.DataFrame) -> list[int]:
    """List the targets at which one rule has all architectures and some tag has all their AUCs."""
    complete = []
    for target in sorted(scores["target"].unique().tolist()):
        drawn = _with_one_rule(scores, target)
        all_there = drawn["arch"].nunique() == scores["arch"].nunique()
        if all_there and len(mean_tag_auc(drawn).dropna()):
            complete.append(target)
    return complete


def _with_one_rule(scores: pd.DataFrame, target: int) -> pd.DataFrame:
    """Select a target's rows of the rule with more architectures, ``uniform`` on a tie."""
    at_target = scores[scores["target"] == target]
    by_rule = [at_target[at_target["rule"] == rule] for rule in RULE_LOOKS]
    return max(by_rule, key=lambda rows: rows["arch"].nunique())


class Group(NamedTuple):
    """The tags of a category, and their place on the horizontal axis, in slots.

    `auc` has a row for each tag and a column for each architecture.
    """

    title: str
    auc: pd.DataFrame
    labels: Sequence[str]
    left: float
    right: float
    positions: Float[np.ndarray, "group_tags"]


def _group_tags(scores: pd.DataFrame, auc: pd.DataFrame) -> list[Group]:
    """Place categories side by side, each as wide as its tags and at least as its title.

    The order is genre, mood, instrument, era, then other categories by name.
    """
    tags = scores.groupby("tag")[["category", "popularity_rank"]].last().loc[auc.index]
    sorted_by = next(arch for arch in (*SORTED_BY, *auc.columns) if arch in auc)
    falling = auc.sort_index().sort_values(sorted_by, ascending=False, kind="stable")
    present = set(tags["category"])
    groups = []
    left = 0.0
    for category in [*CATEGORIES, *sorted(present - set(CATEGORIES))]:
        if category not in present:
            continue
        title = drawable(category) or "no category"
        of_category = falling[tags["category"].loc[falling.index] == category]
        ranks = tags["popularity_rank"].loc[of_category.index]
        title_width = 0.62 * FONT_SIZE / 72 * len(title) / SLOT_WIDTH
        right = left + max(len(of_category), title_width)
        first = (left + right - len(of_category) + 1) / 2
        groups.append(
            Group(
                title,
                of_category,
                [f"{drawable(tag)} ({rank})" for tag, rank in ranks.items()],
                left,
                right,
                first + np.arange(len(of_category)),
            )
        )
        left = right + 1
    return groups


def _draw_auc(axes: Axes, groups: Sequence[Group], looks: Mapping[str, ArchitectureLook]) -> None:
    for group, (arch, look) in itertools.product(groups, looks.items()):
        axes.plot(
            group.positions,
            group.auc[arch],
            color=look.colour,
            marker=look.marker,
            markersize=3.2,
            linewidth=0.7,
            label=f"{look.name}, {group.title}",
        )
        axes.hlines(
            group.auc[arch].mean(),
            group.positions[0] - 0.5,
            group.positions[-1] + 0.5,
            color=look.colour,
            linestyle="--",
            linewidth=0.8,
            label=f"{look.name}, mean of {group.title}",
        )
    for group in groups:
        axes.text(
            (group.left + group.right) / 2,
            1.0,
            group.title,
            transform=axes.get_xaxis_transform(),
            ha="center",
            va="bottom",
            parse_math=False,
        )
    axes.set_ylabel("ROC-AUC, test split")


def _draw_differences(
    axes: Axes,
    groups: Sequence[Group],
    looks: Mapping[str, ArchitectureLook],
    minuend: str,
    subtrahend: str,
) -> None:
    for group in groups:
        differences = group.auc[minuend] - group.auc[subtrahend]
        better = np.where(differences > 0, minuend, subtrahend)
        colours = [looks[arch].colour for arch in better]
        axes.bar(group.positions, differences, width=0.66, color=colours)
    axes.axhline(0, color="black", linewidth=0.6)
    axes.spines.bottom.set_visible(False)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.set_ylabel(f"{looks[minuend].name} −\n{looks[subtrahend].name}")
