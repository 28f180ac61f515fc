"""Batches: nothing lost, nothing twice, the same rows however many processes read."""

import contextlib
import dataclasses
import gc
import itertools
import os
import pickle
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
import pytest

from crnn_jax.config import MelConfig, RuntimeConfig, TrainConfig
from crnn_jax.data.batches import count_frames, count_steps, evaluation_batches, training_batches
from crnn_jax.data.prepared import PreparedSet, open_set
from crnn_jax.errors import UserError

CONFIG = TrainConfig(batch_size=10)


def take(data, config, seed, n, **where):
    with contextlib.closing(training_batches(data, config, seed, **where)) as batches:
        return list(itertools.islice(batches, n))


def digest(rows):
    return [hash(row.tobytes()) for row in rows]


def test_an_epoch_has_every_example_at_most_once_and_its_own_order(small_set):
    batches = take(small_set, CONFIG, 0, 8)
    assert count_steps(small_set, CONFIG) == 4  # 48 examples, the last 8 left out
    epochs = [
        [d for batch in batches[start : start + 4] for d in digest(batch["log_mel"])]
        for start in (0, 4)
    ]
    stored = set(digest(example["log_mel"] for example in small_set.source("train")))
    for epoch in epochs:
        assert len(set(epoch)) == 40
        assert set(epoch) <= stored
    assert epochs[0] != epochs[1]


