"""From a prepared split to batches, with Grain.

Random access all the way: a batch is a function of its number, so the whole state of an iterator
is one number, and any process can compute its own rows of any batch.
"""

from collections.abc import Iterator
from typing import Any, TypedDict

import grain
import numpy as np
from jaxtyping import Float16, UInt8

from crnn_jax.config import MelConfig, TrainConfig
from crnn_jax.datasets import PreparedSet
from crnn_jax.errors import UserError


class Batch(TypedDict):
    """What a step gets. The log-mel stays float16 until it is on the device: half the transfer."""

    log_mel: Float16[np.ndarray, "batch mel frames"]
    tags: UInt8[np.ndarray, "batch tags"]


def frames_of(mel: MelConfig, clip_seconds: float | None) -> int:
    """Frames of a training example: those of a clip, or of its centre of `clip_seconds`.

    Raises
    ------
    UserError
        If the stored clips are shorter than that, or it is too short for the networks.
    """
    shortest = SHORTEST_FRAMES * mel.hop_length / mel.sample_rate
    if mel.frames < SHORTEST_FRAMES:
        raise UserError(
            f"--mel.clip-seconds {mel.clip_seconds:g}: the networks need {shortest:.2g} s; prepare "
            f"the data set with that or more"
        )
    if clip_seconds is None:
        return mel.frames
    frames = 1 + round(clip_seconds * mel.sample_rate) // mel.hop_length
    if not SHORTEST_FRAMES <= frames <= mel.frames:
        raise UserError(
            f"--clip-seconds {clip_seconds:g}: the prepared clips last {mel.clip_seconds:g} s and "
            f"the networks need {shortest:.2g} s; give a value between"
        )
    return frames


# Every architecture has at least one frame left after its poolings.
SHORTEST_FRAMES = 96


class CropAndStrip(grain.transforms.Map):
    """Keep the centre frames of an example, and drop what a step does not need."""

    def __init__(self, frames: int):
        self.frames = frames

    def map(self, element: dict[str, Any]) -> dict[str, Any]:
        start = (element["log_mel"].shape[1] - self.frames) // 2
        log_mel = element["log_mel"][:, start : start + self.frames]
        return {"log_mel": log_mel, "tags": element["tags"]}


def training_batches(
    data: PreparedSet, config: TrainConfig, seed: int, *, process: int = 0, n_processes: int = 1
) -> tuple[grain.DatasetIterator, int]:
    """An endless iterator over the shuffled training split, and the steps of an epoch.

    Every epoch has its own order, determined by the seed; the examples that do not fill the last
    batch of an epoch are left out of that epoch. With several processes each gets its own rows of
    every batch: together they see what one process would.

    Raises
    ------
    UserError
        If the split does not fill one batch.
    """
    source = data.source("train")
    examples = grain.MapDataset.source(source)
    if config.max_examples is not None:
        examples = examples.slice(slice(min(config.max_examples, len(source))))
    steps = len(examples) // config.batch_size
    if steps == 0:
        raise UserError(
            f"--batch-size {config.batch_size}: the training split of {data.path} has "
            f"{len(examples)} examples; give at most that"
        )
    rows = config.batch_size // n_processes
    batches = (
        examples.seed(seed)
        .shuffle()
        .map(CropAndStrip(frames_of(data.mel, config.clip_seconds)))
        .batch(rows, drop_remainder=True)
        .slice(slice(process, steps * n_processes, n_processes))
        .repeat()
    )
    return iter(_prefetched(batches, config)), steps


def evaluation_batches(
    data: PreparedSet, split: str, config: TrainConfig, *, process: int = 0, n_processes: int = 1
) -> Iterator[Batch]:
    """One pass over a split in its stored order; the last batch is as short as it comes.

    With several processes each gets its own rows of every batch.
    """
    rows = config.batch_size // n_processes
    batches = (
        grain.MapDataset.source(data.source(split))
        .map(CropAndStrip(frames_of(data.mel, config.clip_seconds)))
        .batch(rows)
        .slice(slice(process, None, n_processes))
    )
    return iter(_prefetched(batches, config))


def _prefetched(batches: grain.MapDataset, config: TrainConfig) -> grain.IterDataset:
    # Grain's own default reads 500 elements ahead: batches here, and gigabytes.
    ahead = grain.ReadOptions(
        num_threads=config.read_threads, prefetch_buffer_size=2 * config.read_threads
    )
    examples = batches.to_iter_dataset(ahead)
    if config.read_workers:
        examples = examples.mp_prefetch(grain.MultiprocessingOptions(config.read_workers))
    return examples
