"""Scores of resampled test clips and seeds: how much of a difference is chance.

A study's scores depend on which clips the test split happens to have, and on the seeds of training.
Both are resampled (bootstrap; Efron 1979):

* Clips, by group: a recording's or composition's clips are drawn together, since they are not
  independent. All networks are scored on the same draws, so that differences between them are
  paired.
* Seeds, each network's own: one fewer than there are, with replacement, which gives the mean's
  variance without bias (Rao & Wu, *Resampling inference with complex survey data*, 1988); as many
  as there are would give two thirds of it with three seeds. That a variance of few seeds is itself
  uncertain is for the intervals to account for (`crnn_jax.analysis.comparison.estimate`).

Resampling both counts what is peculiar to a seed on a clip more than once, so that intervals are
rather too wide than too narrow (Owen, *The pigeonhole bootstrap*, 2007).
"""

import dataclasses
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8

from crnn_jax.study.runs import Predictions

Key = TypeVar("Key", bound=Hashable)
# Sums the rows of clips, each as often as it is in each resample.
Total = Callable[[Float[np.ndarray, "clips columns"]], Float[np.ndarray, "resamples columns"]]

# Largest number of counts that are turned into floats at a time: 128 MB.
LARGEST_CHUNK = 2**25


@dataclasses.dataclass(frozen=True)
class Resampled:
    """A network's scores: of each seed on the test split, and of each resample.

    A tag without both classes has the AUC NaN.
    """

    auc_of_seeds: Float[np.ndarray, "seeds tags"]
    bce_of_seeds: Float[np.ndarray, "seeds"]
    resampled_auc: Float[np.ndarray, "resamples tags"]
    resampled_bce: Float[np.ndarray, "resamples"]

    @property
    def n_seeds(self) -> int:
        """Number of seeds."""
        return len(self.bce_of_seeds)

    @property
    def auc(self) -> Float[np.ndarray, "tags"]:
        """Each tag's mean over seeds."""
        return self.auc_of_seeds.mean(axis=0)

    @property
    def bce(self) -> float:
        """Mean over seeds."""
        return float(self.bce_of_seeds.mean())

    @property
    def macro_auc(self) -> float:
        """Mean over tags and seeds."""
        return float(mean_of_known(self.auc))

    @property
    def macro_auc_of_seeds(self) -> Float[np.ndarray, "seeds"]:
        """Mean over tags, of each seed."""
        return mean_of_known(self.auc_of_seeds)

    @property
    def resampled_macro_auc(self) -> Float[np.ndarray, "resamples"]:
        """Mean over the tags that have both classes in a resample."""
        return mean_of_known(self.resampled_auc)


def mean_of_known(values: Float[np.ndarray, "*rows columns"]) -> Float[np.ndarray, "*rows"]:
    """Return the mean over the columns that are not NaN; NaN where all are."""
    known = ~np.isnan(values)
    counts = known.sum(axis=-1)
    sums = np.sum(values, axis=-1, where=known)
    return np.divide(sums, counts, out=np.full(np.shape(sums), np.nan), where=counts > 0)


