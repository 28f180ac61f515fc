"""Files and folders that are complete or absent, even after a kill, a full disk or a power cut."""

import errno
import io
import os
import uuid

from etils import epath

from crnn_jax.locks import on_disk


def write_file(path: epath.Path, content: bytes) -> None:
    """Write a file atomically: it has either its old or its new content, never a part."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_bytes(content)
        put_in_place(temporary, path)
    finally:
        # Exists only if something failed.
        temporary.unlink(missing_ok=True)


def append(file: io.RawIOBase, content: bytes) -> None:
    """Write to a file without a buffer: what is written outlives the process, if not the machine.

    An error of the disk closes the file, whose last part may then be cut short.
    """
    left = memoryview(content)
    try:
        while left:
            left = left[file.write(left) :]
    except OSError:
        file.close()
        raise


def put_in_place(made: epath.Path, path: epath.Path) -> None:
    """Move a finished file or folder to its final name.

    On a local disk its contents are flushed before the rename, and the rename before this returns.
    Otherwise a power cut could leave an empty file under the name, or preserve a later rename
    without this one.
    """
    if not on_disk(path):
        made.replace(path)
        return
    for part in sorted(made.iterdir()) if made.is_dir() else ():
        _bring_to_disk(part)
    _bring_to_disk(made)
    made.replace(path)
    _bring_to_disk(path.parent)


def _bring_to_disk(path: epath.Path) -> None:
    """Flush a file's bytes, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some file systems, mostly network ones, do not support this for a folder.
        if error.errno != errno.EINVAL or not path.is_dir():
            raise
    finally:
        os.close(descriptor)
