"""Snapshots of a run, with Orbax: written during training, each complete or absent.

A snapshot has three items: `state`, to resume from; `best`, the best variables so far, which can be
read alone; and `progress`, plain values and the checksums of the other two.
"""

import dataclasses
import os
import re
import warnings
import zlib
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jaxtyping import PyTree

from crnn_jax.errors import UserError
from crnn_jax.serialization import from_mapping
from crnn_jax.train import parallel
from crnn_jax.train.progress import Progress
from crnn_jax.train.snapshots import Snapshot

# Two: the newest, and one more in case it cannot be read.
KEPT = 2
# Longest wait for a disk that does not answer, in s.
WAIT_S = 120
# Suffix of the name of a snapshot that could not be read.
UNREADABLE = ".unreadable"
CHANGED = "its numbers differ from those that were written"


class OrbaxCheckpoints:
    """The ``checkpoints`` folder of a run (see `crnn_jax.train.snapshots.Checkpoints`).

    A context manager: leaving it waits for pending writes.
    """

    def __init__(self, folder: epath.Path):
        # Created here: if Orbax cannot create it, it reports so only after minutes of waiting.
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        options = ocp.CheckpointManagerOptions(
            max_to_keep=KEPT,
            async_options=ocp.AsyncOptions(
                timeout_secs=WAIT_S, create_directories_asynchronously=False
            ),
        )
        self._manager = ocp.CheckpointManager(folder.resolve(), options=options)

    def __enter__(self) -> "OrbaxCheckpoints":
        return self

    def __exit__(self, *exception: object) -> None:
        self._manager.close()

    def restore(self, like: Snapshot) -> Snapshot | None:
        """Return the newest snapshot that is not damaged, and set damaged ones aside.

        Raises
        ------
        OSError
            If the disk cannot be read; the snapshot itself may be intact.
        UserError
            If a snapshot is of another network or optimiser.
        """
        self._manager.wait_until_finished()
        while (step := self._manager.latest_step()) is not None:
            reason, found = "another process cannot read it", None
            try:
                found = self._read(step, like)
            except UserError:
                raise
            except Exception as error:  # Orbax raises no narrower class for a truncated file.
                raise_if_not_damage(error, self._folder / str(step))
                reason = str(error).partition("\n")[0][:200]
            (unreadable,) = parallel.agree(found is None)
            if not unreadable:
                return found
            self._set_aside(step, reason)
        return None

    def _read(self, step: int, like: Snapshot) -> Snapshot:
        wanted = {"state": like.state, "best": like.best}
        for item, tree in wanted.items():
            stored = ocp.StandardCheckpointHandler().metadata(
                self._folder.resolve() / str(step) / item
            )
            if difference := _difference(stored.tree, tree):
                raise UserError(
                    f"{self._folder / str(step)}: a snapshot of another network or optimiser "
                    f"({item}: {difference}); continue with the version of crnn_jax that wrote "
                    f"it, or give another output folder"
                )
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                **{
                    item: ocp.args.StandardRestore(
                        jax.tree.map(ocp.utils.to_shape_dtype_struct, tree)
                    )
                    for item, tree in wanted.items()
                },
                progress=ocp.args.JsonRestore(),
            ),
        )
        saved = restored["progress"]
        for item in wanted:
            if _checksum(restored[item]) != saved["checksums"][item]:
                raise ValueError(CHANGED)
        progress = from_mapping(Progress, saved["progress"])
        return Snapshot(restored["state"], restored["best"], progress)

    def _set_aside(self, step: int, reason: str) -> None:
        folder = self._folder / str(step)
        others = [s for s in self._manager.all_steps() if s != step]
        then = "the snapshot before it is used" if others else "the run starts again"
        warnings.warn(
            f"{folder}: cannot be read ({reason}); kept as {folder.name}{UNREADABLE}, {then}",
            stacklevel=2,
        )
        if jax.process_index() == 0:
            aside = folder.with_name(f"{folder.name}{UNREADABLE}")
            if aside.exists():
                aside.rmtree()
            folder.rename(aside)
        parallel.together()
        self._manager.reload()

    def save(self, snapshot: Snapshot) -> None:
        """Start writing a snapshot; the arrays may be freed as soon as this returns."""
        trees = {"state": snapshot.state, "best": snapshot.best}
        self._write(trees, dataclasses.asdict(snapshot.progress))

    def save_best(self, best: PyTree) -> None:
        """Write variables that were not trained here, without a state to resume from."""
        self._write({"best": best}, None)

    def _write(self, trees: dict[str, PyTree], progress: dict[str, Any] | None) -> None:
        # Snapshots have numbers of their own: two may be of the same training step, before and
        # after an evaluation.
        newest = self._manager.latest_step()
        checksums = {item: _checksum(tree) for item, tree in trees.items()}
        self._manager.save(
            0 if newest is None else newest + 1,
            args=ocp.args.Composite(
                **{item: ocp.args.StandardSave(tree) for item, tree in trees.items()},
                progress=ocp.args.JsonSave({"progress": progress, "checksums": checksums}),
            ),
        )


