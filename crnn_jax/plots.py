"""The figures of a sweep, drawn from its `results.csv` and `per_tag.csv` alone.

The same two files always give the same bytes: the style is set for the call only and from
matplotlib's own defaults, fonts are those that matplotlib brings along, and no date is written.
"""

import csv
import dataclasses
import functools
import io
import itertools
import math
import textwrap
import types
import typing
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

import matplotlib.font_manager
import matplotlib.style
import numpy as np
from etils import epath
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import Bbox, ScaledTranslation

from crnn_jax.config import Architecture, Rule
from crnn_jax.errors import UserError
from crnn_jax.user_text import csv_field, printable


class ArchitectureLook(NamedTuple):
    """How an architecture appears in every figure."""

    name: str
    colour: str
    marker: str


class RuleLook(NamedTuple):
    """How a width rule appears in every figure."""

    name: str
    line_style: Literal["-"] | tuple[float, tuple[float, ...]]
    filled: bool


# Colours of Okabe & Ito (2008), which stay apart for colour-blind readers; markers and fills
# carry the same distinction into greyscale. The order is that of every legend.
ARCHITECTURE_LOOKS: Mapping[Architecture, ArchitectureLook] = {
    "conv1d": ArchitectureLook("Conv1D", "#009E73", "o"),
    "conv2d": ArchitectureLook("Conv2D", "#0072B2", "s"),
    "crnn": ArchitectureLook("CRNN", "#D55E00", "^"),
}
RULE_LOOKS: Mapping[Rule, RuleLook] = {
    "uniform": RuleLook("uniform s", "-", filled=True),
    "sqrt": RuleLook("√s at the output", (0, (4, 2)), filled=False),
}
CATEGORIES = ("genre", "mood", "instrument", "era")
DIFFERENCES: Sequence[tuple[Architecture, Architecture]] = (
    ("crnn", "conv2d"),
    ("conv2d", "conv1d"),
)

# Points (1/72 inch) for fonts, inches for widths: a column of a two-column page is 3.4 wide.
COLUMN_WIDTH = 3.4
FONT_SIZE = 8
SMALL_FONT_SIZE = 6.5
# From one tag to the next: what a line of the small font needs.
SLOT_WIDTH = 0.115
GREY = "0.35"
# Numbers beyond, but for 0, are of no sweep, and of no axis: seeds are the largest, times in s the
# smallest.
SMALLEST, LARGEST = 1e-12, 2**63 - 1
# Characters of a name; a longer one would leave no room for the figure.
LONGEST_NAME = 40

STYLE: Mapping[str, Any] = {
    "font.size": FONT_SIZE,
    "axes.labelsize": FONT_SIZE,
    "axes.titlesize": FONT_SIZE,
    "xtick.labelsize": FONT_SIZE - 1,
    "ytick.labelsize": FONT_SIZE - 1,
    "legend.fontsize": FONT_SIZE - 1,
    "legend.title_fontsize": SMALL_FONT_SIZE,
    "legend.frameon": False,
    "legend.columnspacing": 1.4,
    "legend.handlelength": 2.2,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.1,
    "lines.markersize": 4.2,
    "lines.markeredgewidth": 0.9,
    "savefig.dpi": 300,
    # Without a fixed salt the identifiers inside an SVG are random.
    "svg.hashsalt": "crnn-jax",
}
FORMATS: Mapping[str, Mapping[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None},
}


@dataclasses.dataclass(frozen=True)
class Cell:
    """A row of `results.csv`, as far as the figures need it.

    `test_auc` is the macro ROC-AUC on the test split; times are in s. None: not known.
    """

    arch: Architecture
    rule: Rule
    target: int
    seed: int
    params: int
    test_auc: float | None
    seconds_per_2500_samples: float | None
    train_s: float | None
    device: str
    device_count: int | None

    def __post_init__(self) -> None:
        # A log axis would drop such a cell without a word.
        if not (self.params > 0 and self.target > 0):
            raise ValueError(f"params {self.params} and target {self.target} must be above 0")
        _check_auc(self.test_auc)


