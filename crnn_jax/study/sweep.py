"""A study: the grid of cells, each a run of its own, and the tables of their results.

Several processes can work on one folder, on one machine or on many that share the disk: each takes
the cells that no other holds. How the cells are run is an executor's.
"""

import contextlib
import dataclasses
import functools
import json
import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from etils import epath

from crnn_jax.config import (
    NOT_OF_NUMBERS,
    NUMERICS,
    Architecture,
    ModelConfig,
    Rule,
    SweepConfig,
    TrainConfig,
)
from crnn_jax.data.prepared import PreparedSet
from crnn_jax.errors import ProcessLost, UserError
from crnn_jax.locks import on_disk
from crnn_jax.models.budget import Budget, solve
from crnn_jax.signals import Terminated, sigterm_waits
from crnn_jax.study import provenance, runs
from crnn_jax.train.metrics import TagScores

# How the message of a cell that has failed for want of memory begins.
OUT_OF_MEMORY = "out of memory"


@dataclasses.dataclass(frozen=True)
class Cell:
    """One network to be trained."""

    arch: Architecture
    target: int
    rule: Rule
    seed: int

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        return runs.run_name(self.arch, self.target, self.rule, self.seed)


class Watcher(Protocol):
    """Told what a sweep does; the command line shows it."""

    def cell_started(self, cell: Cell, budget: Budget) -> None:
        """A cell begins."""

    def cell_progress(self, cell: Cell, fraction: float, message: str) -> None:
        """A cell has done this share of the steps that it may take."""

    def cell_finished(self, cell: Cell, result: dict[str, Any]) -> None:
        """A cell has its result."""

    def cell_skipped(self, cell: Cell) -> None:
        """A cell was finished before."""

    def cell_failed(self, cell: Cell, error: str) -> None:
        """A cell ended without a result."""

    def cell_left(self, cell: Cell) -> None:
        """A cell is another process's, which is still at it."""


@dataclasses.dataclass(frozen=True)
class Job:
    """All that a cell's run needs: plain values, to be sent to another process.

    Attributes
    ----------
    cell, budget, train, data
        What is trained, how, and on what.
    out
        The sweep's folder; the run's is in it.
    """

    cell: Cell
    budget: Budget
    train: TrainConfig
    data: PreparedSet
    out: epath.Path

    @property
    def run(self) -> epath.Path:
        """The run's folder."""
        return self.out / self.cell.name


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What has become of a job.

    Attributes
    ----------
    kind
        ``finished``, or finished ``before``, ``failed``, or ``held`` by another process.
    result
        What ``result.json`` says, of a run that has finished now.
    error
        Why it failed, in a line.
    """

    kind: Literal["finished", "before", "failed", "held"]
    result: dict[str, Any] | None = None
    error: str | None = None


# Runs jobs, and tells of each as it ends.
Executor = Callable[[Sequence[Job], Watcher], Iterator[tuple[Job, Outcome]]]


def cells_of(config: SweepConfig) -> list[Cell]:
    """The grid's cells, small networks first: what is wrong with a study shows early."""
    grid = [
        Cell(arch, target, rule, seed)
        for seed in config.seeds
        for target in sorted(config.targets)
        for rule in config.rules
        for arch in config.archs
    ]
    cells = [*grid, *(Cell(*values) for values in config.extra_cells)]
    if not cells:
        raise UserError("--archs, --targets, --rules, --seeds: one is empty; give each a value")
    for cell in cells:
        if cell.seed < 0:
            raise UserError(f"--seeds {cell.seed}: give 0 or more")
    return list(dict.fromkeys(cells))


def model_config_of(budget: Budget, train: TrainConfig, data: PreparedSet) -> ModelConfig:
    """The network of a solved cell on this data."""
    return ModelConfig(
        arch=budget.arch,
        widths=budget.widths,
        n_tags=len(data.tag_names),
        n_mels=data.mel.n_mels,
        precision=train.precision,
        matmul_precision=train.matmul_precision,
    )


def run_config(cell: Cell, budget: Budget, train: TrainConfig, data: PreparedSet) -> dict[str, Any]:
    """What ``config.json`` says: all that the numbers of a run depend on, and where its data is."""
    return {
        **dataclasses.asdict(cell),
        "numerics": NUMERICS,
        "params": budget.params,
        "s": budget.s,
        "model": dataclasses.asdict(model_config_of(budget, train, data)),
        "train": {
            name: value
            for name, value in dataclasses.asdict(train).items()
            if name not in NOT_OF_NUMBERS
        },
        "data": {
            "name": data.name,
            # So that `evaluate` finds it from any working folder.
            "path": os.fspath(Path(data.path).absolute()) if on_disk(data.path) else data.path,
            "tracks_digest": data.tracks_digest,
            "mel": dataclasses.asdict(data.mel),
            "tag_names": data.tag_names,
            "tag_categories": data.tag_categories,
            "n_examples": data.n_examples,
        },
    }


