"""A file that one process at a time holds, on this machine or on others that share the disk."""

import contextlib
import fcntl
import os
from collections.abc import Iterator

from etils import epath


def on_disk(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a file system's; an object store (``gs://``, ``s3://``) has no locks."""
    return "://" not in os.fspath(path)


@contextlib.contextmanager
def lock(path: epath.Path, *, wait: bool) -> Iterator[bool]:
    """Lock a file against other processes, on this machine and on others that share the disk.

    The kernel ends the lock with the process, however that dies. On NFS this needs the server's
    locks (the default of NFS 4; not the mount option ``nolock``). In an object store nothing is
    locked.

    Parameters
    ----------
    path
        The file; its only purpose is to be locked, and it stays.
    wait
        Whether to wait for a process that has it.

    Yields
    ------
    bool
        False if another process has it and `wait` is false.
    """
    if not on_disk(path):
        yield True
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
