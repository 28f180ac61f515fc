"""What the experiment trackers of a run are told, whatever they are.

A tracker is called until it fails. It then warns in one line and is not called again: the run goes
on, and ``metrics.jsonl``, which no tracker writes, has its history.
"""

import contextlib
import dataclasses
import importlib.util
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from etils import epath

from crnn_jax.config import TrackerName
from crnn_jax.errors import UserError
from crnn_jax.locks import on_disk
from crnn_jax.train.events import EpochDone, RunBegun, StepDone, TrainEvent
from crnn_jax.train.progress import EpochRecord

# Curves by which a tracker's records are told apart: one per step, and one per epoch.
OF_STEPS, OF_EPOCHS = "train/loss", "valid/auc"
# The package of each tracker, and what is installed for it.
PACKAGES: Mapping[TrackerName, tuple[str, str]] = {
    "tensorboard": ("tensorboardX", "'crnn_jax[tracking]'"),
    "trackio": ("trackio", "trackio"),
    "wandb": ("wandb", "wandb"),
}


@dataclasses.dataclass(frozen=True)
class TrackedRun:
    """A run, for its trackers.

    Attributes
    ----------
    folder
        The run's folder.
    project, name
        What a tracker lists the run under.
    batch_size
        Clips per step.
    settings
        The run's hyperparameters.
    """

    folder: epath.Path
    project: str
    name: str
    batch_size: int
    settings: Mapping[str, bool | int | float | str]


@dataclasses.dataclass(frozen=True)
class Logged:
    """What a tracker has of a run from before: all steps and epochs up to these."""

    step: int = 0
    epoch: int = 0


class Tracker(Protocol):
    """Where the curves of a run are drawn. The x axis is the step; any method may raise."""

    def begin(self, step: int, history: Sequence[EpochRecord]) -> Logged:
        """Begin, or resume after `step` steps; return what is not to be logged again."""

    def log(self, step: int, values: Mapping[str, float], epoch: int | None = None) -> None:
        """Log values of a step or, with its number, of an epoch that ended with the step."""

    def conclude(self, step: int, scores: Mapping[str, float]) -> None:
        """Log the final scores, beside the run's hyperparameters."""

    def close(self) -> None:
        """End, for now or for good."""


def only_installed(names: Sequence[TrackerName]) -> tuple[TrackerName, ...]:
    """Return the trackers whose packages are installed, and warn of each of the others.

    Once for a study, where opening a tracker would warn for each of its runs.
    """
    installed = []
    for name in names:
        package, _ = PACKAGES[name]
        if importlib.util.find_spec(package) is None:
            missing = ModuleNotFoundError(name=package)
            warnings.warn(describe_failure(name, missing), stacklevel=2)
        else:
            installed.append(name)
    return tuple(installed)


def open_tracker(name: TrackerName, run: TrackedRun) -> Tracker:
    """Import a tracker; nothing is written before it begins.

    Raises
    ------
    ModuleNotFoundError
        If its package is not installed.
    """
    if not on_disk(run.folder):
        raise UserError("writes to a local disk only; give --out a folder on one")
    module = importlib.import_module(PACKAGES[name][0])
    if name == "tensorboard":
        from crnn_jax.trackers.tensorboard import TensorBoard

        return TensorBoard(run)
    from crnn_jax.trackers.common_api import CommonApi

    return CommonApi(name, module, run)


