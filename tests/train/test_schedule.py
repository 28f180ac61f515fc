"""Learning rates of every step, against closed forms and optax's own schedules."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_jax.config import TrainConfig
from crnn_jax.errors import UserError
from crnn_jax.train.optimizer import make_optimizer, plan_of, with_plan
from crnn_jax.train.schedule import begin_decay, learning_rate, make_plan


def rates(steps_per_epoch=10, n_steps=None, **changes):
    """Learning rates of a run's steps."""
    config = TrainConfig(**{"epochs": 10, "learning_rate": 0.01, **changes})
    steps = jnp.arange(n_steps or config.epochs * steps_per_epoch)
    return np.asarray(learning_rate(config.schedule, make_plan(config, steps_per_epoch), steps))


def test_a_constant_rate_is_exactly_that():
    assert set(rates().tolist()) == {float(np.float32(0.01))}


def test_cosine_is_that_of_optax():
    expected = optax.cosine_decay_schedule(0.01, 100)(np.arange(100))
    np.testing.assert_allclose(rates(schedule="cosine"), expected, rtol=1e-5, atol=1e-8)
    with_rise = rates(schedule="cosine", warmup_steps=20)
    np.testing.assert_allclose(with_rise[:20], 0.01 * np.arange(1, 21) / 20, rtol=1e-5)
    expected = optax.cosine_decay_schedule(0.01, 80)(np.arange(80))
    np.testing.assert_allclose(with_rise[20:], expected, rtol=1e-5, atol=1e-8)


def test_wsd_is_constant_then_falls_by_the_square_root():
    values = rates(schedule="wsd", decay=0.25, warmup_steps=4)
    np.testing.assert_allclose(values[:4], [0.0025, 0.005, 0.0075, 0.01], rtol=1e-5)
    np.testing.assert_allclose(values[4:75], 0.01, rtol=1e-6)
    np.testing.assert_allclose(values[75:], 0.01 * (1 - np.sqrt(np.arange(25) / 25)), rtol=1e-4)


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(["constant", "cosine", "wsd"]),
    st.integers(0, 60),
    st.floats(0.05, 0.4),
    st.integers(1, 20),
)
def test_rates_rise_stay_and_fall(schedule, warmup_steps, decay, epochs):
    values = rates(
        steps_per_epoch=110,
        schedule=schedule,
        warmup_steps=warmup_steps,
        decay=decay,
        epochs=epochs,
    )
    assert values.min() >= 0
    assert values.max() <= np.float32(0.01)
    peak = int(np.argmax(values))
    assert (np.diff(values[: peak + 1]) >= 0).all()
    assert (np.diff(values[peak:]) <= 1e-9).all()
    if schedule != "constant":
        assert values[-1] < 0.005


@pytest.mark.parametrize("schedule", ["constant", "cosine", "wsd"])
def test_the_host_computes_the_same_rates(schedule):
    config = TrainConfig(epochs=10, learning_rate=0.01, schedule=schedule, warmup_steps=7)
    plan, steps = make_plan(config, 10), np.arange(100)
    on_host = learning_rate(schedule, plan, steps, np)
    assert isinstance(on_host, np.ndarray)
    np.testing.assert_allclose(
        on_host, rates(schedule=schedule, warmup_steps=7), rtol=1e-4, atol=1e-8
    )


def test_a_decay_can_begin_at_any_step():
    """It takes the part of the whole run that it is meant to."""
    plan = begin_decay(make_plan(TrainConfig(schedule="wsd", epochs=100_000), 10), 800, 0.2)
    assert (int(plan.decay_from), int(plan.decay_steps)) == (800, 200)
    values = learning_rate("wsd", plan, jnp.arange(1000))
    np.testing.assert_allclose(values[:800], 1e-3, rtol=1e-6)
    assert 0 < values[-1] < values[801] < 1e-3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": "cosine", "warmup_steps": 100}, "warmup_steps 100: the run has 100 steps"),
        ({"schedule": "wsd", "warmup_steps": 81}, "warmup_steps 81: the run has 80 steps"),
        ({"warmup_steps": 101}, "warmup_steps 101"),
    ],
)
def test_a_schedule_longer_than_the_run_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        rates(**changes)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_learning_rate_is_a_number_above_zero(value):
    with pytest.raises(UserError, match="learning_rate"):
        TrainConfig(learning_rate=value)


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_updates_are_those_of_optax(optimizer, schedule):
    """With the same schedule built by optax, on a made-up problem."""
    config = TrainConfig(
        epochs=20, learning_rate=0.05, optimizer=optimizer, weight_decay=0.1, schedule=schedule
    )
    rate = 0.05 if schedule == "constant" else optax.cosine_decay_schedule(0.05, 20)

    def are_matrices(params):
        return jax.tree.map(lambda x: x.ndim > 1, params)

    reference = (
        optax.adam(rate)
        if optimizer == "adam"
        else optax.adamw(rate, weight_decay=0.1, mask=are_matrices)
    )
    rng = np.random.default_rng(0)
    params = {"kernel": rng.normal(size=(3, 2)), "bias": rng.normal(size=2)}
    mine = theirs = jax.tree.map(jnp.asarray, params)
    ours = make_optimizer(config)
    my_state, their_state = ours.init(mine), reference.init(theirs)
    for _ in range(20):
        gradients = jax.tree.map(
            jnp.asarray, {k: rng.normal(size=v.shape) for k, v in params.items()}
        )
        updates, my_state = ours.update(gradients, my_state, mine)
        mine = optax.apply_updates(mine, updates)
        updates, their_state = reference.update(gradients, their_state, theirs)
        theirs = optax.apply_updates(theirs, updates)
    for name, expected in theirs.items():
        np.testing.assert_allclose(mine[name], expected, rtol=1e-5, atol=1e-6)


def test_the_plan_is_part_of_the_state():
    """A run can change it without compiling again."""
    optimizer = make_optimizer(TrainConfig(schedule="wsd", epochs=100))
    state = optimizer.init({"kernel": jnp.ones((2, 2))})
    changed = with_plan(state, begin_decay(plan_of(state), 40, 0.2))
    assert int(plan_of(changed).decay_steps) == 10
    assert jax.tree.structure(changed) == jax.tree.structure(state)