@dataclasses.dataclass(frozen=True)
class TagScore:
    """A row of `per_tag.csv`, as far as the figures need it.

    `popularity_rank` is 1 for the tag that is most frequent in the training split; `auc` is None
    where the test split has one class only.
    """

    arch: Architecture
    rule: Rule
    target: int
    seed: int
    tag: str
    category: str
    popularity_rank: int
    auc: float | None

    def __post_init__(self) -> None:
        _check_auc(self.auc)


def _check_auc(auc: float | None) -> None:
    if auc is not None and auc > 1:
        raise ValueError(f"an AUC of {auc} is above 1")


RowT = TypeVar("RowT", Cell, TagScore)


def draw(directory: epath.PathLike) -> list[epath.Path]:
    """Draw every figure of a sweep, as PNG and SVG, into `<directory>/figures`.

    The per-tag figure is drawn for each target at which all architectures of the sweep are
    there with one rule: `uniform`, or else `sqrt`.

    Parameters
    ----------
    directory
        A sweep's folder, local or of a bucket (``gs://…``).

    Returns
    -------
    list of epath.Path
        The files written. A figure that was there is replaced in one piece.

    Raises
    ------
    UserError
        If one of the two files is missing, empty, damaged, or has nothing to draw.
    """
    directory = epath.Path(directory)
    cells = read_rows(directory / "results.csv", Cell)
    scores = read_rows(directory / "per_tag.csv", TagScore)
    if all(cell.test_auc is None for cell in cells):
        raise UserError(
            f"{directory / 'results.csv'}: no cell has a test_auc; sweep a data set whose test "
            "split has a tag with both positive and negative clips"
        )
    figures = {
        "auc_against_parameters": auc_against_parameters(cells),
        "auc_against_training_time": auc_against_training_time(cells),
    }
    for target in complete_targets(scores):
        figures[f"per_tag_auc_{target}"] = per_tag_auc(scores, target)
    folder = directory / "figures"
    return [path for name, figure in figures.items() for path in write_figure(figure, folder, name)]


# Reading


def read_rows(path: epath.PathLike, row_type: type[RowT]) -> list[RowT]:
    """Read one of a sweep's two CSV files; columns that no figure needs are passed over.

    Raises
    ------
    UserError
        If the file is missing, is no UTF-8 text, has no rows, lacks a column, or holds a value
        that is not of the column's type.
    """
    path = epath.Path(path)
    mend = f"`crnn-jax sweep … --out {path.parent}` writes it"
    parsers = {name: _parser(name, hint) for name, hint in typing.get_type_hints(row_type).items()}
    try:
        # A spreadsheet program that saved the file again puts a byte-order mark in front.
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}; {mend}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text; {mend}") from error

    reader = csv.DictReader(io.StringIO(text, newline=""))
    rows = []
    try:
        missing = [name for name in parsers if name not in (reader.fieldnames or ())]
        if reader.fieldnames and missing:
            raise UserError(f"{path}: without the column {', '.join(missing)}; {mend} anew")
        for record in reader:
            values = {name: parse(record[name]) for name, parse in parsers.items()}
            rows.append(row_type(**values))
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path}, line {reader.line_num}: {error}; {mend} anew") from error
    if not rows:
        raise UserError(f"{path}: holds no rows; {mend} once a cell is finished")
    return rows


def _parser(column: str, hint: Any) -> Callable[[str | None], Any]:
    """What turns a field of a CSV line into a value of the annotated type, or raises ValueError."""
    allowed = typing.get_args(hint)

    def parse(text: str | None) -> Any:
        if text is None:
            raise ValueError(f"ends before the column {column}")
        if hint is str:
            return csv_field(text)
        if not text and types.NoneType in allowed:
            return None
        if typing.get_origin(hint) is Literal:
            if text not in allowed:
                raise ValueError(f"{column} {text!r} is none of {', '.join(allowed)}")
            return text
        return _number(column, text, int if int in (hint, *allowed) else float)

    return parse


def _number(column: str, text: str, number_type: type[int] | type[float]) -> int | float:
    try:
        value = number_type(text)
    except ValueError:
        value = -1
    # Scores, counts and times are never negative; `nan` and `inf` are not what a sweep writes.
    if not 0 <= value < math.inf:
        kind = "a whole number" if number_type is int else "a number"
        raise ValueError(f"{column} {text!r} is not {kind} of at least 0")
    if value and not SMALLEST <= value <= LARGEST:
        raise ValueError(f"{column} is too large or too small to be drawn")
    return value


