"""The optimiser."""

import jax
import optax
from jaxtyping import PyTree

from crnn_jax.config import TrainConfig
from crnn_jax.train.schedule import Plan, ScheduleState, make_plan, scale_by_plan


def make_optimizer(
    config: TrainConfig, plan: Plan | None = None, rates: PyTree | None = None
) -> optax.GradientTransformation:
    """Return Adam (Kingma & Ba 2015), or AdamW (Loshchilov & Hutter 2019), and a schedule.

    Parameters
    ----------
    config
        The kind of optimiser and of schedule.
    plan
        The schedule's numbers; None: those of a run of one step per epoch.
    rates
        Multiplier of the learning rate for each parameter
        (`crnn_jax.train.parametrization.learning_rates`); None: 1.
    """
    parts = [optax.scale_by_adam()]
    if config.optimizer == "adamw":
        parts.append(optax.add_decayed_weights(config.weight_decay, mask=are_kernels))
    if rates is not None:
        parts.append(
            optax.stateless(
                lambda updates, params: jax.tree.map(lambda x, rate: rate * x, updates, rates)
            )
        )
    schedule = scale_by_plan(config.schedule, make_plan(config, 1) if plan is None else plan)
    return optax.chain(*parts, schedule)


def are_kernels(params: PyTree) -> PyTree:
    """Return which parameters are kernels: biases and batch norms are not decayed."""
    return jax.tree.map(lambda x: x.ndim > 1, params)


def plan_of(opt_state: PyTree) -> Plan:
    """Return the schedule's plan in the optimiser's state."""
    schedule: ScheduleState = opt_state[-1]
    return schedule.plan


def with_plan(opt_state: PyTree, plan: Plan) -> PyTree:
    """Return the optimiser's state with another plan."""
    return (*opt_state[:-1], opt_state[-1]._replace(plan=plan))
