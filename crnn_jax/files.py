"""Files and folders that are there whole or not at all: after a kill, a full disk, a power cut."""

import errno
import os
import uuid

from etils import epath

from crnn_jax.locks import on_disk


def write_file(path: epath.Path, content: bytes) -> None:
    """Write a file so that it is either the old one or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_bytes(content)
        put_in_place(temporary, path)
    finally:
        # There only if something failed.
        temporary.unlink(missing_ok=True)


def put_in_place(made: epath.Path, path: epath.Path) -> None:
    """Give a finished file or folder its name.

    On a local disk all of it is on the disk before the name is, and the name is before this
    returns. Otherwise a power cut could leave the name with nothing in it, or what is named later
    without what is named now.
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
    """Wait until a file's bytes, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some file systems, mostly of networks, cannot be asked this of a folder.
        if error.errno != errno.EINVAL or not path.is_dir():
            raise
    finally:
        os.close(descriptor)
