"""What a run needs to resume, and where it is kept."""

import dataclasses
from collections.abc import Mapping
from typing import Protocol

from jaxtyping import PyTree

from crnn_jax.train.progress import Progress
from crnn_jax.train.state import TrainState


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """All that a run needs to resume, and the best variables so far."""

    state: TrainState
    best: PyTree
    progress: Progress


class Checkpoints(Protocol):
    """Where snapshots are kept (`crnn_jax.train.checkpoints`)."""

    def restore(self, like: Snapshot) -> Snapshot | None:
        """Return the newest snapshot, or None if there is none."""

    def save(self, snapshot: Snapshot) -> None:
        """Start writing a snapshot; the arrays may be freed as soon as this returns."""


@dataclasses.dataclass(frozen=True)
class Branching:
    """Runs of several time budgets that share a beginning, with the schedule ``wsd``.

    Attributes
    ----------
    trunk
        Where a run without a snapshot of its own begins.
    branches
        Where a snapshot is written when the decay of a shorter time budget would begin, by that
        budget in s.
    """

    trunk: Checkpoints | None = None
    branches: Mapping[float, Checkpoints] = dataclasses.field(default_factory=dict)
