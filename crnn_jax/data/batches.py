"""From a prepared split to batches, with Grain.

All stages have random access: a batch is a function of its number, so the whole state of an
iterator is one number, whether threads or processes read ahead, and any process can compute its own
rows of any batch.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import signal
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, TypedDict

import grain
import joblib
import numpy as np
from absl import flags
from jaxtyping import Float16, Int, UInt8

from crnn_jax.config import SHORTEST_FRAMES, MelConfig, RuntimeConfig, TrainConfig
from crnn_jax.data.prepared import PreparedSet
from crnn_jax.errors import UserError
from crnn_jax.signals import end_with_parent

# Clips that a thread reads at a time into memory, and the threads that do: more are not faster.
CLIPS_AT_A_TIME, MOST_THREADS = 64, 4


class Batch(TypedDict):
    """The input of a step. The log-mel is float16 until it is on the device: half the transfer."""

    log_mel: Float16[np.ndarray, "batch mel frames"]
    tags: UInt8[np.ndarray, "batch tags"]


# Turns the places of clips into what a step is given, or what it is made from.
ReadBatch = Callable[[Int[np.ndarray, "rows"]], Any]


def count_frames(mel: MelConfig, clip_seconds: float | None) -> int:
    """Return the frames of a training example: the whole clip, or its centre `clip_seconds`.

    Raises
    ------
    UserError
        If the stored clips are shorter than `clip_seconds`, or it is too short for the networks.
    """
    if mel.frames < SHORTEST_FRAMES:
        raise UserError(
            f"the networks need {_shortest_seconds(mel):.2g} s; prepare the data set with at least "
            f"that",
            field="mel.clip_seconds",
            value=f"{mel.clip_seconds:g}",
        )
    if clip_seconds is None:
        return mel.frames
    whole = f"the prepared clips last {mel.clip_seconds:g} s"
    return _count_part(mel, clip_seconds, mel.frames, whole, field="clip_seconds")


def _shortest_seconds(mel: MelConfig) -> float:
    return SHORTEST_FRAMES * mel.hop_length / mel.sample_rate


def _count_part(mel: MelConfig, seconds: float, frames: int, whole: str, *, field: str) -> int:
    """Return the frames of a part, or raise a UserError: of the whole, which has `frames`."""
    part = 1 + round(seconds * mel.sample_rate) // mel.hop_length
    if not SHORTEST_FRAMES <= part <= frames:
        raise UserError(
            f"{whole} and the networks need {_shortest_seconds(mel):.2g} s; "
            f"give a value in between",
            field=field,
            value=f"{seconds:g}",
        )
    return part


@dataclasses.dataclass(frozen=True)
class ReadClips:
    """Read clips by their places in a split into one batch.

    Attributes
    ----------
    source
        The split.
    n_mels, n_tags
        Mel bands and tags of its clips.
    frames
        Length of the central part that is read of each clip.
    chosen
        Places in the split of the clips that are used; None: all are.
    """

    source: Sequence[dict[str, Any]]
    n_mels: int
    n_tags: int
    frames: int
    chosen: Int[np.ndarray, "clips"] | None = None

    def __call__(self, places: Int[np.ndarray, "rows"]) -> Batch:
        """Read a batch; the copy into it is the only one."""
        batch = self.empty(len(places))
        self.fill(batch, places)
        return batch

    def empty(self, n_rows: int) -> Batch:
        """Return a batch whose values are not set."""
        return Batch(
            log_mel=np.empty((n_rows, self.n_mels, self.frames), np.float16),
            tags=np.empty((n_rows, self.n_tags), np.uint8),
        )

    def fill(self, batch: Batch, places: Int[np.ndarray, "rows"]) -> None:
        """Read clips into the first rows of a batch."""
        # As bytes: a view of a record may be at an odd address, from which NumPy copies float16
        # number by number.
        rows = batch["log_mel"].view(np.uint8)
        for row, place in enumerate(places if self.chosen is None else self.chosen[places]):
            example = self.source[place]
            stored = example["log_mel"].view(np.uint8)
            start = (stored.shape[1] // 2 - self.frames) // 2
            rows[row] = stored[:, 2 * start : 2 * (start + self.frames)]
            # No view of the record is kept: its memory is used again for the next one.
            batch["tags"][row] = example["tags"]


class ResidentClips:
    """Clips that are in memory, and are copied into a batch by their places.

    Parameters
    ----------
    clips
        All clips, as one batch.
    """

    def __init__(self, clips: Batch):
        self.clips = clips

    def __call__(self, places: Int[np.ndarray, "rows"]) -> Batch:
        """Copy a batch."""
        return Batch(log_mel=self.clips["log_mel"][places], tags=self.clips["tags"][places])


def count_crop(mel: MelConfig, config: TrainConfig) -> int:
    """Return the frames of the network's input: of a crop in training, or of the whole example.

    Raises
    ------
    UserError
        If the crop is longer than the examples, or too short for the networks.
    """
    frames = count_frames(mel, config.clip_seconds)
    if config.train_crop is None:
        return frames
    whole = f"the examples last {config.clip_seconds or mel.clip_seconds:g} s"
    return _count_part(mel, config.train_crop, frames, whole, field="train_crop")


def count_examples(data: PreparedSet, split: str, config: TrainConfig) -> int:
    """Count the clips of a split that are used: some settings limit the training split.

    Raises
    ------
    UserError
        If the training split has none at ``train_fraction``.
    """
    there = data.n_examples[split]
    if split != "train":
        return there
    used = round(config.train_fraction * there)
    if not used:
        raise UserError(
            f"nothing is left of the {there} training examples of {data.path}; give more",
            field="train_fraction",
            value=f"{config.train_fraction:g}",
        )
    return min(config.max_examples or used, used)


def choose_examples(data: PreparedSet, config: TrainConfig) -> Int[np.ndarray, "clips"] | None:
    """Return the places of the training clips that are used; None: the first ones.

    A smaller fraction's are among those of a larger one.
    """
    if config.train_fraction == 1:
        return None
    order = np.random.Generator(np.random.PCG64(0)).permutation(data.n_examples["train"])
    # In stored order, which is faster to read.
    return np.sort(order[: count_examples(data, "train", config)])


def count_steps(data: PreparedSet, config: TrainConfig) -> int:
    """Count the full batches of one pass over the training split.

    Raises
    ------
    UserError
        If the split does not fill one batch.
    """
    n_examples = count_examples(data, "train", config)
    if n_examples < config.batch_size:
        raise UserError(
            f"the training split of {data.path} has {n_examples} examples; give at most that",
            field="batch_size",
            value=config.batch_size,
        )
    return n_examples // config.batch_size


@functools.lru_cache(maxsize=4)
def shuffle_places(n_examples: int, seed: int, epoch: int) -> Int[np.ndarray, "examples"]:
    """Return the order of an epoch (from 0): a permutation, determined by seed and epoch."""
    order = np.random.Generator(np.random.PCG64([seed, epoch])).permutation(n_examples)
    order.flags.writeable = False
    return order


@dataclasses.dataclass(frozen=True)
class TrainingPlaces(Sequence[Int[np.ndarray, "rows"]]):
    """Places of the clips of the training batches, without end, as far as one process reads them.

    All of a batch are found at once: one by one, as `grain.MapDataset.shuffle` does, takes as long
    as reading them.

    Attributes
    ----------
    n_examples, batch_size, seed
        Clips of the split, clips of a batch over all processes, and the seed of the epochs' orders.
    process, n_processes
        Which rows of each batch.
    """

    n_examples: int
    batch_size: int
    seed: int
    process: int
    n_processes: int

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, number: int) -> Int[np.ndarray, "rows"]:  # type: ignore[override]
        epoch, step = divmod(number, self.n_examples // self.batch_size)
        rows = self.batch_size // self.n_processes
        start = step * self.batch_size + self.process * rows
        return shuffle_places(self.n_examples, self.seed, epoch)[start : start + rows]


@dataclasses.dataclass(frozen=True)
class StoredPlaces(Sequence[Int[np.ndarray, "rows"]]):
    """Places of the clips of a split in stored order, batch by batch, for one process.

    A process may have none in the last batch.
    """

    n_examples: int
    batch_size: int
    process: int
    n_processes: int

    def __len__(self) -> int:
        return -(-self.n_examples // self.batch_size)

    def __getitem__(self, number: int) -> Int[np.ndarray, "rows"]:  # type: ignore[override]
        rows = self.batch_size // self.n_processes
        start = number * self.batch_size + self.process * rows
        return np.arange(min(start, self.n_examples), min(start + rows, self.n_examples))


def clips_on_disk(data: PreparedSet, split: str, config: TrainConfig) -> ReadClips:
    """Return what reads a split's clips from the disk."""
    return ReadClips(
        source=data.source(split),
        n_mels=data.mel.n_mels,
        n_tags=len(data.tag_names),
        frames=count_frames(data.mel, config.clip_seconds),
        chosen=choose_examples(data, config) if split == "train" else None,
    )


