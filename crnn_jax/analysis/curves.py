"""The curves of a study as scaling laws: of each architecture over sizes, and over data."""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from crnn_jax.analysis.bootstrap import Resampled
from crnn_jax.analysis.comparison import Estimate, estimate
from crnn_jax.analysis.costs import CLIPS, COSTS, mean_cost
from crnn_jax.analysis.predictions import Study
from crnn_jax.analysis.scaling_laws import Fits, Law, find_crossing, fit_with_intervals, may_fit
from crnn_jax.config import Architecture, Rule
from crnn_jax.study.schema import Network

# Scores that laws are fitted to.
FALLING_SCORES = ("1 - test_auc", "test_bce")
# Resamples that laws are fitted to, at most: the ends of an interval are then known to about 0.12
# of a standard deviation, and the laws of four curves take seconds.
LARGEST_RESAMPLES = 500
# Points at which a law is given.
CURVE_POINTS = 25


@dataclasses.dataclass(frozen=True)
class FittedLaw:
    """A scaling law of an architecture and a rule.

    Attributes
    ----------
    arch, rule, score, cost
        Whose law it is, and of which score against which cost
        (`crnn_jax.analysis.costs.NAMES`).
    target
        The size whose law against training clips it is; None: it is over sizes.
    n_points
        Number of networks, or of parts of the data, that it was fitted to.
    law
        Its parameters.
    costs, scores
        The law itself, from the lowest cost to the highest.
    """

    arch: Architecture
    rule: Rule
    score: str
    cost: str
    target: int | None
    n_points: int
    law: Law
    costs: tuple[float, ...]
    scores: tuple[Estimate, ...]


@dataclasses.dataclass(frozen=True)
class Crossing:
    """From which cost on the first architecture's law is the better one."""

    first: Architecture
    second: Architecture
    rule: Rule
    score: str
    cost: str
    at: Estimate


class Scores(NamedTuple):
    """A network's score: of each seed, and of each resample."""

    of_seeds: Float[np.ndarray, "seeds"]
    resampled: Float[np.ndarray, "resamples"]


def group_by_curve(networks: Iterable[Network]) -> dict[tuple[Architecture, Rule], list[Network]]:
    """Return the networks of each architecture and rule."""
    curves: dict[tuple[Architecture, Rule], list[Network]] = {}
    for network in networks:
        curves.setdefault((network.arch, network.rule), []).append(network)
    return curves


def fit_laws(
    study: Study, scores: Mapping[Network, Resampled]
) -> tuple[tuple[FittedLaw, ...], tuple[Crossing, ...]]:
    """Fit the laws that a study has enough networks for, and find where they cross."""
    laws: list[FittedLaw] = []
    crossings: list[Crossing] = []
    over_sizes = group_by_curve(network for network in study.networks if network in scores)
    for score, cost in itertools.product(FALLING_SCORES, COSTS):
        fitted = {}
        for curve, networks in over_sizes.items():
            if (found := _fit(study, scores, networks, score, cost)) is not None:
                law, fits = found
                laws.append(law)
                fitted[curve] = law, fits
        degrees = count_degrees(scores[each] for curve in fitted for each in over_sizes[curve])
        crossings += _find_crossings(fitted, degrees)
    over_data: dict[Network, list[Network]] = {}
    for network in study.parts:
        if network in scores:
            over_data.setdefault(network._replace(train_fraction=None), []).append(network)
    for score, (of_size, networks) in itertools.product(FALLING_SCORES, over_data.items()):
        if (found := _fit(study, scores, networks, score, CLIPS)) is not None:
            laws.append(dataclasses.replace(found[0], target=of_size.target))
    return tuple(laws), tuple(crossings)


def _falling(scores: Resampled, score: str) -> Scores:
    """Return a score that falls with size: of each seed, and of each resample."""
    fitted = slice(LARGEST_RESAMPLES)
    if score == "test_bce":
        return Scores(scores.bce_of_seeds, scores.resampled_bce[fitted])
    return Scores(1 - scores.macro_auc_of_seeds, 1 - scores.resampled_macro_auc[fitted])


def _series(curve: Sequence[Scores]) -> Float[np.ndarray, "series networks"]:
    """Return the scores of a curve's networks: means over seeds first, then the resamples.

    A network with one seed has the variance between seeds of the others: its own is unknown, and
    would count as none.
    """
    several = [network.of_seeds for network in curve if len(network.of_seeds) > 1]
    degrees = sum(len(seeds) - 1 for seeds in several)
    pooled = sum(np.var(seeds) * len(seeds) for seeds in several) / degrees if degrees else 0.0
    rng = np.random.default_rng(0)
    columns = []
    for of_seeds, resampled in curve:
        between = rng.normal(0, np.sqrt(pooled), len(resampled)) if len(of_seeds) == 1 else 0.0
        columns.append(np.concatenate([[of_seeds.mean()], resampled + between]))
    return np.stack(columns, axis=1)


def _fit(
    study: Study,
    scores: Mapping[Network, Resampled],
    networks: Sequence[Network],
    score: str,
    cost: str,
) -> tuple[FittedLaw, Fits] | None:
    """Fit a law to networks of one architecture and rule; None if they are too few."""
    sizes = [mean_cost([run.result for run in study.parts[network]], cost) for network in networks]
    if not may_fit(sizes):
        return None
    series = _series([_falling(scores[network], score) for network in networks])
    degrees = count_degrees(scores[network] for network in networks)
    law, fits = fit_with_intervals(np.array(sizes), series[0], series[1:], degrees=degrees)
    costs = np.geomspace(min(sizes), max(sizes), CURVE_POINTS)
    along = tuple(estimate(column[0], column[1:], degrees=degrees) for column in fits(costs).T)
    fitted = FittedLaw(
        networks[0].arch,
        networks[0].rule,
        score,
        cost,
        None,
        len(sizes),
        law,
        tuple(costs.tolist()),
        along,
    )
    return fitted, fits


def count_degrees(scores: Iterable[Resampled]) -> float:
    """Return the degrees of freedom of the variance between the seeds of several networks."""
    return sum(each.n_seeds - 1 for each in scores) or math.inf


def _find_crossings(
    fitted: Mapping[tuple[Architecture, Rule], tuple[FittedLaw, Fits]], degrees: float
) -> Iterator[Crossing]:
    for (law, fits), (other, other_fits) in itertools.permutations(fitted.values(), 2):
        low, high = max(law.costs[0], other.costs[0]), min(law.costs[-1], other.costs[-1])
        if law.rule == other.rule and low < high:
            at = find_crossing(fits, other_fits, low, high, degrees=degrees)
            if at is not None:
                yield Crossing(law.arch, other.arch, law.rule, law.score, law.cost, at)
