"""SIGTERM, which Slurm, Kubernetes and ``kill`` send first; workers whose parent was killed."""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import NoReturn


class Terminated(BaseException):
    """SIGTERM has arrived. Like `KeyboardInterrupt`, not an `Exception`: nothing has failed."""


@contextlib.contextmanager
def sigterm_raises() -> Iterator[None]:
    """Make SIGTERM raise `Terminated`, so that open resources are closed."""

    def stop(*_: object) -> NoReturn:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def sigterm_waits() -> Iterator[Callable[[], bool]]:
    """Only record SIGTERM, and raise `Terminated` at the end.

    Yields
    ------
    callable
        Returns whether SIGTERM has arrived and the caller should stop.
    """
    if threading.current_thread() is not threading.main_thread():
        # Python delivers signals to the main thread only.
        yield lambda: False
        return
    arrived = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: arrived.set())
    try:
        yield arrived.is_set
    finally:
        signal.signal(signal.SIGTERM, before)
        if arrived.is_set():
            raise Terminated


def end_with_parent() -> None:
    """End this worker process when its parent ends, for whatever reason."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
