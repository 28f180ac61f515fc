"""The command line: one sub-command a verb, built from the dataclasses of `config`.

What a command needs beyond the standard library is imported when it runs: help and errors answer
at once.
"""

import contextlib
import dataclasses
import errno
import importlib.util
import io
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Union

import absl.logging
import tyro

import crnn_jax
from crnn_jax.config import (
    PAPER_TARGETS,
    RULES,
    Architecture,
    DataConfig,
    Rule,
    SweepConfig,
    TrainConfig,
)
from crnn_jax.errors import UserError

if TYPE_CHECKING:
    from rich.progress import Progress

    from crnn_jax.budget import Budget
    from crnn_jax.datasets import PreparedSet
    from crnn_jax.sweep import Cell

# Fields of a configuration stand beside the command's own flags, without a prefix.
Flat = tyro.conf.arg(name="")


@dataclasses.dataclass(frozen=True)
class Solve:
    """Print the widths whose networks have the wanted numbers of parameters.

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
        from crnn_jax.budget import solve
        from crnn_jax.models import ARCHITECTURES

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
        _console().print(table)
        return 0


def _solved(budget: "Budget") -> dict[str, Any]:
    return {**dataclasses.asdict(budget), "relative_error": budget.relative_error}


@dataclasses.dataclass(frozen=True)
class Prepare:
    """Make a data set ready: decode, compute log-mels, store them as TFDS records.

    It can be interrupted at any time; the same command goes on where it was.
    """

    dataset: tyro.conf.Positional[str]
    data: Annotated[DataConfig, Flat] = DataConfig()

    def run(self) -> int:
        data = _prepared(dataclasses.replace(self.data, dataset=self.dataset))
        sizes = ", ".join(f"{count:,} {split}" for split, count in data.n_examples.items())
        print(f"{data.path}: {sizes}; {len(data.tag_names)} tags")
        if data.n_rejected:
            print(f"{data.n_rejected} files could not be used: {Path(data.path) / 'rejected.csv'}")
        return 0


@dataclasses.dataclass(frozen=True)
class Train:
    """Train one network of a given size.

    Attributes
    ----------
    out
        Where the run's folder goes.
    arch
        Architecture.
    target
        Trainable parameters.
    rule
        How the widths are scaled: all by s, or by √s near the output.
    seed
        Of parameters, dropout and the order of the examples.
    """

    out: str
    arch: Architecture = "crnn"
    target: int = PAPER_TARGETS[0]
    rule: Rule = "uniform"
    seed: int = 0
    data: Annotated[DataConfig, Flat] = DataConfig()
    train: Annotated[TrainConfig, Flat] = TrainConfig()

    def run(self) -> int:
        study = SweepConfig(
            archs=(self.arch,),
            targets=(self.target,),
            rules=(self.rule,),
            seeds=(self.seed,),
            data=self.data,
            train=self.train,
        )
        return _run_sweep(study, self.out, figures=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep(SweepConfig):
    """Train every cell of a grid, and draw AUC against parameters and against time.

    Attributes
    ----------
    experiment
        A file that says `SWEEP = SweepConfig(...)`; flags change what it says.
    out
        Folder of the results. Cells that are finished there are not run again.
    """

    experiment: tyro.conf.Positional[str | None] = None
    out: str
    data: Annotated[DataConfig, Flat] = DataConfig()
    train: Annotated[TrainConfig, Flat] = TrainConfig()

    def run(self) -> int:
        fields = (field.name for field in dataclasses.fields(SweepConfig))
        study = SweepConfig(**{name: getattr(self, name) for name in fields})
        return _run_sweep(study, self.out, figures=True)


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Score a trained network on a split.

    Attributes
    ----------
    run_folder
        The run's folder.
    dataset
        Folder of the prepared data set; the one that it was trained on if not given.
    split
        Which split.
    json
        Print JSON instead of a table.
    """

    run_folder: tyro.conf.Positional[str]
    dataset: str | None = None
    split: str = "test"
    json: bool = False

    def run(self) -> int:
        from etils import epath

        from crnn_jax.evaluation import evaluate_run

        _keep_compiled()
        scores = evaluate_run(epath.Path(self.run_folder), self.split, self.dataset)
        if self.json:
            print(json.dumps(scores, indent=2))
            return 0
        from rich.table import Table

        title = f"{self.run_folder}, {self.split}: AUC {scores['auc']:.4f}, AP {scores['ap']:.4f}"
        table = Table(title=title)
        table.add_column("tag")
        for column in ("AUC", "AP", "positives"):
            table.add_column(column, justify="right")
        for row in scores["per_tag"]:
            numbers = ["–" if row[key] is None else f"{row[key]:.3f}" for key in ("auc", "ap")]
            table.add_row(row["tag"], *numbers, str(row["n_positive"]))
        _console().print(table)
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
        from crnn_jax.plots import draw

        for path in draw(self.folder):
            print(path)
        return 0