def check_scorable(data: PreparedSet) -> None:
    """Raise a UserError if training could not be scored, or has nothing to learn."""
    if not any(data.tag_counts["train"]):
        raise UserError(f"{data.path}: no tag has a positive example in the training split")
    for split in ("valid", "test"):
        n_examples = data.n_examples[split]
        if not any(0 < count < n_examples for count in data.tag_counts[split]):
            raise UserError(
                f"{data.path}: no tag has both positive and negative examples in the {split} "
                f"split, so that there is no AUC; give it more files"
            )


def run_cell(job: Job, on_progress: Callable[[float, str], None]) -> dict[str, Any]:
    """Train a cell, or go on with it, and write its ``result.json``.

    Of several processes that train it together, the first one writes.

    Parameters
    ----------
    job
        What is trained, how, on what, and where it is written.
    on_progress
        Told the share of the steps that are done and where the run stands.

    Returns
    -------
    dict
        What ``result.json`` says.
    """
    # Imported here: solving a grid and finding it finished need no training.
    import jax

    from crnn_jax.data.batches import steps_of_epoch
    from crnn_jax.train import parallel
    from crnn_jax.train.checkpoints import OrbaxCheckpoints
    from crnn_jax.train.loop import fit

    cell, budget, train, data, run = job.cell, job.budget, job.train, job.data, job.run
    # Before the folder is claimed, so that the mended command may have it.
    parallel.check_batch_size(train.batch_size, parallel.batch_mesh())
    steps_of_epoch(data, train)
    writes = jax.process_index() == 0
    if writes:
        runs.claim_folder(run, run_config(cell, budget, train, data))
    valid_auc = float("nan")

    def on_step(epoch: int, step: int, steps_per_epoch: int, loss: float) -> None:
        fraction = (epoch + step / steps_per_epoch) / train.epochs
        score = "" if valid_auc != valid_auc else f", validation AUC {valid_auc:.3f}"
        on_progress(fraction, f"epoch {epoch + 1}, loss {loss:.4f}{score}")

    def on_epoch(history: list[dict[str, Any]]) -> None:
        nonlocal valid_auc
        valid_auc = history[-1]["valid_auc"]
        lines = "".join(json.dumps(line) + "\n" for line in history)
        if writes:
            runs.write_text(run / "metrics.jsonl", lines)

    with sigterm_waits() as stop_requested, OrbaxCheckpoints(run / "checkpoints") as checkpoints:
        fitted = fit(
            model_config_of(budget, train, data),
            train,
            cell.seed,
            data,
            checkpoints,
            on_step=on_step,
            on_epoch=on_epoch,
            stop_requested=stop_requested,
        )
        # Several processes end together, or the others would wait for this one.
        if parallel.agree(stop_requested())[0]:
            raise Terminated
    progress, compiled = fitted.progress, fitted.compiled
    n_train = min(train.max_examples or data.n_examples["train"], data.n_examples["train"])
    seconds_per_sample = progress.train_s / (progress.step * train.batch_size)
    result = {
        **dataclasses.asdict(cell),
        "params": budget.params,
        "s": budget.s,
        "widths": budget.widths,
        "dataset": data.name,
        "mel": dataclasses.asdict(data.mel),
        "n_train": n_train,
        "n_valid": data.n_examples["valid"],
        "n_test": data.n_examples["test"],
        "n_tags": len(data.tag_names),
        "n_tags_scored": fitted.test.n_scored,
        "epochs": progress.epoch,
        "best_epoch": progress.best_epoch,
        "ended_by": progress.ended_by,
        "valid_auc": fitted.valid.macro_auc,
        "test_auc": fitted.test.macro_auc,
        "test_ap": fitted.test.macro_average_precision,
        "per_tag": per_tag_rows(data, fitted.test),
        "compile_s": compiled.compile_s,
        "train_s": progress.train_s,
        "eval_s": progress.eval_s,
        "input_wait_s": progress.input_wait_s,
        "checkpoint_s": progress.checkpoint_s,
        "seconds_per_2500_samples": 2500 * seconds_per_sample,
        "samples_per_s": 1 / seconds_per_sample,
        "flops_per_sample": compiled.flops_per_sample,
        # XLA's plan of the step: what a device counts is of all cells before, too.
        "peak_memory_bytes": compiled.peak_memory_bytes,
        "device": provenance.device_name(jax.local_devices()[0]),
        "device_count": jax.device_count(),
        "versions": provenance.versions(),
        "git_commit": provenance.git_commit(),
    }
    if writes:
        runs.write_json(run / "result.json", result)
    return result


