"""What a study's curves say: scores, differences, scaling laws and fronts, with intervals."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from etils import epath
from jaxtyping import Float

from crnn_jax.analysis.bootstrap import Resampled, resample
from crnn_jax.analysis.comparison import Difference, Estimate, compare, estimate
from crnn_jax.analysis.pareto import pareto_front
from crnn_jax.analysis.predictions import Study, StudyRun, read_study
from crnn_jax.analysis.scaling_laws import (
    FEWEST_SIZES,
    Fits,
    Law,
    find_crossing,
    fit_with_intervals,
    may_fit,
)
from crnn_jax.config import RESAMPLES, Architecture, Rule
from crnn_jax.study.schema import Network

# Scores that laws are fitted to.
FALLING_SCORES = ("1 - test_auc", "test_bce")
# Points at which a law is given.
CURVE_POINTS = 25
# What a network costs, and how it is called.
COSTS: dict[str, str] = {
    "params": "parameters",
    "train_flops": "floating-point operations of training",
    "train_s": "training time in s",
}


@dataclasses.dataclass(frozen=True)
class NetworkScore:
    """Scores and costs of a network, averaged over seeds.

    Attributes
    ----------
    arch, rule, target, learning_rate, n_seeds
        The network, the learning rate that was chosen, and how many seeds it was trained with.
    auc, bce
        Macro AUC and binary cross-entropy (nats) on the test split.
    auc_interval, bce_interval
        Their 95 % intervals; None without predictions.
    auc_unheard
        Mean macro AUC on the split ``unheard``, if there is one.
    params, train_flops, train_s
        Parameters; floating-point operations and seconds of training.
    n_best_at_end
        Runs whose best epoch is among the last tenth: they might have got better yet.
    """

    arch: Architecture
    rule: Rule
    target: int
    learning_rate: float
    n_seeds: int
    auc: float
    auc_interval: tuple[float, float] | None
    bce: float | None
    bce_interval: tuple[float, float] | None
    auc_unheard: float | None
    params: int
    train_flops: float
    train_s: float
    n_best_at_end: int


@dataclasses.dataclass(frozen=True)
class FittedLaw:
    """Scaling law of an architecture and a rule.

    Attributes
    ----------
    arch, rule, score, cost
        Whose law it is, and of which score against which of `COSTS`.
    n_sizes
        Number of networks that it was fitted to.
    law
        Its parameters.
    costs, scores
        The law itself, from the cheapest network to the most expensive.
    """

    arch: Architecture
    rule: Rule
    score: str
    cost: str
    n_sizes: int
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


@dataclasses.dataclass(frozen=True)
class Front:
    """Networks that no other beats at no more cost.

    Attributes
    ----------
    cost
        One of `COSTS`.
    networks
        From the cheapest to the most expensive.
    support
        Part of the resamples in which each is on the front; None without predictions.
    """

    cost: str
    networks: tuple[Network, ...]
    support: tuple[float, ...] | None


@dataclasses.dataclass(frozen=True)
class Analysis:
    """What a study says.

    Attributes
    ----------
    folder, dataset
        The study, and its data set.
    n_clips, n_groups, n_tags
        Clips of the test split, the groups that were resampled, and its tags that have an AUC.
    n_resamples
        Resamples of every interval.
    networks, differences, laws, crossings, fronts
        See their classes.
    notes
        What cannot be said, and why; a line each.
    """

    folder: str
    dataset: str
    n_clips: int
    n_groups: int | None
    n_tags: int
    n_resamples: int
    networks: tuple[NetworkScore, ...]
    differences: tuple[Difference, ...]
    laws: tuple[FittedLaw, ...]
    crossings: tuple[Crossing, ...]
    fronts: tuple[Front, ...]
    notes: tuple[str, ...]


def analyse(folder: epath.PathLike, n_resamples: int = RESAMPLES, seed: int = 0) -> Analysis:
    """Analyse a study's finished runs.

    Parameters
    ----------
    folder
        The sweep's folder.
    n_resamples, seed
        Number of resamples of seeds and test clips, and the seed of drawing them.

    Raises
    ------
    UserError
        If no run is finished, or the study is a cross-validation.
    """
    study = read_study(epath.Path(folder))
    predictions = study.predictions()
    scores = resample(predictions, n_resamples, seed) if predictions else {}
    first = next(iter(study.networks.values()))[0].result
    groups = next((of[0].groups for of in predictions.values()), None)
    laws, crossings = _fit_laws(study, scores)
    return Analysis(
        folder=str(folder),
        dataset=first.dataset,
        n_clips=first.n_test,
        n_groups=None if groups is None else len(np.unique(groups)),
        n_tags=first.n_tags_scored,
        n_resamples=n_resamples,
        networks=tuple(
            _score(its_runs, scores.get(network)) for network, its_runs in study.networks.items()
        ),
        differences=tuple(_compare_all(study, scores)),
        laws=laws,
        crossings=crossings,
        fronts=tuple(_find_fronts(study, scores)),
        notes=(*study.notes, *_note_what_is_missing(study)),
    )


def train_flops(run: StudyRun) -> float:
    """Return the floating-point operations of a run's training steps."""
    result = run.result
    return result.flops_per_sample * result.samples_per_s * result.train_s