# AUC against size and time


class Point(NamedTuple):
    """All seeds of one architecture, rule and target: means, and the range of the AUC."""

    target: int
    x: float
    auc: float
    lowest_auc: float
    highest_auc: float
    n_seeds: int


def auc_against_parameters(cells: Sequence[Cell]) -> Figure:
    """Macro test ROC-AUC against trainable parameters, one line an architecture and rule.

    Points are means over seeds, bars reach from the worst seed to the best. Where both rules are
    drawn they stand side by side, 1.5 points off their place. Cells without an AUC are left out.
    """
    lines = average_seeds(cells, lambda cell: cell.params)
    rules = {rule for _, rule in lines}
    with style():
        figure = new_figure(COLUMN_WIDTH, 2.9)
        axes = figure.add_subplot()
        for (arch, rule), points in lines.items():
            # Both rules hit the same target: without a step aside their bars would be one.
            aside = 0.0 if len(rules) == 1 else 1.5 if rule == "sqrt" else -1.5
            place = axes.transData + ScaledTranslation(aside / 72, 0, figure.dpi_scale_trans)
            (line,) = axes.plot(
                [point.x for point in points],
                [point.auc for point in points],
                **_line_style(arch, rule),
            )
            repeated = [point for point in points if point.n_seeds > 1]
            ranges = axes.vlines(
                [point.x for point in repeated],
                [point.lowest_auc for point in repeated],
                [point.highest_auc for point in repeated],
                color=ARCHITECTURE_LOOKS[arch].colour,
                linewidth=0.8,
                zorder=1.9,
                label=f"range of {_line_name(arch, rule)}",
            )
            # Only now, for matplotlib leaves out of the axis limits what is drawn aside.
            line.set_transform(place)
            ranges.set_transform(place)
        _scale_parameter_axis(axes, [point for points in lines.values() for point in points])
        axes.set_xlabel("Trainable parameters")
        axes.set_ylabel("Macro ROC-AUC, test split")
        _legend(figure, lines, _seeds_note("mean and range", _seed_counts(lines)))
    return figure


def auc_against_training_time(cells: Sequence[Cell]) -> Figure:
    """Macro test ROC-AUC against training time, one line an architecture and rule.

    Upper panel: s per 2,500 samples, the unit of Choi et al. (2017). Lower panel: s until
    training ended. Points are means over seeds, in both directions; larger markers are larger
    networks. Cells without an AUC or without the panel's time are left out of it.
    """
    devices = sorted({_device_name(cell) for cell in cells if cell.device})
    every_line = average_seeds(cells, lambda cell: cell.params)
    note = ", on ".join([_seeds_note("mean", _seed_counts(every_line)), *devices])
    lines_of_panels = (
        average_seeds(cells, lambda cell: cell.seconds_per_2500_samples),
        average_seeds(cells, lambda cell: cell.train_s),
    )
    with style():
        figure = new_figure(COLUMN_WIDTH, 5.0)
        panels = figure.subplots(2, 1, sharey=True)
        _legend(figure, every_line, note)
        labels = [
            _draw_against_time(axes, lines)
            for axes, lines in zip(panels, lines_of_panels, strict=True)
        ]
        panels[0].set_xlabel("Training time per 2,500 samples (s)")
        panels[1].set_xlabel("Total training time (s)")
        for axes in panels:
            axes.set_ylabel("Macro ROC-AUC, test split")
        # Where a label finds room is known only once the layout has settled.
        figure.draw_without_rendering()
        for axes, markers in zip(panels, labels, strict=True):
            _label_markers(figure, axes, markers)
    return figure


