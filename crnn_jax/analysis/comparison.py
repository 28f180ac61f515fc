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
    """Differences between two networks, paired over the clips of the test split.

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
    is_rare
        Whether its positive or its negative clips are of fewer than
        `crnn_jax.config.FEWEST_POSITIVES` groups: then resampling them says nothing about others.
    """

    name: str
    category: str
    n_positive: int
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
    known = resampled[~np.isnan(resampled)]
    tail = (1 - confidence) / 2
    normal = float(scipy.special.ndtri(1 - tail))
    # Of SciPy's functions those that take a microsecond: there are thousands of tags.
    student = float(scipy.special.stdtrit(degrees, 1 - tail)) if degrees < math.inf else normal
    stretch = student / normal
    low, high = value + stretch * (np.quantile(known, [tail, 1 - tail]) - value)
    return Estimate(float(value), float(low), float(high))


def degrees_of_freedom(
    resampled: Float[np.ndarray, "resamples"], *of_seeds: Float[np.ndarray, "seeds"]
) -> float:
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
        (np.var(seeds, ddof=1) / len(seeds), len(seeds)) for seeds in of_seeds if len(seeds) > 1
    ]
    squares = sum(variance**2 / (n_seeds - 1) for variance, n_seeds in of_means)
    if squares == 0:
        return math.inf
    # The two are estimated differently, and the whole is not less than its parts.
    total = max(float(np.nanvar(resampled)), sum(variance for variance, _ in of_means))
    return float(total**2 / squares)


def two_sided_p(
    value: float, resampled: Float[np.ndarray, "resamples"], degrees: float = math.inf
) -> float:
    """Return the p-value of a difference of 0, from the resamples' standard deviation.

    The share of resamples beyond 0 would need tens of thousands of them to be told from 0 after
    Holm's correction. Without any deviation nothing was resampled, and nothing is known.
    """
    if not np.nanmax(resampled) > np.nanmin(resampled):
        return 1.0
    deviation = float(np.nanstd(resampled))
    beyond = -abs(value) / deviation
    if degrees == math.inf:
        return float(2 * scipy.special.ndtr(beyond))
    return float(2 * scipy.special.stdtr(degrees, beyond))


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
    """Compare two networks that were scored on the same resamples.

    Parameters
    ----------
    first, second, scores
        The networks, and their scores.
    tags
        The tags of the split, in the order of the scores.
    """
    scored = np.flatnonzero(~np.isnan(scores[0].auc - scores[1].auc)).tolist()

    def mean_over(columns: Sequence[int]) -> tuple[Estimate, float]:
        """Return the difference of the mean AUC of some tags, and its p-value."""
        one, other = (each.auc_of_seeds[:, columns].mean(axis=1) for each in scores)
        value = float(one.mean() - other.mean())
        resampled = mean_of_known(scores[0].resampled_auc[:, columns]) - mean_of_known(
            scores[1].resampled_auc[:, columns]
        )
        degrees = degrees_of_freedom(resampled, one, other)
        return (
            estimate(value, resampled, degrees=degrees),
            two_sided_p(value, resampled, degrees),
        )

    each = {column: mean_over([column]) for column in scored}
    decided = [column for column in scored if not tags[column].is_rare]
    corrected = dict(
        zip(decided, correct_by_holm([each[column][1] for column in decided]), strict=True)
    )
    columns = collections.defaultdict(list)
    for column in scored:
        columns[tags[column].category].append(column)
    auc, p = mean_over(scored)
    return Difference(
        first,
        second,
        auc,
        p,
        {category: mean_over(numbers)[0] for category, numbers in columns.items()},
        tuple(
            TagDifference(
                tag=tags[column].name,
                category=tags[column].category,
                n_positive=tags[column].n_positive,
                auc=difference,
                p=of_tag,
                p_holm=corrected.get(column),
                verdict=_decide(difference.value, corrected.get(column)),
            )
            for column, (difference, of_tag) in each.items()
        ),
    )


def _decide(difference: float, p: float | None) -> Verdict:
    if p is None or not p < 1 - CONFIDENCE:
        return "undecided"
    return "higher" if difference > 0 else "lower"
