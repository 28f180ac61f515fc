"""Differences of two networks, tag by tag, with intervals."""

from collections.abc import Iterable, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from crnn_jax.analysis.comparison import Difference, Estimate, TagDifference, Verdict
from crnn_jax.figures.canvas import COLUMN_WIDTH, SMALL_FONT_SIZE, new_figure, style
from crnn_jax.figures.legends import add_legend
from crnn_jax.figures.looks import RULE_LOOKS, architecture_looks, line_name
from crnn_jax.figures.names import drawable
from crnn_jax.figures.parameter_axis import format_parameters

# Inches from one tag to the next: the height of a line in the small font.
ROW = 0.115


def tag_differences(difference: Difference) -> Figure:
    """Draw the difference of two networks' AUC for each tag, by category.

    Bars are 95 % intervals of each tag alone. A filled marker has the colour of the network that is
    better by Holm's correction for all tags; an open one is undecided. Grey bands are the intervals
    of the categories' means. Within a category the differences fall from top to bottom; behind each
    tag are its positive clips in the test split.
    """
    looks = architecture_looks([difference.first.arch, difference.second.arch])
    first, second = looks[difference.first.arch], looks[difference.second.arch]
    colours: dict[Verdict, str] = {
        "higher": first.colour,
        # Two rules of one architecture have one colour.
        "lower": "black" if first == second else second.colour,
        "undecided": "0.4",
    }
    groups = {
        category: sorted(
            (tag for tag in difference.tags if tag.category == category),
            key=lambda tag: -tag.auc.value,
        )
        for category in sorted(difference.categories)
    }
    # One empty row between categories.
    n_rows = len(difference.tags) + len(groups) - 1
    with style():
        figure = new_figure(COLUMN_WIDTH, 0.9 + ROW * n_rows)
        axes = figure.add_subplot()
        top = 0
        for category, tags in groups.items():
            _draw_category(axes, difference.categories[category], category, top, len(tags))
            for row, tag in enumerate(tags, start=top):
                _draw_tag(axes, tag, row, colours)
            top += len(tags) + 1
        axes.axvline(0, color="black", linewidth=0.6)
        axes.set_ylim(n_rows - 0.5, -0.5)
        _label_tags(axes, groups.values())
        axes.set_xlabel(f"Difference of ROC-AUC: {first.name} − {second.name}")
        if difference.first.rule == difference.second.rule:
            names = first.name, second.name
            shared = difference.first.rule
            rule = "" if shared == "uniform" else f", {RULE_LOOKS[shared].name}"
        else:
            rule = ""
            names = (
                line_name(first, difference.first.rule),
                line_name(second, difference.second.rule),
            )
        labels: dict[Verdict, str] = {
            "higher": f"{names[0]} is better",
            "lower": f"{names[1]} is better",
            "undecided": "undecided",
        }
        size = format_parameters(difference.first.target)
        add_legend(
            figure,
            [_handle(verdict, colours[verdict], label) for verdict, label in labels.items()],
            title=f"{size} parameters{rule}: {first.name} higher on "
            f"{difference.count('higher')} tags, lower on {difference.count('lower')}",
        )
    return figure


def _draw_category(axes: Axes, mean: Estimate, category: str, top: int, n_tags: int) -> None:
    axes.fill_betweenx([top - 0.5, top + n_tags - 0.5], mean.low, mean.high, color="0.9", zorder=0)
    axes.text(
        1.01,
        top + (n_tags - 1) / 2,
        drawable(category) or "no category",
        transform=axes.get_yaxis_transform(),
        ha="left",
        va="center",
        fontsize=SMALL_FONT_SIZE,
        parse_math=False,
    )


def _draw_tag(axes: Axes, tag: TagDifference, row: int, colours: Mapping[Verdict, str]) -> None:
    colour = colours[tag.verdict]
    axes.hlines(row, tag.auc.low, tag.auc.high, color=colour, linewidth=0.8)
    face = "white" if tag.verdict == "undecided" else colour
    axes.plot(tag.auc.value, row, marker="o", markersize=3, color=colour, markerfacecolor=face)


def _label_tags(axes: Axes, groups: Iterable[Sequence[TagDifference]]) -> None:
    rows: list[int] = []
    labels: list[str] = []
    top = 0
    for tags in groups:
        rows += range(top, top + len(tags))
        labels += [f"{drawable(tag.tag)} ({tag.n_positive})" for tag in tags]
        top += len(tags) + 1
    axes.set_yticks(rows, labels, fontsize=SMALL_FONT_SIZE, parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x")


def _handle(verdict: Verdict, colour: str, label: str) -> Line2D:
    face = "white" if verdict == "undecided" else colour
    return Line2D([], [], color=colour, marker="o", linestyle="", markerfacecolor=face, label=label)