def average_seeds(
    cells: Iterable[Cell], x_of: Callable[[Cell], float | None]
) -> dict[tuple[Architecture, Rule], list[Point]]:
    """For each architecture and rule, in the order of the legend, a point a target.

    Cells without an AUC, or for which `x_of` is None or 0, are left out.
    """
    seeds: dict[tuple[Architecture, Rule, int], list[tuple[float, float]]] = {}
    for cell in cells:
        x = x_of(cell)
        if cell.test_auc is not None and x:
            key = (cell.arch, cell.rule, cell.target)
            seeds.setdefault(key, []).append((x, cell.test_auc))
    lines: dict[tuple[Architecture, Rule], list[Point]] = {}
    for arch, rule in itertools.product(ARCHITECTURE_LOOKS, RULE_LOOKS):
        targets = sorted(target for *line, target in seeds if line == [arch, rule])
        for target in targets:
            xs, aucs = zip(*seeds[arch, rule, target], strict=True)
            point = Point(
                target, float(np.mean(xs)), float(np.mean(aucs)), min(aucs), max(aucs), len(aucs)
            )
            lines.setdefault((arch, rule), []).append(point)
    return lines


class Marker(NamedTuple):
    """A drawn point, its diameter in points (1/72 inch), and what is written beside it, if any."""

    x: float
    y: float
    size: float
    text: str
    colour: str


def _draw_against_time(
    axes: Axes, lines: Mapping[tuple[Architecture, Rule], Sequence[Point]]
) -> list[Marker]:
    """Draw one panel; what is to be written beside its markers."""
    if not lines:
        axes.text(0.5, 0.5, "not measured", ha="center", color=GREY, transform=axes.transAxes)
        axes.set_xticks([])
        return []
    sizes = _marker_sizes({point.target for points in lines.values() for point in points})
    markers = []
    labelled: set[tuple[Architecture, int]] = set()
    for (arch, rule), points in lines.items():
        style = _line_style(arch, rule)
        axes.plot(
            [point.x for point in points],
            [point.auc for point in points],
            **style | {"marker": "", "linewidth": 0.8},
        )
        for point in points:
            size = sizes[point.target]
            single = {"linestyle": "", "markersize": size, "label": ""}
            axes.plot(point.x, point.auc, **style | single)
            # The two rules' networks of one size lie near each other: one label is enough.
            first = (arch, point.target) not in labelled
            labelled.add((arch, point.target))
            text = parameter_label(point.target) if first else ""
            colour = ARCHITECTURE_LOOKS[arch].colour
            markers.append(Marker(point.x, point.auc, size, text, colour))
    _scale_time_axis(axes, [marker.x for marker in markers])
    return markers


def _scale_parameter_axis(axes: Axes, points: Sequence[Point]) -> None:
    """A log axis with a tick at each target, as far as their labels keep apart."""
    low = min(min(point.x, point.target) for point in points) / 1.25
    high = max(max(point.x, point.target) for point in points) * 1.25
    # In points; 0.8: the axes' part of the column.
    room = 0.8 * COLUMN_WIDTH * 72 / math.log(high / low)
    ticks: list[int] = []
    for target in sorted({point.target for point in points}):
        labels = [parameter_label(tick) for tick in (target, *ticks[-1:])]
        half_widths = sum(0.3 * FONT_SIZE * len(label) for label in labels)
        if not ticks or math.log(target / ticks[-1]) * room > half_widths + FONT_SIZE / 3:
            ticks.append(target)
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: parameter_label(value))


def _scale_time_axis(axes: Axes, seconds: Sequence[float]) -> None:
    """A log axis where times are over a factor of 10 apart, a linear one elsewhere."""
    decades = math.log10(max(seconds) / min(seconds))
    if decades > 1:
        # As many ticks a decade as have room for their labels; 0.75: the axes' part of the column.
        label_width = 0.62 * FONT_SIZE * len(f"{max(seconds):,.0f}")
        room = 0.75 * COLUMN_WIDTH * 72 / (1.2 * decades)
        steps = (1, 2, 5) if 0.3 * room > label_width else (1, 3)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=steps if 0.5 * room > label_width else (1,)))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=(1, 2, 2.5, 5, 10)))
    # Room for the labels of the outermost markers.
    axes.margins(x=0.1, y=0.1)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")


def parameter_label(parameters: float) -> str:
    """`0.1M`, `0.25M`, `3M`; below 0.1M in thousands."""
    if parameters < 100_000:
        return f"{parameters / 1e3:.3g}k"
    return f"{parameters / 1e6:.3g}M"