def _mean(its_runs: list[StudyRun], value: Callable[[StudyRun], float]) -> float:
    return math.fsum(map(value, its_runs)) / len(its_runs)


def _cost(cost: str, its_runs: list[StudyRun]) -> float:
    if cost == "train_flops":
        return _mean(its_runs, train_flops)
    return _mean(its_runs, lambda run: getattr(run.result, cost))


def _score(its_runs: list[StudyRun], resampled: Resampled | None) -> NetworkScore:
    first = its_runs[0].result
    intervals: tuple[tuple[float, float] | None, tuple[float, float] | None] = (None, None)
    bce: float | None
    if resampled is None:
        auc = _mean(its_runs, lambda run: run.result.test_auc)
        # Results of an older version have none.
        losses = [run.result.test_bce for run in its_runs if run.result.test_bce is not None]
        bce = math.fsum(losses) / len(losses) if losses else None
    else:
        auc = resampled.macro_auc
        bce = resampled.bce
        intervals = (
            estimate(auc, resampled.resampled_macro_auc).interval,
            estimate(resampled.bce, resampled.resampled_bce).interval,
        )
    of_unheard = [run.result.test_auc_unheard for run in its_runs]
    unheard = [score for score in of_unheard if score is not None]
    return NetworkScore(
        arch=first.arch,
        rule=first.rule,
        target=first.target,
        learning_rate=first.learning_rate,
        n_seeds=len(its_runs),
        auc=auc,
        auc_interval=intervals[0],
        bce=bce,
        bce_interval=intervals[1],
        auc_unheard=math.fsum(unheard) / len(unheard) if unheard else None,
        params=first.params,
        train_flops=_cost("train_flops", its_runs),
        train_s=_cost("train_s", its_runs),
        n_best_at_end=sum(run.result.best_epoch > 0.9 * run.result.epochs for run in its_runs),
    )


def _compare_all(study: Study, scores: Mapping[Network, Resampled]) -> Iterator[Difference]:
    """Compare networks of one size that differ in either architecture or rule."""
    ranked = sorted(scores, key=lambda network: (network.target, -scores[network].macro_auc))
    for first, second in itertools.combinations(ranked, 2):
        if first.target == second.target and (
            (first.arch == second.arch) != (first.rule == second.rule)
        ):
            yield compare(first, second, (scores[first], scores[second]), study.tags)


def _by_curve(study: Study) -> dict[tuple[Architecture, Rule], list[Network]]:
    curves: dict[tuple[Architecture, Rule], list[Network]] = {}
    for network in study.networks:
        curves.setdefault((network.arch, network.rule), []).append(network)
    return curves


