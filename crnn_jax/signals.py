"""SIGTERM, which Slurm, Kubernetes and ``kill`` send first, and workers whose parent was killed."""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import NoReturn


class Terminated(BaseException):
    """SIGTERM has arrived. No `Exception`, as `KeyboardInterrupt` is none: nothing has failed."""


@contextlib.contextmanager
def sigterm_raises() -> Iterator[None]:
    """Let SIGTERM raise `Terminated`, so that what is open is closed."""

    def stop(*_: object) -> NoReturn:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def sigterm_waits() -> Iterator[Callable[[], bool]]:
    """Only take note of SIGTERM, and raise `Terminated` at the end.

    Yields
    ------
    callable
        Whether SIGTERM has arrived: time to come to an end.
    """
    if threading.current_thread() is not threading.main_thread():
        # Python gives signals to the main thread alone.
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
    """In a worker process: end when the parent is gone, however it went."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