def _marker_sizes(targets: Iterable[int]) -> dict[int, float]:
    """Marker diameters in points, growing with the logarithm of the target."""
    targets = sorted(targets)
    smallest, largest = math.log(targets[0]), math.log(targets[-1])
    span = (largest - smallest) or 1.0
    return {target: 3.2 + 3.0 * (math.log(target) - smallest) / span for target in targets}


def _line_name(arch: Architecture, rule: Rule) -> str:
    return f"{ARCHITECTURE_LOOKS[arch].name}, {RULE_LOOKS[rule].name}"


def _line_style(arch: Architecture, rule: Rule) -> dict[str, Any]:
    look, rule_look = ARCHITECTURE_LOOKS[arch], RULE_LOOKS[rule]
    return {
        "color": look.colour,
        "marker": look.marker,
        "linestyle": rule_look.line_style,
        "markerfacecolor": look.colour if rule_look.filled else "white",
        "label": _line_name(arch, rule),
    }


def _legend(figure: Figure, lines: Iterable[tuple[Architecture, Rule]], note: str) -> None:
    """Architectures, the rules in a row below, `note` above; outside the axes.

    A rule that is alone needs no row: it goes into the note.
    """
    lines = set(lines)
    architectures = [arch for arch in ARCHITECTURE_LOOKS if any(arch == a for a, _ in lines)]
    rules = [rule for rule in RULE_LOOKS if any(rule == r for _, r in lines)]
    if len(rules) == 1:
        handles = [_architecture_handle(arch, rules[0]) for arch in architectures]
        note = f"{RULE_LOOKS[rules[0]].name}, {note}"
    else:
        blank = Line2D([], [], linestyle="", label=" ")
        handles = []
        # A legend fills column by column: an architecture above, a rule below.
        for arch, rule in itertools.zip_longest(architectures, rules):
            handles.append(_architecture_handle(arch) if arch else blank)
            handles.append(_rule_handle(rule) if rule else blank)
    legend = figure.legend(
        handles=handles,
        loc="outside upper center",
        ncols=max(len(architectures), len(rules)),
        title=_wrapped(note, figure.get_figwidth()),
    )
    legend.get_title().set_multialignment("center")
    legend.get_title().set_parse_math(False)


def _architecture_handle(arch: Architecture, rule: Rule = "uniform") -> Line2D:
    style = _line_style(arch, rule) | {"label": ARCHITECTURE_LOOKS[arch].name}
    return Line2D([], [], **style)


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


def _seed_counts(lines: Mapping[tuple[Architecture, Rule], Sequence[Point]]) -> list[int]:
    return [point.n_seeds for points in lines.values() for point in points]


def _seeds_note(statistic: str, counts: Sequence[int]) -> str:
    """How many seeds stand behind a point, such as `mean and range of 3 seeds`."""
    fewest, most = min(counts), max(counts)
    if most == 1:
        return "one seed"
    return f"{statistic} of {most if fewest == most else f'{fewest} to {most}'} seeds"


def _device_name(cell: Cell) -> str:
    several = cell.device_count and cell.device_count > 1
    name = drawable(cell.device)
    return f"{name} ({cell.device_count} devices)" if several else name


def _wrapped(text: str, width: float) -> str:
    """`text` in lines of the small font that fit into `width` inches."""
    return textwrap.fill(text, int(width * 72 / (0.55 * SMALL_FONT_SIZE)))


