"""The solver against the paper's own networks, and against every network near by."""

import itertools
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_jax.config import PAPER_TARGETS, RULES, SMALLEST_WIDTH, ModelConfig
from crnn_jax.errors import UserError
from crnn_jax.models import ARCHITECTURES
from crnn_jax.models.budget import (
    check_reachable,
    count_parameters,
    count_polynomial,
    exact_widths,
    solve,
)

ARCHS = sorted(ARCHITECTURES)
INPUT_NORM = 2 * 96


@pytest.mark.parametrize(
    ("arch", "widths", "params"),
    [
        ("crnn", (30, 60, 60, 60, 30, 30), 97_130),
        ("crnn", (96, 195, 195, 195, 96, 96), 1_000_367),
        ("conv2d", (20, 41, 41, 62, 83), 96_822),
        ("conv2d", (67, 135, 135, 203, 271), 1_003_828),
    ],
)
def test_count_of_the_papers_networks(arch, widths, params):
    # The paper's have no batch norm on the input.
    assert count_parameters(ModelConfig(arch, widths)) - INPUT_NORM == params


def test_counting_asks_for_no_device():
    """Whether JAX has one or not: the process that counts leaves it to the one that trains."""
    count = (
        "from crnn_jax.models.budget import solve; print(solve('crnn', 'uniform', 10_000).params)"
    )
    environment = {**os.environ, "JAX_PLATFORMS": "no such platform"}
    said = subprocess.run(
        [sys.executable, "-c", count], env=environment, capture_output=True, text=True, check=False
    )
    assert said.stdout == f"{solve('crnn', 'uniform', 10_000).params}\n", said.stderr


def test_count_of_conv1d_by_hand():
    a, b, c, d, e, f = 3, 4, 5, 6, 7, 8
    convolutions = sum(4 * i * o + o + 2 * o for i, o in [(1, a), (a, b), (b, c), (c, d)])
    dense = (96 * d * e + e + 2 * e) + (e * f + f + 2 * f) + (f * 50 + 50)
    assert count_parameters(ModelConfig("conv1d", (a, b, c, d, e, f))) == (
        INPUT_NORM + convolutions + dense
    )


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("rule", RULES)
def test_papers_targets_are_met(arch, rule):
    for target in PAPER_TARGETS:
        budget = solve(arch, rule, target)
        assert abs(budget.relative_error) <= 0.007
        assert budget.params == count_parameters(ModelConfig(arch, budget.widths))


@pytest.mark.parametrize(
    ("arch", "target", "widths"),
    [
        ("crnn", 100_000, (30, 60, 60, 60, 30, 30)),
        ("crnn", 1_000_000, (96, 195, 195, 195, 96, 96)),
        ("conv2d", 100_000, (20, 41, 41, 62, 83)),
        ("conv2d", 1_000_000, (67, 135, 135, 203, 271)),
    ],
)
def test_uniform_widths_are_the_papers_within_one(arch, target, widths):
    solved = solve(arch, "uniform", target).widths
    assert all(abs(ours - theirs) <= 1 for ours, theirs in zip(solved, widths, strict=True))


def test_square_root_rule_scales_the_last_layers_less():
    assert exact_widths("crnn", "sqrt", 4.0) == (256, 512, 512, 512, 128, 128)
    assert exact_widths("conv1d", "sqrt", 4.0) == (128, 128, 256, 256, 128, 128)
    assert exact_widths("conv2d", "sqrt", 4.0) == (256, 512, 512, 768, 512)
    assert exact_widths("conv2d", "uniform", 0.5) == (32, 64, 64, 96, 128)


@pytest.mark.parametrize("arch", ARCHS)
def test_polynomial_is_the_count(arch):
    polynomial = count_polynomial(arch, 50, 96)
    rng = np.random.default_rng(0)
    for _ in range(5):
        widths = tuple(int(width) for width in rng.integers(1, 400, len(polynomial.linear)))
        count = count_parameters(ModelConfig(arch, widths))
        assert polynomial(np.array(widths)) == count


