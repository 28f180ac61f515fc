"""Commands that build, train and score networks."""

import ast
import contextlib
import dataclasses
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from crnn_jax.cli.caches import keep_compiled
from crnn_jax.cli.display import print_table, show_preparation, show_sweep
from crnn_jax.cli.flags import Flat
from crnn_jax.config import (
    PAPER_TARGETS,
    RULES,
    Architecture,
    ClusterConfig,
    DataConfig,
    NetworkOptions,
    Rule,
    RuntimeConfig,
    SweepConfig,
    TrainConfig,
)
from crnn_jax.errors import UserError
from crnn_jax.signals import sigterm_raises
from crnn_jax.user_text import printable

if TYPE_CHECKING:
    from etils import epath

    from crnn_jax.models.budget import Budget
    from crnn_jax.study.events import SweepEvent
    from crnn_jax.study.manifest import Origin


@dataclasses.dataclass(frozen=True)
class Solve:
    """Print the widths of networks with the requested numbers of parameters.

    Attributes
    ----------
    arch
        Only this architecture.
    target
        Only this number of trainable parameters; the paper's five if not given.
    rule
        Only this rule.
    n_tags
        Outputs of the networks.
    json
        Print JSON instead of a table.
    """

    arch: Architecture | None = None
    target: int | None = None
    rule: Rule | None = None
    n_tags: int = 50
    json: bool = False

    def run(self) -> int:
        from crnn_jax.models import ARCHITECTURES
        from crnn_jax.models.budget import solve

        if self.n_tags < 1:
            raise UserError("give 1 or more", field="n_tags", value=self.n_tags)
        budgets = [
            solve(arch, rule, target, n_tags=self.n_tags)
            for arch in ([self.arch] if self.arch else ARCHITECTURES)
            for rule in ([self.rule] if self.rule else RULES)
            for target in ([self.target] if self.target is not None else PAPER_TARGETS)
        ]
        if self.json:
            print(json.dumps([_solved(budget) for budget in budgets], indent=2))
            return 0
        from rich.table import Table

        table = Table(title=f"Widths for {self.n_tags} tags")
        for column in ("architecture", "rule"):
            table.add_column(column)
        for column in ("target", "s"):
            table.add_column(column, justify="right")
        table.add_column("widths")
        for column in ("parameters", "error"):
            table.add_column(column, justify="right")
        for budget in budgets:
            table.add_row(
                budget.arch,
                budget.rule,
                f"{budget.target:,}",
                f"{budget.s:.4f}",
                " ".join(map(str, budget.widths)),
                f"{budget.params:,}",
                f"{budget.relative_error:+.2%}",
            )
        print_table(table)
        return 0


def _solved(budget: "Budget") -> dict[str, Any]:
    return {**dataclasses.asdict(budget), "relative_error": budget.relative_error}