def _label_markers(figure: Figure, axes: Axes, markers: Sequence[Marker]) -> None:
    """Write each label where it covers no marker and no other label; without room, nowhere.

    Of the free places round a marker the one is taken that crosses the fewest lines. The marker's
    size says the same, so that a label without room is no loss.
    """
    pixels = figure.dpi / 72
    drawn = []
    for marker in markers:
        # 1 point more: the marker's edge, half of it on each side.
        diameter = (marker.size + 1) * pixels
        x, y = axes.transData.transform((marker.x, marker.y))
        drawn.append(_box(x, y, diameter, diameter))
    lines = [_along(line) for line in axes.lines]

    places: list[tuple[Marker, Bbox, list[Bbox]]] = []
    for marker, occupied in zip(markers, drawn, strict=True):
        width = 0.62 * SMALL_FONT_SIZE * len(marker.text) * pixels
        boxes = [
            box
            for box in _around(occupied, width, SMALL_FONT_SIZE * pixels, gap=pixels)
            if axes.bbox.count_contains(box.corners()) == 4 and not box.count_overlaps(drawn)
        ]
        boxes.sort(key=lambda box: sum(box.count_contains(line) > 0 for line in lines))
        if marker.text:
            places.append((marker, occupied, boxes))

    written: list[Bbox] = []
    # Those with the least choice choose first.
    for marker, occupied, boxes in sorted(places, key=lambda place: len(place[2])):
        free = [box for box in boxes if not box.count_overlaps(written)]
        if free:
            written.append(free[0])
            offset = (free[0].get_points() - occupied.get_points()).mean(axis=0) / pixels
            axes.annotate(
                marker.text,
                (marker.x, marker.y),
                xytext=tuple(offset),
                textcoords="offset points",
                ha="center",
                va="center_baseline",
                color=marker.colour,
                fontsize=SMALL_FONT_SIZE,
                path_effects=[withStroke(linewidth=1.5, foreground="white")],
            ).set_in_layout(False)


def _around(box: Bbox, width: float, height: float, gap: float) -> list[Bbox]:
    """Eight boxes of the given size round a box: above, below, right, left, then obliquely."""
    x, y = box.get_points().mean(axis=0)
    right, up = (box.width + width) / 2, (box.height + height) / 2
    return [
        *(_box(x, y + sign * (up + gap), width, height) for sign in (1, -1)),
        *(_box(x + sign * (right + gap), y, width, height) for sign in (1, -1)),
        # Corner to corner is far enough apart without a gap.
        *(
            _box(x + sign_x * right, y + sign_y * up, width, height)
            for sign_y, sign_x in itertools.product((1, -1), repeat=2)
        ),
    ]


def _box(x: float, y: float, width: float, height: float) -> Bbox:
    return Bbox.from_bounds(x - width / 2, y - height / 2, width, height)


def _along(line: Line2D) -> Float[np.ndarray, "points 2"]:
    """Points along a line, in pixels, near enough that no label slips between two of them."""
    corners = line.get_transform().transform(line.get_xydata())
    parts = [np.linspace(start, end, 100) for start, end in itertools.pairwise(corners)]
    return np.concatenate(parts) if parts else corners


# AUC of each tag


class Tag(NamedTuple):
    """A tag and its AUC with each architecture, averaged over seeds."""

    name: str
    category: str
    popularity_rank: int
    auc: Mapping[Architecture, float]


