"""The command line: one sub-command a verb, built from the dataclasses of `config`.

What a command needs beyond the standard library is imported when it runs: help and errors answer
at once.
"""

import builtins
import contextlib
import dataclasses
import importlib.util
import io
import json
import os
import re
import signal
import sys
import traceback
import types
import typing
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

import absl.logging
import tyro

import crnn_jax
from crnn_jax.config import (
    PAPER_TARGETS,
    RULES,
    Architecture,
    BenchmarkConfig,
    ClusterConfig,
    DataConfig,
    MelConfig,
    Rule,
    SweepConfig,
    TrainConfig,
)
from crnn_jax.errors import DISK_ERRORS, ProcessLost, UserError
from crnn_jax.signals import Terminated, sigterm_raises
from crnn_jax.user_text import printable

if TYPE_CHECKING:
    from rich.progress import Progress
    from rich.table import Table

    from crnn_jax.budget import Budget
    from crnn_jax.datasets import PreparedSet
    from crnn_jax.datasets.records import Engine
    from crnn_jax.sweep import Cell
    from crnn_jax.tagging import TaggedFile, Tagger

# Fields of a configuration stand beside the command's own flags, without a prefix.
Flat = tyro.conf.arg(name="")
HELP = frozenset({"-h", "--help"})


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

        if self.n_tags < 1:
            raise UserError(f"--n-tags {self.n_tags}: give 1 or more")
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
        _print_table(table)
        return 0


def _solved(budget: "Budget") -> dict[str, Any]:
    return {**dataclasses.asdict(budget), "relative_error": budget.relative_error}


@dataclasses.dataclass(frozen=True)
class Prepare:
    """Make a data set ready: decode, compute log-mels, store them as TFDS records.

    It can be interrupted at any time; the same command goes on where it was.

    Attributes
    ----------
    dataset
        synthetic, folder, msd, magnatagatune or jamendo.
    engine
        What makes the shards: processes of this machine, or an Apache Beam pipeline.
    runner
        Of Beam: the runner's name, such as FlinkRunner, SparkRunner or PortableRunner.
    runner_options
        Of Beam: options of pipeline and runner, as name=value without dashes.
    """

    dataset: tyro.conf.Positional[str]
    engine: Literal["local", "beam"] = "local"
    runner: str = "DirectRunner"
    runner_options: tuple[str, ...] = ()
    data: Annotated[DataConfig, Flat] = DataConfig()

    def run(self) -> int:
        engine = None
        if self.engine == "beam":
            from crnn_jax.datasets.beam_engine import beam_engine

            engine = beam_engine(self.runner, self.runner_options)
        data = _prepared(dataclasses.replace(self.data, dataset=self.dataset), engine)
        sizes = ", ".join(f"{count:,} {split}" for split, count in data.n_examples.items())
        print(f"{data.path}: {sizes}; {len(data.tag_names)} tags")
        if data.n_rejected:
            print(_rejected(data))
        return 0


@dataclasses.dataclass(frozen=True)
class Inspect:
    """Tell what a data set holds, and draw sample clips, mean spectra and tag counts.

    Attributes
    ----------
    dataset
        Folder of a prepared data set, or the name of one, which is prepared if it is not yet there.
    out
        The drawing, a PNG; `inspection.png` in the data set's folder if not given.
    """

    dataset: tyro.conf.Positional[str]
    out: str | None = None
    data: Annotated[DataConfig, Flat] = DataConfig()

    def run(self) -> int:
        from etils import epath
        from rich.table import Table

        from crnn_jax.inspection import check_page_path, draw_page

        if self.out is not None:
            check_page_path(epath.Path(self.out))
        _check_local(dataclasses.replace(self.data, dataset=self.dataset))
        data = _prepared(dataclasses.replace(self.data, dataset=self.dataset))
        clip = f"{data.mel.n_mels} × {data.mel.frames} log-mels of {data.mel.clip_seconds:g} s"
        print(f"{data.path}: {clip}")
        splits = list(data.n_examples)
        table = Table(show_footer=True)
        table.add_column("tag", "clips")
        table.add_column("category")
        for split in splits:
            table.add_column(split, f"{data.n_examples[split]:,}", justify="right")
        for name, category, *counts in zip(
            data.tag_names,
            data.tag_categories,
            *(data.tag_counts[split] for split in splits),
            strict=True,
        ):
            table.add_row(printable(name), printable(category), *(f"{n:,}" for n in counts))
        _print_table(table)
        print(_rejected(data) if data.n_rejected else "no file was rejected")
        out = epath.Path(data.path) / "inspection.png" if self.out is None else epath.Path(self.out)
        draw_page(data, out)
        print(out)
        return 0


