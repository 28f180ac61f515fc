"""Records: what TFDS wrote is read as TFDS reads it, and nothing else is taken for a clip."""

import contextlib
import dataclasses
import itertools
from pathlib import Path

import numpy as np
import psutil
import pytest
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from etils import epath
from hypothesis import given
from hypothesis import strategies as st

from crnn_jax.config import TrainConfig
from crnn_jax.data.batches import (
    StoredPlaces,
    clips_on_disk,
    load_clips,
    shuffle_places,
    training_batches,
)
from crnn_jax.data.memory import VERSIONS, available_memory
from crnn_jax.data.prepared import open_set
from crnn_jax.data.records import read_fields

BYTES = tfds.core.decode.DeserializeMethod.RAW_BYTES


def test_examples_are_those_that_tfds_decodes(small_set):
    builder = tfds.builder_from_directory(small_set.path)
    for split in small_set.n_examples:
        decoded = builder.as_data_source(split)
        for ours, expected in zip(small_set.source(split), decoded, strict=True):
            assert ours.keys() == expected.keys()
            for name in ("log_mel", "tags"):
                assert ours[name].dtype == expected[name].dtype
                np.testing.assert_array_equal(ours[name], expected[name])
            assert ours["track_id"] == expected["track_id"]


def test_a_clip_is_not_copied_out_of_its_record(small_set):
    builder = tfds.builder_from_directory(small_set.path)
    record = builder.as_data_source("test", deserialize_method=BYTES)[0]
    whole = np.frombuffer(record, np.uint8)
    for content in read_fields(record).values():
        assert np.shares_memory(np.frombuffer(content, np.uint8), whole)


def test_sets_with_compressed_records_are_read(small_set, tmp_path):
    """Sets that were prepared before records were stored as they are."""
    for file in epath.Path(small_set.path).iterdir():
        file.copy(tmp_path / file.name)
    builder = tfds.builder_from_directory(small_set.path)
    records = iter(builder.as_data_source("test", deserialize_method=BYTES))
    sizes = []
    for shard in builder.info.splits["test"].file_instructions:
        path = tmp_path / epath.Path(shard.filename).name
        sizes.append(path.stat().st_size)
        writer = ArrayRecordWriter(str(path), "group_size:1")
        for _ in range(shard.examples_in_shard):
            writer.write(next(records))
        writer.close()
        assert path.stat().st_size < sizes[-1]
    for ours, expected in zip(
        open_set(tmp_path).source("test"), small_set.source("test"), strict=True
    ):
        np.testing.assert_array_equal(ours["log_mel"], expected["log_mel"])


def tf_example(fields):
    """Return a serialised tf.train.Example; its lengths are all below 128."""

    def message(tag, content):
        return bytes([tag, len(content)]) + content

    features = b"".join(
        message(10, message(10, name.encode()) + message(18, message(10, message(10, value))))
        for name, value in fields.items()
    )
    return message(10, features)


# A record of three fields, short enough that a change of a byte meets all of its parts.
SMALL = tf_example({"log_mel": b"0123", "tags": b"\x01", "track_id": b"a/b"})


@given(st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.integers(0, 255)), max_size=3))
def test_a_damaged_record_is_refused_or_holds_bytes_of_its_own(changes):
    """Never a crash, an endless loop, or memory beyond the record."""
    record = bytearray(SMALL)
    for place, value in changes:
        record[place] = value
    try:
        fields = read_fields(bytes(record))
    except ValueError:
        return
    for content in fields.values():
        assert bytes(content) in bytes(record)


def test_the_small_record_is_read():
    fields = {name: bytes(content) for name, content in read_fields(SMALL).items()}
    assert fields == {"log_mel": b"0123", "tags": b"\x01", "track_id": b"a/b"}


@given(st.data())
def test_a_cut_record_is_refused(small_set, data):
    builder = tfds.builder_from_directory(small_set.path)
    record = builder.as_data_source("test", deserialize_method=BYTES)[0]
    length = data.draw(st.integers(0, len(record) - 1))
    with pytest.raises(ValueError, match="not one of a clip"):
        read_fields(record[:length])


