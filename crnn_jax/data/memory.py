"""How much memory this process may still use."""

from collections.abc import Iterator
from pathlib import Path

import psutil

# Linux control groups (cgroups(7)): where they are mounted, and which ones this process is in.
CGROUPS = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")
# Files of the limit and of what is used, and the field of memory.stat that says how much of that is
# cached files, which the system drops when memory is needed: version 2, version 1.
VERSIONS = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def available_memory(cgroups: Path = CGROUPS, own: Path = OWN) -> int:
    """Return the memory that is available without swapping, in bytes.

    The least of the machine's and of what a container, a batch system's job or a service may use.

    Parameters
    ----------
    cgroups, own
        Where the system states the limits, and which of them hold for this process.
    """
    available: int = psutil.virtual_memory().available
    return min([available, *(max(0, left) for left in _left_in_groups(cgroups, own))])


def _left_in_groups(cgroups: Path, own: Path) -> Iterator[int]:
    """Yield what each limited group that this process is in may still use, in bytes."""
    if not own.exists():
        return
    for line in own.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        mounted = cgroups / controllers
        group = mounted / path.lstrip("/")
        # In a container the path may be that outside of it, where only the mount is visible.
        for folder in (group, *group.parents):
            yield from _left_in(folder)
            if folder == mounted:
                break


def _left_in(folder: Path) -> Iterator[int]:
    for limit_file, used_file, cached_field in VERSIONS:
        if not (folder / limit_file).exists():
            continue
        limit = (folder / limit_file).read_text().strip()
        if limit != "max":
            fields = dict(
                line.split() for line in (folder / "memory.stat").read_text().splitlines()
            )
            used = int((folder / used_file).read_text()) - int(fields.get(cached_field, 0))
            yield int(limit) - used
