"""File locks between processes, on this machine and on others that share the disk."""

import contextlib
import fcntl
import os
from collections.abc import Iterator

from etils import epath


def on_disk(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is on a disk; object stores (``gs://``, ``s3://``) have no locks."""
    return "://" not in os.fspath(path)


@contextlib.contextmanager
def lock(path: epath.Path, *, wait: bool) -> Iterator[bool]:
    """Lock a file against other processes, on this machine and on others that share the disk.

    The kernel releases the lock when the process ends, for whatever reason. On NFS this needs the
    server's locks (the default in NFS 4; disabled by the mount option ``nolock``). In an object
    store nothing is locked.

    Parameters
    ----------
    path
        The lock file; it has no other purpose and is not deleted.
    wait
        Whether to wait for a process that holds it.

    Yields
    ------
    bool
        False if another process holds it and `wait` is false.
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