def _rejected(data: "PreparedSet") -> str:
    """How many files were rejected, for which reasons, and where they are listed."""
    reasons = ", ".join(
        f"{count:,} {reason}" for reason, count in data.rejected_by_reason().items()
    )
    return f"{data.n_rejected:,} files could not be used ({reasons}): {data.path}/rejected.csv"


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
    cluster: Annotated[ClusterConfig, Flat] = ClusterConfig()

    def run(self) -> int:
        study = SweepConfig(
            archs=(self.arch,),
            targets=(self.target,),
            rules=(self.rule,),
            seeds=(self.seed,),
            data=self.data,
            train=self.train,
        )
        return _run_sweep(study, self.out, self.cluster, figures=False)


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
    cluster: Annotated[ClusterConfig, Flat] = ClusterConfig()

    def run(self) -> int:
        fields = (field.name for field in dataclasses.fields(SweepConfig))
        study = SweepConfig(**{name: getattr(self, name) for name in fields})
        return _run_sweep(study, self.out, self.cluster, figures=True)


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

        if scores["n_tags_scored"]:
            said = f"{self.split}: AUC {scores['auc']:.4f}, AP {scores['ap']:.4f}"
        else:
            said = f"no tag has both positive and negative examples in the {self.split} split"
        table = Table(title=printable(f"{self.run_folder}, {said}"))
        table.add_column("tag")
        for column in ("AUC", "AP", "positives"):
            table.add_column(column, justify="right")
        for row in scores["per_tag"]:
            numbers = ["–" if row[key] is None else f"{row[key]:.3f}" for key in ("auc", "ap")]
            table.add_row(printable(row["tag"]), *numbers, str(row["n_positive"]))
        _print_table(table)
        return 0


@dataclasses.dataclass(frozen=True)
class ImportKeras:
    """Make a run of the published CRNN (Keunwoo Choi, 2016) from its Keras 1 weights.

    Attributes
    ----------
    weights
        The published HDF5 file, of Theano or of TensorFlow.
    out
        The run's folder.
    backend
        What the weights were trained with; told by the names in the file if not given.
    """

    weights: tyro.conf.Positional[str]
    out: tyro.conf.Positional[str]
    backend: Literal["theano", "tensorflow"] | None = None

    def run(self) -> int:
        from etils import epath

        from crnn_jax.keras_import import import_keras

        config = import_keras(Path(self.weights), epath.Path(self.out), self.backend)
        print(
            f"{self.out}: {config['arch']}, {config['params']:,} parameters, "
            f"{config['model']['n_tags']} tags, weights of {config['imported']['backend']}"
        )
        return 0