def read_all(read: ReadClips, n_examples: int) -> Batch:
    """Read the first clips of a split into one batch, in several threads."""
    clips = read.empty(n_examples)

    def fill(start: int) -> None:
        rows = slice(start, start + CLIPS_AT_A_TIME)
        part = Batch(log_mel=clips["log_mel"][rows], tags=clips["tags"][rows])
        read.fill(part, np.arange(start, start + len(part["tags"])))

    with concurrent.futures.ThreadPoolExecutor(min(MOST_THREADS, joblib.cpu_count())) as threads:
        # In this thread, too, what a thread raises is raised.
        for _ in threads.map(fill, range(0, n_examples, CLIPS_AT_A_TIME)):
            pass
    return clips


def load_clips(data: PreparedSet, split: str, config: TrainConfig) -> ResidentClips:
    """Read the used clips of a split into memory, once for as long as the set is referenced."""
    n_examples = count_examples(data, split, config)
    frames = count_frames(data.mel, config.clip_seconds)

    def load() -> ResidentClips:
        return ResidentClips(read_all(clips_on_disk(data, split, config), n_examples))

    return data.keep((load_clips, split, which_examples(split, config), frames), load)


def which_examples(split: str, config: TrainConfig) -> tuple[float, int | None] | None:
    """Return what determines which clips of a split are used."""
    return (config.train_fraction, config.max_examples) if split == "train" else None


