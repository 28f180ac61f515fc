"""Snapshots of a run, with Orbax: written beside the training, complete or not there."""

import warnings
import zlib
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jaxtyping import PyTree

from crnn_jax.errors import UserError
from crnn_jax.training import Snapshot

# Two: the newest, and one more in case that cannot be read.
KEPT = 2
# An end to waiting for a disk that does not answer, in s.
WAIT_S = 120
# What the name of a snapshot that could not be read ends with.
UNREADABLE = ".unreadable"


class OrbaxCheckpoints:
    """The ``checkpoints`` folder of a run (see `crnn_jax.training.Checkpoints`).

    A context manager: leaving it waits for what is being written.
    """

    def __init__(self, folder: epath.Path):
        # Made here: where Orbax cannot make it, it says so after minutes of waiting for itself.
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

    def restore(self, like: Snapshot) -> tuple[Snapshot, dict[str, Any]] | None:
        """The newest snapshot that can be read; those that cannot are set aside."""
        while (step := self._manager.latest_step()) is not None:
            try:
                return self._read(step, like)
            except jax.errors.JaxRuntimeError:
                raise  # The device's trouble, not the file's.
            except Exception as error:  # Orbax raises no narrower class for a short file.
                self._set_aside(step, error)
        return None

    def _read(self, step: int, like: Snapshot) -> tuple[Snapshot, dict[str, Any]]:
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                arrays=ocp.args.StandardRestore(
                    jax.tree.map(ocp.utils.to_shape_dtype_struct, _arrays(like))
                ),
                progress=ocp.args.JsonRestore(),
            ),
        )
        snapshot, saved = Snapshot(**restored["arrays"]), restored["progress"]
        if _checksum(snapshot) != saved["checksum"]:
            raise ValueError("its numbers are not those that were written")
        return snapshot, saved["progress"]

    def _set_aside(self, step: int, error: Exception) -> None:
        folder = self._folder / str(step)
        reason = str(error).partition("\n")[0][:200]
        warnings.warn(
            f"{folder}: cannot be read ({reason}); kept as {folder.name}{UNREADABLE}, the snapshot "
            f"before it is used",
            stacklevel=2,
        )
        aside = folder.with_name(f"{folder.name}{UNREADABLE}")
        if aside.exists():
            aside.rmtree()
        folder.rename(aside)
        self._manager.reload()

    def save(self, snapshot: Snapshot, progress: dict[str, Any]) -> None:
        # Numbered by themselves: two snapshots may be of the same training step, before and after
        # an evaluation.
        newest = self._manager.latest_step()
        self._manager.save(
            0 if newest is None else newest + 1,
            args=ocp.args.Composite(
                arrays=ocp.args.StandardSave(_arrays(snapshot)),
                progress=ocp.args.JsonSave({"progress": progress, "checksum": _checksum(snapshot)}),
            ),
        )


def _arrays(snapshot: Snapshot) -> dict[str, PyTree]:
    return {"state": snapshot.state, "best": snapshot.best}


def _checksum(snapshot: Snapshot) -> int:
    """CRC-32 of all arrays: Orbax's own files notice what is missing, not what has changed."""
    checksum = 0
    for leaf in jax.tree.leaves(_arrays(snapshot)):
        checksum = zlib.crc32(np.ascontiguousarray(leaf).data.cast("B"), checksum)
    return checksum


def load_variables(run: epath.Path) -> PyTree:
    """The best variables of a run's newest snapshot, as NumPy arrays.

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
    arguments = ocp.args.Composite(arrays=ocp.args.StandardRestore())
    with manager:
        try:
            restored = manager.restore(step, args=arguments)
        except Exception as error:  # Orbax raises no narrower class for a short file.
            raise UserError(
                f"{folder / str(step)}: cannot be read; delete {run / 'result.json'} and give the "
                f"training command again, which goes on from the snapshot before it"
            ) from error
    return restored["arrays"]["best"]