@dataclasses.dataclass(frozen=True)
class Tag:
    """Tag audio files with a trained network.

    Attributes
    ----------
    run_folder
        The run's folder.
    files
        Audio files, or .npy files of a log-mel.
    top
        How many tags are told of each file.
    hop_seconds
        Of long files: from the start of a window to the start of the next. A window's length if
        not given.
    per_window
        Tell the scores of each window too.
    json
        Print JSON instead of tables.
    figure
        Draw the log-mel and the scores over time into this PNG or SVG file (of one file).
    """

    run_folder: tyro.conf.Positional[str]
    files: tyro.conf.Positional[tuple[str, ...]]
    top: int = 10
    hop_seconds: float | None = None
    per_window: bool = False
    json: bool = False
    figure: str | None = None

    def run(self) -> int:
        from etils import epath

        if self.top < 1:
            raise UserError(f"--top {self.top}: give 1 or more")
        if self.figure is not None:
            from crnn_jax.tag_figure import check_figure_path, draw_tags

            check_figure_path(epath.Path(self.figure))
            if len(self.files) != 1:
                raise UserError(f"--figure {self.figure}: {len(self.files)} files; give one")
        tagger, tagged = _tagged(self.run_folder, self.files, self.hop_seconds)
        tag_names = tagger.network.tag_names
        if self.json:
            print(json.dumps([self._told(file, tag_names) for file in tagged], indent=2))
        else:
            for file in tagged:
                self._print(file, tag_names)
        if self.figure is not None and tagged:
            draw_tags(tagged[0], tag_names, tagger.mel, self.top, epath.Path(self.figure))
        return 0 if len(tagged) == len(self.files) else 1

    def _told(self, file: "TaggedFile", tag_names: Sequence[str]) -> dict[str, Any]:
        best = file.best(self.top)
        scores, windows = file.mean_scores.tolist(), file.scores.tolist()
        told: dict[str, Any] = {
            "path": file.path,
            "tags": [{"tag": tag_names[tag], "score": round(scores[tag], 6)} for tag in best],
        }
        if self.per_window:
            told["windows"] = [
                {
                    "start_s": round(start_s, 3),
                    "scores": {tag_names[tag]: round(window[tag], 6) for tag in best},
                }
                for start_s, window in zip(file.start_s.tolist(), windows, strict=True)
            ]
        return told

    def _print(self, file: "TaggedFile", tag_names: Sequence[str]) -> None:
        from rich.table import Table

        best = file.best(self.top)
        table = Table(title=printable(file.path), title_justify="left")
        if self.per_window:
            table.add_column("from (s)", justify="right")
            for tag in best:
                table.add_column(printable(tag_names[tag]), justify="right")
            for start_s, scores in zip(file.start_s, file.scores[:, best], strict=True):
                table.add_row(f"{start_s:.1f}", *(f"{score:.3f}" for score in scores))
            table.add_section()
            table.add_row("mean", *(f"{score:.3f}" for score in file.mean_scores[best]))
        else:
            table.add_column("tag")
            table.add_column("score", justify="right")
            for tag in best:
                table.add_row(printable(tag_names[tag]), f"{file.mean_scores[tag]:.3f}")
        _print_table(table)


@dataclasses.dataclass(frozen=True)
class Embed:
    """Write what a trained network computes of audio files before its output layer.

    Attributes
    ----------
    run_folder
        The run's folder.
    files
        Audio files, or .npy files of a log-mel.
    out
        NumPy archive (.npz) of `paths` and `features`, a row a file: the mean over its windows.
    hop_seconds
        Of long files: from the start of a window to the start of the next. A window's length if
        not given.
    """

    run_folder: tyro.conf.Positional[str]
    files: tyro.conf.Positional[tuple[str, ...]]
    out: str
    hop_seconds: float | None = None

    def run(self) -> int:
        from etils import epath

        from crnn_jax.tagging import write_features

        out = epath.Path(self.out)
        if not out.name or out.is_dir():
            raise UserError(f"--out {self.out}: not a file's name; give such as features.npz")
        _, tagged = _tagged(self.run_folder, self.files, self.hop_seconds)
        if tagged:
            write_features(tagged, out)
            features = tagged[0].features.shape[1]
            print(f"{self.out}: {len(tagged)} files, {features} features each")
        return 0 if len(tagged) == len(self.files) else 1