@pytest.mark.parametrize("max_examples", [None, 20])
def test_batches_are_the_clips_of_their_places(small_set, max_examples):
    config = TrainConfig(batch_size=10, max_examples=max_examples)
    n_steps = (max_examples or 48) // 10
    decoded = tfds.builder_from_directory(small_set.path).as_data_source("train")
    for read in (None, load_clips(small_set, "train", config)):
        with contextlib.closing(training_batches(small_set, config, 3, read=read)) as reader:
            batches = list(itertools.islice(reader, 2 * n_steps))
        for number, batch in enumerate(batches):
            epoch, step = divmod(number, n_steps)
            places = shuffle_places(max_examples or 48, 3, epoch)[10 * step : 10 * step + 10]
            for name in ("log_mel", "tags"):
                expected = np.stack([decoded[int(place)][name] for place in places])
                assert batch[name].dtype == expected.dtype
                np.testing.assert_array_equal(batch[name], expected)


@given(
    n_examples=st.integers(1, 200),
    seed=st.integers(0, 2**63),
    epoch=st.integers(0, 10_000),
)
def test_an_epochs_order_is_a_permutation_of_its_own(n_examples, seed, epoch):
    order = shuffle_places(n_examples, seed, epoch)
    assert sorted(order) == list(range(n_examples))
    np.testing.assert_array_equal(order, shuffle_places.__wrapped__(n_examples, seed, epoch))
    if n_examples > 30:
        for other in ((seed + 1, epoch), (seed, epoch + 1)):
            assert order.tolist() != shuffle_places(n_examples, *other).tolist()


@given(
    n_examples=st.integers(1, 60),
    rows=st.integers(1, 7),
    n_processes=st.integers(1, 4),
)
def test_processes_together_take_every_place_once(n_examples, rows, n_processes):
    batch_size = rows * n_processes
    parts = [StoredPlaces(n_examples, batch_size, p, n_processes) for p in range(n_processes)]
    assert len({len(part) for part in parts}) == 1
    taken = [place for number in range(len(parts[0])) for part in parts for place in part[number]]
    assert taken == list(range(n_examples))


def test_clips_are_loaded_once_for_all_cells(small_set):
    data = open_set(small_set.path)
    config = TrainConfig(clip_seconds=2.5)
    first = load_clips(data, "valid", config)
    assert load_clips(data, "valid", dataclasses.replace(config, batch_size=4)) is first
    assert load_clips(data, "valid", TrainConfig()) is not first
    places = np.array([3, 0, 3])
    from_disk = clips_on_disk(data, "valid", config)(places)
    for name, values in first(places).items():
        np.testing.assert_array_equal(values, from_disk[name])


def write_group(folder, names, limit, used, cached=0):
    limit_file, used_file, cached_field = names
    folder.mkdir(parents=True, exist_ok=True)
    (folder / limit_file).write_text(f"{limit}\n")
    (folder / used_file).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{cached_field} {cached}\n")


@pytest.mark.parametrize(
    ("names", "line", "mount"),
    [
        (VERSIONS[0], "0::/slurm/job_7/step_0", ""),
        (VERSIONS[1], "4:memory:/slurm/job_7/step_0", "memory"),
    ],
)
def test_limits_of_a_process_s_groups(tmp_path, names, line, mount):
    own, job = tmp_path / "cgroup", tmp_path / mount / "slurm" / "job_7"
    own.write_text(f"9:pids:/other\n{line}\n")
    of_machine = psutil.virtual_memory().available

    def available():
        return available_memory(tmp_path, own)

    # No limits are visible, as in most containers.
    assert available() == pytest.approx(of_machine, rel=0.5)
    write_group(job, names, 10_000, 3000)
    assert available() == 7000
    # Files that the system only keeps until it needs their memory.
    write_group(job, names, 10_000, 3000, cached=1000)
    assert available() == 8000
    write_group(job, names, 2000, 3000)
    assert available() == 0
    write_group(job, names, "max" if mount == "" else 2**63 - 4096, 3000)
    assert available() == pytest.approx(of_machine, rel=0.5)
    # The narrowest of all groups around it; and inside of a container, that of its mount.
    write_group(job / "step_0", names, 5000, 1000)
    assert available() == 4000
    write_group(tmp_path / mount, names, 3000, 1000)
    assert available() == 2000


def test_this_machine_has_memory():
    assert 0 < available_memory() <= psutil.virtual_memory().total
    assert available_memory(own=Path("/nowhere")) > 0
