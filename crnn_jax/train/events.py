"""Events that a run reports while it trains.

A subscriber (a display, a file of JSON lines, an experiment tracker) is a function of one event.
Training knows nothing else about it.
"""

import dataclasses
from collections.abc import Callable

from crnn_jax.train.progress import EpochRecord


@dataclasses.dataclass(frozen=True)
class StepDone:
    """A training step has ended.

    Attributes
    ----------
    epoch
        Finished epochs.
    step, steps_per_epoch
        Steps of this epoch so far, and in total.
    loss
        Loss of the step's batch.
    """

    epoch: int
    step: int
    steps_per_epoch: int
    loss: float


@dataclasses.dataclass(frozen=True)
class EpochDone:
    """An epoch has been scored, or a run resumes after one.

    Attributes
    ----------
    history
        All finished epochs: after an interruption, a subscriber may not have seen the earlier ones.
    """

    history: tuple[EpochRecord, ...]


TrainEvent = StepDone | EpochDone
OnTrainEvent = Callable[[TrainEvent], None]
