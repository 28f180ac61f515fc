"""What a study's page shows, as plain values: the data behind its charts, tables and sentences."""

import collections
import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from etils import epath

from crnn_jax.analysis.costs import COSTS, MEMORY, cost_of
from crnn_jax.analysis.curves import FALLING_SCORES
from crnn_jax.analysis.predictions import NetworkKey, key_of
from crnn_jax.analysis.study import Analysis
from crnn_jax.config import Architecture, Rule
from crnn_jax.figures.looks import (
    ARCHITECTURE_LOOKS,
    RULE_LOOKS,
    ArchitectureLook,
    architecture_looks,
    line_name,
)
from crnn_jax.study import runs
from crnn_jax.study.manifest import Manifest, read_manifest
from crnn_jax.study.schema import RunResult
from crnn_jax.study.status import StatusReader
from crnn_jax.user_text import printable

# What AUC is drawn against, and how the axis is called.
AXES = {
    "params": "Trainable parameters",
    "train_s": "Training time (s)",
    "train_flops": "Floating-point operations of training",
    MEMORY: "Peak memory of a training step (bytes)",
}
# What learning curves show, and against what.
CURVE_SCORES = {"auc": "Macro validation AUC", "loss": "Training loss (nats)"}
CURVE_TIMES = {"epoch": "Epoch", "seconds": "Training time (s)"}
# Significant digits of the numbers that charts draw: more cannot be seen.
DIGITS = 5
# Points of a learning curve, at most.
LONGEST_CURVE = 200

# A table as columns: half as long as a list of objects.
Columns = dict[str, list[Any]]


@dataclasses.dataclass(frozen=True)
class Line:
    """An architecture and a rule: a line of every chart.

    Attributes
    ----------
    arch, rule
        Whose line it is.
    name
        As in legends, such as ``CRNN, uniform s``.
    look
        How the architecture is drawn.
    """

    arch: Architecture
    rule: Rule
    name: str
    look: ArchitectureLook


@dataclasses.dataclass(frozen=True)
class StudyContents:
    """Everything that a study's page shows.

    Attributes
    ----------
    folder
        The study's name.
    analysis, manifest
        What it says, and what it consists of.
    lines
        Architectures and rules, in the order of the legend.
    tables
        What the charts draw, by name.
    results
        All finished runs, by name.
    failed
        Reason why each failed cell has no result.
    unfinished
        Number of cells that are not done yet.
    """

    folder: str
    analysis: Analysis
    manifest: Manifest
    lines: tuple[Line, ...]
    tables: dict[str, Columns]
    results: dict[str, RunResult]
    failed: dict[str, str]
    unfinished: int


def gather(folder: epath.Path, analysis: Analysis) -> StudyContents:
    """Gather what the page of a study shows."""
    results = runs.read_results(folder)
    status = StatusReader(folder).read()
    cells = () if status is None else status.cells
    lines = list_lines((row.arch, row.rule) for row in analysis.networks)
    return StudyContents(
        folder=name_folder(folder),
        analysis=analysis,
        manifest=read_manifest(folder) or Manifest(),
        lines=lines,
        tables=_make_tables(folder, analysis, lines, results),
        results=results,
        failed={cell.name: cell.error or "" for cell in cells if cell.state == "failed"},
        unfinished=sum(not cell.is_over and not cell.is_short for cell in cells),
    )


def name_folder(folder: epath.Path) -> str:
    """Return the last part of a folder's path, also of ``.``."""
    return folder.name or folder.resolve().name


def list_lines(curves: Iterable[tuple[Architecture, Rule]]) -> tuple[Line, ...]:
    """Return the lines of some architectures and rules, in the order of the legend."""
    present = set(curves)
    looks = architecture_looks(sorted(arch for arch, _ in present))
    return tuple(
        Line(arch, rule, line_name(look, rule), look)
        for arch, look in looks.items()
        for rule in RULE_LOOKS
        if (arch, rule) in present
    )


def name_architecture(arch: Architecture) -> str:
    """Return the name of an architecture in tables."""
    look = ARCHITECTURE_LOOKS.get(arch)
    return arch if look is None else look.name


def _make_tables(
    folder: epath.Path,
    analysis: Analysis,
    lines: Sequence[Line],
    results: Mapping[str, RunResult],
) -> dict[str, Columns]:
    place = {(line.arch, line.rule): number for number, line in enumerate(lines)}
    networks = {key_of(row): number for number, row in enumerate(analysis.networks)}
    # Not those of other learning rates, nor what the analysis left out.
    network_of = {name: number for number, row in enumerate(analysis.networks) for name in row.runs}
    # Those of the analysis, which may have other times than the runs.
    train_s = {
        name: seconds
        for row in analysis.networks
        for name, seconds in zip(row.runs, row.train_s_of_runs, strict=True)
    }
    chosen = {name: result for name, result in results.items() if name in network_of}
    return {
        "networks": _tabulate_networks(analysis, place),
        "points": _tabulate_points(analysis),
        "runs": _tabulate_runs(chosen, network_of, train_s),
        "laws": _tabulate_laws(analysis, place),
        "fronts": _tabulate_fronts(analysis, networks),
        "tags": make_columns(
            ("tag", "category", "rank", "positives"),
            (
                (printable(tag.name), printable(tag.category), tag.popularity_rank, tag.n_positive)
                for tag in analysis.tags
            ),
        ),
        "tagScores": _tabulate_tag_scores(analysis),
        "curves": _tabulate_curves(folder, chosen),
    }


