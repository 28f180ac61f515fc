"""What a study's curves say: scores, differences, scaling laws and fronts, with intervals."""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping

import numpy as np
from etils import epath
from jaxtyping import Float

from crnn_jax.analysis.bootstrap import Resampled, resample
from crnn_jax.analysis.comparison import (
    Difference,
    Tag,
    compare,
    degrees_of_freedom,
    estimate,
    estimate_each,
)
from crnn_jax.analysis.costs import COSTS, MEMORY, mean_cost
from crnn_jax.analysis.curves import Crossing, FittedLaw, fit_laws, group_by_curve
from crnn_jax.analysis.pareto import pareto_front
from crnn_jax.analysis.predictions import Study, StudyRun, key_of, read_study
from crnn_jax.analysis.scaling_laws import FEWEST_SIZES
from crnn_jax.analysis.times import replace_times
from crnn_jax.analysis.words import list_networks
from crnn_jax.config import FEWEST_POSITIVES, RESAMPLES, RULES, Architecture, Rule
from crnn_jax.study.schema import Network

Interval = tuple[float, float]

# A run whose best epoch is beyond this part of it may not have converged.
LAST_TENTH = 0.9


@dataclasses.dataclass(frozen=True)
class NetworkScore:
    """Scores and costs of a network, averaged over seeds.

    Attributes
    ----------
    arch, rule, target, n_seeds
        The network, and how many seeds it was trained with.
    runs
        Names of its runs.
    learning_rate, train_fraction, max_train_seconds
        The learning rate that was chosen; the part of the training split and the time budget.
    auc, bce
        Macro AUC and binary cross-entropy (nats) on the test split.
    auc_interval, bce_interval
        Their 95 % intervals; None without predictions.
    auc_unheard
        Mean macro AUC on the split ``unheard``, if there is one.
    params, train_flops, train_s, train_s_of_runs, peak_memory_bytes
        Parameters; floating-point operations and seconds of training, also of each run; memory of a
        step.
    tags
        AUC of each of the study's tags with its 95 % interval; None where a tag has one class only,
        and for the interval without predictions.
    """

    arch: Architecture
    rule: Rule
    target: int
    learning_rate: float
    train_fraction: float
    max_train_seconds: float | None
    n_seeds: int
    runs: tuple[str, ...]
    auc: float
    auc_interval: Interval | None
    bce: float | None
    bce_interval: Interval | None
    auc_unheard: float | None
    params: int
    train_flops: float
    train_s: float
    train_s_of_runs: tuple[float, ...]
    peak_memory_bytes: float
    tags: tuple[tuple[float | None, Interval | None], ...]


@dataclasses.dataclass(frozen=True)
class Front:
    """Networks that no other beats at no more cost.

    Attributes
    ----------
    cost
        One of `crnn_jax.analysis.costs.COSTS`, or its `MEMORY`.
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
    tags
        The tags of the test split.
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
    tags: tuple[Tag, ...]
    networks: tuple[NetworkScore, ...]
    differences: tuple[Difference, ...]
    laws: tuple[FittedLaw, ...]
    crossings: tuple[Crossing, ...]
    fronts: tuple[Front, ...]
    notes: tuple[str, ...]


def analyse(
    folder: epath.PathLike,
    n_resamples: int = RESAMPLES,
    seed: int = 0,
    times: epath.PathLike | None = None,
) -> Analysis:
    """Analyse a study's finished runs.

    Parameters
    ----------
    folder
        The sweep's folder.
    n_resamples, seed
        Number of resamples of seeds and test clips, and the seed of drawing them.
    times
        A table of each network's training speed, measured alone: see
        `crnn_jax.analysis.times.read_speeds`. None: the runs' own times.

    Raises
    ------
    UserError
        If no run is finished, or the study is a cross-validation; or if the table of speeds is
        none, or lacks a network.
    """
    study = read_study(epath.Path(folder))
    if times is not None:
        study = replace_times(study, epath.Path(times))
    predictions = study.predictions()
    groups = next((of[0].groups for of in predictions.values()), None)
    scores = {} if groups is None else resample(predictions, groups, n_resamples, seed)
    first = study.first
    laws, crossings = fit_laws(study, scores)
    return Analysis(
        folder=str(folder),
        dataset=first.dataset,
        n_clips=first.n_test,
        n_groups=None if groups is None else len(np.unique(groups)),
        n_tags=first.n_tags_scored,
        n_resamples=n_resamples,
        tags=study.tags,
        networks=tuple(
            score_network(its_runs, scores.get(network))
            for network, its_runs in study.networks.items()
        ),
        differences=tuple(_compare_all(study, scores)),
        laws=laws,
        crossings=crossings,
        fronts=tuple(_find_fronts(study, scores)),
        notes=(*study.notes, *_note_what_is_missing(study, scores)),
    )


def _mean_auc(its_runs: list[StudyRun]) -> float:
    return math.fsum(run.result.test_auc for run in its_runs) / len(its_runs)


def _interval(
    of_seeds: Float[np.ndarray, "seeds"], resampled: Float[np.ndarray, "resamples"]
) -> Interval:
    degrees = float(degrees_of_freedom(resampled, of_seeds))
    return estimate(float(of_seeds.mean()), resampled, degrees=degrees).interval


def score_network(its_runs: list[StudyRun], resampled: Resampled | None) -> NetworkScore:
    """Return a network's scores and costs, of its seeds and of their resamples."""
    first = its_runs[0].result
    intervals: tuple[Interval | None, Interval | None] = (None, None)
    bce: float | None
    if resampled is None:
        auc = _mean_auc(its_runs)
        # Results of an older version have none.
        losses = [run.result.test_bce for run in its_runs if run.result.test_bce is not None]
        bce = math.fsum(losses) / len(losses) if losses else None
    else:
        auc = resampled.macro_auc
        bce = resampled.bce
        intervals = (
            _interval(resampled.macro_auc_of_seeds, resampled.resampled_macro_auc),
            _interval(resampled.bce_of_seeds, resampled.resampled_bce),
        )
    of_unheard = [run.result.test_auc_unheard for run in its_runs]
    unheard = [score for score in of_unheard if score is not None]
    return NetworkScore(
        arch=first.arch,
        rule=first.rule,
        target=first.target,
        learning_rate=first.learning_rate,
        train_fraction=first.train_fraction,
        max_train_seconds=first.max_train_seconds,
        n_seeds=len(its_runs) if resampled is None else resampled.n_seeds,
        runs=tuple(run.name for run in its_runs),
        auc=auc,
        auc_interval=intervals[0],
        bce=bce,
        bce_interval=intervals[1],
        auc_unheard=math.fsum(unheard) / len(unheard) if unheard else None,
        params=first.params,
        train_flops=mean_cost([run.result for run in its_runs], "train_flops"),
        train_s=mean_cost([run.result for run in its_runs], "train_s"),
        train_s_of_runs=tuple(run.result.train_s for run in its_runs),
        peak_memory_bytes=mean_cost([run.result for run in its_runs], MEMORY),
        tags=_score_tags(its_runs, resampled),
    )


