"""One cell: from its configuration to its ``result.json``."""

import contextlib
import dataclasses
import traceback
from collections.abc import Callable
from typing import Literal

from etils import epath

from crnn_jax.config import RuntimeConfig, TrainConfig
from crnn_jax.data.collection import UNHEARD
from crnn_jax.data.prepared import PreparedSet
from crnn_jax.errors import ProcessLost, UserError
from crnn_jax.models.budget import Budget
from crnn_jax.signals import Terminated, sigterm_waits
from crnn_jax.study import provenance, runs
from crnn_jax.study.events import CellProgress, CellStarted, OnSweepEvent
from crnn_jax.study.heartbeat import beating
from crnn_jax.study.schema import Cell, RunConfig, RunResult, TagResult
from crnn_jax.study.tracking import describe_run, final_scores
from crnn_jax.trackers import json_lines
from crnn_jax.trackers.subscription import following
from crnn_jax.train.events import TrainEvent
from crnn_jax.train.loop import Fitted, fit
from crnn_jax.train.metrics import TagScores, measure_calibration
from crnn_jax.train.snapshots import Branching
from crnn_jax.train.training_run import Diverged

# Start of the message of a cell that ran out of memory.
OUT_OF_MEMORY = "out of memory"


@dataclasses.dataclass(frozen=True)
class Job:
    """Everything that a cell's run needs: plain values that can be sent to another process.

    Attributes
    ----------
    cell, budget, config, data
        What is trained, how, and on what.
    runtime
        How it is executed.
    out
        The sweep's folder, which contains the run's.
    trunk
        The cell with a longer time budget that this one branches off, if any.
    branches
        Shorter time budgets, in s, whose cells branch off this one.
    """

    cell: Cell
    budget: Budget
    config: RunConfig
    data: PreparedSet
    runtime: RuntimeConfig
    out: epath.Path
    trunk: Cell | None = None
    branches: tuple[float, ...] = ()

    @property
    def run(self) -> epath.Path:
        """The run's folder."""
        return self.out / self.cell.name

    @property
    def train(self) -> TrainConfig:
        """How the cell is trained."""
        assert self.config.train is not None, "only imported weights have none"
        return self.config.train


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Outcome of a job.

    Attributes
    ----------
    kind
        ``finished``, ``before`` (finished earlier), ``failed``, or ``held`` by another process.
    result
        Measurements of a run that has finished now.
    error
        Why the run failed, in one line.
    """

    kind: Literal["finished", "before", "failed", "held"]
    result: RunResult | None = None
    error: str | None = None


def run_cell(job: Job, on_event: Callable[[TrainEvent], None]) -> RunResult:
    """Train a cell, or resume its training, and write its ``result.json``.

    When several processes train it together, the first one writes.

    Parameters
    ----------
    job
        What is trained, how, on what, and where it is written.
    on_event
        Called with each event of training.
    """
    import jax

    from crnn_jax.data.batches import count_steps
    from crnn_jax.train.devices import batch_mesh, check_precision
    from crnn_jax.train.schedule import make_plan

    train, run = job.train, job.run
    # Checked before the folder is claimed, so that the corrected command can claim it.
    mesh = batch_mesh(train.batch_size, job.runtime.devices)
    check_precision(job.config.model.precision, mesh)
    make_plan(train, count_steps(job.data, train))
    writes = jax.process_index() == 0
    subscribers = [on_event]
    if writes:
        runs.claim_folder(run, job.config)
        subscribers.append(json_lines.follow(run / "metrics.jsonl"))

    def notify(event: TrainEvent) -> None:
        for subscriber in subscribers:
            subscriber(event)

    names = job.runtime.tracker if writes else ()
    with contextlib.ExitStack() as stack:
        if writes:
            subscribers.append(stack.enter_context(beating(run, train)))
        followers = stack.enter_context(
            following(names, describe_run(job), job.runtime.tracker_steps)
        )
        subscribers += [follower.on_event for follower in followers]
        fitted = train_cell(job, notify)
        result = make_result(job, fitted)
        if writes:
            for split, scores in fitted.scores.items():
                if split != "valid":
                    groups = job.data.read_groups(split)
                    predictions = runs.Predictions(scores.logits, scores.targets, groups)
                    runs.write_predictions(run, split, predictions)
            # Before the result: a finished run is not resumed.
            for follower in followers:
                follower.conclude(final_scores(result))
            runs.write_result(run, result)
    return result


def train_cell(job: Job, on_event: Callable[[TrainEvent], None]) -> Fitted:
    """Train a cell, or resume its training, between its checkpoints and the branches.

    Raises
    ------
    Terminated
        If SIGTERM arrives; what was trained is kept.
    """
    from crnn_jax.train import parallel
    from crnn_jax.train.checkpoints import OrbaxCheckpoints

    with (
        sigterm_waits() as stop_requested,
        OrbaxCheckpoints(job.run / "checkpoints") as checkpoints,
        contextlib.ExitStack() as others,
    ):
        trunk = None
        if job.trunk is not None:
            trunk = branch_folder(job.out, job.trunk, job.train.max_train_seconds)
        # Without it (the longer run failed) the cell begins on its own, in all processes.
        (lacking,) = parallel.agree(trunk is None or not trunk.exists())
        branching = Branching(
            others.enter_context(OrbaxCheckpoints(trunk)) if trunk and not lacking else None,
            {
                budget: others.enter_context(
                    OrbaxCheckpoints(branch_folder(job.out, job.cell, budget))
                )
                for budget in job.branches
            },
        )
        fitted = fit(
            job.config.model,
            job.train,
            job.cell.seed,
            job.data,
            checkpoints,
            branching=branching,
            runtime=job.runtime,
            on_event=on_event,
            stop_requested=stop_requested,
        )
        # All processes end together; otherwise the others would wait for this one.
        if parallel.agree(stop_requested())[0]:
            raise Terminated
    return fitted


def branch_folder(out: epath.Path, trunk: Cell, max_train_seconds: float | None) -> epath.Path:
    """Return where a cell keeps the snapshot that a shorter time budget's cell begins with."""
    assert max_train_seconds is not None, "only cells with a time budget branch off"
    return out / trunk.name / "branches" / f"{max_train_seconds:.6g}s"


