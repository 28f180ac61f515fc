"""The learning rate of each step.

The numbers of a schedule are part of the optimiser's state, not of the compiled program: runs that
differ in their learning rate or their length share what is compiled, and a run can decide while it
trains that its decay begins.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from crnn_jax.config import ScheduleKind, TrainConfig
from crnn_jax.errors import UserError

# A decay that has not begun.
NEVER = np.iinfo(np.int32).max


class Plan(NamedTuple):
    """The numbers of a schedule.

    Attributes
    ----------
    peak
        Largest learning rate.
    warmup_steps
        Steps in which the learning rate rises linearly to the peak.
    decay_from, decay_steps
        Step (from 0) from which it falls, and number of steps after which it would be 0.
    """

    peak: Any
    warmup_steps: Any
    decay_from: Any
    decay_steps: Any


class ScheduleState(NamedTuple):
    """State of `scale_by_plan`: updates so far, and the plan."""

    updates: Int[Array, ""]
    plan: Plan


def make_plan(config: TrainConfig, steps_per_epoch: int) -> Plan:
    """Return the plan of a run.

    ``cosine`` falls from the end of the warm-up to the last epoch's end. ``wsd`` (warm-up, stable,
    decay) falls in the last ``config.decay`` of the steps or, with ``max_train_seconds``, of the
    time: when that begins is decided while the run trains, see `begin_decay`.

    Raises
    ------
    UserError
        If warm-up and decay take more steps than the run has.
    """
    total, warmup = config.epochs * steps_per_epoch, config.warmup_steps
    # The cosine begins with the end of the warm-up, and has a step at least.
    left = total - round(config.decay * total) if config.schedule == "wsd" else total
    if warmup > left or (config.schedule == "cosine" and warmup == left):
        raise UserError(
            f"the run has {left:,} steps before its decay ({config.epochs} epochs of "
            f"{steps_per_epoch}); give fewer, or more epochs",
            field="warmup_steps",
            value=warmup,
        )
    decay_from = {"constant": NEVER, "cosine": warmup, "wsd": left}[config.schedule]
    decay_steps = total - decay_from
    return Plan(
        peak=np.float32(config.learning_rate),
        warmup_steps=np.int32(warmup),
        decay_from=np.int32(min(decay_from, NEVER)),
        decay_steps=np.int32(min(max(decay_steps, 1), NEVER)),
    )


def begin_decay(plan: Plan, step: int, decay: float) -> Plan:
    """Return a plan whose decay begins now, and takes `decay` of the steps of the whole run.

    The steps so far are the other part of the run, ``1 - decay`` of it.
    """
    decay_steps = max(1, round(step * decay / (1 - decay)))
    return plan._replace(decay_from=np.int32(step), decay_steps=np.int32(decay_steps))


def learning_rate(
    kind: ScheduleKind, plan: Plan, step: Int[Array, "*steps"], numpy: Any = jnp
) -> Float[Array, "*steps"]:
    """Return the learning rate of a step (from 0).

    With NumPy as the module `numpy` it is computed on the host, apart from rounding the same.

    The decay of ``wsd`` is 1 − √(part of the decay that is over), which Hägele et al., *Scaling
    laws and compute-optimal training beyond fixed training durations* (2024), found better than a
    linear one; ``cosine`` is that of Loshchilov & Hutter, *SGDR* (2017), without restarts.
    """
    rise = numpy.minimum((step + 1) / numpy.maximum(plan.warmup_steps, 1), 1.0)
    if kind == "constant":
        return plan.peak * rise
    over = numpy.clip((step - plan.decay_from) / plan.decay_steps, 0.0, 1.0)
    left = (1 + numpy.cos(numpy.pi * over)) / 2 if kind == "cosine" else 1 - numpy.sqrt(over)
    return plan.peak * rise * left


def scale_by_plan(kind: ScheduleKind, plan: Plan) -> optax.GradientTransformation:
    """Return the transformation that multiplies updates by minus the learning rate."""

    def init(params: optax.Params) -> ScheduleState:
        del params
        return ScheduleState(jnp.zeros((), jnp.int32), Plan(*map(jnp.asarray, plan)))

    def update(
        updates: optax.Updates, state: ScheduleState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, ScheduleState]:
        del params
        step_size = -learning_rate(kind, state.plan, state.updates)
        updates = optax.tree.scale(step_size, updates)
        return updates, ScheduleState(state.updates + 1, state.plan)

    return optax.GradientTransformation(init, update)  # type: ignore[arg-type]