def make_columns(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> Columns:
    """Turn rows into columns, with numbers as exact as a chart needs them."""
    columns: Columns = {name: [] for name in names}
    for row in rows:
        for name, value in zip(names, row, strict=True):
            columns[name].append(_shorten(value))
    return columns


def _shorten(value: Any) -> Any:
    """Round a number; what is not finite is missing, as JSON has no word for it."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def _tabulate_networks(
    analysis: Analysis, place: Mapping[tuple[Architecture, Rule], int]
) -> Columns:
    return make_columns(
        ("line", "target", "seeds"),
        ((place[row.arch, row.rule], row.target, row.n_seeds) for row in analysis.networks),
    )


def _tabulate_points(analysis: Analysis) -> Columns:
    return make_columns(
        ("network", "auc", "low", "high", *AXES),
        (
            (
                number,
                row.auc,
                *(row.auc_interval or (None, None)),
                *(getattr(row, axis) for axis in AXES),
            )
            for number, row in enumerate(analysis.networks)
        ),
    )


def _tabulate_runs(
    chosen: Mapping[str, RunResult], network_of: Mapping[str, int], train_s: Mapping[str, float]
) -> Columns:
    return make_columns(
        ("name", "network", "seed", "auc", *AXES),
        (
            (
                name,
                network_of[name],
                result.seed,
                result.test_auc,
                *(train_s[name] if axis == "train_s" else cost_of(result, axis) for axis in AXES),
            )
            for name, result in chosen.items()
        ),
    )


def _tabulate_laws(analysis: Analysis, place: Mapping[tuple[Architecture, Rule], int]) -> Columns:
    return make_columns(
        ("line", "axis", "x", "auc", "low", "high"),
        (
            (place[law.arch, law.rule], law.cost, x, 1 - y.value, 1 - y.high, 1 - y.low)
            for law in analysis.laws
            if law.score == FALLING_SCORES[0] and law.cost in COSTS
            if law.target is None and law.law.identified
            for x, y in zip(law.costs, law.scores, strict=True)
        ),
    )


def _tabulate_fronts(analysis: Analysis, networks: Mapping[NetworkKey, int]) -> Columns:
    return make_columns(
        ("axis", "network"),
        (
            (front.cost, networks[key_of(network)])
            for front in analysis.fronts
            for network in front.networks
        ),
    )


def _tabulate_tag_scores(analysis: Analysis) -> Columns:
    return make_columns(
        ("network", "tag", "auc", "low", "high"),
        (
            (number, tag, auc, *(interval or (None, None)))
            for number, row in enumerate(analysis.networks)
            for tag, (auc, interval) in enumerate(row.tags)
            if auc is not None
        ),
    )


def _tabulate_curves(folder: epath.Path, chosen: Mapping[str, RunResult]) -> Columns:
    """Tabulate the history of each run, numbered as in the table of runs."""
    rows = []
    for number, name in enumerate(chosen):
        history = read_history(folder / name)
        # The first and the last one are always among them.
        step = max(1, math.ceil((len(history) - 1) / LONGEST_CURVE))
        shown = [*history[:-1:step], *history[-1:]]
        rows += [
            (number, each["epoch"], each["train_s"], each["loss"], each["valid_auc"])
            for each in shown
        ]
    return make_columns(("run", "epoch", "seconds", "loss", "auc"), rows)


def read_history(run: epath.Path) -> list[dict[str, float]]:
    """Read a run's ``metrics.jsonl``; empty if it is missing or damaged."""
    names = ("epoch", "train_s", "loss", "valid_auc")
    try:
        lines = (run / "metrics.jsonl").read_text().splitlines()
        return [{name: float(json.loads(line)[name]) for name in names} for line in lines]
    except (OSError, ValueError, LookupError, TypeError):
        return []


def count_values(results: Iterable[RunResult], name: str) -> dict[str, int]:
    """Return how many runs have each value of a field, the most frequent one first."""
    counts = collections.Counter(str(getattr(result, name)) for result in results)
    return dict(counts.most_common())


def list_versions(results: Iterable[RunResult]) -> str:
    """Return the versions of packages that runs were computed with."""
    versions = {
        ", ".join(f"{package} {version}" for package, version in result.versions.items())
        for result in results
    }
    return "; ".join(sorted(versions))