def make_result(job: Job, fitted: Fitted) -> RunResult:
    """Return the content of ``result.json`` for a trained cell."""
    import jax

    from crnn_jax.data.batches import count_examples

    data, train, progress = job.data, job.train, fitted.progress
    seconds = progress.seconds
    seconds_per_sample = seconds["train"] / (progress.step * train.batch_size)
    valid, test = (fitted.scores[split].tags for split in ("valid", "test"))
    unheard = fitted.scores[UNHEARD].tags if UNHEARD in fitted.scores else None
    calibration = measure_calibration(fitted.scores["test"].targets, fitted.scores["test"].logits)
    assert valid.macro_auc is not None, "checked before by check_scorable"
    assert test.macro_auc is not None
    assert test.macro_average_precision is not None
    assert progress.ended_by is not None
    return RunResult(
        **job.cell.columns,
        fold=job.cell.fold,
        learning_rate=train.learning_rate,
        train_fraction=train.train_fraction,
        max_train_seconds=train.max_train_seconds,
        params=job.budget.params,
        s=job.budget.s,
        widths=job.budget.widths,
        dataset=data.name,
        mel=data.mel,
        n_train=count_examples(data, "train", train),
        n_valid=data.n_examples["valid"],
        n_test=data.n_examples["test"],
        n_tags=len(data.tag_names),
        n_tags_scored=test.n_scored,
        epochs=progress.epoch,
        best_epoch=progress.best_epoch,
        ended_by=progress.ended_by,
        valid_auc=valid.macro_auc,
        test_auc=test.macro_auc,
        test_ap=test.macro_average_precision,
        test_bce=calibration.cross_entropy,
        test_calibration_error=calibration.error,
        test_auc_unheard=unheard.macro_auc if unheard else None,
        per_tag=list_tags(data, test, unheard),
        compile_s=fitted.compiled.compile_s + seconds.get("compile", 0.0),
        train_s=seconds["train"],
        eval_s=seconds.get("eval", 0.0),
        input_wait_s=seconds.get("input_wait", 0.0),
        checkpoint_s=seconds.get("checkpoint", 0.0),
        shared_s=progress.shared_s,
        seconds_per_2500_samples=2500 * seconds_per_sample,
        samples_per_s=1 / seconds_per_sample,
        flops_per_sample=fitted.compiled.flops_per_sample,
        # From XLA's plan of the step: a device's own count includes all previous cells.
        peak_memory_bytes=fitted.compiled.peak_memory_bytes,
        device=provenance.device_name(jax.local_devices()[0]),
        device_count=fitted.n_devices,
        versions=provenance.versions(),
        git_commit=provenance.git_commit(),
    )