def attempt(job: Job, watcher: Watcher) -> Outcome:
    """Run a job, unless it is finished or another process is at it.

    A failure is recorded in the run's ``failed.json``.

    Raises
    ------
    UserError
        If the whole study is at fault, and not this cell alone.
    OSError
        If nothing can be written any more.
    """
    import jax

    from crnn_jax.train import parallel
    from crnn_jax.train.loop import Diverged

    cell, run = job.cell, job.run
    # The first of several processes that train together holds the run and writes for them all.
    first = jax.process_index() == 0
    with runs.hold(run) if first else contextlib.nullcontext(False) as held:
        finished = held and runs.read_result(run) is not None
        try:
            held, finished = parallel.agree(held, finished)
        except jax.errors.JaxRuntimeError as error:
            raise ProcessLost(in_a_line(error, job.train)) from error
        if not held:
            return Outcome("held")
        if finished:
            return Outcome("before")
        watcher.cell_started(cell, job.budget)
        try:
            result = run_cell(job, functools.partial(watcher.cell_progress, cell))
        except UserError:
            raise
        except Exception as error:  # Recorded with its traceback, and the exit code says so.
            message = in_a_line(error, job.train)
            alone = jax.process_count() > 1 and not isinstance(error, Diverged)
            # What a lost process did to the others is no failure of the cell.
            if first and (not alone or message.startswith(OUT_OF_MEMORY)):
                runs.write_failure(run, message, traceback.format_exc())
            if alone:
                # The others may not have failed, and wait for this one.
                raise ProcessLost(message) from error
            return Outcome("failed", error=message)
        finally:
            # Compiled steps of a cell are of no use to the next one, and hold memory.
            jax.clear_caches()
        if first:
            (run / "failed.json").unlink(missing_ok=True)
        return Outcome("finished", result)


def in_a_line(error: Exception, train: TrainConfig) -> str:
    """Why a cell failed, and what may help."""
    import jax

    from crnn_jax.train.loop import Diverged

    words = str(error).strip().partition("\n")[0]
    if isinstance(error, Diverged):
        return words
    # XLA has no class of its own for it.
    of_device = isinstance(error, jax.errors.JaxRuntimeError) and any(
        name in words for name in ("RESOURCE_EXHAUSTED", "OUT_OF_MEMORY")
    )
    if of_device or isinstance(error, MemoryError):
        return (
            f"{OUT_OF_MEMORY} with --batch-size {train.batch_size}: give a smaller one, or a "
            f"shorter --clip-seconds ({words})"
        )
    return f"{type(error).__name__}: {words}"


def run_here(jobs: Sequence[Job], watcher: Watcher) -> Iterator[tuple[Job, Outcome]]:
    """Run jobs in this process, one after the other."""
    for job in jobs:
        yield job, attempt(job, watcher)


def per_tag_rows(data: PreparedSet, scores: TagScores) -> list[dict[str, Any]]:
    """One row a tag; rank 1 is the tag with the most positive training examples."""
    counts = data.tag_counts["train"]
    by_popularity = sorted(range(len(counts)), key=lambda tag: -counts[tag])
    rank = {tag: place for place, tag in enumerate(by_popularity, start=1)}
    return [
        {
            "tag": name,
            "category": data.tag_categories[tag],
            "popularity_rank": rank[tag],
            "n_test_positive": data.tag_counts["test"][tag],
            "auc": scores.auc[tag],
            "ap": scores.average_precision[tag],
        }
        for tag, name in enumerate(data.tag_names)
    ]


def sweep(
    config: SweepConfig,
    data: PreparedSet,
    out: epath.Path,
    watcher: Watcher,
    execute: Executor = run_here,
    *,
    writes_tables: bool = True,
) -> Sequence[Cell]:
    """Run all cells that have no result yet, and rebuild the tables after each.

    A cell that fails is recorded in its folder's ``failed.json``, and the others go on. Cells that
    another process holds are asked for again after the others, and left to it if it still has
    them: it writes their results, and the tables.

    Parameters
    ----------
    config, data
        The study, and what is learned from.
    out
        Its folder.
    watcher
        Told what happens.
    execute
        What runs the cells.
    writes_tables
        False for all but the first of several processes that train each cell together.

    Returns
    -------
    list of Cell
        Those that failed.

    Raises
    ------
    UserError
        Before anything is trained, if a cell cannot be built, the data cannot be scored, or the
        folder holds the cells of another configuration.
    """
    check_scorable(data)
    n_tags, n_mels = len(data.tag_names), data.mel.n_mels
    jobs = []
    for cell in cells_of(config):
        budget = solve(cell.arch, cell.rule, cell.target, n_tags=n_tags, n_mels=n_mels)
        jobs.append(Job(cell, budget, config.train, data, out))
    for job in jobs:
        if (job.run / "config.json").exists():
            runs.claim_folder(job.run, run_config(job.cell, job.budget, job.train, data))

    failed: list[Cell] = []
    waiting = jobs
    while waiting:
        held = []
        for job, outcome in execute(waiting, watcher):
            match outcome.kind:
                case "held":
                    held.append(job)
                case "before":
                    watcher.cell_skipped(job.cell)
                case "failed":
                    assert outcome.error is not None
                    failed.append(job.cell)
                    watcher.cell_failed(job.cell, outcome.error)
                case "finished":
                    assert outcome.result is not None
                    watcher.cell_finished(job.cell, outcome.result)
                    if writes_tables:
                        runs.write_tables(out)
        if len(held) == len(waiting):
            break
        waiting = held
    for job in waiting:
        watcher.cell_left(job.cell)
    if writes_tables:
        runs.write_tables(out)
    return failed
