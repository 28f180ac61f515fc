"""From a prepared split to batches, with Grain.

All stages have random access: a batch is a function of its number, so the whole state of an
iterator is one number, whether threads or processes read ahead, and any process can compute its own
rows of any batch.
"""

import contextlib
import signal
from collections.abc import Generator, Iterator
from typing import Any, TypedDict

import grain
import numpy as np
from absl import flags
from jaxtyping import Float16, UInt8

from crnn_jax.config import SHORTEST_FRAMES, MelConfig, RuntimeConfig, TrainConfig
from crnn_jax.data.prepared import PreparedSet
from crnn_jax.errors import UserError
from crnn_jax.signals import end_with_parent


class Batch(TypedDict):
    """The input of a step. The log-mel is float16 until it is on the device: half the transfer."""

    log_mel: Float16[np.ndarray, "batch mel frames"]
    tags: UInt8[np.ndarray, "batch tags"]


def count_frames(mel: MelConfig, clip_seconds: float | None) -> int:
    """Return the frames of a training example: the whole clip, or its centre `clip_seconds`.

    Raises
    ------
    UserError
        If the stored clips are shorter than `clip_seconds`, or it is too short for the networks.
    """
    shortest = SHORTEST_FRAMES * mel.hop_length / mel.sample_rate
    if mel.frames < SHORTEST_FRAMES:
        raise UserError(
            f"the networks need {shortest:.2g} s; prepare the data set with at least that",
            field="mel.clip_seconds",
            value=f"{mel.clip_seconds:g}",
        )
    if clip_seconds is None:
        return mel.frames
    frames = 1 + round(clip_seconds * mel.sample_rate) // mel.hop_length
    if not SHORTEST_FRAMES <= frames <= mel.frames:
        raise UserError(
            f"the prepared clips last {mel.clip_seconds:g} s and "
            f"the networks need {shortest:.2g} s; give a value in between",
            field="clip_seconds",
            value=f"{clip_seconds:g}",
        )
    return frames


class CropAndStrip(grain.transforms.Map):
    """Crop an example to its centre frames, and drop the fields that a step does not need."""

    def __init__(self, frames: int):
        self.frames = frames

    def map(self, element: dict[str, Any]) -> dict[str, Any]:
        start = (element["log_mel"].shape[1] - self.frames) // 2
        log_mel = element["log_mel"][:, start : start + self.frames]
        return {"log_mel": log_mel, "tags": element["tags"]}


def count_steps(data: PreparedSet, config: TrainConfig) -> int:
    """Count the full batches of one pass over the training split.

    Raises
    ------
    UserError
        If the split does not fill one batch.
    """
    n_examples = _training_examples(data, config)
    if n_examples < config.batch_size:
        raise UserError(
            f"the training split of {data.path} has {n_examples} examples; give at most that",
            field="batch_size",
            value=config.batch_size,
        )
    return n_examples // config.batch_size


def _training_examples(data: PreparedSet, config: TrainConfig) -> int:
    there = data.n_examples["train"]
    return there if config.max_examples is None else min(config.max_examples, there)


def training_batches(
    data: PreparedSet,
    config: TrainConfig,
    seed: int,
    *,
    first: int = 0,
    runtime: RuntimeConfig = RuntimeConfig(),
    process: int = 0,
    n_processes: int = 1,
) -> Generator[Batch, None, None]:
    """Yield batches of the shuffled training split indefinitely, starting with number `first`.

    Every epoch has its own order, determined by the seed; the examples that do not fill the last
    batch of an epoch are left out of that epoch. With several processes, each gets its own rows of
    every batch: together they see what one process would.

    Close the generator after use: threads or processes read ahead.
    """
    rows = config.batch_size // n_processes
    batches = (
        grain.MapDataset.source(data.source("train"))
        .slice(slice(_training_examples(data, config)))
        .seed(seed)
        .shuffle()
        .map(CropAndStrip(count_frames(data.mel, config.clip_seconds)))
        .batch(rows, drop_remainder=True)
        .slice(slice(process, count_steps(data, config) * n_processes, n_processes))
        .repeat()
        .slice(slice(first, None))
    )
    return _read_ahead(batches, runtime.read_threads, runtime.read_workers)


def evaluation_batches(
    data: PreparedSet,
    split: str,
    config: TrainConfig,
    *,
    runtime: RuntimeConfig = RuntimeConfig(),
    process: int = 0,
    n_processes: int = 1,
) -> Generator[Batch, None, None]:
    """Yield the batches of one pass over a split in its stored order; the last may be short.

    With several processes, each gets its own rows of every batch. Only threads read ahead: a pass
    is too short to be worth starting processes. Close the generator after use.
    """
    rows = config.batch_size // n_processes
    batches = (
        grain.MapDataset.source(data.source(split))
        .map(CropAndStrip(count_frames(data.mel, config.clip_seconds)))
        .batch(rows)
        .slice(slice(process, None, n_processes))
    )
    return _read_ahead(batches, runtime.read_threads, workers=0)


def _read_ahead(
    batches: grain.MapDataset, threads: int, workers: int
) -> Generator[Batch, None, None]:
    """Yield elements in order, read by threads of this process or of `workers` others."""
    # Grain's default reads 500 elements ahead: here these are batches, and gigabytes.
    ahead = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    reader = batches.to_iter_dataset(ahead)
    if not workers:
        with contextlib.closing(iter(reader)) as iterator:
            yield from iterator
        return
    # Grain reads one of its absl flags, and crnn_jax does not use absl to parse flags.
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    options = grain.MultiprocessingOptions(workers)
    with contextlib.closing(iter(reader.mp_prefetch(options, _start_worker))) as iterator:
        # Before the signals are masked, start every process other than the workers.
        iterator.get_state()
        with _signals_wait():
            iterator.start_prefetch()
        try:
            yield from map(_out_of_shared_memory, iterator)
        except RuntimeError as error:
            # Grain has no exception class for this.
            if "Worker process was terminated" not in str(error):
                raise
            raise UserError(
                "a process that reads ahead was killed, most likely for "
                "lack of memory or of space in /dev/shm; give the same command again "
                "with fewer workers to resume, or give a smaller --batch-size",
                field="read_workers",
                value=workers,
            ) from error


def _out_of_shared_memory(batch: Batch) -> Batch:
    """Copy a batch: JAX may keep a reference to its input, and shared memory is small."""
    return Batch(log_mel=np.array(batch["log_mel"]), tags=np.array(batch["tags"]))


@contextlib.contextmanager
def _signals_wait() -> Iterator[None]:
    """Block Ctrl-C and SIGTERM: in this thread for the duration, in its children permanently.

    Both may be sent to a whole process group (by a terminal, by Slurm); workers end when this
    process has closed its reader.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker(worker: int, n_workers: int) -> None:
    """Initialise a worker; Grain calls this first."""
    end_with_parent()
