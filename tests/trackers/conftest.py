"""A small study that trackers follow, and readers of what they wrote."""

import dataclasses
import os
import shutil
import signal
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from etils import epath

from crnn_jax.config import RuntimeConfig, SweepConfig
from crnn_jax.data.prepared import PreparedSet
from crnn_jax.signals import Terminated
from crnn_jax.study import events
from crnn_jax.study.sweep import sweep
from crnn_jax.train.events import StepDone
from tests.commands import STUDY, numbers, snapshots

# Three epochs of six steps.
CELL = "conv1d-4000-uniform-seed0"


def tracked(*trackers: str, every: int = 1, epochs: int = 3) -> SweepConfig:
    """The study of one cell, with trackers."""
    return dataclasses.replace(
        STUDY,
        train=dataclasses.replace(STUDY.train, epochs=epochs),
        runtime=RuntimeConfig(tracker=trackers, tracker_steps=every),
    )


def often(study: SweepConfig) -> SweepConfig:
    """The same with a snapshot after every step."""
    runtime = dataclasses.replace(study.runtime, checkpoint_seconds=0.0)
    return dataclasses.replace(study, runtime=runtime)


def read_curves(run: Path | epath.Path) -> dict[str, list[tuple[int, float]]]:
    """All points of all event files, as they are there: nothing is hidden or made one."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(Path(run, "tensorboard").iterdir()):
        for event in read_event_file(path):
            for value in event.summary.value:
                if not value.tag.startswith("_hparams_"):
                    curves.setdefault(value.tag, []).append((event.step, value.simple_value))
    return curves


def read_event_file(path: Path) -> Iterator:
    """The messages of a file, by the description of the format, with both checksums."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import masked_crc32c

    with path.open("rb") as file:
        while head := file.read(12):
            length, checksum = struct.unpack("<QI", head)
            assert masked_crc32c(head[:8]) == checksum
            data = file.read(length)
            assert struct.unpack("<I", file.read(4)) == (masked_crc32c(data),)
            yield Event.FromString(data)


def without_times(curves: dict[str, list[tuple[int, float]]]) -> dict:
    """What two runs have in common."""
    return {tag: points for tag, points in curves.items() if tag not in TIMES}


TIMES = ("speed/clips_per_s", "final/train_s")


@pytest.fixture(scope="session")
def plain(small_set: PreparedSet, tmp_path_factory: pytest.TempPathFactory) -> epath.Path:
    """The study without a tracker."""
    out = epath.Path(tmp_path_factory.mktemp("plain"))
    assert sweep(tracked(), small_set, out) == []
    return out


@pytest.fixture(scope="session")
def whole(small_set: PreparedSet, tmp_path_factory: pytest.TempPathFactory) -> epath.Path:
    """The study with TensorBoard's tracker, never stopped."""
    out = epath.Path(tmp_path_factory.mktemp("whole"))
    assert sweep(tracked("tensorboard"), small_set, out) == []
    return out


def interrupt(study: SweepConfig, data: PreparedSet, out: epath.Path, *, step: int) -> None:
    """Run a study until SIGTERM arrives in the second epoch, then lose the newest snapshots.

    As if the process had been killed some steps after its last snapshot.
    """

    def stop(event: events.SweepEvent) -> None:
        match event:
            case events.CellProgress(_, StepDone(epoch=1, step=done), _) if done == step:
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Terminated):
        sweep(often(study), data, out, on_event=stop)
    checkpoints = Path(out, CELL, "checkpoints")
    _, *newer = snapshots(Path(out, CELL))
    assert newer
    for number in newer:
        shutil.rmtree(checkpoints / str(number))


def same_numbers(out: epath.Path, plain: epath.Path) -> bool:
    """Whether two runs have the same result, apart from times."""
    return numbers(Path(out, CELL)) == numbers(Path(plain, CELL))


def of_trackers(warnings: Iterable) -> list[str]:
    """What was said of trackers: `pytest.warns` also has what is otherwise not shown."""
    lines = [str(warning.message) for warning in warnings]
    return [line for line in lines if "--tracker" in line]


def float32(value: float) -> float:
    """A number as an event file has it."""
    return float(np.float32(value))
