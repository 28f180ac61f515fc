"""The progress of a run, in plain values."""

import dataclasses
from typing import Literal

EndedBy = Literal["epochs", "patience", "time"]


@dataclasses.dataclass(frozen=True)
class EpochRecord:
    """A finished epoch: a line of ``metrics.jsonl``.

    Attributes
    ----------
    epoch
        From 1.
    step
        Steps so far.
    loss
        Mean over the epoch's steps.
    valid_auc, valid_ap
        Macro scores of the parameters after the epoch.
    train_s
        Training time so far, in s.
    """

    epoch: int
    step: int
    loss: float
    valid_auc: float
    valid_ap: float | None
    train_s: float


@dataclasses.dataclass
class Progress:
    """The progress of a run, except for its arrays.

    Attributes
    ----------
    history
        The finished epochs.
    step
        Steps so far, which is also the number of the next batch.
    loss_sum, steps_in_epoch
        Sum of the losses of this epoch's steps so far, and their number.
    best_valid_auc, best_epoch
        Validation AUC and epoch of the best parameters. Epochs count from 1.
    seconds
        Wall time by activity (`crnn_jax.train.clock.Clock`).
    ended_by
        What ended the training, once it has ended.
    decay_end
        Steps after which a decay ends that began because of the time.
    branched
        Time budgets, in s, whose runs have branched off so far.
    shared_s
        Training time, in s, that this run shares with the one that it branched off.
    """

    history: tuple[EpochRecord, ...] = ()
    step: int = 0
    loss_sum: float = 0.0
    steps_in_epoch: int = 0
    best_valid_auc: float = -1.0
    best_epoch: int = 0
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    ended_by: EndedBy | None = None
    decay_end: int | None = None
    branched: tuple[float, ...] = ()
    shared_s: float = 0.0

    @property
    def epoch(self) -> int:
        """Finished epochs."""
        return len(self.history)
