"""A training run in progress: its state, and the operations on it."""

import dataclasses
import math
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from crnn_jax.config import RuntimeConfig, TrainConfig
from crnn_jax.signals import Terminated
from crnn_jax.train import parallel
from crnn_jax.train.clock import Clock
from crnn_jax.train.compile import Compiled
from crnn_jax.train.devices import is_cpu
from crnn_jax.train.events import EpochDone, OnTrainEvent, RunBegun, StepDone
from crnn_jax.train.feed import Feed, TrainingFeed
from crnn_jax.train.metrics import TagScores, score_tags
from crnn_jax.train.optimizer import plan_of, with_plan
from crnn_jax.train.pace import Pace
from crnn_jax.train.predict import predict
from crnn_jax.train.progress import EndedBy, EpochRecord, Progress
from crnn_jax.train.schedule import begin_decay, learning_rate, make_plan
from crnn_jax.train.snapshots import Branching, Checkpoints, Snapshot
from crnn_jax.train.state import TrainState


class Diverged(Exception):
    """The loss, a gradient, a parameter or an output is no longer a finite number."""


@dataclasses.dataclass(frozen=True)
class SplitScores:
    """The outputs for a split after training, and their scores.

    Attributes
    ----------
    logits, targets
        Outputs of the network, and what they should be.
    tags
        Scores of each tag.
    """

    logits: Float[np.ndarray, "examples tags"]
    targets: Int[np.ndarray, "examples tags"]
    tags: TagScores


@jax.jit
def _copy(variables: PyTree) -> PyTree:
    """Copy all arrays, as one program."""
    return jax.tree.map(jnp.copy, variables)


