"""Event files of TensorBoard: records one after the other, each with its length and checksums.

They are written here, and not by tensorboardX's writer, whose thread ends with the first error of
the disk: a run would then wait forever for room in its queue. tensorboardX has the messages and the
checksum.
"""

import struct
from collections.abc import Iterator

from tensorboardX.record_writer import masked_crc32c

LENGTH, CHECKSUM = struct.Struct("<Q"), struct.Struct("<I")


def frame_record(data: bytes) -> bytes:
    """Return a record as it is in a file."""
    length = LENGTH.pack(len(data))
    checksums = [CHECKSUM.pack(masked_crc32c(part)) for part in (length, data)]
    return length + checksums[0] + data + checksums[1]


def read_records(content: bytes) -> Iterator[bytes]:
    """Read the records of a file, up to the first that is not whole.

    A process that is killed, or a full disk, may leave the last one cut short; a power cut may
    leave zeros in its place.
    """
    start = 0
    while start + LENGTH.size <= len(content):
        (length,) = LENGTH.unpack_from(content, start)
        data = content[start + LENGTH.size + CHECKSUM.size :][:length] if length else b""
        record = frame_record(data)
        if content[start : start + len(record)] != record:
            return
        yield data
        start += len(record)