@dataclasses.dataclass(frozen=True)
class Draws:
    """Resamples of the test split, of as many groups as it has.

    Attributes
    ----------
    counts
        How often each group is in each resample.
    group_of_clip
        Number of each clip's group.
    """

    counts: UInt8[np.ndarray, "resamples groups"]
    group_of_clip: Int[np.ndarray, "clips"]

    def total(
        self, values: Float[np.ndarray, "clips columns"]
    ) -> Float32[np.ndarray, "resamples columns"]:
        """Sum the rows of clips in each resample."""
        order = np.argsort(self.group_of_clip, kind="stable")
        starts = np.searchsorted(self.group_of_clip[order], np.arange(self.counts.shape[1]))
        of_groups = np.add.reduceat(values[order], starts, axis=0).astype(np.float32)
        rows = max(1, LARGEST_CHUNK // self.counts.shape[1])
        return np.concatenate(
            [
                self.counts[start : start + rows].astype(np.float32) @ of_groups
                for start in range(0, len(self.counts), rows)
            ]
        )


def draw_groups(
    groups: Int[np.ndarray, "clips"], n_resamples: int, rng: np.random.Generator
) -> Draws:
    """Draw groups of clips with replacement."""
    names, group_of_clip = np.unique(groups, return_inverse=True)
    equal = np.full(len(names), 1 / len(names))
    counts = np.empty((n_resamples, len(names)), np.uint8)
    for row in counts:
        row[:] = rng.multinomial(len(names), equal)
    return Draws(counts, group_of_clip)


def draw_seeds(
    n_seeds: int, n_resamples: int, rng: np.random.Generator
) -> Float[np.ndarray, "resamples seeds"]:
    """Return the weight of each seed in each resample; a single seed always counts."""
    if n_seeds == 1:
        return np.ones((n_resamples, 1))
    drawn = n_seeds - 1
    return rng.multinomial(drawn, np.full(n_seeds, 1 / n_seeds), size=n_resamples) / drawn


def placements(
    targets: Bool[np.ndarray, "clips tags"], scores: Float[np.ndarray, "clips tags"]
) -> Float[np.ndarray, "clips tags"]:
    """Return of each clip the part of the clips of the other class that it is ordered right with.

    Ties count half. The mean over a tag's positive clips is the ROC-AUC, and so is the mean over
    the negative ones; NaN if there is one class only.
    """
    order = np.argsort(scores, axis=0, kind="stable")
    ordered = np.take_along_axis(scores, order, axis=0)
    is_positive = np.take_along_axis(targets, order, axis=0)
    places = np.broadcast_to(np.arange(len(scores))[:, None], scores.shape)
    # The first and the last place of the equal scores that each one is among.
    changes = ordered[1:] != ordered[:-1]
    begins, ends = np.ones(scores.shape, bool), np.ones(scores.shape, bool)
    begins[1:], ends[:-1] = changes, changes
    first = np.maximum.accumulate(np.where(begins, places, 0), axis=0)
    last = np.minimum.accumulate(np.where(ends, places, len(scores))[::-1], axis=0)[::-1]
    # Before each place, and behind the last one.
    positive = np.concatenate([np.zeros((1, scores.shape[1]), int), np.cumsum(is_positive, axis=0)])
    positive_below = np.take_along_axis(positive, first, axis=0)
    positive_equal = np.take_along_axis(positive, last + 1, axis=0) - positive_below
    below = np.where(is_positive, first - positive_below, positive_below)
    equal = np.where(is_positive, last + 1 - first - positive_equal, positive_equal)
    n_positive = positive[-1]
    n_others = np.where(is_positive, len(scores) - n_positive, n_positive)
    part = np.divide(
        below + equal / 2, n_others, out=np.full(scores.shape, np.nan), where=n_others > 0
    )
    found = np.empty(scores.shape)
    np.put_along_axis(found, order, np.where(is_positive, part, 1 - part), axis=0)
    return found


def resample_auc(
    targets: Bool[np.ndarray, "clips tags"],
    logits: Float[np.ndarray, "clips tags"],
    total: Total,
    n_positive: Float[np.ndarray, "resamples tags"],
    n_clips: Float[np.ndarray, "resamples"],
) -> tuple[Float[np.ndarray, "tags"], Float[np.ndarray, "resamples tags"]]:
    """Return each tag's ROC-AUC, and that of each resample to first order.

    The latter is the mean over the positive clips' `placements`, plus that over the negative
    clips', minus the AUC (Hájek's projection, by which DeLong, DeLong & Clarke-Pearson, 1988, find
    the variance of an AUC). It takes two matrix products for all tags and resamples, where sorting
    each resample would take hours on a large test split. NaN where a class has no clip.

    Parameters
    ----------
    targets, logits
        What should be, and what a network says.
    total
        Sums the rows of clips in each resample, see `Draws.total`.
    n_positive, n_clips
        Positive clips of each tag, and clips, in each resample: the same for all networks.
    """
    of_clips = placements(targets, logits)
    auc = mean_of_known(np.where(targets, of_clips, np.nan).T)
    resampled = -auc
    of_both = np.concatenate([np.where(targets, of_clips, 0), np.where(targets, 0, of_clips)], 1)
    n_negative = n_clips[:, None] - n_positive
    for sums, counts in zip(np.split(total(of_both), 2, 1), (n_positive, n_negative), strict=True):
        mean = np.divide(sums, counts, out=np.full(counts.shape, np.nan), where=counts > 0)
        resampled = resampled + mean
    return auc, np.clip(resampled, 0, 1)


def cross_entropy(
    logits: Float[np.ndarray, "clips tags"], targets: Int[np.ndarray, "clips tags"]
) -> Float[np.ndarray, "clips"]:
    """Return each clip's binary cross-entropy, in nats, averaged over its tags."""
    logits = logits.astype(float)
    return np.mean(np.logaddexp(0, logits) - logits * targets, axis=1)


def resample(
    networks: Mapping[Key, Sequence[Predictions]],
    groups: Int[np.ndarray, "clips"],
    n_resamples: int,
    seed: int = 0,
) -> dict[Key, Resampled]:
    """Score every network on the same resamples of the test split.

    Parameters
    ----------
    networks
        The predictions of each network, a seed each, all for the same clips.
    groups
        Number of the recording or composition of each clip.
    n_resamples
        Number of resamples.
    seed
        Of the resampling; the same one gives the same numbers.
    """
    rng = np.random.default_rng(seed)
    draws = draw_groups(groups, n_resamples, rng)
    n_clips = draws.total(np.ones((len(groups), 1)))[:, 0]
    (first, *_), *_ = networks.values()
    n_positive = draws.total(first.targets.astype(float))
    return {
        key: _score(
            of_network, draws, n_positive, n_clips, draw_seeds(len(of_network), n_resamples, rng)
        )
        for key, of_network in networks.items()
    }


def _score(
    of_network: Sequence[Predictions],
    draws: Draws,
    n_positive: Float[np.ndarray, "resamples tags"],
    n_clips: Float[np.ndarray, "resamples"],
    weights: Float[np.ndarray, "resamples seeds"],
) -> Resampled:
    auc_of_seeds, bce_of_seeds = [], []
    resampled_auc = np.zeros((len(weights), of_network[0].targets.shape[1]))
    resampled_bce = np.zeros(len(weights))
    for predictions, weight in zip(of_network, weights.T, strict=True):
        targets = predictions.targets.astype(bool)
        auc, each_auc = resample_auc(targets, predictions.logits, draws.total, n_positive, n_clips)
        losses = cross_entropy(predictions.logits, predictions.targets)
        auc_of_seeds.append(auc)
        bce_of_seeds.append(losses.mean())
        resampled_auc += weight[:, None] * each_auc
        resampled_bce += weight * draws.total(losses[:, None])[:, 0] / n_clips
    return Resampled(np.stack(auc_of_seeds), np.array(bce_of_seeds), resampled_auc, resampled_bce)
