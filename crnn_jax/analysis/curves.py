"""The curves of a study as scaling laws: of each architecture over sizes, and over data."""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

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
        crossings += _find_crossings(fitted)
    over_data: dict[Network, list[Network]] = {}
    for network in study.parts:
        if network in scores:
            over_data.setdefault(network._replace(train_fraction=None), []).append(network)
    for score, (of_size, networks) in itertools.product(FALLING_SCORES, over_data.items()):
        if (found := _fit(study, scores, networks, score, CLIPS)) is not None:
            laws.append(dataclasses.replace(found[0], target=of_size.target))
    return tuple(laws), tuple(crossings)


def _falling(scores: Resampled, score: str) -> Float[np.ndarray, "series"]:
    """Return a score that falls with size: of the split, then of the resamples."""
    if score == "test_bce":
        return np.concatenate([[scores.bce], scores.resampled_bce])
    return 1 - np.concatenate([[scores.macro_auc], scores.resampled_macro_auc])


def _fit(
    study: Study,
    scores: Mapping[Network, Resampled],
    networks: Sequence[Network],
    score: str,
    cost: str,
) -> tuple[FittedLaw, Fits] | None:
    """Fit a law to networks of one architecture and rule; None if they are too few."""
    results = [[run.result for run in study.parts[network]] for network in networks]
    sizes = [mean_cost(of_network, cost) for of_network in results]
    if not may_fit(sizes):
        return None
    series = np.stack([_falling(scores[network], score) for network in networks], axis=1)
    degrees = sum(len(of_network) - 1 for of_network in results) or math.inf
    law, fits = fit_with_intervals(
        np.array(sizes), series[0], series[1:], degrees_of_freedom=degrees
    )
    costs = np.geomspace(min(sizes), max(sizes), CURVE_POINTS)
    along = tuple(
        estimate(column[0], column[1:], degrees_of_freedom=degrees) for column in fits(costs).T
    )
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


def _find_crossings(
    fitted: Mapping[tuple[Architecture, Rule], tuple[FittedLaw, Fits]],
) -> Iterator[Crossing]:
    for (law, fits), (other, other_fits) in itertools.permutations(fitted.values(), 2):
        low, high = max(law.costs[0], other.costs[0]), min(law.costs[-1], other.costs[-1])
        if law.rule == other.rule and low < high:
            at = find_crossing(fits, other_fits, low, high)
            if at is not None:
                yield Crossing(law.arch, other.arch, law.rule, law.score, law.cost, at)
