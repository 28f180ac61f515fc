"""The command that says what a study's curves mean."""

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import tyro

from crnn_jax.cli.display import print_table
from crnn_jax.config import RESAMPLES, Architecture
from crnn_jax.errors import UserError
from crnn_jax.user_text import printable

if TYPE_CHECKING:
    from rich.table import Table

    from crnn_jax.analysis.across import Across
    from crnn_jax.analysis.comparison import Difference
    from crnn_jax.analysis.study import Analysis

# Fewer leave nothing of a 95 % interval's ends.
FEWEST_RESAMPLES = 100


@dataclasses.dataclass(frozen=True)
class Analyse:
    """Say what a sweep's curves show: differences, scaling laws and fronts, with intervals.

    Attributes
    ----------
    folder
        The sweep's folder.
    resamples
        How often test clips and seeds are resampled for the intervals.
    seed
        Of the resampling.
    times
        CSV of each network's training speed, measured alone (columns arch, rule, target and
        samples_per_s); if not given, the runs' own times count.
    figures
        Draw AUC against costs with intervals, and the differences of each tag, into the sweep's
        `figures`.
    between
        Two architectures whose tags `--figures` compares; if not given, it compares the two best of
        each size.
    json
        Print everything as JSON, with the scores of each tag.
    """

    folder: tyro.conf.Positional[str]
    resamples: int = RESAMPLES
    seed: int = 0
    times: str | None = None
    figures: bool = False
    between: tuple[Architecture, ...] = ()
    json: bool = False

    def run(self) -> int:
        from crnn_jax.analysis.study import analyse

        check_resampling(self.resamples, self.seed)
        between = _check_between(self.between, self.figures)
        analysis = analyse(self.folder, self.resamples, self.seed, self.times)
        if self.json:
            print(json.dumps(to_mapping(analysis), indent=2, allow_nan=False))
        else:
            show(analysis)
        if self.figures:
            from crnn_jax.figures.draw import draw_analysis

            paths = draw_analysis(analysis, between)
            if not self.json:
                print("\nFigures:")
                for path in paths:
                    print(f"  {path}")
        return 0


def _check_between(
    between: tuple[Architecture, ...], figures: bool
) -> tuple[Architecture, Architecture] | None:
    if not between:
        return None
    if len(between) != 2:
        raise UserError("give two architectures", field="between", value=" ".join(between))
    if not figures:
        raise UserError(
            "give --figures as well: it only says whose tags they compare",
            field="between",
            value=" ".join(between),
        )
    return between


def check_resampling(resamples: int, seed: int) -> None:
    """Raise a UserError if intervals cannot be had from these."""
    if resamples < FEWEST_RESAMPLES:
        raise UserError(
            f"too few for an interval; give {FEWEST_RESAMPLES} or more",
            field="resamples",
            value=resamples,
        )
    if seed < 0:
        raise UserError("give 0 or more", field="seed", value=seed)


def to_mapping(analysis: "Analysis | Across") -> dict[str, Any]:
    """Return an analysis as JSON values; networks become objects, and what is not finite null."""

    def convert(value: Any) -> Any:
        if hasattr(value, "_asdict"):
            return value._asdict()
        if dataclasses.is_dataclass(value):
            return {
                field.name: convert(getattr(value, field.name))
                for field in dataclasses.fields(value)
            }
        if isinstance(value, tuple):
            return [convert(each) for each in value]
        if isinstance(value, dict):
            return {key: convert(each) for key, each in value.items()}
        # JSON has no word for it.
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return convert(analysis)


def show(analysis: "Analysis") -> None:
    """Print an analysis as tables."""
    from crnn_jax.analysis.words import describe_crossing, describe_difference, describe_tags

    intervals = (
        f"; 95 % intervals from {analysis.n_resamples:,} resamples of clips and seeds"
        if any(row.auc_interval for row in analysis.networks)
        else ""
    )
    groups = "" if analysis.n_groups is None else f" in {analysis.n_groups:,} groups"
    print(
        printable(
            f"{analysis.folder}: {analysis.dataset}, {analysis.n_clips:,} test clips{groups}, "
            f"{analysis.n_tags} tags{intervals}"
        )
    )
    tables = [_scores(analysis)]
    if analysis.differences:
        tables += [_differences(analysis), _categories(analysis)]
    if analysis.laws:
        tables.append(_laws(analysis))
    tables.append(_fronts(analysis))
    for table in tables:
        print()
        print_table(table)
    if analysis.differences:
        print("\nIn words:")
    for difference in analysis.differences:
        print(f"  {describe_difference(difference)}; {describe_tags(difference)}")
    if analysis.crossings:
        print("\nCrossings of the scaling laws:")
        for crossing in analysis.crossings:
            print(f"  {describe_crossing(crossing)}")
    if analysis.notes:
        print("\nTo be kept in mind:")
        for note in analysis.notes:
            print(printable(f"  {note}"))


