"""A study: the grid of cells, each a run of its own, and the tables of their results.

Several processes can work on one folder, on one machine or on many that share the disk: each takes
the cells that no other holds. An executor determines how the cells are run.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence

from etils import epath

from crnn_jax.config import SweepConfig
from crnn_jax.data.batches import which_examples
from crnn_jax.data.folds import make_fold
from crnn_jax.data.prepared import PreparedSet
from crnn_jax.study import ahead, runs
from crnn_jax.study.events import (
    CellFailed,
    CellFinished,
    CellLeft,
    CellSkipped,
    OnSweepEvent,
    RareTags,
    SweepStarted,
    ignore,
)
from crnn_jax.study.grid import (
    check_scorable,
    find_branches,
    list_cells,
    list_rare_tags,
    make_run_config,
    solve_cell,
)
from crnn_jax.study.manifest import Origin, announce
from crnn_jax.study.run import Job, Outcome, attempt
from crnn_jax.study.schema import Cell

# Runs jobs and yields each with its outcome as it ends.
Executor = Callable[[Sequence[Job], OnSweepEvent], Iterator[tuple[Job, Outcome]]]


def run_here(jobs: Sequence[Job], on_event: OnSweepEvent) -> Iterator[tuple[Job, Outcome]]:
    """Run jobs in this process, one after the other."""
    for job, following in itertools.zip_longest(jobs, jobs[1:]):
        with ahead.compiling(following, on_event) as notify:
            outcome = attempt(job, notify)
        if following is not None and not reads_the_same(job, following):
            job.data.release()
        yield job, outcome


def reads_the_same(job: Job, other: Job) -> bool:
    """Return whether two jobs use the same clips, so that what is in memory stays there."""
    chosen, others = (which_examples("train", each.train) for each in (job, other))
    return job.data is other.data and chosen == others


def make_jobs(
    config: SweepConfig, data: PreparedSet, out: epath.Path, cells: Sequence[Cell]
) -> list[Job]:
    """Return the job of every cell, with the data of its fold.

    Raises
    ------
    UserError
        If a cell cannot be built, or the data cannot be scored.
    """
    folds: dict[int | None, PreparedSet]
    if config.folds is None:
        folds = {None: data}
    else:
        folds = {fold: make_fold(data, fold, config.folds) for fold in range(config.folds)}
    for of_fold in folds.values():
        check_scorable(of_fold)
    jobs = []
    for cell in cells:
        budget = solve_cell(cell, config, data)
        run_config = make_run_config(cell, budget, config, folds[cell.fold])
        trunk, branches = find_branches(cell, config)
        jobs.append(
            Job(cell, budget, run_config, folds[cell.fold], config.runtime, out, trunk, branches)
        )
    return jobs


def sweep(
    config: SweepConfig,
    data: PreparedSet,
    out: epath.Path,
    *,
    cells: Sequence[Cell] | None = None,
    on_event: OnSweepEvent = ignore,
    execute: Executor = run_here,
    writes_tables: bool = True,
    origin: Origin = Origin(),
) -> list[Cell]:
    """Run all cells that have no result yet, and rebuild the tables after each.

    A cell that fails is recorded in its folder's ``failed.json``, and the others are run. Cells
    that another process holds are tried again after the others, and left to it if it still holds
    them: it writes their results, and the tables.

    Parameters
    ----------
    config, data
        The study, and its data set.
    out
        The study's folder.
    cells
        The cells; None: the study's grid.
    on_event
        Called with each `crnn_jax.study.events.SweepEvent`.
    execute
        The executor that runs the cells.
    writes_tables
        False for all but the first of several processes that train each cell together: that one
        writes all files of the study.
    origin
        Where the study comes from, for ``study.json``.

    Returns
    -------
    list of Cell
        The cells that failed.

    Raises
    ------
    UserError
        Before anything is trained, if a cell cannot be built, the data cannot be scored, or the
        folder holds the cells of another configuration.
    """
    jobs = make_jobs(config, data, out, list_cells(config) if cells is None else cells)
    for job in jobs:
        if (job.run / "config.json").exists():
            runs.claim_folder(job.run, job.config)

    if writes_tables:
        announce(out, origin, (job.cell for job in jobs))
    on_event(SweepStarted(tuple(job.cell for job in jobs)))
    if rare := list_rare_tags(data, all_together=config.folds is not None):
        on_event(RareTags(rare))
    failed: list[Cell] = []
    waiting = jobs
    while waiting:
        held = []
        for job, outcome in execute(waiting, on_event):
            match outcome.kind:
                case "held":
                    held.append(job)
                case "before":
                    on_event(CellSkipped(job.cell))
                case "failed":
                    assert outcome.error is not None
                    failed.append(job.cell)
                    on_event(CellFailed(job.cell, outcome.error))
                case "finished":
                    assert outcome.result is not None
                    on_event(CellFinished(job.cell, outcome.result))
                    if writes_tables:
                        runs.write_tables(out, folds=False)
        if len(held) == len(waiting):
            break
        waiting = held
    for job in waiting:
        on_event(CellLeft(job.cell))
    if writes_tables:
        runs.write_tables(out)
    return failed
