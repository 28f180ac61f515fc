"""The steps' batches: read from the disk, copied from memory, or gathered on the devices.

Wherever the clips are, the batches are the same, byte for byte, and in the same order.
"""

import contextlib
from collections.abc import Generator
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Int

from crnn_jax.config import RuntimeConfig, TrainConfig
from crnn_jax.data.batches import (
    Batch,
    ReadBatch,
    clips_on_disk,
    count_examples,
    count_frames,
    evaluation_batches,
    load_clips,
    read_all,
    training_batches,
    which_examples,
)
from crnn_jax.data.memory import available_memory
from crnn_jax.data.prepared import PreparedSet
from crnn_jax.errors import UserError
from crnn_jax.train import parallel
from crnn_jax.train.devices import AXIS, is_cpu

Residence = Literal["disk", "memory", "devices"]

# Part of the available memory that a set may take by default. On the host up to eight processes,
# one for each GPU, may start at the same time, and each sees what is available before the others
# have taken theirs. On an accelerator, of what a step leaves.
HOST_PART, DEVICE_PART = 1 / 8, 0.5
# Clips per device in a batch of an evaluation on accelerators, which small batches leave idle; but
# not more than so many times a training batch, which takes about that much more memory per clip.
EVALUATION_CLIPS, EVALUATION_BATCHES = 64, 4


class Clips(Protocol):
    """A split's clips, wherever they are."""

    def read(self, places: Int[np.ndarray, "rows"]) -> Any:
        """Read a batch's rows by their places, in the threads that read ahead."""

    def put(self, rows: Any) -> Any:
        """Put rows that were read on the mesh."""

    def put_several(self, *rows: Any) -> Any:
        """Put the rows of several batches on the mesh, along a new first axis."""


class ClipsOnHost:
    """Clips that are read from the disk or from memory, and sent to the devices.

    Parameters
    ----------
    read
        Reads rows by their places.
    mesh
        The devices.
    """

    def __init__(self, read: ReadBatch, mesh: Mesh):
        self.read, self._mesh = read, mesh
        # Each device stacks its own rows.
        self._stack = parallel.split_over(
            mesh,
            lambda *batches: jax.tree.map(lambda *rows: jnp.stack(rows), *batches),
            in_specs=P(AXIS),
            out_specs=P(None, AXIS),
        )

    def put(self, rows: Batch) -> Any:
        return parallel.put_batch(self._mesh, rows)

    def put_several(self, *rows: Batch) -> Any:
        return self._stack(*map(self.put, rows))


class ClipsOnDevices:
    """Clips of which every device has a copy: what is read and sent is only their places.

    Parameters
    ----------
    clips
        All clips, as one batch.
    mesh
        The devices.
    """

    def __init__(self, clips: Batch, mesh: Mesh):
        self._mesh = mesh
        self._clips = parallel.put_same(mesh, clips)
        self._gather, self._gather_several = (
            parallel.split_over(
                mesh,
                lambda clips, places: jax.tree.map(lambda of_all: of_all[places], clips),
                in_specs=(P(), spec),
                out_specs=spec,
            )
            for spec in (P(AXIS), P(None, AXIS))
        )

    def read(self, places: Int[np.ndarray, "rows"]) -> Int[np.ndarray, "rows"]:
        return places.astype(np.int32)

    def put(self, rows: Int[np.ndarray, "rows"]) -> Any:
        return self._gather(self._clips, parallel.put_batch(self._mesh, rows))

    def put_several(self, *rows: Int[np.ndarray, "rows"]) -> Any:
        places = parallel.put_batch(self._mesh, np.stack(rows), P(None, AXIS))
        return self._gather_several(self._clips, places)


class TrainingFeed:
    """The training batches on a mesh, one after the other; close it after use."""

    def __init__(self, clips: Clips, rows: Generator[Any, None, None]):
        self._clips, self._rows = clips, rows
        self._waiting: list[Any] = []
        # Rows of the right shape, to compile with.
        self._sample: Any = None
        self._compiled: set[int] = set()

    def start(self) -> None:
        """Read the first batch: processes that read ahead take seconds to start."""
        self._sample = next(self._rows)
        self._waiting = [self._sample]

    def compile(self, n_batches: int) -> None:
        """Compile what puts as many batches on the mesh, so that `take` does not have to."""
        if n_batches not in self._compiled:
            jax.block_until_ready(self._put([self._sample] * n_batches))
            self._compiled.add(n_batches)

    def take(self, n_batches: int = 1) -> Any:
        """Return the next batch, or the next ones along a new first axis if more than one."""
        rows = [
            self._waiting.pop() if self._waiting else next(self._rows) for _ in range(n_batches)
        ]
        return self._put(rows)

    def _put(self, rows: list[Any]) -> Any:
        return self._clips.put(*rows) if len(rows) == 1 else self._clips.put_several(*rows)

    def close(self) -> None:
        """Stop reading ahead."""
        self._rows.close()


