"""Make one shard of a set: consecutive tracks, either complete on the disk or not there."""

import contextlib
import dataclasses
import json
import os
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter
from etils import epath
from jaxtyping import Float
from tensorflow_datasets.core import example_serializer

from crnn_jax.audio.files import AudioError
from crnn_jax.audio.log_mel import log_mel
from crnn_jax.config import MelConfig
from crnn_jax.data.collection import Track
from crnn_jax.data.description import features
from crnn_jax.errors import DISK_ERRORS
from crnn_jax.files import put_in_place, write_file


@dataclasses.dataclass(frozen=True)
class Rejected:
    """A file that could not be used, and why: a row of ``rejected.csv``."""

    split: str
    track_id: str
    path: str
    reason: str
    message: str


@dataclasses.dataclass(frozen=True)
class ShardTask:
    """A shard to be made: everything that a process, here or elsewhere, needs to make it."""

    read: Callable[[Track], Float[np.ndarray, "samples"]]
    mel: MelConfig
    n_tags: int
    split: str
    tracks: tuple[Track, ...]
    path: str


@dataclasses.dataclass(frozen=True)
class ShardResult:
    """The description of a finished shard."""

    split: str
    path: str
    n_examples: int
    n_bytes: int
    tag_counts: tuple[int, ...]
    rejected: tuple[Rejected, ...]


# Makes all shards of the tasks and yields their results as they finish, in any order.
Engine = Callable[[Sequence[ShardTask]], Iterator[ShardResult]]


def make_shard(task: ShardTask) -> ShardResult:
    """Decode the tracks of a shard and write their records; unusable tracks are left out.

    The record file and then its result are moved into place when they are complete and on the disk,
    so a shard with a result is complete. A shard that exists already is not made again.
    """
    path = epath.Path(task.path)
    finished = finished_shard(path)
    if finished is not None and not _usable_by_now(task, finished):
        return finished
    # A cluster may run one task on two machines at once: the last one writes the same bytes again.
    temporary = result_path(path).with_suffix(f".{uuid.uuid4().hex}.tmp")
    try:
        if "://" not in task.path:
            with _disk_errors(temporary):
                result = _write_records(task, temporary)
        else:
            with tempfile.TemporaryDirectory() as folder:
                # ArrayRecord only writes local files.
                written = epath.Path(folder) / path.name
                with _disk_errors(written):
                    result = _write_records(task, written)
                written.copy(temporary)
        put_in_place(temporary, path)
        write_file(result_path(path), json.dumps(dataclasses.asdict(result)).encode())
    finally:
        # Exists only if something failed.
        temporary.unlink(missing_ok=True)
    return result


@contextlib.contextmanager
def _disk_errors(path: epath.Path) -> Iterator[None]:
    """Raise ArrayRecord's errors about the disk as `OSError`, with only the system's message."""
    try:
        yield
    except RuntimeError as error:
        for code in DISK_ERRORS:
            if os.strerror(code) in str(error):
                raise OSError(code, os.strerror(code), os.fspath(path.parent)) from error
        raise


def _write_records(task: ShardTask, path: epath.Path) -> ShardResult:
    shape = features(task.mel, task.n_tags)
    serializer = example_serializer.ExampleSerializer(shape.get_serialized_info())
    # One record per group: records are read in random order. Not compressed: that takes three times
    # as long to read, and saves a fifth of the disk.
    writer = ArrayRecordWriter(os.fspath(path), "group_size:1,uncompressed")
    n_examples, n_bytes = 0, 0
    tag_counts = np.zeros(task.n_tags, int)
    rejected = []
    for track in task.tracks:
        try:
            clip = task.read(track)
        except AudioError as error:
            rejected.append(
                Rejected(task.split, track.track_id, track.source, error.reason, str(error))
            )
            continue
        tags = np.zeros(task.n_tags, np.uint8)
        tags[list(track.tags)] = 1
        example = {
            "log_mel": log_mel(clip, task.mel).astype(np.float16),
            "tags": tags,
            "track_id": track.track_id,
        }
        # The fields of a record are a map, whose order would otherwise differ between processes.
        record = serializer.get_tf_example(shape.encode_example(example)).SerializeToString(
            deterministic=True
        )
        writer.write(record)
        n_examples += 1
        n_bytes += len(record)
        tag_counts += tags
    writer.close()
    counts = tuple(int(count) for count in tag_counts)
    return ShardResult(task.split, task.path, n_examples, n_bytes, counts, tuple(rejected))


def finished_shard(path: epath.Path) -> ShardResult | None:
    """Read the result of a shard; None if it does not exist or is incomplete."""
    stored = result_path(path)
    if not stored.exists():
        return None
    try:
        return _result_from_json(stored.read_text())
    except (ValueError, KeyError, TypeError):
        # After a power cut, or from a damaged disk.
        return None


def result_path(shard: epath.Path) -> epath.Path:
    """Return the path of a shard's result: next to the folder that becomes the set's."""
    return shard.parent.parent / f"{shard.stem}.json"


def _usable_by_now(task: ShardTask, finished: ShardResult) -> bool:
    """Return whether a file that was rejected in an earlier attempt has been fixed since."""
    rejected = {row.track_id for row in finished.rejected}
    for track in task.tracks:
        if track.track_id in rejected:
            try:
                task.read(track)
            except AudioError:
                continue
            return True
    return False


def _result_from_json(text: str) -> ShardResult:
    values = json.loads(text)
    values["tag_counts"] = tuple(values["tag_counts"])
    values["rejected"] = tuple(Rejected(**rejected) for rejected in values["rejected"])
    return ShardResult(**values)
