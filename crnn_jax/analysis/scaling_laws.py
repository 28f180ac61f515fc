"""Scaling laws: a score that falls with size as E + A · N^−α (Hestness et al. 2017).

N is a number of parameters, of clips, of floating-point operations or of seconds. E, the floor, is
what no size gets below; A is the scale, and α the exponent. For a given α the law is linear in E
and A: the fit is a least-squares solution at each α of a grid (variable projection; Golub & Pereyra
1973), with Huber's loss, so that one run that went wrong does not bend the curve.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from crnn_jax.analysis.comparison import CONFIDENCE, Estimate, estimate

# Exponents that are tried. Published ones are between 0.05 and 1; at both ends the law can no
# longer be told from another: a power of log N, and a floor that is reached at once.
EXPONENTS = np.geomspace(0.02, 3.0, 40)
# Times that the grid is made four times finer around the best exponent: to a
# ten-thousandth.
ZOOMS = 5
# With three parameters to be found, four sizes are the fewest that can contradict the law.
FEWEST_SIZES = 4
# Largest over smallest size, at least: over less, a law cannot be told from a straight line.
SMALLEST_SPAN = 4.0
# Residuals beyond this many standard errors count linearly: 95 % efficient if all are normal (Huber
# 1964).
HUBER = 1.345
# Reweightings; with an outlier of ten standard errors the last one changes the law by less than a
# hundredth of one.
ITERATIONS = 8
# Of the first, coarse grid, which only finds the exponents to look at more closely.
COARSE_ITERATIONS = 3
# Standard error of scores without any noise, in which everything would be an outlier.
SMALLEST_ERROR = 1e-6
# Sizes at which two laws are compared, from the smallest to the largest.
CROSSING_STEPS = 200


@dataclasses.dataclass(frozen=True)
class Fits:
    """Laws fitted to several series of scores at the same sizes: E, A and α of each.

    `scale` is that at the size `unit`, so that it stays a moderate number: A is
    ``scale * unit**exponent``.
    """

    floor: Float[np.ndarray, "series"]
    scale: Float[np.ndarray, "series"]
    exponent: Float[np.ndarray, "series"]
    unit: float

    def __call__(self, sizes: Float[np.ndarray, "sizes"]) -> Float[np.ndarray, "series sizes"]:
        """Return the laws' scores at sizes."""
        powers = (np.asarray(sizes, float) / self.unit) ** -self.exponent[:, None]
        return self.floor[:, None] + self.scale[:, None] * powers


@dataclasses.dataclass(frozen=True)
class Law:
    """A law with the intervals of its parameters.

    Attributes
    ----------
    floor, scale, exponent
        E, A and α.
    identified
        Whether the exponent's interval is within what was tried; otherwise the scores do not
        determine the law, and its parameters mean nothing, though the curve may fit.
    """

    floor: Estimate
    scale: Estimate
    exponent: Estimate
    identified: bool


def fit(
    sizes: Float[np.ndarray, "sizes"],
    scores: Float[np.ndarray, "series sizes"],
    standard_error: float,
) -> Fits:
    """Fit a law to each series of scores, with E ≥ 0 and A ≥ 0.

    Parameters
    ----------
    sizes
        At least three, positive.
    scores
        Scores that fall with size: a cross-entropy, 1 − AUC.
    standard_error
        Of a score: the unit of Huber's loss.
    """
    sizes, scores = np.asarray(sizes, float), np.asarray(scores, float)
    unit = float(np.exp(np.mean(np.log(sizes))))
    exponents = np.broadcast_to(EXPONENTS, (len(scores), len(EXPONENTS)))
    width = np.log(EXPONENTS[1] / EXPONENTS[0])
    for iterations in (COARSE_ITERATIONS, *(ITERATIONS,) * ZOOMS):
        floor, scale, loss = _fit_at(exponents, sizes / unit, scores / standard_error, iterations)
        best = np.argmin(loss, axis=1)[:, None]
        exponent, floor, scale = (
            np.take_along_axis(values, best, axis=1) for values in (exponents, floor, scale)
        )
        # Between the neighbours of the best one, and within what is tried.
        around = exponent * np.exp(width * np.linspace(-1, 1, 9))
        exponents = np.clip(around, EXPONENTS[0], EXPONENTS[-1])
        width /= 4
    return Fits(floor[:, 0] * standard_error, scale[:, 0] * standard_error, exponent[:, 0], unit)


