"""How fast a prepared set is read, stage by stage: from stored bytes to a step's batch.

Each stage has all of those before it: records as bytes, clips (views of the bytes), batches (copied
into one array), and the whole reader as training uses it, with threads that read ahead. Then the
same from memory, where a set that fits is kept. Clips/s, the median of `--rounds` turns, with the
slowest and the fastest; the files are in the system's cache after the first.

    python experiments/reading_time.py
    python experiments/reading_time.py --dataset PREPARED
"""

import contextlib
import dataclasses
import itertools
import statistics
import time
from collections.abc import Callable

import joblib
import numpy as np
import tensorflow_datasets as tfds
import tyro

from crnn_jax.cli.main import exit_after
from crnn_jax.config import DataConfig, RuntimeConfig, TrainConfig
from crnn_jax.data.batches import clips_on_disk, load_clips, training_batches
from crnn_jax.data.prepared import PreparedSet, prepare
from crnn_jax.study.provenance import processor_model


@dataclasses.dataclass(frozen=True)
class ReadingTime:
    """Measurement of the reading rate.

    Attributes
    ----------
    dataset
        Folder of a prepared set; ``synthetic`` makes one of clips of 29 s.
    n_examples
        Clips of the set that is made; its training split is 64 % of them.
    batch_size
        Clips per batch.
    threads
        Numbers of threads to read ahead with.
    rounds
        Turns of each stage.
    passes
        Passes over the training split in a turn of the whole reader.
    """

    dataset: str = "synthetic"
    n_examples: int = 1000
    batch_size: int = 16
    threads: tuple[int, ...] = (1, 2, 4)
    rounds: int = 7
    passes: int = 3


def read_bytes(data: PreparedSet) -> Callable[[], int]:
    """Return a turn that reads the stored records, in random order."""
    builder = tfds.builder_from_directory(data.path)
    as_bytes = tfds.core.decode.DeserializeMethod.RAW_BYTES
    records = builder.as_data_source("train", deserialize_method=as_bytes)
    order = np.random.default_rng(0).permutation(len(records)).tolist()

    def turn() -> int:
        for place in order:
            records[place]
        return len(order)

    return turn


def read_examples(data: PreparedSet) -> Callable[[], int]:
    """Return a turn that reads clips, in random order."""
    source = data.source("train")
    order = np.random.default_rng(0).permutation(len(source)).tolist()

    def turn() -> int:
        for place in order:
            source[place]
        return len(order)

    return turn


def read_batches(read: Callable, n_examples: int, batch_size: int) -> Callable[[], int]:
    """Return a turn that reads batches in this thread, in random order."""
    order = np.random.default_rng(0).permutation(n_examples)
    batches = order[: n_examples // batch_size * batch_size].reshape(-1, batch_size)

    def turn() -> int:
        for places in batches:
            read(places)
        return batches.size

    return turn


def read_ahead(
    data: PreparedSet, config: TrainConfig, read: Callable, threads: int, passes: int
) -> Callable[[], int]:
    """Return a turn of the whole reader."""
    n_batches = passes * (data.n_examples["train"] // config.batch_size)
    runtime = RuntimeConfig(read_threads=threads)

    def turn() -> int:
        reader = training_batches(data, config, 0, read=read, runtime=runtime)
        with contextlib.closing(reader) as batches:
            for _ in itertools.islice(batches, n_batches):
                pass
        return n_batches * config.batch_size

    return turn


def rates(turns: dict[str, Callable[[], int]], rounds: int) -> dict[str, list[float]]:
    """Return the clips/s of each turn, in rounds, so that a slow moment meets them all."""
    found: dict[str, list[float]] = {name: [] for name in turns}
    for turn in turns.values():
        turn()
    for _ in range(rounds):
        for name, turn in turns.items():
            start = time.perf_counter()
            n_clips = turn()
            found[name].append(n_clips / (time.perf_counter() - start))
    return found


def main(config: ReadingTime) -> None:
    """Time the stages and print their rates."""
    data = prepare(DataConfig(config.dataset, n_examples=config.n_examples))
    train = TrainConfig(batch_size=config.batch_size)
    n_examples = data.n_examples["train"]
    from_disk, from_memory = clips_on_disk(data, "train", train), load_clips(data, "train", train)
    turns: dict[str, Callable[[], int]] = {
        "records as bytes": read_bytes(data),
        "clips": read_examples(data),
        "batches": read_batches(from_disk, n_examples, config.batch_size),
    }
    for threads in config.threads:
        name = f"reader, {threads} thread{'s' if threads > 1 else ''}"
        turns[name] = read_ahead(data, train, from_disk, threads, config.passes)
    turns["batches from memory"] = read_batches(from_memory, n_examples, config.batch_size)
    for threads in config.threads:
        name = f"reader from memory, {threads} thread{'s' if threads > 1 else ''}"
        turns[name] = read_ahead(data, train, from_memory, threads, config.passes)
    print(
        f"{n_examples} clips of {data.mel.clip_seconds:g} s in batches of {config.batch_size}; "
        f"{processor_model()}, {joblib.cpu_count()} cores"
    )
    for name, values in rates(turns, config.rounds).items():
        print(
            f"{name:30} {statistics.median(values):8,.0f} clips/s "
            f"({min(values):,.0f} to {max(values):,.0f})"
        )


if __name__ == "__main__":
    exit_after(lambda: main(tyro.cli(ReadingTime, description=__doc__)))