def _prepared(config: DataConfig) -> "PreparedSet":
    """Prepare or open a data set, with a progress bar."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    from crnn_jax.datasets import prepare

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=_console()) as progress:
        task = progress.add_task(f"Preparing {config.dataset}", total=None, visible=False)

        def report(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total, visible=True)

        return prepare(config, report=report)


def _keep_compiled() -> None:
    """Keep compiled steps in the user's cache folder (``XDG_CACHE_HOME``, else ``~/.cache``)."""
    from crnn_jax.parallel import keep_compiled

    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    keep_compiled(Path(caches) / "crnn_jax" / "compiled")


def _run_sweep(study: SweepConfig, out: str, *, figures: bool) -> int:
    """Prepare, train, tabulate, draw; the exit code."""
    from etils import epath

    from crnn_jax import sweep
    from crnn_jax.budget import solve

    cells = sweep.cells_of(study)
    # Before any music is decoded: a size that cannot be reached is an error at once.
    for cell in cells:
        solve(cell.arch, cell.rule, cell.target)
    data = _prepared(study.data)
    folder = epath.Path(out)
    _keep_compiled()
    with _sweep_progress(len(cells)) as watcher:
        failed = sweep.sweep(study, data, folder, watcher)
    if figures and len(failed) < len(cells):
        from crnn_jax.plots import draw

        print("\nFigures:")
        for path in draw(folder):
            print(f"  {path}")
    if failed:
        names = ", ".join(cell.name for cell in failed)
        print(f"{len(failed)} of {len(cells)} cells failed ({names}); see {folder}/*/failed.json")
        return 1
    return 0


class _SweepDisplay:
    """Two bars and a line a finished cell (see `crnn_jax.sweep.Watcher`)."""

    def __init__(self, progress: "Progress", n_cells: int):
        self.progress = progress
        self.n_cells = n_cells
        self.done = 0
        self.sweep_bar = progress.add_task(f"Sweep of {n_cells} cells", total=n_cells)
        self.cell_bar = progress.add_task("", total=1.0, visible=False)

    def cell_started(self, cell: "Cell", budget: "Budget") -> None:
        text = f"{cell.name}: {budget.params:,} parameters, compiling"
        self.progress.update(self.cell_bar, completed=0.0, description=text, visible=True)

    def cell_progress(self, cell: "Cell", fraction: float, message: str) -> None:
        description = f"{cell.name}: {message}"
        self.progress.update(self.cell_bar, completed=fraction, description=description)
        self.progress.update(self.sweep_bar, completed=self.done + fraction)

    def cell_finished(self, cell: "Cell", result: dict[str, Any]) -> None:
        self._ended(
            f"{cell.name}: test AUC {result['test_auc']:.4f}, {result['params']:,} parameters, "
            f"{result['epochs']} epochs in {result['train_s']:.1f} s "
            f"(ended by {result['ended_by']}; {result['compile_s']:.1f} s of compilation)"
        )

    def cell_skipped(self, cell: "Cell") -> None:
        self._ended(f"{cell.name}: finished before")

    def cell_failed(self, cell: "Cell", error: str) -> None:
        self._ended(f"{cell.name}: failed: {error}")

    def _ended(self, text: str) -> None:
        self.done += 1
        self.progress.update(self.sweep_bar, completed=self.done)
        self.progress.update(self.cell_bar, visible=False)
        self.progress.console.print(f"[{self.done}/{self.n_cells}] {text}", markup=False)