def _falling(scores: Resampled, score: str) -> Float[np.ndarray, "1+resamples"]:
    """Return a score that falls with size: of the split, then of the resamples."""
    if score == "test_bce":
        return np.concatenate([[scores.bce], scores.resampled_bce])
    return 1 - np.concatenate([[scores.macro_auc], scores.resampled_macro_auc])


def _fit_laws(
    study: Study, scores: Mapping[Network, Resampled]
) -> tuple[tuple[FittedLaw, ...], tuple[Crossing, ...]]:
    laws, crossings = [], []
    for score, cost in itertools.product(FALLING_SCORES, COSTS):
        fitted: dict[tuple[Architecture, Rule], tuple[Fits, list[float]]] = {}
        for curve, networks in _by_curve(study).items():
            scored = [network for network in networks if network in scores]
            sizes = [_cost(cost, study.networks[network]) for network in scored]
            if not may_fit(sizes):
                continue
            series = np.stack([_falling(scores[network], score) for network in scored], axis=1)
            degrees = sum(len(study.networks[network]) - 1 for network in scored) or math.inf
            law, fits = fit_with_intervals(
                np.array(sizes), series[0], series[1:], degrees_of_freedom=degrees
            )
            costs = np.geomspace(min(sizes), max(sizes), CURVE_POINTS)
            along = tuple(
                estimate(column[0], column[1:], degrees_of_freedom=degrees)
                for column in fits(costs).T
            )
            laws.append(
                FittedLaw(*curve, score, cost, len(sizes), law, tuple(costs.tolist()), along)
            )
            fitted[curve] = fits, sizes
        for one, other in itertools.permutations(fitted, 2):
            if one[1] != other[1]:
                continue
            (first, its_sizes), (second, other_sizes) = fitted[one], fitted[other]
            low, high = max(min(its_sizes), min(other_sizes)), min(max(its_sizes), max(other_sizes))
            if low < high and (at := find_crossing(first, second, low, high)) is not None:
                crossings.append(Crossing(one[0], other[0], one[1], score, cost, at))
    return tuple(laws), tuple(crossings)


def _find_fronts(study: Study, scores: Mapping[Network, Resampled]) -> Iterator[Front]:
    networks = list(study.networks)
    with_all = all(network in scores for network in networks)
    for cost in COSTS:
        costs = np.array([_cost(cost, study.networks[network]) for network in networks])
        auc = np.array(
            [
                _mean(study.networks[network], lambda run: run.result.test_auc)
                for network in networks
            ]
        )
        on_front = np.flatnonzero(pareto_front(costs, auc))
        on_front = on_front[np.argsort(costs[on_front], kind="stable")]
        support = None
        if with_all:
            resampled = np.stack([scores[network].resampled_macro_auc for network in networks], 1)
            support = pareto_front(costs, resampled).mean(axis=0)
        yield Front(
            cost,
            tuple(networks[place] for place in on_front),
            None if support is None else tuple(float(support[place]) for place in on_front),
        )


def _note_what_is_missing(study: Study) -> Iterator[str]:
    n_seeds = {network: len(its_runs) for network, its_runs in study.networks.items()}
    most = max(n_seeds.values())
    if most == 1:
        yield "one seed each: intervals are over test clips alone; differences between seeds add"
    elif alone := [network for network, seeds in n_seeds.items() if seeds == 1]:
        yield (
            f"{_name_all(alone)}: one seed, so that its intervals are over test clips alone, and "
            f"too narrow"
        )
    if fewer := [network for network, seeds in n_seeds.items() if 1 < seeds < most]:
        yield f"{_name_all(fewer)}: fewer seeds than the others, so wider intervals"
    for (arch, rule), networks in _by_curve(study).items():
        if len(networks) < FEWEST_SIZES:
            yield (
                f"{arch}, {rule}: {len(networks)} sizes; a scaling law needs {FEWEST_SIZES} or more"
            )


def _name_all(networks: list[Network]) -> str:
    return ", ".join(f"{network.arch} {network.target:,} {network.rule}" for network in networks)