def training_batches(
    data: PreparedSet,
    config: TrainConfig,
    seed: int,
    *,
    read: ReadBatch | None = None,
    first: int = 0,
    runtime: RuntimeConfig = RuntimeConfig(),
    process: int = 0,
    n_processes: int = 1,
) -> Generator[Any, None, None]:
    """Yield batches of the shuffled training split indefinitely, starting with number `first`.

    Every epoch has its own order, determined by the seed; the examples that do not fill the last
    batch of an epoch are left out of that epoch. With several processes, each gets its own rows of
    every batch: together they see what one process would.

    `read` turns the places of a batch's clips into what is yielded; None: into a `Batch` from the
    disk. Close the generator after use: threads or processes read ahead.
    """
    places = TrainingPlaces(
        count_examples(data, "train", config),
        config.batch_size,
        seed,
        process,
        n_processes,
    )
    batches = (
        grain.MapDataset.source(places)
        .slice(slice(first, None))
        .map(read or clips_on_disk(data, "train", config))
    )
    return _read_ahead(batches, runtime.read_threads, runtime.read_workers)


def evaluation_batches(
    data: PreparedSet,
    split: str,
    config: TrainConfig,
    *,
    batch_size: int | None = None,
    read: ReadBatch | None = None,
    runtime: RuntimeConfig = RuntimeConfig(),
    process: int = 0,
    n_processes: int = 1,
) -> Generator[Any, None, None]:
    """Yield the batches of one pass over a split in its stored order; the last may be short.

    With several processes, each gets its own rows of every batch. Only threads read ahead: a pass
    is too short to be worth starting processes. `batch_size` is the training's if it is None, and
    `read` is as in `training_batches`. Close the generator after use.
    """
    places = StoredPlaces(
        data.n_examples[split], batch_size or config.batch_size, process, n_processes
    )
    batches = grain.MapDataset.source(places).map(read or clips_on_disk(data, split, config))
    return _read_ahead(batches, runtime.read_threads, workers=0)


def _read_ahead(
    batches: grain.MapDataset, threads: int, workers: int
) -> Generator[Any, None, None]:
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
