"""Which devices a process computes on: on a CPU, one for each core that it may use.

XLA uses all cores for some operations and one for others. With as many devices as cores, each
device works on its own rows of the batch, and no core waits.
"""

import itertools
import os
from collections import Counter

import jax
import numpy as np
from jax.sharding import Mesh

from crnn_jax.config import Precision
from crnn_jax.errors import UserError

# Name of the mesh's axis: a step sees the other devices only through it.
AXIS = "batch"
# XLA's own flag for the number of devices that a CPU is divided into.
XLA_FLAG = "xla_force_host_platform_device_count"


def use_cores(devices: int | None = None, cores: int | None = None) -> None:
    """Divide the CPU into as many devices as this process may use cores.

    The affinity of the process and the limits of its container are respected. Call this before
    anything is computed: once JAX has started, its devices stay as they are. What the user has set
    in ``XLA_FLAGS``, in ``JAX_NUM_CPU_DEVICES`` or in JAX's configuration is kept.

    Parameters
    ----------
    devices
        Number of devices to make instead.
    cores
        Number of cores that this process may use, where it is known to be another than the
        system's, such as in a task of a cluster.
    """
    set_before: int = jax.config.jax_num_cpu_devices  # type: ignore[attr-defined]
    if _is_fixed() or set_before > 0:
        return
    if devices is None:
        import joblib

        devices = joblib.cpu_count() if cores is None else cores
    try:
        jax.config.update("jax_num_cpu_devices", devices)
    except RuntimeError as error:
        # JAX has no exception class for this, and no function that says whether it has started.
        if "before backends are initialized" not in str(error):
            raise


def find_devices() -> list[jax.Device]:
    """Start JAX if nothing has, and return the devices of all processes.

    Raises
    ------
    UserError
        If ``JAX_PLATFORMS`` names what this machine, or the installed JAX, does not have.
    """
    try:
        return jax.devices()
    # For a platform whose plug-in is not installed, JAX 0.10 fails at an assertion of its own.
    except (RuntimeError, AssertionError) as error:
        platforms: str | None = jax.config.jax_platforms  # type: ignore[attr-defined]
        if not platforms or platforms == "cpu":
            raise
        raise UserError(
            f"JAX_PLATFORMS={platforms}: JAX finds no such devices; unset it, set it to cpu, or "
            f"install JAX for them"
        ) from error


def _is_fixed() -> bool:
    """Return whether the user has fixed the number of a CPU's devices with XLA's flag."""
    return XLA_FLAG in os.environ.get("XLA_FLAGS", "")


def batch_mesh(
    batch_size: int | None = None, devices: int | None = None, *, field: str = "batch_size"
) -> Mesh:
    """Return a mesh of the devices of all processes, along the batch.

    Devices are ordered by process, so that a process reads a contiguous part of the batch. Of a
    CPU's devices, which only divide its cores, as many are used as divide the batch.

    Parameters
    ----------
    batch_size
        Clips per batch, over all processes; None: use all devices.
    devices
        Number of devices to use of each process; None: all.
    field
        Name of the batch size in messages.

    Raises
    ------
    UserError
        If a process has fewer devices than requested, the batch size is not a multiple of the
        number of devices, or ``JAX_PLATFORMS`` names what is not here.
    """
    ordered = sorted(find_devices(), key=lambda device: (device.process_index, device.id))
    n_processes = jax.process_count()
    per_process = min(Counter(device.process_index for device in ordered).values())
    if devices is not None:
        if devices > per_process:
            raise UserError(
                f"JAX has {per_process}; give at most that", field="devices", value=devices
            )
        per_process = devices
    elif batch_size is not None and ordered[0].platform == "cpu" and not _is_fixed():
        per_process = largest_divisor(batch_size // n_processes, per_process)
    chosen = [
        device
        for _, of_process in itertools.groupby(ordered, lambda device: device.process_index)
        for device in itertools.islice(of_process, per_process)
    ]
    if batch_size is not None:
        check_batch_size(batch_size, len(chosen), field)
    return Mesh(np.array(chosen), (AXIS,))


def is_cpu(mesh: Mesh) -> bool:
    """Return whether a mesh divides CPUs, whose memory is the host's."""
    return bool(mesh.devices.flat[0].platform == "cpu")


def check_precision(precision: Precision, mesh: Mesh) -> None:
    """Raise a UserError if training in this precision is slower than in float32 on the mesh.

    XLA's convolutions and matrix products on CPUs convert bfloat16 to float32 and back.
    """
    if precision == "bfloat16" and is_cpu(mesh):
        raise UserError(
            "on a CPU a step takes longer with it than with float32; leave it out, or train on a "
            "GPU or TPU",
            field="precision",
            value=precision,
        )


def largest_divisor(number: int, limit: int) -> int:
    """Return the largest divisor of `number` that is at most `limit`; 1 for 0.

    >>> largest_divisor(12, 8)
    6
    """
    return max(n for n in range(1, max(1, min(number, limit)) + 1) if number % n == 0)


def check_batch_size(batch_size: int, devices: int, field: str = "batch_size") -> None:
    """Raise a UserError if the batch size is not a multiple of the number of devices."""
    if batch_size % devices:
        below, above = batch_size // devices * devices, -(-batch_size // devices) * devices
        good = f"{below} or {above}" if below else f"{above}"
        raise UserError(
            f"not a multiple of {devices}, the number of devices; give {good}",
            field=field,
            value=batch_size,
        )