def per_tag_auc(scores: Sequence[TagScore], target: int) -> Figure:
    """ROC-AUC of each tag at one size, grouped by category, as in Choi et al. (2017), 3.3.

    Of the two rules the one with more architectures at this size is drawn, `uniform` if both
    have as many. Within a category tags fall with Conv2D's AUC; dashed lines are a category's
    means; the bars below are differences of two architectures, in the colour of the better. Tags
    without an AUC are left out and named under the figure.
    """
    drawn = _with_one_rule(scores, target)
    tags, without_auc = average_tags(drawn)
    architectures = [arch for arch in ARCHITECTURE_LOOKS if arch in tags[0].auc]
    seeds = {arch: {score.seed for score in drawn if score.arch == arch} for arch in architectures}
    differences = [pair for pair in DIFFERENCES if set(pair) <= set(architectures)]
    groups = _place(group_tags(tags))
    width = max(COLUMN_WIDTH, groups[-1].right * SLOT_WIDTH + 0.75)
    note = "In parentheses: the tag's rank by popularity in the training split."
    if without_auc:
        names = ", ".join(map(drawable, without_auc))
        note += f" Left out, one class only in the test split: {names}."
    note = _wrapped(note, width)
    longest_label = max(len(_tag_label(tag)) for tag in tags)
    height = 2.4 + 0.65 * len(differences)
    height += (0.6 * longest_label + 1.3 * len(note.splitlines())) * SMALL_FONT_SIZE / 72

    with style():
        figure = new_figure(width, height)
        rows = figure.subplots(
            1 + len(differences),
            1,
            sharex=True,
            squeeze=False,
            height_ratios=[3.2, *[1] * len(differences)],
        )[:, 0]
        _draw_tag_scores(rows[0], groups, architectures)
        for axes in rows[2:]:
            # Bars of one length are differences of one size, in both rows.
            axes.sharey(rows[1])
        for axes, (minuend, subtrahend) in zip(rows[1:], differences, strict=True):
            _draw_differences(axes, groups, minuend, subtrahend)
        rows[0].set_xlim(groups[0].left - 0.5, groups[-1].right + 0.5)
        for axes in rows:
            axes.grid(axis="x")
            axes.tick_params(axis="x", length=0)
        rows[-1].set_xticks(
            np.concatenate([group.positions for group in groups]),
            [_tag_label(tag) for group in groups for tag in group.tags],
            rotation=90,
            fontsize=SMALL_FONT_SIZE,
            parse_math=False,
        )
        figure.align_ylabels(rows)
        mean = Line2D([], [], color=GREY, linestyle="--", linewidth=0.8, label="category mean")
        figure.legend(
            handles=[*map(_architecture_handle, architectures), mean],
            loc="outside upper center",
            ncols=len(architectures) + 1,
            title=f"{parameter_label(target)} parameters, {RULE_LOOKS[drawn[0].rule].name}, "
            f"{_seeds_note('mean', [len(seeds[arch]) for arch in architectures])}",
        )
        figure.supxlabel(
            note, x=0.01, ha="left", fontsize=SMALL_FONT_SIZE, color=GREY, parse_math=False
        )
    return figure


def complete_targets(scores: Sequence[TagScore]) -> list[int]:
    """The targets at which one rule has every architecture of `scores`, and a tag with an AUC."""
    architectures = {score.arch for score in scores}
    complete = []
    for target in sorted({score.target for score in scores}):
        drawn = _with_one_rule(scores, target)
        tags, _ = average_tags(drawn)
        if tags and {score.arch for score in drawn} == architectures:
            complete.append(target)
    return complete


def _with_one_rule(scores: Sequence[TagScore], target: int) -> list[TagScore]:
    """A target's scores with the rule of more architectures, `uniform` if both have as many."""
    by_rule = [
        [score for score in scores if (score.target, score.rule) == (target, rule)]
        for rule in RULE_LOOKS
    ]
    return max(by_rule, key=lambda of_rule: len({score.arch for score in of_rule}))


def average_tags(scores: Sequence[TagScore]) -> tuple[list[Tag], list[str]]:
    """Each tag's mean AUC over seeds, and the names of the tags that an architecture has none of.

    `scores` are those of one target and rule.
    """
    architectures = {score.arch for score in scores}
    aucs: dict[str, dict[Architecture, list[float]]] = {}
    rows: dict[str, TagScore] = {}
    for score in scores:
        rows[score.tag] = score
        by_arch = aucs.setdefault(score.tag, {})
        if score.auc is not None:
            by_arch.setdefault(score.arch, []).append(score.auc)
    tags = [
        Tag(
            name,
            row.category,
            row.popularity_rank,
            {arch: float(np.mean(values)) for arch, values in aucs[name].items()},
        )
        for name, row in rows.items()
        if aucs[name].keys() == architectures
    ]
    return tags, [name for name in rows if aucs[name].keys() != architectures]


def group_tags(tags: Sequence[Tag]) -> dict[str, list[Tag]]:
    """Tags by category: genre, mood, instrument, era, then the others by name.

    Within a category they fall with Conv2D's AUC; without a Conv2D with that of CRNN, then Conv1D.
    """
    order: Sequence[Architecture] = ("conv2d", "crnn", "conv1d")
    by = next(arch for arch in order if arch in tags[0].auc)
    falling = sorted(tags, key=lambda tag: (-tag.auc[by], tag.name))
    present = {tag.category for tag in tags}
    known = [name for name in CATEGORIES if name in present]
    return {
        name: [tag for tag in falling if tag.category == name]
        for name in [*known, *sorted(present - set(known))]
    }


