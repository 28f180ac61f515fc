"""Random access to the clips of a split on disk, without copying them on the way.

A record is a serialised ``tf.train.Example``, which TFDS writes and can read. Its own decoding
copies a clip three times, in Python and under its lock; here a clip is a view of the record's
bytes, and the only copy is the one into the batch.
"""

import bisect
import errno
import itertools
import os
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from crnn_jax.errors import UserError

# Tags of the two fields of a message whose content has a length (Protocol Buffers, "Encoding"):
# field number × 8 + 2.
FIRST_FIELD, SECOND_FIELD = 0x0A, 0x12
NOT_A_CLIP = "a record is not one of a clip"


class Records(Sequence[dict[str, Any]]):
    """Random access to the examples of a split.

    A shard's file is opened when the first of its examples is read, and stays open as long as this
    object exists. A copy in another process starts with no file open. Arrays of an example are
    read-only views of its record.

    Parameters
    ----------
    records
        TFDS's data source of the split, of bytes.
    shards
        Files of the shards, in the order of the examples.
    shard_lengths
        Number of examples in each shard.
    shape
        Mel bands and frames of a log-mel.
    n_tags
        Number of tags.
    """

    def __init__(
        self,
        records: Sequence[bytes],
        shards: Sequence[str],
        shard_lengths: Sequence[int],
        shape: tuple[int, int],
        n_tags: int,
    ):
        self._records = records
        self.shards = tuple(shards)
        self._ends = tuple(itertools.accumulate(shard_lengths))
        self._shape, self._n_tags = shape, n_tags

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, place: int) -> dict[str, Any]:  # type: ignore[override]
        place = range(len(self))[place]
        try:
            fields = read_fields(self._records[place])
            return {
                "log_mel": np.frombuffer(fields["log_mel"], np.float16).reshape(self._shape),
                "tags": np.frombuffer(fields["tags"], np.uint8).reshape(self._n_tags),
                "track_id": bytes(fields["track_id"]),
            }
        # ArrayRecord's errors for a file that it cannot open or read, and those of a record of
        # another form; records behind the end of a truncated file are read as empty.
        except (RuntimeError, ValueError, KeyError) as error:
            shard = self.shards[bisect.bisect_right(self._ends, place)]
            (words, *_) = re.split("[;\n]", str(error), maxsplit=1)
            if os.strerror(errno.EMFILE) in words:
                raise UserError(
                    f"{shard}: too many open files; allow more (`ulimit -n`)"
                ) from error
            raise UserError(
                f"{shard}: cannot be read ({words}); restore it, or delete its folder and prepare "
                f"the set again"
            ) from error


def read_fields(record: bytes) -> dict[str, memoryview]:
    """Return the bytes of each feature of a serialised ``tf.train.Example``, without a copy.

    Its messages are nested: example, features, and for each feature a pair of its name and its
    value, which is a list of one string of bytes.

    Raises
    ------
    ValueError
        If the record is not such a message.
    """
    fields = {}
    (features,) = _contents(memoryview(record), FIRST_FIELD)
    for _, feature in _parts(features):
        name, value = _contents(feature, FIRST_FIELD, SECOND_FIELD)
        (bytes_list,) = _contents(value, FIRST_FIELD)
        (content,) = _contents(bytes_list, FIRST_FIELD)
        fields[str(name, "utf-8")] = content
    return fields


def _contents(message: memoryview, *tags: int) -> list[memoryview]:
    """Return the contents of a message's fields, which must be these."""
    parts = _parts(message)
    if tuple(tag for tag, _ in parts) != tags:
        raise ValueError(NOT_A_CLIP)
    return [content for _, content in parts]


def _parts(message: memoryview) -> list[tuple[int, memoryview]]:
    """Return tag and content of each field of a message."""
    parts = []
    place, end = 0, len(message)
    while place < end:
        tag = message[place]
        length, shift, byte = 0, 0, 0x80
        # A number is stored in groups of seven bits, the lowest first; the eighth bit of a byte
        # says that another group follows.
        while byte & 0x80:
            place += 1
            if place == end:
                raise ValueError(NOT_A_CLIP)
            byte = message[place]
            length |= (byte & 0x7F) << shift
            shift += 7
        start = place + 1
        place = start + length
        if place > end:
            raise ValueError(NOT_A_CLIP)
        parts.append((tag, message[start:place]))
    return parts