def neighbours(arch, rule, target):
    """Counts of all networks with widths near the target's, by a search of its own.

    A width belongs to a multiplier if it is no further than 1 from its exact value; multipliers
    are tried on a fine grid around the exact one.
    """
    polynomial = count_polynomial(arch, 50, 96)
    grid = np.geomspace(1e-4, 100, 2_000)
    counts = [polynomial(np.array(exact_widths(arch, rule, s))) for s in grid]
    nearest = grid[np.argmin(np.abs(np.array(counts) - target))]
    found = []
    for s in nearest * np.linspace(0.8, 1.25, 201):
        choices = [
            range(max(SMALLEST_WIDTH, math.ceil(w - 1)), math.floor(w + 1) + 1)
            for w in exact_widths(arch, rule, s)
        ]
        if all(choices):
            combinations = np.array(list(itertools.product(*choices)))
            found.append(polynomial(combinations))
    return np.concatenate(found)


@settings(max_examples=40, deadline=None)
@given(
    arch=st.sampled_from(ARCHS),
    rule=st.sampled_from(RULES),
    target=st.floats(math.log(20_000), math.log(10_000_000)).map(lambda x: round(math.exp(x))),
)
def test_any_target_is_met_as_nearly_as_can_be(arch, rule, target):
    budget = solve(arch, rule, target)
    assert abs(budget.params - target) <= 0.02 * target
    if abs(budget.params - target) > 0.01 * target:
        # A few targets of the smallest networks lie in a gap: no rounding does better.
        nearest = np.abs(neighbours(arch, rule, target) - target).min()
        assert nearest >= abs(budget.params - target) - 1e-6
    assert budget.params == count_parameters(ModelConfig(arch, budget.widths))
    exact = exact_widths(arch, rule, budget.s)
    assert all(abs(w - e) <= 1 + 1e-9 for w, e in zip(budget.widths, exact, strict=True))


@pytest.mark.parametrize(("target", "n_tags"), [(30_000, 1), (100_000, 188)])
def test_number_of_tags_counts(target, n_tags):
    budget = solve("crnn", "uniform", target, n_tags=n_tags)
    assert abs(budget.params - target) <= 0.01 * target
    assert budget.params == count_parameters(ModelConfig("crnn", budget.widths, n_tags))


def test_a_gap_between_roundings_is_met_by_the_nearest():
    budget = solve("conv1d", "uniform", 23_770)
    assert 0.01 < abs(budget.relative_error) <= 0.02
    nearest = np.abs(neighbours("conv1d", "uniform", 23_770) - 23_770).min()
    assert abs(budget.params - 23_770) <= nearest


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("target", [500, 0, -3])
def test_unreachable_target_names_the_nearest_count(arch, target):
    with pytest.raises(UserError) as error:
        solve(arch, "uniform", target)
    smallest = count_parameters(
        ModelConfig(arch, (SMALLEST_WIDTH,) * len(ARCHITECTURES[arch].base_widths))
    )
    message = str(error.value)
    assert "\n" not in message
    assert f"target {target}" in message
    nearest = int(message.rsplit("give ", 1)[1].split(",")[0])
    assert nearest >= smallest
    # The advice is good.
    assert solve(arch, "uniform", nearest).params == nearest


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("rule", RULES)
def test_refused_without_the_tags_only_if_no_number_of_them_would_do(arch, rule):
    with pytest.raises(UserError) as refused:
        check_reachable(arch, rule, 200)
    smallest = int(str(refused.value).split(" has ")[1].split()[0])
    check_reachable(arch, rule, smallest)
    assert solve(arch, rule, smallest, n_tags=1).params == smallest
    with pytest.raises(UserError):
        solve(arch, rule, round(smallest / 1.03), n_tags=1)