class Follower:
    """One tracker of a run, and what it has been told.

    Parameters
    ----------
    name, run
        The tracker, and what it follows.
    every
        Steps from one record of a step to the next.
    """

    def __init__(self, name: TrackerName, run: TrackedRun, every: int):
        self._name, self._run, self._every = name, run, every
        # None before it begins, and after it has failed.
        self._tracker: Tracker | None = None
        self._logged = Logged()
        self._last_step = 0

    def on_event(self, event: TrainEvent) -> None:
        """Tell the tracker of an event of training."""
        with self._until_it_fails():
            match event:
                case RunBegun(step, history):
                    tracker = open_tracker(self._name, self._run)
                    self._logged = tracker.begin(step, history)
                    self._tracker, self._last_step = tracker, step
                case StepDone():
                    self._last_step = event.steps_so_far
                    self._log_step(event)
                case EpochDone(history):
                    self._last_step = history[-1].step
                    self._log_epochs(history)

    def _log_step(self, event: StepDone) -> None:
        step = event.steps_so_far
        if self._tracker is None or step % self._every or step <= self._logged.step:
            return
        values = {
            OF_STEPS: event.loss,
            "train/gradient_norm": event.gradient_norm,
            "train/learning_rate": event.learning_rate,
        }
        self._tracker.log(step, values)

    def _log_epochs(self, history: Sequence[EpochRecord]) -> None:
        """Log the epochs that the tracker lacks: also those of a run that this one branched off."""
        if self._tracker is None:
            return
        for record in history[self._logged.epoch :]:
            before = history[record.epoch - 2] if record.epoch > 1 else None
            values = measure_epoch(record, before, self._run.batch_size)
            self._tracker.log(record.step, values, record.epoch)
            self._logged = dataclasses.replace(self._logged, epoch=record.epoch)

    def conclude(self, scores: Mapping[str, float]) -> None:
        """Log the final scores."""
        with self._until_it_fails():
            if self._tracker is not None:
                self._tracker.conclude(self._last_step, scores)

    def close(self) -> None:
        """End the tracker."""
        with self._until_it_fails():
            if self._tracker is not None:
                self._tracker.close()
        self._tracker = None

    @contextlib.contextmanager
    def _until_it_fails(self) -> Iterator[None]:
        try:
            yield
        # A tracker is other people's code, which may raise anything; a run must not end with it.
        except Exception as error:
            self._tracker = None
            warnings.warn(describe_failure(self._name, error), stacklevel=2)


def measure_epoch(
    record: EpochRecord, before: EpochRecord | None, batch_size: int
) -> dict[str, float]:
    """Return an epoch's values; clips per second by the training clock, as in ``result.json``."""
    values = {"epoch/loss": record.loss, OF_EPOCHS: record.valid_auc}
    if record.valid_ap is not None:
        values["valid/ap"] = record.valid_ap
    steps, seconds = record.step, record.train_s
    if before is not None:
        steps, seconds = steps - before.step, seconds - before.train_s
    # A run that was resumed just before the end of an epoch may have no time of its own in it.
    if seconds > 0:
        values["speed/clips_per_s"] = steps * batch_size / seconds
    return values


def describe_failure(name: TrackerName, error: Exception) -> str:
    """Describe in one line why a tracker failed, and what may help."""
    package, to_install = PACKAGES[name]
    if isinstance(error, ModuleNotFoundError) and error.name == package:
        problem = f"not installed; `pip install {to_install}`, or leave it out"
    elif isinstance(error, UserError):
        problem = str(error)
    else:
        words = str(error).strip().partition("\n")[0] or "no message"
        problem = (
            f"{type(error).__name__}: {words}; free up space and make the folder writable"
            if isinstance(error, OSError)
            else f"{type(error).__name__}: {words}; install another version of {package}"
        ) + ", or leave it out"
    return f"--tracker {name}: {problem}; the run goes on without it (see metrics.jsonl)"


@contextlib.contextmanager
def following(
    names: Sequence[TrackerName], run: TrackedRun, every: int
) -> Iterator[list[Follower]]:
    """Follow a run with trackers; they end with the context.

    Parameters
    ----------
    names
        The trackers.
    run
        What they follow.
    every
        Steps from one record of a step to the next.
    """
    followers = [Follower(name, run, every) for name in dict.fromkeys(names)]
    try:
        yield followers
    finally:
        for follower in followers:
            follower.close()
