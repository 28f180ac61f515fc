"""A run's curves, hyperparameters and final scores for TensorBoard, in ``<run>/tensorboard``.

``tensorboard --logdir OUT`` shows a whole sweep.

A resumed run repeats steps that its last snapshot did not have. What was logged of these is removed
first: the records up to the snapshot are copied to a new file, which takes the place of the old.
TensorBoard's own way, a mark that hides all later steps, cannot hide one of two records of a step:
an epoch that was scored just before a process was killed, but not the step that it ended with.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.summary import hparams

from crnn_jax.files import append, put_in_place
from crnn_jax.trackers.event_files import frame_record, read_records
from crnn_jax.trackers.subscription import OF_EPOCHS, OF_STEPS, Logged, TrackedRun
from crnn_jax.train.progress import EpochRecord

# What every event file begins with.
VERSION = "brain.Event:2"
# Numbered, so that TensorBoard reads a newer file after an older one whatever the clocks say.
NAME = "events.out.tfevents.{:06d}"


class TensorBoard:
    """See `crnn_jax.trackers.subscription.Tracker`."""

    def __init__(self, run: TrackedRun):
        self._run = run

    def begin(self, step: int, history: Sequence[EpochRecord]) -> Logged:
        """Open a new file that begins with what the old one has of the steps so far."""
        folder = self._run.folder / "tensorboard"
        folder.mkdir(parents=True, exist_ok=True)
        before = sorted(folder.glob(NAME.replace("{:06d}", "[0-9]*")))
        # The newest is whole: it takes the place of the others only when it is.
        found = list(_read_events(Path(before[-1]).read_bytes())) if before else []
        last_of_history = history[-1].step if history else 0
        kept, epochs_until = [], 0
        for event in found:
            tags = {value.tag for value in event.summary.value}
            if OF_STEPS in tags and event.step <= step:
                kept.append(event)
            elif OF_EPOCHS in tags and event.step <= last_of_history:
                kept.append(event)
                epochs_until = event.step
        now = time.time()
        head = [Event(wall_time=now, file_version=VERSION)]
        if before:
            # A TensorBoard that is looking at the old file forgets what it has read.
            start = SessionLog(status=SessionLog.START)
            head.append(Event(wall_time=now, step=0, session_log=start))
        number = int(before[-1].name.rpartition(".")[2]) + 1 if before else 1
        path = folder / NAME.format(number)
        # A name that TensorBoard does not take for that of an event file.
        made = folder / ".begun.tmp"
        try:
            made.write_bytes(b"".join(map(_frame, [*head, *kept])))
            put_in_place(made, path)
        finally:
            # Exists only if something failed.
            made.unlink(missing_ok=True)
        for old in before[:-1]:
            old.unlink()
        if before:
            # Emptied, and not removed yet: a TensorBoard that is reading it would go no further.
            before[-1].write_bytes(b"")
        self._file = Path(path).open("ab", buffering=0)  # noqa: SIM115
        epochs = sum(record.step <= epochs_until for record in history)
        return Logged(step=step, epoch=epochs)

    def log(self, step: int, values: Mapping[str, float], epoch: int | None = None) -> None:
        """Append the values of a step or of an epoch, as one record."""
        summary = Summary(
            value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        )
        self._append(step, summary)

    def conclude(self, step: int, scores: Mapping[str, float]) -> None:
        """Append a row of the table of hyperparameters."""
        named = {f"final/{name}": value for name, value in scores.items()}
        for summary in hparams(dict(self._run.settings), named):
            self._append(step, summary)
        self.log(step, named)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _append(self, step: int, summary: Summary) -> None:
        append(self._file, _frame(Event(wall_time=time.time(), step=step, summary=summary)))


def _frame(event: Event) -> bytes:
    return frame_record(event.SerializeToString())


def _read_events(content: bytes) -> Iterator[Event]:
    return map(Event.FromString, read_records(content))