def _fit_at(
    exponents: Float[np.ndarray, "series exponents"],
    sizes: Float[np.ndarray, "sizes"],
    scores: Float[np.ndarray, "series sizes"],
    iterations: int,
) -> tuple[Float[np.ndarray, "series exponents"], ...]:
    """Return E, A and Huber's loss of each series at each of its exponents."""
    # Sizes come first: sums over the last axis, of a dozen numbers each, take ten times as long.
    powers = np.exp(-np.log(sizes)[:, None, None] * exponents)
    target = scores.T[:, :, None]
    weights = np.ones(powers.shape)
    for _ in range(iterations):
        floor, scale = _solve(powers, target, weights)
        residuals = scale * powers
        residuals += floor
        residuals -= target
        np.abs(residuals, out=residuals)
        weights = HUBER / np.maximum(residuals, HUBER)
    losses = np.where(residuals <= HUBER, residuals**2 / 2, HUBER * (residuals - HUBER / 2))
    return floor, scale, losses.sum(axis=0)


def _solve(
    powers: Float[np.ndarray, "sizes series exponents"],
    scores: Float[np.ndarray, "sizes series 1"],
    weights: Float[np.ndarray, "sizes series exponents"],
) -> tuple[Float[np.ndarray, "series exponents"], Float[np.ndarray, "series exponents"]]:
    """Solve the weighted least squares for E and A, neither below 0."""
    weighted = weights * powers
    w, wu = weights.sum(0), weighted.sum(0)
    wuu = np.einsum("nse,nse->se", weighted, powers)
    # Scores are the same for all exponents.
    wy, wuy = (np.einsum("nse,ns->se", each, scores[..., 0]) for each in (weights, weighted))
    determinant = w * wuu - wu**2
    floor = (wuu * wy - wu * wuy) / determinant
    scale = (w * wuy - wu * wy) / determinant
    # On the boundary the other parameter alone is fitted.
    scale = np.where(floor < 0, wuy / wuu, scale)
    floor = np.where(scale < 0, wy / w, np.maximum(floor, 0))
    return floor, np.maximum(scale, 0)


def fit_with_intervals(
    sizes: Float[np.ndarray, "sizes"],
    scores: Float[np.ndarray, "sizes"],
    resampled: Float[np.ndarray, "resamples sizes"],
    *,
    confidence: float = CONFIDENCE,
    degrees: float = math.inf,
) -> tuple[Law, Fits]:
    """Fit a law to scores and to each of their resamples.

    Parameters
    ----------
    sizes, scores, resampled
        What the law is fitted to.
    confidence, degrees
        Of the intervals, see `crnn_jax.analysis.comparison.estimate`.

    Returns
    -------
    tuple of Law and Fits
        The law with its intervals; and all fits, that to the scores first.
    """
    # What all sizes share (the test clips) moves the whole law, and is not in its residuals.
    own = resampled - resampled.mean(axis=1, keepdims=True)
    standard_error = max(float(np.sqrt(np.mean(np.var(own, axis=0)))), SMALLEST_ERROR)
    fits = fit(sizes, np.concatenate([scores[None], resampled]), standard_error)

    def with_interval(values: Float[np.ndarray, "series"]) -> Estimate:
        return estimate(
            values[0],
            values[1:],
            confidence=confidence,
            degrees=degrees,
        )

    exponent = with_interval(fits.exponent)
    floor = with_interval(fits.floor)
    law = Law(
        # Student's t widens an interval beyond what the fit allows.
        dataclasses.replace(floor, low=max(0.0, floor.low)),
        with_interval(fits.scale * fits.unit**fits.exponent),
        exponent,
        identified=bool(EXPONENTS[1] < exponent.low and exponent.high < EXPONENTS[-2]),
    )
    return law, fits


def find_crossing(
    first: Fits, second: Fits, low: float, high: float, *, degrees: float = math.inf
) -> Estimate | None:
    """Return the size between `low` and `high` at which the first law falls below the second.

    None unless there is exactly one such size in the scores' own fit and in 95 % of the resamples.
    """
    sizes = np.geomspace(low, high, CROSSING_STEPS)
    is_below = first(sizes) < second(sizes)
    changes = np.diff(is_below.astype(int), axis=1)
    once = (np.abs(changes).sum(axis=1) == 1) & (changes.sum(axis=1) == 1)
    if not once[0] or np.mean(once[1:]) < CONFIDENCE:
        return None
    places = np.argmax(changes == 1, axis=1)
    found = np.sqrt(sizes[places] * sizes[places + 1])
    # On the logarithmic scale, so that a wide interval stays positive.
    logarithms = np.where(once, np.log(found), np.nan)
    at = estimate(logarithms[0], logarithms[1:], degrees=degrees)
    return Estimate(*(math.exp(value) for value in (at.value, at.low, at.high)))


def may_fit(sizes: Sequence[float]) -> bool:
    """Return whether there are enough sizes for a law, and far enough apart."""
    return len(set(sizes)) >= FEWEST_SIZES and max(sizes) >= SMALLEST_SPAN * min(sizes)