def _tagged(
    run_folder: str, files: Sequence[str], hop_seconds: float | None
) -> "tuple[Tagger, list[TaggedFile]]":
    """Tag files with a progress bar; those that cannot be used are reported and left out."""
    from etils import epath
    from rich.progress import Progress as RichProgress

    from crnn_jax.tagging import BadFile, load_tagger, tag_files

    if not files:
        raise UserError("no file; give one or more after the run's folder")
    _keep_compiled()
    tagger = load_tagger(epath.Path(run_folder))
    tagged = []
    # On the standard error, so that the standard output can be read by a program.
    console = _console(stderr=True)
    with RichProgress(console=console, transient=True, disable=not console.is_terminal) as progress:
        results = tag_files(tagger, files, hop_seconds=hop_seconds)
        for result in progress.track(results, total=len(files), description="Tagging"):
            if isinstance(result, BadFile):
                console.print(printable(f"crnn-jax: {result.message}"))
            else:
                tagged.append(result)
    return tagger, tagged


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Benchmark(BenchmarkConfig):
    """Time a training step and a prediction of one network, beside PyTorch's if asked.

    Attributes
    ----------
    json
        Print JSON instead of a table.
    """

    json: bool = False

    def run(self) -> int:
        from crnn_jax.benchmark import benchmark
        from crnn_jax.pipeline import SHORTEST_FRAMES

        mel = MelConfig(clip_seconds=self.clip_seconds)
        if mel.frames < SHORTEST_FRAMES:
            shortest = SHORTEST_FRAMES * mel.hop_length / mel.sample_rate
            raise UserError(
                f"--clip-seconds {self.clip_seconds:g}: the networks need {shortest:.2g} s; give "
                f"that or more"
            )
        fields = (field.name for field in dataclasses.fields(BenchmarkConfig))
        report = benchmark(BenchmarkConfig(**{name: getattr(self, name) for name in fields}))
        if self.json:
            print(json.dumps(report, indent=2))
            return 0
        from rich.table import Table

        table = Table(title=f"{report['arch']}, {report['params']:,} parameters")
        table.add_column("")
        table.add_column("", justify="right")
        for key, value in report.items():
            table.add_row(key, f"{value:,.4g}" if isinstance(value, float) else str(value))
        _print_table(table)
        return 0


def _prepared(config: DataConfig, engine: "Engine | None" = None) -> "PreparedSet":
    """Prepare or open a data set, with a progress bar."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    from crnn_jax.datasets import prepare

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with sigterm_raises(), RichProgress(*columns, console=_console()) as progress:
        task = progress.add_task(f"Preparing {config.dataset}", total=None, visible=False)

        def report(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total, visible=True)

        return prepare(config, engine=engine, report=report)


def _check_local(config: DataConfig) -> None:
    """Refuse a data set that is not on a local disk, before it is made: it could not be read."""
    from crnn_jax.datasets import BUILDERS

    name, value = (
        ("--data-dir", config.data_dir)
        if config.dataset in BUILDERS
        else ("--dataset", config.dataset)
    )
    if "://" in value:
        raise UserError(
            f"{name} {value}: records are read from a local disk only; prepare the set there, or "
            f"copy its folder to one and give the copy as --dataset"
        )


def _keep_compiled() -> None:
    """Keep compiled steps in the user's cache folder (``XDG_CACHE_HOME``, else ``~/.cache``)."""
    from crnn_jax.parallel import keep_compiled

    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    keep_compiled(Path(caches) / "crnn_jax" / "compiled")


def _join_processes(cluster: ClusterConfig) -> bool:
    """Join the other processes, if there are; whether this one is the first: it tells and draws."""
    if not cluster.several_processes:
        return True
    import jax

    from crnn_jax.parallel import join_processes

    join_processes(cluster)
    return jax.process_index() == 0


def _joined(cluster: ClusterConfig) -> bool:
    """Whether this process has joined others."""
    if not cluster.several_processes:
        return False
    import jax

    return jax.distributed.is_initialized()


def _run_sweep(study: SweepConfig, out: str, cluster: ClusterConfig, *, figures: bool) -> int:
    """Prepare, train, tabulate, draw; the exit code."""
    from etils import epath

    from crnn_jax import sweep
    from crnn_jax.budget import check_reachable
    from crnn_jax.datasets import BUILDERS, open_set

    if cluster.executor == "ray":
        import jax

        # This process only hands out cells: GPUs are for the tasks.
        jax.config.update("jax_platforms", "cpu")
    first = _join_processes(cluster)
    cells = sweep.cells_of(study)
    _check_local(study.data)
    if study.data.dataset in BUILDERS:
        # Before any music is decoded: a size that cannot be reached is an error at once.
        for cell in cells:
            check_reachable(cell.arch, cell.rule, cell.target, n_mels=study.data.mel.n_mels)
    # Several processes would prepare a data set over each other: theirs is there before.
    data = open_set(study.data.dataset) if cluster.several_processes else _prepared(study.data)
    folder = epath.Path(out)
    _keep_compiled()
    execute: sweep.Executor = sweep.run_here
    if cluster.executor == "ray":
        from crnn_jax.executors import on_ray

        execute = on_ray(cluster)
    with sigterm_raises(), _sweep_progress(len(cells), shown=first) as watcher:
        failed = sweep.sweep(study, data, folder, watcher, execute, writes_tables=first)
    if not first:
        return 1 if failed else 0
    if figures and any(folder.glob("*/result.json")):
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

    def cell_left(self, cell: "Cell") -> None:
        self._ended(f"{cell.name}: left to the other process that is at it")

    def _ended(self, text: str) -> None:
        self.done += 1
        self.progress.update(self.sweep_bar, completed=self.done)
        self.progress.update(self.cell_bar, visible=False)
        self.progress.console.print(printable(f"[{self.done}/{self.n_cells}] {text}"))