@contextlib.contextmanager
def _sweep_progress(n_cells: int) -> Iterator[_SweepDisplay]:
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=_console()) as progress:
        yield _SweepDisplay(progress, n_cells)


def _console() -> Any:
    """A terminal's width where there is one; wide enough for a line a cell in a log."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 160, highlight=False, soft_wrap=True)


def _experiment_of(arguments: Sequence[str]) -> SweepConfig:
    """The study of the experiment file among a sweep's arguments; the default without one."""
    files = [argument for argument in arguments if argument.endswith(".py")]
    if not files:
        return SweepConfig()
    path = Path(files[0])
    if not path.is_file():
        raise UserError(f"{path}: no such experiment file; see experiments/")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise UserError(f"{path}, line {error.lineno}: {error.msg}; mend the file") from error
    study = getattr(module, "SWEEP", None)
    if not isinstance(study, SweepConfig):
        raise UserError(f"{path}: no `SWEEP = SweepConfig(...)` in it")
    return study


REGISTRY = tyro.constructors.ConstructorRegistry()


@REGISTRY.primitive_rule
def _numbers_or_per_cent(
    info: tyro.constructors.PrimitiveTypeInfo,
) -> tyro.constructors.PrimitiveConstructorSpec | None:
    """Numbers on the command line may be in per cent: 10% is 0.1."""
    if info.type is not float:
        return None

    def parse(arguments: list[str]) -> float:
        text = arguments[0]
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)

    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="FLOAT",
        instance_from_str=parse,
        is_instance=lambda value: isinstance(value, float | int),
        str_from_instance=lambda value: [f"{value:g}"],
    )


def _parse(arguments: Sequence[str]) -> Any:
    """The command that the arguments name, as its dataclass.

    Raises
    ------
    UserError
        If they are not a command's; in one line what tyro would say in a box.
    """
    study = _experiment_of(arguments) if arguments[:1] == ["sweep"] else SweepConfig()
    subcommand = tyro.conf.subcommand
    commands: Any = Union[  # noqa: UP007 - built at run time
        Annotated[Solve, subcommand("solve")],
        Annotated[Prepare, subcommand("prepare")],
        Annotated[Train, subcommand("train")],
        Annotated[Sweep, subcommand("sweep", default=Sweep(**vars(study), out=tyro.MISSING))],
        Annotated[Evaluate, subcommand("evaluate")],
        Annotated[Plot, subcommand("plot")],
    ]
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(
                commands,
                prog="crnn-jax",
                description=crnn_jax.__doc__,
                args=arguments,
                registry=REGISTRY,
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise UserError(_one_line(said.getvalue())) from None


def _one_line(box: str) -> str:
    """The words of a box of text."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", box)
    lines = [line.strip("│─ ") for line in text.splitlines() if line[:1] not in "╭╰"]
    return re.sub(r"\s+", " ", " ".join(line for line in lines if line))


# What a disk says when it cannot be written to: the user's to mend, wherever it comes up.
DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM})


def main() -> None:
    """Entry point of ``crnn-jax``. Exit codes: 0, 1 a run failed, 2 the user's to mend."""
    try:
        command = _parse(sys.argv[1:] or ["--help"])
        # TFDS and Orbax tell their own doings as warnings; what matters raises.
        absl.logging.set_verbosity(absl.logging.ERROR)
        code = command.run()
    except UserError as error:
        print(f"crnn-jax: {error}", file=sys.stderr)
        code = 2
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        print(
            f"crnn-jax: {error.filename}: {error.strerror}; finished results are kept, make "
            f"room or choose another folder and give the command again",
            file=sys.stderr,
        )
        code = 2
    except KeyboardInterrupt:
        print("crnn-jax: stopped; the same command goes on where it was", file=sys.stderr)
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    main()