def make_titled(title: str, names: Sequence[str], numbers: Sequence[str] = ()) -> "Table":
    from rich.table import Table

    table = Table(title=title)
    for column in names:
        table.add_column(column)
    for column in numbers:
        table.add_column(column, justify="right")
    return table


def _describe_score(value: float | None, interval: tuple[float, float] | None, digits: int) -> str:
    from crnn_jax.analysis.comparison import Estimate
    from crnn_jax.analysis.words import describe_interval

    if value is None:
        return "–"
    if interval is None:
        return f"{value:.{digits}f}"
    return describe_interval(Estimate(value, *interval), digits)


def _scores(analysis: "Analysis") -> "Table":
    table = make_titled(
        "Scores on the test split",
        ("architecture", "rule"),
        (
            "parameters",
            "seeds",
            "learning rate",
            "AUC",
            "AUC unheard",
            "BCE (nats)",
            "GFLOP",
            "time (s)",
        ),
    )
    for row in analysis.networks:
        table.add_row(
            row.arch,
            row.rule,
            f"{row.params:,}",
            str(row.n_seeds),
            "–" if row.learning_rate is None else f"{row.learning_rate:g}",
            _describe_score(row.auc, row.auc_interval, 3),
            "–" if row.auc_unheard is None else f"{row.auc_unheard:.3f}",
            _describe_score(row.bce, row.bce_interval, 4),
            f"{row.train_flops / 1e9:,.0f}",
            f"{row.train_s:,.0f}",
        )
    return table


def _name_pair(difference: "Difference") -> tuple[str, str, str]:
    """Return the first three cells of a row: both networks and their size."""
    from crnn_jax.analysis.words import name_network

    first, second = difference.first, difference.second
    return name_network(first), name_network(second), f"{first.target:,}"


def _differences(analysis: "Analysis") -> "Table":
    from crnn_jax.analysis.words import describe_interval

    table = make_titled(
        "Differences of networks of one size (AUC of the first minus the second)",
        ("first", "second"),
        ("size", "difference", "p", "tags higher", "lower", "undecided"),
    )
    for row in analysis.differences:
        table.add_row(
            *_name_pair(row),
            describe_interval(row.auc),
            f"{row.p:.2g}" if row.p >= 1e-4 else "< 0.0001",
            *(str(row.count(verdict)) for verdict in ("higher", "lower", "undecided")),
        )
    return table


def _categories(analysis: "Analysis") -> "Table":
    from crnn_jax.analysis.words import describe_interval

    names = list(dict.fromkeys(name for row in analysis.differences for name in row.categories))
    table = make_titled(
        "The same, by category of tags", ("first", "second"), ("size", *map(printable, names))
    )
    for row in analysis.differences:
        table.add_row(
            *_name_pair(row),
            *(
                describe_interval(row.categories[name]) if name in row.categories else "–"
                for name in names
            ),
        )
    return table


def _laws(analysis: "Analysis") -> "Table":
    from crnn_jax.analysis.costs import NAMES
    from crnn_jax.analysis.words import describe_interval

    table = make_titled(
        "Scaling laws: score = floor + scale · cost^−exponent",
        ("score", "cost", "architecture", "rule"),
        ("size", "points", "exponent", "floor"),
    )
    for row in analysis.laws:
        law = row.law
        found = [describe_interval(law.exponent, 2), describe_interval(law.floor)]
        table.add_row(
            row.score,
            NAMES[row.cost],
            row.arch,
            row.rule,
            "all" if row.target is None else f"{row.target:,}",
            str(row.n_points),
            *(found if law.identified else ("not identified", "–")),
        )
    return table


def _fronts(analysis: "Analysis") -> "Table":
    from crnn_jax.analysis.costs import NAMES
    from crnn_jax.analysis.words import name_network

    table = make_titled(
        "Pareto fronts of AUC: no network is better at the same cost or less",
        ("cost", "networks (part of the resamples in which each is on the front)"),
    )
    for front in analysis.fronts:
        support = front.support or [None] * len(front.networks)
        shown = (
            f"{name_network(network)} {network.target:,}"
            + ("" if part is None else f" ({part:.0%})")
            for network, part in zip(front.networks, support, strict=True)
        )
        table.add_row(NAMES[front.cost], ", ".join(shown))
    return table
