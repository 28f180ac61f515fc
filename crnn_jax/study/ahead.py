"""Compile the steps of the next cell while one trains, where cores have nothing else to do.

What is compiled is found again in JAX's compilation cache. On a CPU the cores train: compiling
beside that would take as long as compiling before it, and falsify the measured times. On a GPU XLA
tries kernels out for some seconds, which the cell that trains may notice: cells that end by their
time are left alone.
"""

import contextlib
import threading
from collections.abc import Iterator

from crnn_jax.study import runs
from crnn_jax.study.events import CellStarted, OnSweepEvent, SweepEvent
from crnn_jax.study.run import Job

# One core feeds the accelerator, one compiles, and one is left for everything else.
FEWEST_CORES = 3


@contextlib.contextmanager
def compiling(job: Job | None, on_event: OnSweepEvent) -> Iterator[OnSweepEvent]:
    """Compile a job's steps, in a thread, while the cell before it is trained, if it is worth it.

    Yields what that cell's events are to be reported to, which passes them on to `on_event`: its
    training has to begin first, since a cell that another process holds is passed over at once.
    """
    threads: list[threading.Thread] = []

    def notify(event: SweepEvent) -> None:
        if isinstance(event, CellStarted) and job is not None and is_worth_it(job):
            name = f"compile {job.cell.name}"
            threads.append(threading.Thread(target=compile_job, args=(job,), name=name))
            threads[-1].start()
        on_event(event)

    try:
        yield notify
    finally:
        for thread in threads:
            thread.join()


def is_worth_it(job: Job) -> bool:
    """Return whether a job is still to be run, and compiling it changes no cell's result."""
    return (
        has_free_cores()
        and job.train.max_train_seconds is None
        and runs.read_result(job.run) is None
    )


def has_free_cores() -> bool:
    """Return whether accelerators train, one process has them, and what it compiles is kept."""
    import jax
    import joblib

    kept_in: str | None = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    return (
        jax.default_backend() != "cpu"
        and jax.process_count() == 1
        and kept_in is not None
        and joblib.cpu_count() >= FEWEST_CORES
    )


def compile_job(job: Job) -> None:
    """Compile a job's steps into JAX's compilation cache."""
    from crnn_jax.data.batches import count_crop, count_frames, count_steps
    from crnn_jax.train.compile import compile_steps
    from crnn_jax.train.devices import batch_mesh

    # What is wrong with a cell is found, and said, when it is its turn.
    with contextlib.suppress(Exception):
        compile_steps(
            job.config.model,
            job.train,
            job.cell.seed,
            count_frames(job.data.mel, job.train.clip_seconds),
            batch_mesh(job.train.batch_size, job.runtime.devices),
            crop=count_crop(job.data.mel, job.train),
            steps_per_epoch=count_steps(job.data, job.train),
        )
