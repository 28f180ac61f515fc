"""One step on many devices: the batch is split over a mesh, everything else is replicated.

A step is written for one device, and sees the others only through `AXIS`, over which it averages
gradients and batch statistics. `jax.shard_map` runs it on every device's rows (since JAX 0.8,
`jax.pmap` is jit and shard_map, which its authors recommend for new code).
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
from crnn_jax.train.devices import AXIS, find_devices

ZSTANDARD_MAGIC = b"\x28\xb5\x2f\xfd"
# Longest wait for the other processes, in s: when they start, and when they end.
START_S = 120
END_S = 60
# Dispatches from one call of `agree` to the next: each waits for the steps in progress.
DISPATCHES_BETWEEN_QUESTIONS = 8


def keep_compiled(folder: str | os.PathLike) -> None:
    """Keep what XLA compiles in a folder, so that the same step is compiled only once.

    Entries that a killed process left unfinished are removed: JAX writes an entry in place, warns
    about an unfinished one at every start, and never replaces it.
    """
    _remove_unfinished(Path(folder))
    jax.config.update("jax_compilation_cache_dir", os.fspath(folder))
    # By default only what takes at least a second to compile is kept.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _remove_unfinished(folder: Path) -> None:
    """Remove truncated entries of JAX's compilation cache written since the last call."""
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / ".checked"
    last_check = mark.stat().st_mtime if mark.exists() else 0.0
    # Before checking: entries written meanwhile are checked next time.
    mark.touch()
    for entry in folder.glob("*-cache"):
        # Another process may have removed it.
        with contextlib.suppress(FileNotFoundError):
            if entry.stat().st_mtime >= last_check and not _is_whole(entry.read_bytes()):
                entry.unlink()


def _is_whole(compressed: bytes) -> bool:
    """Return whether data compressed by Zstandard or zlib (JAX uses either) is complete."""
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
    """Join the processes that train together.

    Call this before anything is computed.

    Raises
    ------
    UserError
        If neither the flags nor the launcher determine the processes, or if the processes have
        different numbers of devices.
    """
    address, ids = cluster.coordinator_address, cluster.local_device_ids
    if address is not None and not address.rpartition(":")[2].isdigit():
        raise UserError("no port; give HOST:PORT", field="coordinator_address", value=address)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # `crnn_jax.signals` handles SIGTERM.
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
    # Each process reads an equal part of every batch, for its own devices.
    counts = Counter(device.process_index for device in find_devices())
    if len(set(counts.values())) > 1:
        each = ", ".join(str(counts[process]) for process in sorted(counts))
        # All processes get here: they wait for each other, so that none dies when another ends.
        jax.distributed.shutdown()
        raise UserError(
            f"the processes have {each} devices; give each the same number, with --devices on CPUs",
            field="local_device_ids",
        )


def split_over(mesh: Mesh, step: Callable, in_specs: Any, out_specs: Any, **jit_options) -> Any:
    """Jit a one-device step so that every device of the mesh runs it on its rows.

    Varying-axes types are not checked: the gradients of custom operations do not carry them.
    """
    mapped = jax.shard_map(step, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)
    return jax.jit(mapped, **jit_options)


def put_batch(mesh: Mesh, batch: Any, spec: P | None = None) -> Any:
    """Turn this process's rows of a batch into arrays of the whole batch on the mesh.

    `spec` says along which axis it is split; None: the first.
    """
    sharding = NamedSharding(mesh, P(AXIS) if spec is None else spec)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)


def put_same(mesh: Mesh, tree: Any) -> Any:
    """Put a copy on every device of the mesh of what is known to be the same in all processes."""
    return put_batch(mesh, tree, P())


def put_replicated(mesh: Mesh, tree: Any) -> Any:
    """Put the same values on every device of the mesh."""
    return jax.device_put(tree, NamedSharding(mesh, P()))


def gather(tree: Any) -> Any:
    """Return, in every process, the whole of arrays that are split over all devices."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return multihost_utils.process_allgather(tree, tiled=True)


def agree(*asked: bool) -> tuple[bool, ...]:
    """Return for each question whether any process answers yes: the same in all processes.

    Processes must take the same branches, or they wait for each other forever; what depends on a
    clock or a signal differs between them.
    """
    if jax.process_count() == 1:
        return asked
    answers = multihost_utils.process_allgather(np.array(asked))
    return tuple(np.any(answers, axis=0).tolist())


def agree_on(number: int) -> int:
    """Return the first process's number in all processes."""
    if jax.process_count() == 1:
        return number
    return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


def dispatches_between_questions() -> int:
    """Return the number of dispatches between calls of `agree`: 1 if there is one process."""
    return 1 if jax.process_count() == 1 else DISPATCHES_BETWEEN_QUESTIONS


def together() -> None:
    """Wait until all processes have reached this call."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("together")


def pad_rows(array: np.ndarray, rows: int) -> np.ndarray:
    """Pad with zeros to `rows` rows: one shape, one compilation."""
    missing = rows - len(array)
    return np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1)) if missing else array
