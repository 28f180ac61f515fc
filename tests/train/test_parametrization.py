"""µP: the same as usual at the base widths; elsewhere outputs change alike whatever the width."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from crnn_jax.config import ModelConfig, TrainConfig
from crnn_jax.models import ARCHITECTURES, build
from crnn_jax.models.budget import solve
from crnn_jax.train import parametrization
from crnn_jax.train.compile import PLACEHOLDER, optimizer_for
from crnn_jax.train.optimizer import with_plan
from crnn_jax.train.schedule import make_plan
from crnn_jax.train.state import initial_state
from crnn_jax.train.steps import train_step

FRAMES, N_TAGS = 96, 5
ARCHS = ("conv1d", "conv2d", "crnn", "k2c1")


def network(arch, target):
    budget = solve(arch, "uniform", target, n_tags=N_TAGS, frames=FRAMES)
    return ModelConfig(arch, budget.widths, n_tags=N_TAGS, dropout_pool=0.0, dropout_output=0.0)


@pytest.mark.parametrize("arch", ARCHS)
def test_at_the_base_widths_both_are_the_same(arch):
    config = ModelConfig(arch, ARCHITECTURES[arch].base_widths, n_tags=N_TAGS)
    rates = parametrization.learning_rates(config, FRAMES)
    assert set(jax.tree.leaves(rates)) == {1.0}
    params = jax.eval_shape(
        lambda: build(config).init(jax.random.key(0), jnp.zeros((1, 96, FRAMES)), train=False)
    )["params"]
    ones = jax.tree.map(lambda x: jnp.ones(x.shape), params)
    scaled = parametrization.scale_initial(ones, config, FRAMES)
    assert all((x == 1).all() for x in jax.tree.leaves(scaled))


@pytest.mark.parametrize("arch", ARCHS)
def test_rates_follow_the_fan_in(arch):
    """A tenth of the width: ten times the rate for hidden kernels, the same for all others."""
    base = ARCHITECTURES[arch].base_widths
    config = ModelConfig(arch, tuple(width // 4 for width in base), n_tags=N_TAGS)
    rates = parametrization.learning_rates(config, FRAMES)
    flat = {
        jax.tree_util.keystr(path): rate
        for path, rate in jax.tree_util.tree_flatten_with_path(rates)[0]
    }
    kernels = {name: rate for name, rate in flat.items() if "kernel" in name}
    assert {rate for name, rate in flat.items() if name not in kernels} == {1.0}
    # The first convolution's input has one channel, whatever the width.
    assert sorted(kernels.values())[0] == 1.0
    assert sorted(kernels.values())[1:] == [4.0] * (len(kernels) - 1)
    assert kernels["['output']['kernel']"] == 4.0


def logits_after(config, parametrization_name, n_steps):
    """Logits before training and after some steps on one batch of noise."""
    rng = np.random.default_rng(0)
    batch = {
        "log_mel": jnp.asarray(rng.normal(-40, 10, (8, 96, FRAMES)), jnp.float16),
        "tags": jnp.asarray(rng.random((8, N_TAGS)) < 0.5, jnp.uint8),
    }
    train = TrainConfig(learning_rate=3e-3, parametrization=parametrization_name)
    model, optimizer = build(config), optimizer_for(config, train, FRAMES)
    scale = (
        (lambda params: params)
        if parametrization_name == "standard"
        else (lambda params: parametrization.scale_initial(params, config, FRAMES))
    )
    state = initial_state(model, optimizer, 0, 96, FRAMES, scale)
    state = dataclasses.replace(state, opt_state=with_plan(state.opt_state, make_plan(train, 1)))

    @jax.jit
    def outputs(state):
        return model.apply(
            state.variables,
            batch["log_mel"].astype(jnp.float32),
            train=True,
            mutable=["batch_stats"],
        )[0]

    before = outputs(state)
    step = jax.jit(
        lambda state: train_step(state, batch, model=model, optimizer=optimizer, axis_name=None)
    )
    for _ in range(n_steps):
        state, _ = step(state)
    return before, outputs(state)


@pytest.mark.parametrize("arch", ["conv2d", "crnn"])
def test_coordinate_check(arch):
    """Four times the width changes the outputs' first movement by much less than usual.

    Yang et al. (2021), appendix D.1. Under the usual parametrisation the change of the logits in
    the first steps grows with the width.
    """
    growth = {}
    for name in ("standard", "mup"):
        changes = []
        for divisor in (8, 2):
            widths = tuple(width // divisor for width in ARCHITECTURES[arch].base_widths)
            config = ModelConfig(arch, widths, n_tags=N_TAGS, dropout_pool=0.0, dropout_output=0.0)
            before, after = logits_after(config, name, 2)
            changes.append(float(jnp.sqrt(jnp.mean((after - before) ** 2))))
        growth[name] = changes[1] / changes[0]
    assert growth["standard"] > 1.3
    assert growth["mup"] < 0.8 * growth["standard"]
    assert 0.4 < growth["mup"] < 1.6


def test_the_plan_of_a_run_replaces_the_placeholder():
    config = network("conv1d", 4_860)
    optimizer = optimizer_for(config, TrainConfig(), FRAMES)
    state = optimizer.init({"kernel": jnp.ones((2, 2))})
    assert float(state[-1].plan.peak) == float(PLACEHOLDER.peak) == 0.0
    updates, _ = optimizer.update({"kernel": jnp.ones((2, 2))}, state)
    assert isinstance(updates, dict)
    assert float(optax.tree.norm(updates)) == 0.0