@contextlib.contextmanager
def _sweep_progress(n_cells: int, *, shown: bool) -> Iterator[_SweepDisplay]:
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
    )
    console = _console()
    console.quiet = not shown
    with Progress(*columns, console=console) as progress:
        yield _SweepDisplay(progress, n_cells)


def _print_table(table: "Table") -> None:
    """Print a table as wide as it is: into a narrower one rich squeezes columns until none is left.

    A terminal that is narrower wraps its lines.
    """
    console = _console()
    without_limit = console.options.update(width=sys.maxsize)
    console.width = max(console.width, console.measure(table, options=without_limit).maximum)
    console.print(table)


def _console(*, stderr: bool = False) -> Any:
    """A terminal's width where there is one; wide enough for a line a cell in a log.

    Text is shown as it is: a tag such as ``[bold]`` or ``:guitar:`` is a tag.
    """
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(
        width=None if stream.isatty() else 160,
        stderr=stderr,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=True,
    )


def _experiment_of(arguments: Sequence[str]) -> SweepConfig:
    """The study of the experiment file among a sweep's arguments; the default without one.

    Which argument that is, and which is a flag's value, only the parser can say.
    """
    asked = [argument for argument in arguments if argument not in HELP]
    helps = len(asked) < len(arguments)
    try:
        command = _command_of(asked, Sweep(out="" if helps else tyro.MISSING))
    except UserError:
        if not helps:
            raise
        return SweepConfig()
    return SweepConfig() if command.experiment is None else _read_experiment(command.experiment)


def _read_experiment(name: str) -> SweepConfig:
    """Run an experiment file, and take its study.

    Raises
    ------
    UserError
        If it is no Python file, if it raises, or if its study is none.
    """
    path = Path(name)
    if path.suffix != ".py" or not path.is_file():
        raise UserError(f"{path}: no such experiment file (.py); see experiments/")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    # Whatever a user's file raises is the user's, an end of the program included.
    except (Exception, SystemExit) as error:
        calls = traceback.walk_tb(error.__traceback__)
        lines = [line for frame, line in calls if frame.f_code.co_filename == spec.origin]
        said = " ".join(str(error).split())
        if isinstance(error, SyntaxError) and error.filename == spec.origin:
            lines, said = [error.lineno or 1], error.msg
        if not isinstance(error, UserError):
            said = f"{type(error).__name__}: {said}"
        place = f"{path}, line {lines[-1]}" if lines else f"{path}"
        raise UserError(f"{place}: {said}; correct the file") from error
    study = getattr(module, "SWEEP", None)
    if not isinstance(study, SweepConfig):
        raise UserError(f"{path}: no `SWEEP = SweepConfig(...)` in it")
    if (misfit := _misfit(study)) is not None:
        raise UserError(f"{path}: SWEEP{misfit}; correct the file")
    return study


def _misfit(config: Any) -> str | None:
    """The first value of a configuration that is not of its field's type, in words."""
    for name, hint in typing.get_type_hints(type(config)).items():
        value = getattr(config, name)
        if not _is_of_type(value, hint):
            wanted = hint.__name__ if isinstance(hint, type) else str(hint)
            return f".{name} = {value!r} is not {wanted.replace('typing.', '')}"
        if dataclasses.is_dataclass(value) and (misfit := _misfit(value)) is not None:
            return f".{name}{misfit}"
    return None


def _is_of_type(value: Any, hint: Any) -> bool:
    """Whether a value is of a type that the fields of the configurations have."""
    within = typing.get_args(hint)
    match typing.get_origin(hint):
        case typing.Literal:
            return value in within
        case types.UnionType:
            return any(_is_of_type(value, one) for one in within)
        case builtins.tuple:
            if not isinstance(value, tuple | list):
                return False
            hints = within[:1] * len(value) if within[1:] == (...,) else within
            return len(hints) == len(value) and all(map(_is_of_type, value, hints))
    numbers = int | float if hint is float else hint
    return isinstance(value, numbers) and (hint is bool or not isinstance(value, bool))


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
    return _command_of(arguments, Sweep(**vars(study), out=tyro.MISSING))


