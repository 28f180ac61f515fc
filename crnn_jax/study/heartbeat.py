"""Signs of life of a run, for those who watch from outside: ``progress.json``."""

import contextlib
import dataclasses
import json
import math
import os
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any

from etils import epath

from crnn_jax.config import HEARTBEAT_SECONDS, TrainConfig
from crnn_jax.files import write_file
from crnn_jax.train.events import EpochDone, OnTrainEvent, StepDone, TrainEvent

FILE = "progress.json"


@dataclasses.dataclass(frozen=True)
class Heartbeat:
    """How far a run is: the content of ``progress.json``.

    Attributes
    ----------
    host, pid
        The process that trains it, or the first of several.
    epochs
        Largest number of epochs.
    epoch, step, steps_per_epoch
        Finished epochs, and steps of the present one; None before the first step.
    loss
        Of the last step.
    valid_auc
        After the last finished epoch.
    samples_per_s
        Training speed since the last beat in which steps ended.
    seconds_left
        Estimate of the time to the end of the last epoch, in s.
    """

    host: str
    pid: int
    epochs: int
    epoch: int = 0
    step: int | None = None
    steps_per_epoch: int | None = None
    loss: float | None = None
    valid_auc: float | None = None
    samples_per_s: float | None = None
    seconds_left: float | None = None


def read_heartbeat(run: epath.Path) -> tuple[Heartbeat, float] | None:
    """Read a run's last sign of life, and the time of the file in s since 1970.

    None if there is none, or it is another version's.
    """
    path = run / FILE
    try:
        values: dict[str, Any] = json.loads(path.read_text())
        return Heartbeat(**values), path.stat().mtime
    except (OSError, ValueError, TypeError):
        return None


@contextlib.contextmanager
def beating(
    run: epath.Path, train: TrainConfig, interval: float = HEARTBEAT_SECONDS
) -> Iterator[OnTrainEvent]:
    """Keep a run's ``progress.json`` up to date; yield the function to call with its events.

    A thread writes the file, so that compiling or reading a large set, in which nothing is
    reported, does not look like a dead process. The file is deleted at the end; that of a process
    that was killed remains, and gets old.
    """
    beat, ended, path = _Beat(train), threading.Event(), run / FILE
    has_warned = False

    def write() -> None:
        nonlocal has_warned
        try:
            write_file(path, json.dumps(dataclasses.asdict(beat.now())).encode())
        # Whatever a disk or an object store raises: what must be kept stops the run elsewhere.
        except Exception as error:
            if not has_warned:
                warnings.warn(f"{path}: {error}; `crnn-jax watch` will not see it", stacklevel=2)
            has_warned = True

    def go_on() -> None:
        while not ended.wait(interval):
            write()

    # The first one before anything happens, whatever the thread is given to do.
    write()
    thread = threading.Thread(target=go_on, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield beat.follow
    finally:
        ended.set()
        thread.join()
        # It gets old by itself, too.
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


class _Beat:
    """What the events so far say."""

    def __init__(self, train: TrainConfig):
        self._train = train
        self._lock = threading.Lock()
        self._state = Heartbeat(socket.gethostname(), os.getpid(), train.epochs)
        # When the first step of this process ended, and which part of the run was done then.
        self._began: tuple[float, float] | None = None
        # Training time at the last epoch's end, and when that was.
        self._trained = (0.0, time.monotonic())
        # When and at which step the speed was measured last.
        self._mark: tuple[float, int] | None = None
        self._last: tuple[float, int] | None = None

    def follow(self, event: TrainEvent) -> None:
        """Take note of an event."""
        with self._lock:
            match event:
                case EpochDone(history):
                    self._state = dataclasses.replace(
                        self._state,
                        epoch=len(history),
                        valid_auc=history[-1].valid_auc,
                        step=None if self._state.step is None else 0,
                    )
                    self._trained = (history[-1].train_s, time.monotonic())
                    # Evaluation is not part of the speed.
                    self._mark = self._last = None
                case StepDone():
                    self._state = dataclasses.replace(
                        self._state,
                        epoch=event.epoch,
                        step=event.step,
                        steps_per_epoch=event.steps_per_epoch,
                        # JSON has no word for what is not finite.
                        loss=event.loss if math.isfinite(event.loss) else None,
                    )
                    self._last = (time.monotonic(), event.steps_so_far)
                    self._mark = self._mark or self._last
                    if self._began is None:
                        self._began = (self._last[0], self._fraction())

    def _fraction(self) -> float:
        """Return which part of the run is done."""
        state = self._state
        within = (state.step or 0) / (state.steps_per_epoch or 1)
        return min(1.0, (state.epoch + within) / state.epochs)

    def now(self) -> Heartbeat:
        """Return how far the run is, with its speed since the last call."""
        with self._lock:
            if self._mark and self._last and self._last[1] > self._mark[1]:
                (since, before), (until, after) = self._mark, self._last
                speed = (after - before) * self._train.batch_size / max(until - since, 1e-9)
                self._state = dataclasses.replace(self._state, samples_per_s=speed)
                self._mark = self._last
            self._state = dataclasses.replace(self._state, seconds_left=self._seconds_left())
            return self._state

    def _seconds_left(self) -> float | None:
        if self._began is None:
            return None
        (began, before), now = self._began, time.monotonic()
        done, limit = self._fraction(), self._train.max_train_seconds
        estimates = []
        if done > before:
            estimates.append((now - began) * (1 - done) / (done - before))
        if limit is not None:
            trained, at = self._trained
            estimates.append(max(0.0, limit - trained - (now - max(at, began))))
        return min(estimates, default=None)
