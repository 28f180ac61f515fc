"""Snapshots of a run, with Orbax: written beside the training, complete or not there."""

from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath
from jaxtyping import PyTree

from crnn_jax.errors import UserError
from crnn_jax.training import Snapshot

# Two: the newest, and one more in case that cannot be read.
KEPT = 2


class OrbaxCheckpoints:
    """The ``checkpoints`` folder of a run (see `crnn_jax.training.Checkpoints`).

    A context manager: leaving it waits for what is being written.
    """

    def __init__(self, folder: epath.Path):
        # Made here: where Orbax cannot make it, it says so after minutes of waiting for itself.
        folder.mkdir(parents=True, exist_ok=True)
        options = ocp.CheckpointManagerOptions(max_to_keep=KEPT)
        self._manager = ocp.CheckpointManager(folder.resolve(), options=options)

    def __enter__(self) -> "OrbaxCheckpoints":
        return self

    def __exit__(self, *exception: object) -> None:
        self._manager.close()

    def restore(self, like: Snapshot) -> tuple[Snapshot, dict[str, Any]] | None:
        step = self._manager.latest_step()
        if step is None:
            return None
        arrays = _arrays(like)
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                arrays=ocp.args.StandardRestore(
                    jax.tree.map(ocp.utils.to_shape_dtype_struct, arrays)
                ),
                progress=ocp.args.JsonRestore(),
            ),
        )
        return Snapshot(**restored["arrays"]), restored["progress"]

    def save(self, snapshot: Snapshot, progress: dict[str, Any]) -> None:
        # Numbered by themselves: two snapshots may be of the same training step, before and after
        # an evaluation.
        newest = self._manager.latest_step()
        self._manager.save(
            0 if newest is None else newest + 1,
            args=ocp.args.Composite(
                arrays=ocp.args.StandardSave(_arrays(snapshot)),
                progress=ocp.args.JsonSave(progress),
            ),
        )


def _arrays(snapshot: Snapshot) -> dict[str, PyTree]:
    return {"state": snapshot.state, "best": snapshot.best}


def load_variables(run: epath.Path) -> PyTree:
    """The best variables of a run's newest snapshot, as NumPy arrays.

    Raises
    ------
    UserError
        If the run has no snapshot.
    """
    folder = run / "checkpoints"
    manager = ocp.CheckpointManager(folder.resolve()) if folder.exists() else None
    step = manager.latest_step() if manager is not None else None
    if manager is None or step is None:
        raise UserError(f"{run}: no checkpoint; train it first (`crnn-jax train`)")
    with manager:
        restored = manager.restore(step, args=ocp.args.Composite(arrays=ocp.args.StandardRestore()))
    return restored["arrays"]["best"]
