"""What a sweep reports while it runs its cells."""

import dataclasses
from collections.abc import Callable

from crnn_jax.models.budget import Budget
from crnn_jax.study.schema import Cell, Network, RunResult
from crnn_jax.train.events import TrainEvent


@dataclasses.dataclass(frozen=True)
class SweepStarted:
    """All cells of the study can be built; none has been trained yet."""

    cells: tuple[Cell, ...]


@dataclasses.dataclass(frozen=True)
class RareTags:
    """Tags with too few positive examples for a score that says much, by split."""

    tags: dict[str, tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class RatesChosen:
    """The short runs are done: the learning rate of each network."""

    rates: dict[Network, float]


@dataclasses.dataclass(frozen=True)
class CellStarted:
    """A cell begins, or continues after an interruption."""

    cell: Cell
    budget: Budget


@dataclasses.dataclass(frozen=True)
class CellProgress:
    """A training event of a cell.

    Attributes
    ----------
    cell
        The cell.
    event
        What its run reports.
    max_epochs
        Maximum number of epochs.
    """

    cell: Cell
    event: TrainEvent
    max_epochs: int


@dataclasses.dataclass(frozen=True)
class CellFinished:
    """A cell has its result."""

    cell: Cell
    result: RunResult


@dataclasses.dataclass(frozen=True)
class CellSkipped:
    """A cell was already finished."""

    cell: Cell


@dataclasses.dataclass(frozen=True)
class CellFailed:
    """A cell ended without a result; `error` says why, in one line."""

    cell: Cell
    error: str


@dataclasses.dataclass(frozen=True)
class CellLeft:
    """A cell is left to another process, which is still training it."""

    cell: Cell


SweepEvent = (
    SweepStarted
    | RareTags
    | RatesChosen
    | CellStarted
    | CellProgress
    | CellFinished
    | CellSkipped
    | CellFailed
    | CellLeft
)
OnSweepEvent = Callable[[SweepEvent], None]


def ignore(event: object) -> None:
    """Ignore an event."""
