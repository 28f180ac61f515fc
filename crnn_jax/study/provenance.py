"""Provenance of results: processor or accelerator, versions, commit."""

import functools
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jax


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions of the packages that the numbers depend on."""
    packages = ("crnn_jax", "jax", "jaxlib", "flax", "optax", "grain", "numpy")
    return {package: metadata.version(package) for package in packages}


@functools.cache
def git_commit() -> str | None:
    """Return the commit of this checkout; None outside of one."""
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


def device_name(device: "jax.Device") -> str:
    """Return a device's kind; for a CPU, whose kind is just ``cpu``, the processor's name."""
    return processor_name() if device.platform == "cpu" else device.device_kind


@functools.cache
def processor_name() -> str:
    """Return the name of the processor, and how many of its cores this process may use."""
    import joblib

    return f"{processor_model()}, {joblib.cpu_count()} cores"


def processor_model() -> str:
    """Return the system's name for the processor; its architecture if there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except FileNotFoundError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