class PlacedGroup(NamedTuple):
    """A category on the horizontal axis, in slots."""

    category: str
    tags: Sequence[Tag]
    left: float
    right: float
    positions: np.ndarray


def _place(groups: Mapping[str, Sequence[Tag]]) -> list[PlacedGroup]:
    """Categories side by side, each as wide as its tags and at least as its name."""
    placed = []
    left = 0.0
    for category, tags in groups.items():
        name_width = 0.62 * FONT_SIZE / 72 * len(drawable(category)) / SLOT_WIDTH
        right = left + max(len(tags), name_width)
        first = (left + right - len(tags) + 1) / 2
        placed.append(PlacedGroup(category, tags, left, right, first + np.arange(len(tags))))
        left = right + 1
    return placed


def _tag_label(tag: Tag) -> str:
    return f"{drawable(tag.name)} ({tag.popularity_rank})"


def _draw_tag_scores(
    axes: Axes, groups: Sequence[PlacedGroup], architectures: Sequence[Architecture]
) -> None:
    for group, arch in itertools.product(groups, architectures):
        look = ARCHITECTURE_LOOKS[arch]
        aucs = [tag.auc[arch] for tag in group.tags]
        axes.plot(
            group.positions,
            aucs,
            color=look.colour,
            marker=look.marker,
            markersize=3.2,
            linewidth=0.7,
            label=f"{look.name}, {group.category}",
        )
        axes.hlines(
            np.mean(aucs),
            group.positions[0] - 0.5,
            group.positions[-1] + 0.5,
            color=look.colour,
            linestyle="--",
            linewidth=0.8,
            label=f"{look.name}, mean of {group.category}",
        )
    for group in groups:
        axes.text(
            (group.left + group.right) / 2,
            1.0,
            drawable(group.category) or "no category",
            transform=axes.get_xaxis_transform(),
            ha="center",
            va="bottom",
            parse_math=False,
        )
    axes.set_ylabel("ROC-AUC, test split")


def _draw_differences(
    axes: Axes, groups: Sequence[PlacedGroup], minuend: Architecture, subtrahend: Architecture
) -> None:
    for group in groups:
        differences = [tag.auc[minuend] - tag.auc[subtrahend] for tag in group.tags]
        better = [minuend if difference > 0 else subtrahend for difference in differences]
        colours = [ARCHITECTURE_LOOKS[arch].colour for arch in better]
        axes.bar(group.positions, differences, width=0.66, color=colours)
    axes.axhline(0, color="black", linewidth=0.6)
    axes.spines.bottom.set_visible(False)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.set_ylabel(f"{ARCHITECTURE_LOOKS[minuend].name} −\n{ARCHITECTURE_LOOKS[subtrahend].name}")


# Rendering and writing


def drawable(text: str, longest: int = LONGEST_NAME) -> str:
    """A name as it can be drawn: in one line, of so many characters at most.

    A sign that matplotlib's own font lacks is a box; the tables have the name.
    """
    signs = "".join(sign if _font().get_char_index(ord(sign)) else "□" for sign in printable(text))
    return signs if len(signs) <= longest else f"{signs[: longest - 1]}…"


@functools.cache
def _font() -> Any:
    path = matplotlib.font_manager.findfont("DejaVu Sans")
    return matplotlib.font_manager.get_font(path)


def style() -> Any:
    """The style of all figures, until the context is left; the user's own plays no part."""
    return matplotlib.style.context(dict(STYLE), after_reset=True)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches, to be drawn on within `style`."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def write_figure(figure: Figure, folder: epath.Path, name: str) -> list[epath.Path]:
    """Write a figure as PNG and SVG; each file is at no moment there in part."""
    return [_write(folder / f"{name}.{suffix}", _render(figure, suffix)) for suffix in FORMATS]


def _render(figure: Figure, suffix: str) -> bytes:
    # Part of the style is read only while drawing.
    with style():
        buffer = io.BytesIO()
        figure.savefig(buffer, format=suffix, metadata=dict(FORMATS[suffix]))
    return buffer.getvalue()


def _write(path: epath.Path, content: bytes) -> epath.Path:
    """Write a file that is at no moment there in part."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(content)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror or error}; give a sweep's folder that can be written to"
        ) from error
    return path
