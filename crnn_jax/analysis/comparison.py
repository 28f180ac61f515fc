"""Differences between two networks, over all tags, by category and per tag."""

import collections
import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import scipy.special
from jaxtyping import Float

from crnn_jax.analysis.bootstrap import Resampled, mean_of_known
from crnn_jax.study.schema import Network

# Of intervals, and of all decisions together on the tags of a comparison.
CONFIDENCE = 0.95

Verdict = Literal["higher", "lower", "undecided"]


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def interval(self) -> tuple[float, float]:
        """Its ends."""
        return self.low, self.high

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval is on one side of 0."""
        return self.low * self.high > 0


@dataclasses.dataclass(frozen=True)
class TagDifference:
    """Difference between two networks' AUC of one tag.

    Attributes
    ----------
    tag, category, n_positive
        The tag, and its positive clips in the test split.
    auc
        First network's AUC minus the second's.
    p, p_holm
        Two-sided p-value of the tag alone, and corrected for all tags of the comparison (Holm
        1979); the latter is None for rare tags, which are not decided.
    verdict
        Of the first network, by `p_holm`.
    """

    tag: str
    category: str
    n_positive: int
    auc: Estimate
    p: float
    p_holm: float | None
    verdict: Verdict


@dataclasses.dataclass(frozen=True)
class Difference:
    """Differences between two networks, over the tags that have an AUC for both.

    Paired over the clips of the test split, if both were scored on the same one.

    Attributes
    ----------
    first, second
        The networks.
    auc
        First network's macro AUC minus the second's.
    p
        Two-sided p-value of it.
    categories
        The same over the tags of each category.
    tags
        The same of each tag that has an AUC.
    """

    first: Network
    second: Network
    auc: Estimate
    p: float
    categories: dict[str, Estimate]
    tags: tuple[TagDifference, ...]

    @property
    def is_decided(self) -> bool:
        """Whether the macro AUCs differ: by the interval, and by `p` as well.

        The interval is made of the resamples' ends and `p` of their standard deviation, so that the
        two may disagree where a difference is at the edge.
        """
        return self.auc.excludes_zero and self.p < 1 - CONFIDENCE

    def count(self, verdict: Verdict) -> int:
        """Return the number of tags with this verdict."""
        return sum(tag.verdict == verdict for tag in self.tags)


@dataclasses.dataclass(frozen=True)
class Tag:
    """A tag of the test split.

    Attributes
    ----------
    name, category, n_positive
        The tag, and its positive clips.
    popularity_rank
        1 for the tag with the most positive training clips.
    is_rare
        Whether its positive or its negative clips are of fewer than
        `crnn_jax.config.FEWEST_POSITIVES` groups: then resampling them says nothing about others.
    """

    name: str
    category: str
    n_positive: int
    popularity_rank: int = 0
    is_rare: bool = False


def estimate(
    value: float,
    resampled: Float[np.ndarray, "resamples"],
    *,
    confidence: float = CONFIDENCE,
    degrees: float = math.inf,
) -> Estimate:
    """Return a number with the interval that holds the middle of its resamples.

    Parameters
    ----------
    value, resampled
        The number, and that of each resample; NaN is left out.
    confidence
        Part of the resamples that the interval holds.
    degrees
        Degrees of freedom of the resamples' variance. With few of them the interval is wider, by as
        much as Student's t is wider than the normal distribution.
    """
    (found,) = estimate_each(
        np.array([value]), resampled[:, None], np.array([degrees]), confidence=confidence
    )
    return found


def estimate_each(
    values: Float[np.ndarray, "numbers"],
    resampled: Float[np.ndarray, "resamples numbers"],
    degrees: Float[np.ndarray, "numbers"],
    *,
    confidence: float = CONFIDENCE,
) -> list[Estimate]:
    """Return several numbers with their intervals, as `estimate` does."""
    tail = (1 - confidence) / 2
    # Of NumPy's functions the fast one, where it can be.
    quantile = np.nanquantile if np.isnan(resampled).any() else np.quantile
    ends = quantile(resampled, [tail, 1 - tail], axis=0)
    stretch = _widen(degrees, 1 - tail)
    low, high = values + stretch * (ends - values)
    ends_of_each = zip(values.tolist(), low.tolist(), high.tolist(), strict=True)
    return [Estimate(*numbers) for numbers in ends_of_each]


def _widen(degrees: Float[np.ndarray, "numbers"], part: float) -> Float[np.ndarray, "numbers"]:
    """Return how much wider Student's t is than the normal distribution."""
    normal = scipy.special.ndtri(part)
    finite = np.where(degrees < math.inf, degrees, 1.0)
    return np.where(degrees < math.inf, scipy.special.stdtrit(finite, part) / normal, 1.0)