def _score_tags(
    its_runs: list[StudyRun], resampled: Resampled | None
) -> tuple[tuple[float | None, Interval | None], ...]:
    if resampled is None:
        each = zip(*(run.result.per_tag for run in its_runs), strict=True)
        means = (np.mean([math.nan if tag.auc is None else tag.auc for tag in of]) for of in each)
        return tuple((None if np.isnan(auc) else float(auc), None) for auc in means)
    scored = np.flatnonzero(~np.isnan(resampled.auc))
    of_seeds = resampled.auc_of_seeds[:, scored]
    draws = resampled.resampled_auc[:, scored]
    found = estimate_each(of_seeds.mean(axis=0), draws, degrees_of_freedom(draws, of_seeds))
    of_tag = dict(zip(scored.tolist(), found, strict=True))
    return tuple(
        (of_tag[tag].value, of_tag[tag].interval) if tag in of_tag else (None, None)
        for tag in range(len(resampled.auc))
    )


def _compare_all(study: Study, scores: Mapping[Network, Resampled]) -> Iterator[Difference]:
    """Compare networks of one size that differ in either architecture or rule."""
    ranked = sorted(
        set(scores) & set(study.networks),
        key=lambda network: (network.target, -scores[network].macro_auc, network),
    )
    for first, second in itertools.combinations(ranked, 2):
        if first.target == second.target and (
            (first.arch == second.arch) != (first.rule == second.rule)
        ):
            yield compare(first, second, (scores[first], scores[second]), study.tags)


def _find_fronts(study: Study, scores: Mapping[Network, Resampled]) -> Iterator[Front]:
    networks = [network for network in study.networks if not scores or network in scores]
    for cost in (*COSTS, MEMORY):
        costs = np.array(
            [
                mean_cost([run.result for run in study.networks[network]], cost)
                for network in networks
            ]
        )
        auc = np.array([_mean_auc(study.networks[network]) for network in networks])
        on_front = np.flatnonzero(pareto_front(costs, auc))
        on_front = on_front[np.argsort(costs[on_front], kind="stable")]
        support = None
        if scores:
            resampled = np.stack([scores[network].resampled_macro_auc for network in networks], 1)
            support = pareto_front(costs, resampled).mean(axis=0)
        yield Front(
            cost,
            tuple(networks[place] for place in on_front),
            None if support is None else tuple(float(support[place]) for place in on_front),
        )


def _note_what_is_missing(study: Study, scores: Mapping[Network, Resampled]) -> Iterator[str]:
    n_seeds = {network: scores[network].n_seeds for network in study.networks if network in scores}
    most = max(n_seeds.values(), default=0)
    if most == 1:
        yield "one seed each: intervals are over test clips alone; differences between seeds add"
    elif alone := [key_of(network) for network, seeds in n_seeds.items() if seeds == 1]:
        yield (
            f"{list_networks(alone)}: one seed, so that its intervals are over test clips alone, "
            "and too narrow"
        )
    if fewer := [key_of(network) for network, seeds in n_seeds.items() if 1 < seeds < most]:
        yield f"{list_networks(fewer)}: fewer seeds than the others, so wider intervals"
    if rare := [tag.name for tag in study.tags if tag.is_rare]:
        yield (
            f"{', '.join(rare)}: in fewer than {FEWEST_POSITIVES} recordings or compositions of "
            f"the test split, so not decided"
        )
    if at_end := sum(
        run.result.ended_by == "epochs" and run.result.best_epoch > LAST_TENTH * run.result.epochs
        for its_runs in study.networks.values()
        for run in its_runs
    ):
        yield (
            f"runs whose best epoch is in the last tenth: {at_end}; with more epochs they might "
            f"get better yet (a schedule that falls to 0 has its best epoch there in any case)"
        )
    curves = group_by_curve(n_seeds)
    sizes = {
        rule: {network.target for network in study.networks if network.rule == rule}
        for rule in RULES
    }
    for (arch, rule), networks in group_by_curve(study.networks).items():
        scored = len(curves.get((arch, rule), ()))
        if scores and scored < FEWEST_SIZES:
            yield f"{arch}, {rule}: {scored} of the {FEWEST_SIZES} sizes that a scaling law needs"
        if lacking := sorted(sizes[rule] - {network.target for network in networks}):
            shown = ", ".join(f"{target:,}" for target in lacking)
            yield f"{arch}, {rule}: no finished run at {shown}, where others have some"