@dataclasses.dataclass(frozen=True)
class Train:
    """Train one network of a given size.

    Attributes
    ----------
    out
        Folder in which the run's folder is created.
    arch
        Architecture.
    target
        Trainable parameters.
    rule
        How the widths are scaled: all by s, or by √s near the output.
    seed
        Seed of parameters, dropout and the order of the examples.
    """

    out: str
    arch: Architecture = "crnn"
    target: int = PAPER_TARGETS[0]
    rule: Rule = "uniform"
    seed: int = 0
    data: Annotated[DataConfig, Flat] = DataConfig()
    network: Annotated[NetworkOptions, Flat] = NetworkOptions()
    train: Annotated[TrainConfig, Flat] = TrainConfig()
    runtime: Annotated[RuntimeConfig, Flat] = RuntimeConfig()
    cluster: Annotated[ClusterConfig, Flat] = ClusterConfig()

    def run(self) -> int:
        study = SweepConfig(
            archs=(self.arch,),
            targets=(self.target,),
            rules=(self.rule,),
            seeds=(self.seed,),
            data=self.data,
            network=self.network,
            train=self.train,
            runtime=self.runtime,
        )
        return _run_sweep(study, self.out, self.cluster, _find_origin(), figures=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep(SweepConfig):
    """Train every cell of a grid, and draw AUC against parameters and against time.

    Attributes
    ----------
    experiment
        A file that defines `SWEEP = SweepConfig(...)`; flags override its values.
    out
        Folder of the results. Cells that are finished there are not run again.
    """

    experiment: tyro.conf.Positional[str | None] = None
    out: str
    data: Annotated[DataConfig, Flat] = DataConfig()
    network: Annotated[NetworkOptions, Flat] = NetworkOptions()
    train: Annotated[TrainConfig, Flat] = TrainConfig()
    runtime: Annotated[RuntimeConfig, Flat] = RuntimeConfig()
    cluster: Annotated[ClusterConfig, Flat] = ClusterConfig()

    def run(self) -> int:
        fields = (field.name for field in dataclasses.fields(SweepConfig))
        study = SweepConfig(**{name: getattr(self, name) for name in fields})
        origin = _find_origin(self.experiment)
        return _run_sweep(study, self.out, self.cluster, origin, figures=True)


def _find_origin(experiment: str | None = None) -> "Origin":
    """Return the command that was given, and what its experiment file says that it asks."""
    from crnn_jax.study.manifest import Origin

    question = None
    if experiment is not None:
        question = ast.get_docstring(ast.parse(Path(experiment).read_bytes()))
    return Origin(shlex.join(["crnn-jax", *sys.argv[1:]]), question)


def _run_sweep(
    study: SweepConfig, out: str, cluster: ClusterConfig, origin: "Origin", *, figures: bool
) -> int:
    """Prepare, train, tabulate and draw; return the exit code."""
    from crnn_jax import api

    keep_compiled()
    with (
        sigterm_raises(),
        contextlib.ExitStack() as preparation,
        contextlib.ExitStack() as training,
    ):
        on_prepare = preparation.enter_context(show_preparation(study.data.dataset))
        show = None

        def on_event(event: "SweepEvent") -> None:
            nonlocal show
            if show is None:
                # One display at a time: the first event comes when the data are prepared.
                preparation.close()
                show = training.enter_context(show_sweep())
            show(event)

        summary = api.sweep(
            study, out, cluster=cluster, on_event=on_event, on_prepare=on_prepare, origin=origin
        )
    if summary.is_first and figures and any(summary.out.glob("*/result.json")):
        from crnn_jax.figures.draw import draw

        print("\nFigures:")
        for path in draw(summary.out):
            print(f"  {path}")
        print(_report(summary.out))
    if summary.is_first and summary.failed:
        names = ", ".join(cell.name for cell in summary.failed)
        counts = f"{len(summary.failed)} of {len(summary.cells)} cells failed"
        print(f"{counts} ({names}); see {summary.out}/*/failed.json")
    return 1 if summary.failed else 0


def _report(out: "epath.Path") -> str:
    """Write a sweep's page, and return what to say of it."""
    from crnn_jax.report.html import require_altair
    from crnn_jax.report.study_page import write_report

    try:
        require_altair()
        return f"\nReport: {write_report(out)}"
    # The results are there, and what failed is still to be said: a page that cannot be made (a
    # package is missing, the disk is full) must not end a sweep of days otherwise.
    except Exception as error:
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        return f"\nNo report: {kind}{error}"


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Score a trained network on a split.

    Attributes
    ----------
    run_folder
        The run's folder.
    dataset
        Folder of the prepared data set; if not given, the one that the run was trained on.
    split
        The split.
    json
        Print JSON instead of a table.
    """

    run_folder: tyro.conf.Positional[str]
    dataset: str | None = None
    split: str = "test"
    json: bool = False

    def run(self) -> int:
        from crnn_jax.api import load_run

        keep_compiled()
        scores = load_run(self.run_folder).evaluate(self.split, self.dataset)
        if self.json:
            print(json.dumps(dataclasses.asdict(scores), indent=2))
            return 0
        from rich.table import Table

        if scores.auc is not None and scores.ap is not None:
            summary = f"{self.split}: AUC {scores.auc:.4f}, AP {scores.ap:.4f}"
        else:
            summary = f"no tag has both positive and negative examples in the {self.split} split"
        table = Table(title=printable(f"{self.run_folder}, {summary}"))
        table.add_column("tag")
        for column in ("AUC", "AP", "positives"):
            table.add_column(column, justify="right")
        for row in scores.per_tag:
            numbers = ["–" if score is None else f"{score:.3f}" for score in (row.auc, row.ap)]
            table.add_row(printable(row.tag), *numbers, str(row.n_positive))
        print_table(table)
        return 0


@dataclasses.dataclass(frozen=True)
class Plot:
    """Draw a sweep's figures again from its CSV files.

    Attributes
    ----------
    folder
        The sweep's folder.
    """

    folder: tyro.conf.Positional[str]

    def run(self) -> int:
        from crnn_jax.figures.draw import draw

        for path in draw(self.folder):
            print(path)
        return 0