class Feed:
    """Batches of a data set on a mesh.

    Parameters
    ----------
    data, config
        The data set, and how much of it is used.
    mesh
        The devices.
    runtime
        Threads and processes that read ahead, and whether the set is kept in memory.
    step_bytes
        Memory that a step will need on each device.

    Attributes
    ----------
    residence
        Where the clips are: on the disk, in the host's memory, or on every device.

    Raises
    ------
    UserError
        If the set is to be kept in memory and does not fit.
    """

    def __init__(
        self,
        data: PreparedSet,
        config: TrainConfig,
        mesh: Mesh,
        runtime: RuntimeConfig = RuntimeConfig(),
        step_bytes: int = 0,
    ):
        self.data, self.config, self.mesh, self.runtime = data, config, mesh, runtime
        self.residence: Residence = choose_residence(data, config, mesh, runtime, step_bytes)

    def load(self) -> None:
        """Read what is kept in memory or on the devices, if it is not there yet."""
        for split in self.data.n_examples:
            self._clips(split)

    def training(self, seed: int, first: int = 0) -> TrainingFeed:
        """Start reading the training batches, from number `first` on."""
        clips = self._clips("train")
        rows = training_batches(
            self.data,
            self.config,
            seed,
            read=clips.read,
            first=first,
            runtime=self.runtime,
            process=jax.process_index(),
            n_processes=jax.process_count(),
        )
        return TrainingFeed(clips, rows)

    def evaluation(self, split: str) -> Generator[Any, None, None]:
        """Yield the batches of a split in its stored order; copies of a clip fill up the last."""
        batch_size = evaluation_batch_size(self.config, self.mesh)
        n_rows = batch_size // jax.process_count()
        clips = self._clips(split)

        def read(places: Int[np.ndarray, "rows"]) -> Any:
            # Also where a process has no rows of the last batch: it still takes part.
            return clips.read(np.pad(places, (0, n_rows - len(places))))

        with contextlib.closing(
            evaluation_batches(
                self.data,
                split,
                self.config,
                batch_size=batch_size,
                read=read,
                runtime=self.runtime,
                process=jax.process_index(),
                n_processes=jax.process_count(),
            )
        ) as batches:
            yield from map(clips.put, batches)

    def _clips(self, split: str) -> Clips:
        match self.residence:
            case "disk":
                return ClipsOnHost(clips_on_disk(self.data, split, self.config), self.mesh)
            case "memory":
                return ClipsOnHost(load_clips(self.data, split, self.config), self.mesh)
            case "devices":
                n_examples = count_examples(self.data, split, self.config)
                frames = count_frames(self.data.mel, self.config.clip_seconds)
                return self.data.keep(
                    (ClipsOnDevices, which_examples(split, self.config), split, frames, self.mesh),
                    lambda: ClipsOnDevices(
                        read_all(clips_on_disk(self.data, split, self.config), n_examples),
                        self.mesh,
                    ),
                )


def evaluation_batch_size(config: TrainConfig, mesh: Mesh) -> int:
    """Return the clips per batch of an evaluation, over all devices."""
    if is_cpu(mesh):
        return config.batch_size
    return max(
        config.batch_size,
        min(EVALUATION_CLIPS * mesh.size, EVALUATION_BATCHES * config.batch_size),
    )


def choose_residence(
    data: PreparedSet, config: TrainConfig, mesh: Mesh, runtime: RuntimeConfig, step_bytes: int = 0
) -> Residence:
    """Choose where the clips are kept: the same for all processes, and for all cells of a process.

    Raises
    ------
    UserError
        If they are to be kept in memory and do not fit.
    """
    if runtime.resident == "no" or runtime.read_workers:
        return "disk"
    frames = count_frames(data.mel, config.clip_seconds)
    n_examples = sum(count_examples(data, split, config) for split in data.n_examples)
    # As stored: float16, and a byte for each tag.
    needed = n_examples * (2 * data.mel.n_mels * frames + len(data.tag_names))
    required = runtime.resident == "yes"
    return data.keep(
        (choose_residence, needed, mesh, required),
        lambda: _where_it_fits(data, needed, mesh, step_bytes, required=required),
    )


def _where_it_fits(
    data: PreparedSet, needed: int, mesh: Mesh, step_bytes: int, *, required: bool
) -> Residence:
    available = available_memory()
    fits_host = needed <= available * (1 if required else HOST_PART)
    fits_devices = not is_cpu(mesh) and all(
        needed <= DEVICE_PART * (_free_memory(device) - step_bytes) for device in mesh.local_devices
    )
    # A process without room decides for all.
    beyond_host, beyond_devices = parallel.agree(not fits_host, not fits_devices)
    if beyond_host:
        if required:
            room = (
                "another process has less available"
                if fits_host
                else f"{available / 1e9:.2g} GB are available"
            )
            raise UserError(
                f"{data.path} takes {needed / 1e9:.2g} GB, and {room}; "
                f"give auto, or no to read from the disk",
                field="resident",
                value="yes",
            )
        return "disk"
    # A copy on the devices is read into the host's memory first.
    return "memory" if beyond_devices else "devices"


def _free_memory(device: jax.Device) -> int:
    """Return the memory of an accelerator that JAX may still use, in bytes; 0 if not known."""
    stats = device.memory_stats() or {}
    return int(stats.get("bytes_limit", 0)) - int(stats.get("bytes_in_use", 0))
