"""One step on many devices: the batch is split over a mesh, everything else is replicated.

A step is written for one device, and knows of the others by `AXIS` alone: it averages gradients
and batch statistics over it. `jax.shard_map` runs it on every device's rows (`jax.pmap` is jit and
shard_map since JAX 0.8, and its authors ask new code to call those).
"""

import contextlib
import os
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import zstandard
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from crnn_jax.config import ClusterConfig
from crnn_jax.errors import UserError

AXIS = "batch"
ZSTANDARD_MAGIC = b"\x28\xb5\x2f\xfd"
# An end to waiting for the other processes, in s: when they start, and when they end.
START_S = 120
END_S = 60
# Steps from one question to all processes to the next: each waits for the steps under way.
STEPS_BETWEEN_QUESTIONS = 8


def keep_compiled(folder: str | os.PathLike) -> None:
    """Keep what XLA compiles in a folder, so that the same step is compiled once and for all.

    Entries that a killed process left unfinished are removed: JAX writes an entry in place, warns
    of an unfinished one at every start, and never replaces it.
    """
    _remove_unfinished(Path(folder))
    jax.config.update("jax_compilation_cache_dir", os.fspath(folder))
    # By default only what took a second or longer is kept.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _remove_unfinished(folder: Path) -> None:
    """Remove cut entries of JAX's compilation cache among those written since the last call."""
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / ".checked"
    last_check = mark.stat().st_mtime if mark.exists() else 0.0
    # Before looking: what is written meanwhile is looked at next time.
    mark.touch()
    for entry in folder.glob("*-cache"):
        # Another process may have removed it.
        with contextlib.suppress(FileNotFoundError):
            if entry.stat().st_mtime >= last_check and not _is_whole(entry.read_bytes()):
                entry.unlink()


def _is_whole(compressed: bytes) -> bool:
    """Whether data compressed by Zstandard or zlib, as JAX has either, has its end."""
    is_zstandard = compressed.startswith(ZSTANDARD_MAGIC)
    reader: Any = (
        zstandard.ZstdDecompressor().decompressobj() if is_zstandard else zlib.decompressobj()
    )
    try:
        reader.decompress(compressed)
    except (zstandard.ZstdError, zlib.error):
        return False
    return reader.eof


def join_processes(cluster: ClusterConfig) -> None:
    """Become one of several processes that train together.

    To be called before anything is computed.

    Raises
    ------
    UserError
        If the flags, or what started the processes, do not say which processes there are, or if
        they have not equally many devices.
    """
    address, ids = cluster.coordinator_address, cluster.local_device_ids
    if address is not None and not address.rpartition(":")[2].isdigit():
        raise UserError("no port; give HOST:PORT", field="coordinator_address", value=address)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # SIGTERM is ours (`crnn_jax.signals`).
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            coordinator_address=cluster.coordinator_address,
            num_processes=cluster.num_processes,
            process_id=cluster.process_id,
            local_device_ids=None if ids is None else list(ids),
            initialization_timeout=START_S,
            shutdown_timeout_seconds=END_S,
            heartbeat_timeout_seconds=cluster.heartbeat_seconds,
        )
    except ValueError as error:
        raise UserError(
            f"{error} Give --coordinator-address HOST:PORT, --num-processes and "
            f"--process-id, or start the processes with Slurm, Open MPI or Kubernetes",
            field="distributed",
        ) from error
    # Each process reads an equal part of every batch, for the devices that it has.
    counts = Counter(device.process_index for device in jax.devices())
    if len(set(counts.values())) > 1:
        each = ", ".join(str(counts[process]) for process in sorted(counts))
        # All of them find that out: they wait for each other, and none dies of another's end.
        jax.distributed.shutdown()
        raise UserError(
            f"the processes have {each} devices; give them equally many", field="local_device_ids"
        )


def batch_mesh() -> Mesh:
    """A mesh of all devices of all processes, along the batch.

    Ordered by process: the rows that a process reads are a contiguous part of the batch.
    """
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    return Mesh(np.array(devices), (AXIS,))


def check_batch_size(batch_size: int, mesh: Mesh, field: str = "batch_size") -> None:
    """Raise a UserError if the mesh's devices do not divide the batch size."""
    devices = mesh.size
    if batch_size % devices:
        below, above = batch_size // devices * devices, -(-batch_size // devices) * devices
        good = f"{below} or {above}" if below else f"{above}"
        raise UserError(
            f"{devices} devices do not divide it; give {good}", field=field, value=batch_size
        )


def split_over(mesh: Mesh, step: Callable, in_specs: Any, out_specs: Any, **jit_options) -> Any:
    """Jit a one-device step so that every device of the mesh runs it on its rows.

    Varying-axes types are not checked: the gradients of custom operations do not carry them.
    """
    mapped = jax.shard_map(step, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)
    return jax.jit(mapped, **jit_options)


def put_batch(mesh: Mesh, batch: Any) -> Any:
    """This process's rows of a batch, as arrays of the whole batch on the mesh."""
    sharding = NamedSharding(mesh, P(AXIS))
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)


def put_replicated(mesh: Mesh, tree: Any) -> Any:
    """The same values on every device of the mesh."""
    return jax.device_put(tree, NamedSharding(mesh, P()))


def gather(array: Any) -> np.ndarray:
    """An array that is split over all processes' devices, whole, in every process."""
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


def agree(*asked: bool) -> tuple[bool, ...]:
    """For each question, whether any process says yes: the same answer in all of them.

    Processes must take the same turns, or each waits for the others for good; what hangs on a
    clock or on a signal differs between them.
    """
    if jax.process_count() == 1:
        return asked
    answers = multihost_utils.process_allgather(np.array(asked))
    return tuple(np.any(answers, axis=0).tolist())


def steps_between_questions() -> int:
    """Steps after which `agree` is to be asked; of one process, after each."""
    return 1 if jax.process_count() == 1 else STEPS_BETWEEN_QUESTIONS


def together() -> None:
    """Wait until all processes have come here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("together")


def pad_rows(array: np.ndarray, rows: int) -> np.ndarray:
    """Zeros at the end until there are `rows`: one shape, one compilation."""
    missing = rows - len(array)
    return np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1)) if missing else array
