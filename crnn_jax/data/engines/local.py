"""Make shards in processes on this machine."""

import concurrent.futures
import concurrent.futures.process
import multiprocessing
import signal
from collections.abc import Iterator, Sequence

import joblib

from crnn_jax.data.shards import Engine, ShardResult, ShardTask, make_shard
from crnn_jax.errors import UserError
from crnn_jax.signals import end_with_parent


def local_engine(workers: int | None) -> Engine:
    """Make shards in `workers` processes on this machine; None: one per core."""

    def run(tasks: Sequence[ShardTask]) -> Iterator[ShardResult]:
        n_workers = min(len(tasks), workers or joblib.cpu_count())
        if n_workers == 1:
            yield from map(make_shard, tasks)
            return
        # Not forked: JAX's threads in the caller may hold locks.
        pool = concurrent.futures.ProcessPoolExecutor(
            n_workers, multiprocessing.get_context("spawn"), initializer=_follow_the_parent
        )
        try:
            futures = [pool.submit(make_shard, task) for task in tasks]
            for future in concurrent.futures.as_completed(futures):
                yield future.result()
        except concurrent.futures.process.BrokenProcessPool as error:
            raise UserError(
                "prepare: a decoding process was killed, most likely for lack of memory; give the "
                "same command again with fewer --workers to resume"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)

    return run


def _follow_the_parent() -> None:
    """Leave Ctrl-C to the parent, and exit when the parent has exited for any reason."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
