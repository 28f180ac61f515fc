"""Events that a run reports while it trains.

A subscriber (a display, a file of JSON lines, an experiment tracker) is a function of one event.
Training knows nothing else about it.
"""

import dataclasses
from collections.abc import Callable

from crnn_jax.train.progress import EpochRecord


@dataclasses.dataclass(frozen=True)
class RunBegun:
    """A run begins, or resumes from a snapshot: what it reports next follows on this.

    Attributes
    ----------
    step
        Steps done before.
    history
        Epochs finished before.
    """

    step: int
    history: tuple[EpochRecord, ...]


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
    gradient_norm
        Norm of the gradient of all parameters.
    learning_rate
        Learning rate of the step, by the schedule.
    """

    epoch: int
    step: int
    steps_per_epoch: int
    loss: float
    gradient_norm: float
    learning_rate: float

    @property
    def steps_so_far(self) -> int:
        """Steps of the run so far: only its last epoch may have fewer than the others."""
        return self.epoch * self.steps_per_epoch + self.step


@dataclasses.dataclass(frozen=True)
class EpochDone:
    """An epoch has been scored, or a run resumes after one.

    Attributes
    ----------
    history
        All finished epochs: after an interruption, a subscriber may not have seen the earlier ones.
    """

    history: tuple[EpochRecord, ...]


TrainEvent = RunBegun | StepDone | EpochDone
OnTrainEvent = Callable[[TrainEvent], None]