def list_tags(
    data: PreparedSet, scores: TagScores, unheard: TagScores | None = None
) -> tuple[TagResult, ...]:
    """Return one entry per tag; rank 1 is the tag with the most positive training examples."""
    counts = data.tag_counts["train"]
    by_popularity = sorted(range(len(counts)), key=lambda tag: -counts[tag])
    rank = {tag: place for place, tag in enumerate(by_popularity, start=1)}
    return tuple(
        TagResult(
            tag=name,
            category=data.tag_categories[tag],
            popularity_rank=rank[tag],
            n_test_positive=data.tag_counts["test"][tag],
            auc=scores.auc[tag],
            ap=scores.average_precision[tag],
            auc_unheard=unheard.auc[tag] if unheard else None,
        )
        for tag, name in enumerate(data.tag_names)
    )


def attempt(job: Job, on_event: OnSweepEvent) -> Outcome:
    """Run a job, unless it is finished or another process is running it.

    A failure is recorded in the run's ``failed.json``.

    Raises
    ------
    UserError
        If the whole study is at fault, not just this cell.
    OSError
        If nothing can be written.
    """
    import jax

    from crnn_jax.train import parallel

    cell, run = job.cell, job.run
    # The first of several processes that train together holds the run and writes for them all.
    first = jax.process_index() == 0
    with runs.hold(run) if first else contextlib.nullcontext(False) as held:
        finished = held and runs.read_result(run) is not None
        try:
            held, finished = parallel.agree(held, finished)
        except jax.errors.JaxRuntimeError as error:
            raise ProcessLost(describe(error, job.train)) from error
        if not held:
            return Outcome("held")
        if finished:
            return Outcome("before")
        on_event(CellStarted(cell, job.budget))
        try:
            result = run_cell(
                job, lambda event: on_event(CellProgress(cell, event, job.train.epochs))
            )
        except UserError:
            raise
        except Exception as error:  # Recorded with its traceback; reported by the exit code.
            message = describe(error, job.train)
            alone = jax.process_count() > 1 and not isinstance(error, Diverged)
            # The effect of a lost process on the others is not a failure of the cell.
            if first and (not alone or message.startswith(OUT_OF_MEMORY)):
                runs.write_failure(run, message, traceback.format_exc())
            if alone:
                # The others may not have failed and would wait for this one.
                raise ProcessLost(message) from error
            return Outcome("failed", error=message)
        finally:
            # The compiled steps of a cell are useless to the next one, and occupy memory.
            jax.clear_caches()
        if first:
            (run / "failed.json").unlink(missing_ok=True)
        return Outcome("finished", result)


def describe(error: Exception, train: TrainConfig) -> str:
    """Describe why a cell failed and what may help, in one line."""
    import jax

    words = str(error).strip().partition("\n")[0]
    if isinstance(error, Diverged):
        return words
    # XLA has no exception class for this.
    of_device = isinstance(error, jax.errors.JaxRuntimeError) and any(
        name in words for name in ("RESOURCE_EXHAUSTED", "OUT_OF_MEMORY")
    )
    if of_device or isinstance(error, MemoryError):
        return (
            f"{OUT_OF_MEMORY} with a batch of {train.batch_size}: give a smaller batch_size, a "
            f"shorter clip_seconds, or resident no ({words})"
        )
    return f"{type(error).__name__}: {words}"
