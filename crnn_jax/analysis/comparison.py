"""Differences between two networks, over all tags, by category and per tag."""

import collections
import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import scipy.stats
from jaxtyping import Float

from crnn_jax.analysis.bootstrap import Resampled
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
        1979).
    verdict
        Of the first network, by `p_holm`.
    """

    tag: str
    category: str
    n_positive: int
    auc: Estimate
    p: float
    p_holm: float
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
    """A tag of the test split."""

    name: str
    category: str
    n_positive: int


def estimate(
    value: float,
    resampled: Float[np.ndarray, "resamples"],
    *,
    confidence: float = CONFIDENCE,
    degrees_of_freedom: float = math.inf,
) -> Estimate:
    """Return a number with the interval that holds the middle of its resamples.

    Parameters
    ----------
    value, resampled
        The number, and that of each resample; NaN is left out.
    confidence
        Part of the resamples that the interval holds.
    degrees_of_freedom
        Of the variance that was resampled. With few of them the ends are as far out as Student's t
        is beyond the normal distribution.
    """
    known = resampled[~np.isnan(resampled)]
    end = scipy.stats.t.ppf((1 + confidence) / 2, degrees_of_freedom)
    low, high = np.quantile(known, scipy.stats.norm.cdf([-end, end]))
    return Estimate(float(value), float(low), float(high))


def two_sided_p(value: float, resampled: Float[np.ndarray, "resamples"]) -> float:
    """Return the p-value of a difference of 0, from the resamples' standard deviation.

    The share of resamples beyond 0 would need tens of thousands of them to be told from 0 after
    Holm's correction.
    """
    deviation = float(np.nanstd(resampled))
    if deviation == 0:
        return 1.0 if value == 0 else 0.0
    return float(2 * scipy.stats.norm.sf(abs(value) / deviation))


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
    one, other = scores
    macro = one.macro_auc - other.macro_auc
    resampled_macro = one.resampled_macro_auc - other.resampled_macro_auc
    each, resampled = one.auc - other.auc, one.resampled_auc - other.resampled_auc
    scored = [number for number in range(len(tags)) if not np.isnan(each[number])]
    p = [two_sided_p(each[number], resampled[:, number]) for number in scored]
    of_tags = tuple(
        TagDifference(
            tag=tags[number].name,
            category=tags[number].category,
            n_positive=tags[number].n_positive,
            auc=estimate(each[number], resampled[:, number]),
            p=of_tag,
            p_holm=corrected,
            verdict=_decide(each[number], corrected),
        )
        for number, of_tag, corrected in zip(scored, p, correct_by_holm(p), strict=True)
    )
    columns = collections.defaultdict(list)
    for number in scored:
        columns[tags[number].category].append(number)
    return Difference(
        first,
        second,
        estimate(macro, resampled_macro),
        two_sided_p(macro, resampled_macro),
        {
            category: estimate(each[numbers].mean(), np.nanmean(resampled[:, numbers], axis=1))
            for category, numbers in columns.items()
        },
        of_tags,
    )


def _decide(difference: float, p: float) -> Verdict:
    if p >= 1 - CONFIDENCE:
        return "undecided"
    return "higher" if difference > 0 else "lower"