def _command_of(arguments: Sequence[str], sweep: Sweep) -> Any:
    """As `_parse`; `sweep` has the defaults of that command."""
    subcommand = tyro.conf.subcommand
    commands: Any = Union[  # noqa: UP007 - built at run time
        Annotated[Solve, subcommand("solve")],
        Annotated[Prepare, subcommand("prepare")],
        Annotated[Inspect, subcommand("inspect")],
        Annotated[Train, subcommand("train")],
        Annotated[Sweep, subcommand("sweep", default=sweep)],
        Annotated[Evaluate, subcommand("evaluate")],
        Annotated[Tag, subcommand("tag")],
        Annotated[Embed, subcommand("embed")],
        Annotated[ImportKeras, subcommand("import-keras")],
        Annotated[Plot, subcommand("plot")],
        Annotated[Benchmark, subcommand("benchmark")],
    ]
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), _unbroken_lines(arguments):
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


@contextlib.contextmanager
def _unbroken_lines(arguments: Sequence[str]) -> Iterator[None]:
    """Let tyro break no line, and so no word, of what it says; help is as wide as the terminal."""
    before = os.environ.get("COLUMNS")
    if HELP.isdisjoint(arguments):
        os.environ["COLUMNS"] = "1000000"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("COLUMNS", None)
        else:
            os.environ["COLUMNS"] = before


def _one_line(box: str) -> str:
    """The words of a box of text."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", box)
    lines = (line.strip("│ ") for line in text.splitlines() if line[:1] not in "╭╰")
    return re.sub(r"\s+", " ", " ".join(line for line in lines if line.strip("─")))


def _warning_line(message: Warning | str, *_: object, **__: object) -> str:
    """A warning without the line of code that gave it."""
    return printable(f"crnn-jax: {message}") + "\n"


def _is_of_an_address(error: Exception) -> bool:
    """Whether it says that there is no file system for an address such as ``s3://…``."""
    modules = {
        frame.f_globals.get("__name__") for frame, _ in traceback.walk_tb(error.__traceback__)
    }
    return not modules.isdisjoint({"fsspec.registry", "etils.epath.register"})


def _say(text: str) -> None:
    """One line on standard error, at once."""
    print(printable(f"crnn-jax: {text}"), file=sys.stderr, flush=True)


def main() -> None:
    """Entry point of ``crnn-jax``. Exit codes: 0, 1 a run failed, 2 the user's to mend."""
    cluster = None
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Of a name, what the terminal's encoding has no signs for; standard error does so anyway.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        command = _parse(sys.argv[1:] or ["--help"])
        # TFDS and Orbax tell their own doings as warnings and errors; what matters raises.
        absl.logging.set_verbosity(absl.logging.FATAL)
        warnings.formatwarning = _warning_line  # type: ignore[assignment]
        cluster = getattr(command, "cluster", None)
        code = command.run()
    except UserError as error:
        _say(f"{error}")
        code = 2
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        _say(
            f"{error.filename or 'the disk'}: {error.strerror}; finished results are kept, make "
            f"room or choose another folder and give the command again"
        )
        code = 2
    except (ImportError, KeyError) as error:
        if not _is_of_an_address(error):
            raise
        _say(
            f"{error.args[0]}: no way to such an address; install what it needs, or give a local "
            f"folder"
        )
        code = 2
    except KeyboardInterrupt:
        _say("stopped; the same command goes on where it was")
        code = 130
    except ProcessLost as error:
        _say(
            f"{error}; this process cannot go on with the others, and they end as well: give the "
            f"same command again to all of them"
        )
        # At once: an ordinary end waits for the others, which wait for this one.
        os._exit(1)
    except Terminated:
        _say("terminated; the same command goes on where it was")
        code = 128 + signal.SIGTERM
    if code == 2 and cluster is not None and _joined(cluster):
        # At once: an ordinary end waits for the others, which wait for this one.
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