def degrees_of_freedom(
    resampled: Float[np.ndarray, "resamples *numbers"],
    *of_seeds: Float[np.ndarray, "seeds *numbers"],
) -> Float[np.ndarray, "*numbers"]:
    """Return the degrees of freedom of a variance that is in part that of a few seeds' means.

    After Satterthwaite (1946): the variance over clips is known well, that over n seeds has n − 1
    degrees of freedom. Infinite if no network has several seeds.

    Parameters
    ----------
    resampled
        The number in each resample, in which both variances are.
    of_seeds
        For each network that it depends on, the number of each seed.
    """
    of_means = [
        (np.var(seeds, axis=0, ddof=1) / len(seeds), len(seeds))
        for seeds in of_seeds
        if len(seeds) > 1
    ]
    none = np.zeros(resampled.shape[1:])
    squares = sum((variance**2 / (n_seeds - 1) for variance, n_seeds in of_means), none)
    # The two are estimated differently, and the whole is not less than its parts.
    parts = sum((variance for variance, _ in of_means), none)
    total = np.maximum(_deviation(resampled) ** 2, parts)
    infinite = np.full(total.shape, math.inf)
    return np.divide(total**2, squares, out=infinite, where=squares > 0)


def two_sided_p(
    value: Float[np.ndarray, "*numbers"] | float,
    resampled: Float[np.ndarray, "resamples *numbers"],
    degrees: Float[np.ndarray, "*numbers"] | float = math.inf,
) -> Float[np.ndarray, "*numbers"]:
    """Return the p-value of a difference of 0, from the resamples' standard deviation.

    The share of resamples beyond 0 would need tens of thousands of them to be told from 0 after
    Holm's correction. Without any deviation nothing was resampled, and nothing is known.
    """
    # Rounding gives equal numbers a deviation. Of NaN and a number, these return the number.
    varies = np.fmax.reduce(resampled) > np.fmin.reduce(resampled)
    beyond = -np.abs(value) / np.where(varies, _deviation(resampled), 1.0)
    is_normal = np.isinf(degrees)
    student = scipy.special.stdtr(np.where(is_normal, 1.0, degrees), beyond)
    p = 2 * np.where(is_normal, scipy.special.ndtr(beyond), student)
    return np.where(varies, p, 1.0)


def _deviation(
    resampled: Float[np.ndarray, "resamples *numbers"],
) -> Float[np.ndarray, "*numbers"]:
    """Return the standard deviation of the resamples that have a number."""
    # The one that looks for NaN takes several times as long.
    std = np.nanstd if np.isnan(resampled).any() else np.std
    return np.asarray(std(resampled, axis=0))


def correct_by_holm(p: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number, after Holm (1979).

    Deciding by them keeps the chance of any wrong decision at the level of one, whatever the
    tests' dependence.

    >>> correct_by_holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p, kind="stable")
    factors = np.arange(len(p), 0, -1)
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(np.maximum.accumulate(np.asarray(p)[order] * factors), 1)
    return [float(value) for value in corrected]


def compare(
    first: Network,
    second: Network,
    scores: tuple[Resampled, Resampled],
    tags: Sequence[Tag],
) -> Difference:
    """Compare two networks over the tags that have an AUC for both.

    Scored on the same resamples of one test split, they are paired over its clips; on resamples
    that were drawn independently, of two splits, the chances of both add.

    Parameters
    ----------
    first, second, scores
        The networks, and their scores on as many resamples.
    tags
        The tags of the split, in the order of the scores.
    """
    scored = np.flatnonzero(~np.isnan(scores[0].auc - scores[1].auc)).tolist()
    categories = collections.defaultdict(list)
    for column in scored:
        categories[tags[column].category].append(column)
    # The tags, then their mean by category, then that of all.
    of_tags = [[column] for column in scored]
    means = [*of_tags, *categories.values(), scored]
    seeds = [_average(each.auc_of_seeds, means) for each in scores]
    values = seeds[0].mean(axis=0) - seeds[1].mean(axis=0)
    resampled = _average(scores[0].resampled_auc, means) - _average(scores[1].resampled_auc, means)
    degrees = degrees_of_freedom(resampled, *seeds)
    found = estimate_each(values, resampled, degrees)
    p = two_sided_p(values, resampled, degrees).tolist()

    decided = [place for place, column in enumerate(scored) if not tags[column].is_rare]
    corrected = dict(zip(decided, correct_by_holm([p[place] for place in decided]), strict=True))
    return Difference(
        first,
        second,
        found[-1],
        p[-1],
        dict(zip(categories, found[len(scored) : -1], strict=True)),
        tuple(
            TagDifference(
                tag=tags[column].name,
                category=tags[column].category,
                n_positive=tags[column].n_positive,
                auc=found[place],
                p=p[place],
                p_holm=corrected.get(place),
                verdict=_decide(found[place].value, corrected.get(place)),
            )
            for place, column in enumerate(scored)
        ),
    )


def _average(
    auc: Float[np.ndarray, "rows tags"], means: Sequence[Sequence[int]]
) -> Float[np.ndarray, "rows means"]:
    """Return the mean over some tags, of those that have an AUC in a row, for each of `means`."""
    return np.stack(
        [
            auc[:, columns[0]] if len(columns) == 1 else mean_of_known(auc[:, columns])
            for columns in means
        ],
        axis=1,
    )


def _decide(difference: float, p: float | None) -> Verdict:
    if p is None or not p < 1 - CONFIDENCE:
        return "undecided"
    return "higher" if difference > 0 else "lower"
