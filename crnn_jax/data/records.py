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
        self._records, self._length = records, len(records)
        self.shards = tuple(shards)
        self._ends = tuple(itertools.accumulate(shard_lengths))
        self._shape, self._n_tags = shape, n_tags

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, place: int) -> dict[str, Any]:  # type: ignore[override]
        place = range(self._length)[place]
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
    content = memoryview(record)
    try:
        place, end = _content(record, 0, FIRST_FIELD)
        while place < end:
            feature, feature_end = _content(record, place, FIRST_FIELD)
            name, name_end = _content(record, feature, FIRST_FIELD)
            value, value_end = _content(record, name_end, SECOND_FIELD)
            bytes_list, list_end = _content(record, value, FIRST_FIELD)
            start, stop = _content(record, bytes_list, FIRST_FIELD)
            if not stop == list_end == value_end == feature_end:
                raise ValueError(NOT_A_CLIP)
            fields[str(content[name:name_end], "utf-8")] = content[start:stop]
            place = feature_end
    except IndexError as error:
        raise ValueError(NOT_A_CLIP) from error
    if not place == end == len(record):
        raise ValueError(NOT_A_CLIP)
    return fields


def _content(message: bytes, place: int, tag: int) -> tuple[int, int]:
    """Return where the content of the field at a place starts and ends; the tag is checked."""
    if message[place] != tag:
        raise ValueError(NOT_A_CLIP)
    # A length is stored in groups of seven bits, the lowest first; the eighth bit of a byte says
    # that another group follows.
    place += 1
    byte = message[place]
    length, shift = byte & 0x7F, 7
    while byte & 0x80:
        place += 1
        byte = message[place]
        length |= (byte & 0x7F) << shift
        shift += 7
    return place + 1, place + 1 + length
