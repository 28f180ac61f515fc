"""How much memory this process may still use."""

from pathlib import Path

import psutil

# Limit and use of a container (Linux control groups, version 2).
CGROUP = Path("/sys/fs/cgroup")


def available_memory(cgroup: Path = CGROUP) -> int:
    """Return the memory that is available without swapping, in bytes.

    Parameters
    ----------
    cgroup
        Folder in which the system states the limit of this process's container.
    """
    available: int = psutil.virtual_memory().available
    try:
        limit = (cgroup / "memory.max").read_text().strip()
        used = int((cgroup / "memory.current").read_text())
    except FileNotFoundError:
        return available
    return available if limit == "max" else min(available, max(0, int(limit) - used))