class TrainingRun:
    """The mutable state of a training run, and the operations on it."""

    def __init__(
        self,
        compiled: Compiled,
        config: TrainConfig,
        runtime: RuntimeConfig,
        feed: Feed,
        n_steps: int,
        checkpoints: Checkpoints,
        branching: Branching,
        on_event: OnTrainEvent,
        stop_requested: Callable[[], bool],
        state: TrainState,
    ):
        self.compiled, self.config, self.runtime = compiled, config, runtime
        self.feed, self.n_steps, self.checkpoints = feed, n_steps, checkpoints
        self.branching = branching
        self.on_event, self.stop_requested = on_event, stop_requested
        self.state = state
        # A step donates the memory of the state before it.
        self.best = _copy(state.variables)
        self.progress = Progress()
        self.clock = Clock()
        # XLA's products on CPUs are slower inside a loop, and a step there takes long.
        self._pace = Pace(n_steps, runtime.steps_per_dispatch or (1 if is_cpu(feed.mesh) else None))
        # A copy on the host of what the state has of the schedule: to report the learning rate of
        # a step costs no transfer.
        self._plan = make_plan(config, n_steps)
        # In steps; the time may be up before.
        self._decay_from = int(self._plan.decay_from)
        self._dispatches = 0
        # Metrics of the steps in progress, if there are any.
        self._pending: dict[str, Array] | None = None
        self._last_save = time.perf_counter()
        self._saved_at: tuple[int, int, bool] | None = None

    def restore(self) -> None:
        """Resume from the newest snapshot, or branch off another run, if there is one."""
        like = Snapshot(self.state, self.best, self.progress)
        found = self.checkpoints.restore(like)
        if found is None and self.branching.trunk is not None:
            found = self.branching.trunk.restore(like)
            if found is not None:
                found.progress.shared_s = found.progress.seconds.get("train", 0.0)
        if found is not None:
            self.state, self.best, self.progress = found.state, found.best, found.progress
            self._plan = jax.device_get(plan_of(self.state.opt_state))
        self.on_event(RunBegun(self.progress.step, self.progress.history))
        if self.progress.history:
            self.on_event(EpochDone(self.progress.history))

    def train_epoch(self, batches: TrainingFeed) -> None:
        """Train to the end of the epoch, or until time is up."""
        progress = self.progress
        _, _, time_is_up = self.ask()
        while (left := self.steps_left()) and not time_is_up:
            count = self._pace.next_steps(left)
            step = self.step_of(count, batches)
            before = self.clock["train"]
            batch = batches.take(count)
            # While the previous steps are in progress, reading does not delay the devices.
            if self._pending is None or self._pending["loss"].is_ready():  # type: ignore[attr-defined]
                self.clock.credit("input_wait", self.clock["train"] - before)
            self.state, metrics = step(self.state, batch)
            # Wait for the previous steps, not these: an accelerator works on these while the next
            # batch is read.
            self.settle()
            self._pending = metrics
            progress.step += count
            progress.steps_in_epoch += count
            self._dispatches += 1
            self._pace.observe(self.clock["train"] - before)
            if self._dispatches % parallel.dispatches_between_questions() == 0:
                stop, due, time_is_up = self.ask()
                if stop or due:
                    self.settle()
                    self.save()
                if stop:
                    raise Terminated
        self.settle()

    def steps_left(self) -> int:
        """Return the steps that are left of this epoch, or of a decay that ends before."""
        progress = self.progress
        left = self.n_steps - progress.steps_in_epoch
        if progress.decay_end is not None:
            left = min(left, progress.decay_end - progress.step)
        return max(left, 0)

    def step_of(self, count: int, batches: TrainingFeed) -> Callable:
        """Return the compiled program of as many steps."""
        if count == 1:
            return self.compiled.train
        with self.clock.pause("compile"):
            batches.compile(count)
            return self.compiled.train_several(count)

    def settle(self) -> None:
        """Wait for the steps in progress, and record their losses."""
        if self._pending is None:
            return
        metrics, self._pending = self._pending, None
        fetched = jax.device_get(metrics)
        losses = np.atleast_1d(fetched["loss"]).astype(float).tolist()
        norms = np.atleast_1d(fetched["gradient_norm"]).astype(float).tolist()
        progress = self.progress
        steps = np.arange(progress.step - len(losses), progress.step)
        rates = learning_rate(self.config.schedule, self._plan, steps, np).tolist()  # type: ignore[arg-type]
        backs = range(len(losses) - 1, -1, -1)
        for back, loss, norm, rate in zip(backs, losses, norms, rates, strict=True):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise self.diverged(f"loss {loss}, gradient norm {norm}", progress.step - back)
            progress.loss_sum += loss
            step = progress.steps_in_epoch - back
            self.on_event(StepDone(progress.epoch, step, self.n_steps, loss, norm, rate))

    def score_epoch(self) -> None:
        """Score the validation split, and keep the parameters if they are the best so far."""
        progress = self.progress
        scores = self.score(self.state.variables, "valid").tags
        assert scores.macro_auc is not None, "checked before training by check_scorable"
        if scores.macro_auc > progress.best_valid_auc:
            progress.best_valid_auc = scores.macro_auc
            progress.best_epoch = progress.epoch + 1
            self.best = _copy(self.state.variables)
        record = EpochRecord(
            epoch=progress.epoch + 1,
            step=progress.step,
            loss=progress.loss_sum / max(1, progress.steps_in_epoch),
            valid_auc=scores.macro_auc,
            valid_ap=scores.macro_average_precision,
            train_s=self.clock["train"],
        )
        progress.history = (*progress.history, record)
        # Together: a snapshot must not have the epoch's record and its steps.
        progress.loss_sum, progress.steps_in_epoch = 0.0, 0

    def score(self, variables: PyTree, split: str) -> SplitScores:
        """Score a split."""
        with self.clock.pause("eval"):
            logits, targets = predict(
                self.compiled.evaluate,
                variables,
                self.feed,
                split,
                between_batches=self._between_batches,
            )
            if not np.isfinite(logits).all():
                raise self.diverged("the network's outputs are no longer finite")
            return SplitScores(logits, targets, score_tags(targets, logits))

    def _between_batches(self) -> None:
        """Save or stop: an evaluation may outlast the time left to a process asked to stop."""
        stop, due, _ = self.ask()
        if stop or due:
            self.save()
        if stop:
            raise Terminated

    def ask(self) -> tuple[bool, bool, bool]:
        """Return whether to stop, to save, and whether time is up: the same in all processes."""
        train_s, decays = self.clock["train"], self.config.schedule == "wsd"
        limit = self.config.max_train_seconds
        due = time.perf_counter() - self._last_save > self.runtime.checkpoint_seconds
        if decays and limit is not None:
            limit = None if self.has_decay_begun() else (1 - self.config.decay) * limit
        time_is_up = limit is not None and train_s >= limit
        budget = self.next_branch()
        branches = budget is not None and train_s >= (1 - self.config.decay) * budget
        stop, due, time_is_up, branches = parallel.agree(
            self.stop_requested(), due, time_is_up, branches
        )
        if branches:
            assert budget is not None
            self.branch(budget)
        if time_is_up and decays:
            self.begin_decay()
            time_is_up = False
        return stop, due, time_is_up

    def next_branch(self) -> float | None:
        """Return the shortest time budget whose run has not branched off yet, but still can."""
        if self.has_decay_begun():
            return None
        return min(set(self.branching.branches) - set(self.progress.branched), default=None)

    def branch(self, budget: float) -> None:
        """Write the snapshot with which the run of a shorter time budget begins its decay."""
        self.settle()
        with self.clock.pause("checkpoint"):
            self.progress.seconds = self.clock.seconds()
            self.branching.branches[budget].save(Snapshot(self.state, self.best, self.progress))
        self.progress.branched = (*self.progress.branched, budget)

    def has_decay_begun(self) -> bool:
        """Return whether the learning rate falls, because of the time or of the steps."""
        return self.progress.step >= self._decay_from or self.progress.decay_end is not None

    def begin_decay(self) -> None:
        """Let the learning rate fall from now on."""
        self._plan = begin_decay(self._plan, self.progress.step, self.config.decay)
        self.progress.decay_end = int(self._plan.decay_from) + int(self._plan.decay_steps)
        plan = parallel.put_replicated(self.feed.mesh, self._plan)
        self.state = dataclasses.replace(
            self.state, opt_state=with_plan(self.state.opt_state, plan)
        )

    def reason_to_end(self, time_is_up: bool) -> EndedBy | None:
        """Return what ends the training after this epoch, or None."""
        progress, config = self.progress, self.config
        if time_is_up or (progress.decay_end is not None and progress.step >= progress.decay_end):
            return "time"
        if progress.epoch == config.epochs:
            return "epochs"
        waited = progress.epoch - progress.best_epoch
        if config.schedule == "constant" and waited >= config.patience:
            return "patience"
        return None

    def save(self) -> None:
        """Write a snapshot, unless the last one has the same position."""
        progress = self.progress
        position = (progress.step, progress.epoch, progress.ended_by is not None)
        if position == self._saved_at:
            return
        with self.clock.pause("checkpoint"):
            # The loss is from before the update, which may be the first that is not finite.
            variables = jax.tree.leaves(self.state.variables)
            if not all(np.isfinite(leaf).all() for leaf in variables):
                raise self.diverged("the parameters are no longer finite")
            progress.seconds = self.clock.seconds()
            self.checkpoints.save(Snapshot(self.state, self.best, progress))
        self._last_save, self._saved_at = time.perf_counter(), position

    def diverged(self, what: str, step: int | None = None) -> Diverged:
        """Return an error that names the step, by default the last one."""
        step = self.progress.step if step is None else step
        return Diverged(f"diverged at step {step}: {what}; try a lower learning rate")