def raise_if_not_damage(error: Exception, snapshot: epath.Path) -> None:
    """Raise an error from reading a snapshot again, unless its cause is damage to the files.

    Raises
    ------
    OSError
        The system's error, also where TensorStore reports it in its own words.
    """
    if isinstance(error, jax.errors.JaxRuntimeError | MemoryError):
        raise error
    if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
        raise error
    for code in re.findall(r"(?:OS error |os_error_code=')(\d+)", str(error)):
        system_error = OSError(int(code), os.strerror(int(code)), os.fspath(snapshot))
        if not isinstance(system_error, FileNotFoundError):
            raise system_error from error


def _difference(stored: PyTree, wanted: PyTree) -> str:
    """Describe the first array that differs in shape or is in one tree only; "" if none."""
    there, here = _shapes(stored), _shapes(wanted)
    for name in (*there, *here):
        if there.get(name) != here.get(name):
            return f"{name}: {there.get(name, 'nothing')}, expected {here.get(name, 'nothing')}"
    return ""


def _shapes(tree: PyTree) -> dict[str, tuple[int, ...]]:
    """Map paths to shapes, alike for a class and for the mapping that Orbax stores of it."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): tuple(leaf.shape)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _checksum(arrays: PyTree) -> int:
    """Compute the CRC-32 of all arrays: Orbax notices missing data, but not changed data."""
    checksum = 0
    for leaf in jax.tree.leaves(arrays):
        checksum = zlib.crc32(np.ascontiguousarray(leaf).data.cast("B"), checksum)
    return checksum


def load_variables(run: epath.Path) -> PyTree:
    """Load the best variables of a run's newest snapshot onto one device.

    Any number of devices may have trained them.

    Raises
    ------
    UserError
        If the run has no snapshot, or its newest cannot be read.
    """
    folder = run / "checkpoints"
    manager = ocp.CheckpointManager(folder.resolve()) if folder.exists() else None
    step = manager.latest_step() if manager is not None else None
    if manager is None or step is None:
        raise UserError(f"{run}: no checkpoint; train it first (`crnn-jax train`)")
    one_device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    arguments = ocp.args.Composite(
        best=ocp.args.StandardRestore(fallback_sharding=one_device),
        progress=ocp.args.JsonRestore(),
    )
    with manager:
        try:
            restored = manager.restore(step, args=arguments)
            if _checksum(restored["best"]) != restored["progress"]["checksums"]["best"]:
                raise ValueError(CHANGED)
        except Exception as error:  # Orbax raises no narrower class for a truncated file.
            raise_if_not_damage(error, folder / str(step))
            raise UserError(
                f"{folder / str(step)}: cannot be read; delete {run / 'result.json'} and give the "
                f"training command again, which resumes from the snapshot before it"
            ) from error
    return restored["best"]