def test_order_is_the_seeds(small_set):
    first, again, other = (
        [digest(batch["log_mel"]) for batch in take(small_set, CONFIG, seed, 4)]
        for seed in (3, 3, 4)
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize("threads", [1, 5])
def test_processes_together_read_what_one_would(small_set, threads):
    whole = take(small_set, CONFIG, 1, 8)
    runtime = RuntimeConfig(read_threads=threads)
    shares = [
        take(small_set, CONFIG, 1, 8, runtime=runtime, process=p, n_processes=2) for p in range(2)
    ]
    for step, batch in enumerate(whole):
        parts = [share[step]["log_mel"] for share in shares]
        np.testing.assert_array_equal(np.concatenate(parts), batch["log_mel"])


@pytest.mark.parametrize(
    ("workers", "where"), [(0, {}), (1, {}), (2, {"process": 1, "n_processes": 2})]
)
def test_reading_goes_on_from_any_batch_whoever_reads(small_set, workers, where):
    runtime = RuntimeConfig(read_workers=workers)
    expected = take(small_set, CONFIG, 0, 7, **where)[3:]
    read = take(small_set, CONFIG, 0, 4, first=3, runtime=runtime, **where)
    for batch, wanted in zip(read, expected, strict=True):
        np.testing.assert_array_equal(batch["log_mel"], wanted["log_mel"])
        np.testing.assert_array_equal(batch["tags"], wanted["tags"])


class Witness(Sequence):
    """A source whose examples say what the process that reads them has done."""

    def __init__(self, source):
        self.source, self.parent = source, os.getpid()

    def __len__(self):
        return len(self.source)

    def __getitem__(self, place):
        from jax._src import xla_bridge

        devices_taken = xla_bridge.backends_are_initialized()
        tags = np.zeros_like(self.source[place]["tags"])
        tags[:3] = os.getpid() == self.parent, devices_taken, "crnn_jax.train.loop" in sys.modules
        return {**self.source[place], "tags": tags}


@dataclasses.dataclass(frozen=True)
class Witnessed(PreparedSet):
    def source(self, split):
        return Witness(super().source(split))


def test_a_worker_takes_no_device(small_set):
    fields = {field.name: getattr(small_set, field.name) for field in dataclasses.fields(small_set)}
    witnessed = Witnessed(**fields)
    runtime = RuntimeConfig(read_workers=1)
    (seen,) = take(witnessed, CONFIG, 0, 1, runtime=runtime)
    assert not seen["tags"].any()
    # An evaluation is too short for processes of its own.
    with contextlib.closing(
        evaluation_batches(witnessed, "test", CONFIG, runtime=runtime)
    ) as batches:
        assert np.all(next(batches)["tags"][:, 0] == 1)


KILLED = """
import sys, time
from crnn_jax.config import RuntimeConfig, TrainConfig
from crnn_jax.data.prepared import open_set
from crnn_jax.data.batches import training_batches

if __name__ == "__main__":
    runtime = RuntimeConfig(read_workers=1)
    config = TrainConfig(batch_size=10)
    batches = training_batches(open_set(sys.argv[1]), config, 0, runtime=runtime)
    next(batches)
    print("reading", flush=True)
    time.sleep(600)
"""


def test_workers_end_with_a_parent_that_is_killed(small_set, tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    process = subprocess.Popen(
        [sys.executable, script, small_set.path], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "reading\n"
    workers = psutil.Process(process.pid).children(recursive=True)
    # Python's own tracker of what is shared is one of them.
    assert len(workers) == 2
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert not alive


def test_a_worker_that_is_killed_is_told(small_set):
    runtime = RuntimeConfig(read_workers=1)
    with contextlib.closing(training_batches(small_set, CONFIG, 0, runtime=runtime)) as batches:
        next(batches)
        for child in psutil.Process().children():
            if "spawn_main" in " ".join(child.cmdline()):
                child.kill()
        with pytest.raises(UserError, match="read_workers 1: a process .* was killed"):
            list(batches)


def test_evaluation_reads_all_in_order_and_the_short_last_batch(small_set):
    batches = list(evaluation_batches(small_set, "test", dataclasses.replace(CONFIG, batch_size=7)))
    assert [len(batch["tags"]) for batch in batches] == [7, 7, 4]
    stored = np.stack([example["log_mel"] for example in small_set.source("test")])
    np.testing.assert_array_equal(np.concatenate([b["log_mel"] for b in batches]), stored)


def test_clip_seconds_keeps_the_centre(small_set):
    config = dataclasses.replace(CONFIG, clip_seconds=2.5)
    batch = next(evaluation_batches(small_set, "test", config))
    frames = 1 + 30_000 // 256
    assert batch["log_mel"].shape == (10, 96, frames)
    whole = small_set.source("test")[0]["log_mel"]
    before = (whole.shape[1] - frames) // 2
    np.testing.assert_array_equal(batch["log_mel"][0], whole[:, before : before + frames])


def test_max_examples_takes_the_first(small_set):
    config = dataclasses.replace(CONFIG, max_examples=20)
    batches = take(small_set, config, 0, 2)
    assert count_steps(small_set, config) == 2
    first = [small_set.source("train")[i]["log_mel"] for i in range(20)]
    assert sorted(d for b in batches for d in digest(b["log_mel"])) == sorted(digest(first))


def test_a_batch_larger_than_the_split_is_refused(small_set):
    with pytest.raises(UserError, match="batch_size 49.*48 examples"):
        count_steps(small_set, dataclasses.replace(CONFIG, batch_size=49))


@pytest.mark.parametrize("seconds", [0.5, 29.5, -1.0])
def test_clip_seconds_outside_of_what_there_is_are_refused(seconds):
    with pytest.raises(UserError, match="clip_seconds"):
        count_frames(MelConfig(), seconds)
    assert count_frames(MelConfig(), 29.12) == count_frames(MelConfig(), None) == 1366


def open_files(folder):
    """Files of a folder that this process has open, once for each time."""
    for descriptor in Path("/proc/self/fd").iterdir():
        # The listing itself has one, which is gone.
        with contextlib.suppress(FileNotFoundError):
            path = descriptor.readlink()
            if path.is_relative_to(folder):
                yield path.name


@pytest.fixture
def folder(small_set, tmp_path):
    """A set of the test's own: one that nobody else has open, and that may be damaged."""
    return shutil.copytree(small_set.path, tmp_path / "set")


@pytest.fixture
def uncollected():
    """Without the garbage collector, which would hide what is not let go of."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def wait_for_others(than):
    """Wait until the threads have ended that were not there before."""
    for thread in set(threading.enumerate()) - than:
        thread.join(timeout=30)
        assert not thread.is_alive()


@pytest.mark.usefixtures("uncollected")
def test_each_shard_is_opened_once_and_closed_with_the_set(folder):
    before = set(threading.enumerate())
    data = open_set(folder)
    for seed in range(3):
        take(data, CONFIG, seed, 4)
        for split in ("valid", "test"):
            with contextlib.closing(evaluation_batches(data, split, CONFIG)) as batches:
                assert len(list(batches)) > 0
    shards = sorted(path.name for path in folder.glob("*.array_record*"))
    assert sorted(open_files(folder)) == shards
    assert len(shards) == 11
    # What another process is given has none of them.
    other = pickle.loads(pickle.dumps(data))
    assert other == data
    del data
    wait_for_others(before)
    gc.collect()
    assert list(open_files(folder)) == []
    assert other.source("test")[0]["track_id"] == open_set(folder).source("test")[0]["track_id"]


def emptied(path):
    os.truncate(path, 0)


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def changed(path):
    content = bytearray(path.read_bytes())
    for place in range(0, len(content), 1000):
        content[place] ^= 0xFF
    with path.open("r+b") as file:
        file.write(content)


def another(path):
    # Of fewer examples.
    shutil.copy(path.with_name("synthetic-test.array_record-00002-of-00003"), path)


@pytest.mark.parametrize(
    ("damage", "while_open"),
    # What is open can be read though it has no name any more.
    [(Path.unlink, False), *itertools.product([emptied, cut, changed, another], [False, True])],
)
def test_a_shard_that_cannot_be_read_is_named(folder, damage, while_open):
    shard = folder / "synthetic-train.array_record-00001-of-00006"
    source = open_set(folder).source("train")
    if while_open:
        source[8]
    damage(shard)
    with pytest.raises(UserError) as raised:
        list(map(source.__getitem__, range(8, 16)))
    assert str(raised.value).startswith(f"{shard}: ")
    assert "\n" not in str(raised.value)
    # The others are whole.
    for place in (*range(8), *range(16, 48)):
        source[place]


def test_a_source_is_a_sequence(small_set):
    source = small_set.source("test")
    assert source[-1]["track_id"] == source[17]["track_id"] == list(source)[17]["track_id"]
    with pytest.raises(IndexError):
        source[18]
