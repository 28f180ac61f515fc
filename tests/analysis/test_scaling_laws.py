"""Fits of scaling laws, against synthetic truth and SciPy's own optimiser."""

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_jax.analysis.scaling_laws import (
    EXPONENTS,
    HUBER,
    Fits,
    find_crossing,
    fit,
    fit_with_intervals,
    may_fit,
)

SIZES = np.array([25e3, 50e3, 100e3, 200e3, 400e3, 800e3])


def law(sizes, floor, scale, exponent):
    """A score of `floor + scale` at 100,000."""
    return floor + scale * (np.asarray(sizes) / 1e5) ** -exponent


@settings(deadline=None, max_examples=50)
@given(floor=st.floats(0, 0.3), scale=st.floats(0.01, 0.5), exponent=st.floats(0.05, 2))
def test_scores_without_noise_give_the_law_back(floor, scale, exponent):
    scores = law(SIZES, floor, scale, exponent)
    fits = fit(SIZES, scores[None], standard_error=1e-3)
    np.testing.assert_allclose(fits(SIZES)[0], scores, rtol=1e-3, atol=1e-4)
    assert fits.exponent[0] == pytest.approx(exponent, rel=0.02)
    assert fits.floor[0] == pytest.approx(floor, abs=0.02)


def test_no_optimiser_finds_a_lower_loss():
    rng = np.random.default_rng(0)
    error = 0.004
    for _ in range(10):
        scores = law(SIZES, 0.1, 0.1, 0.5) + rng.normal(0, error, len(SIZES))
        # A run that went wrong.
        scores[rng.integers(len(SIZES))] += 6 * error

        def loss(values, scores=scores):
            floor, scale, exponent = values
            residuals = np.abs(scores - law(SIZES, floor, scale, exponent)) / error
            return np.sum(
                np.where(residuals < HUBER, residuals**2 / 2, HUBER * (residuals - HUBER / 2))
            )

        best = min(
            scipy.optimize.minimize(
                loss,
                (0.1, 0.1, start),
                method="Nelder-Mead",
                bounds=[(0, 1), (0, 10), (EXPONENTS[0], EXPONENTS[-1])],
                options={"maxiter": 4000, "xatol": 1e-8, "fatol": 1e-10},
            ).fun
            for start in (0.05, 0.3, 1.0, 2.5)
        )
        fits = fit(SIZES, scores[None], error)
        scale = fits.scale[0] * (fits.unit / 1e5) ** fits.exponent[0]
        assert loss((fits.floor[0], scale, fits.exponent[0])) <= best + 0.01


def test_floor_and_scale_are_never_negative():
    rising = law(SIZES, 0.2, -0.1, 0.5)
    steep = 0.5 * (SIZES / SIZES[0]) ** -1.0 - 0.02
    fits = fit(SIZES, np.stack([rising, steep]), 1e-3)
    assert (fits.floor >= 0).all()
    assert (fits.scale >= 0).all()
    # Of a score that rises nothing is left but its level.
    np.testing.assert_allclose(fits(SIZES)[0], fits.floor[0], atol=0.02)


def resample_seeds(runs, n_resamples, rng):
    """Means over seeds that were drawn again, as `crnn_jax.analysis.bootstrap` draws them."""
    n_seeds, n_sizes = runs.shape
    drawn = rng.integers(n_seeds, size=(n_resamples, n_seeds - 1, n_sizes))
    return np.take_along_axis(runs[None], drawn, axis=1).mean(axis=1)


@pytest.mark.parametrize("n_seeds", [3, 5])
def test_intervals_cover_the_truth(n_seeds):
    """90 % intervals of the exponent and the floor, over 200 studies of a known law."""
    rng = np.random.default_rng(n_seeds)
    truth = {"floor": 0.1, "exponent": 0.6}
    covered = dict.fromkeys(truth, 0)
    for _ in range(200):
        runs = law(SIZES, truth["floor"], 0.08, truth["exponent"]) + rng.normal(
            0, 0.002, (n_seeds, len(SIZES))
        )
        found, _ = fit_with_intervals(
            SIZES,
            runs.mean(axis=0),
            resample_seeds(runs, 200, rng),
            confidence=0.9,
            degrees=(n_seeds - 1) * len(SIZES),
        )
        for name, value in truth.items():
            interval = getattr(found, name)
            covered[name] += interval.low <= value <= interval.high
    assert all(0.85 <= count / 200 <= 0.95 for count in covered.values()), covered


def test_a_law_that_the_scores_do_not_determine():
    rng = np.random.default_rng(0)
    flat = 0.2 + rng.normal(0, 0.01, (3, len(SIZES)))
    law_of_flat, _ = fit_with_intervals(SIZES, flat.mean(axis=0), resample_seeds(flat, 200, rng))
    assert not law_of_flat.identified
    clear = law(SIZES, 0.1, 0.1, 0.5) + rng.normal(0, 1e-4, (3, len(SIZES)))
    found, _ = fit_with_intervals(SIZES, clear.mean(axis=0), resample_seeds(clear, 200, rng))
    assert found.identified
    assert found.exponent.low < found.exponent.value < found.exponent.high
    # A at a size of 1.
    assert found.scale.value == pytest.approx(0.1 * 1e5**0.5, rel=0.1)


def crossing_laws(n, noise, seed=0):
    rng = np.random.default_rng(seed)
    shift = np.concatenate([[0], rng.normal(0, noise, n)])
    ones = np.ones(n + 1)
    # Equal where (N / 1e5)^-0.5 = 0.5, at 400,000.
    first = Fits(0.05 * ones + shift, 0.2 * ones, 0.5 * ones, 1e5)
    second = Fits(0.15 * ones, 0 * ones, 0.5 * ones, 1e5)
    return first, second


def test_the_size_at_which_two_laws_cross():
    first, second = crossing_laws(200, 0.001)
    at = find_crossing(first, second, 1e5, 1e6)
    assert at is not None
    assert at.value == pytest.approx(4e5, rel=0.02)
    assert at.low < 4e5 < at.high
    # The other one is better before, not from there on.
    assert find_crossing(second, first, 1e5, 1e6) is None
    # Outside of the sizes that were trained.
    assert find_crossing(first, second, 5e5, 1e6) is None


def test_a_crossing_that_the_scores_do_not_determine():
    first, second = crossing_laws(200, 0.1)
    assert find_crossing(first, second, 1e5, 1e6) is None


def test_four_sizes_at_least():
    assert may_fit([1, 2, 3, 4])
    assert not may_fit([1, 2, 3, 3])
    # Training times of a study with a time budget.
    assert not may_fit([60.0, 60.1, 60.2, 60.3])


def test_an_outlier_does_not_bend_the_law():
    """Whatever the sizes have in common."""
    rng = np.random.default_rng(0)
    scores = law(SIZES, 0.1, 0.1, 0.5)
    scores[2] += 0.02
    resampled = scores + rng.normal(0, 0.02, (200, 1)) + rng.normal(0, 0.001, (200, len(SIZES)))
    found, fits = fit_with_intervals(SIZES, scores, resampled)
    assert found.exponent.value == pytest.approx(0.5, abs=0.03)
    others = [0, 1, 3, 4, 5]
    np.testing.assert_allclose(fits(SIZES)[0][others], scores[others], atol=0.002)
