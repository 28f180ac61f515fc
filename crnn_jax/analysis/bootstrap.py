"""Scores of resampled test clips and seeds: how much of a difference is chance.

A study's scores depend on which clips the test split happens to have, and on the seeds of training.
Both are resampled (bootstrap; Efron 1979):

* Clips, by group: a recording's or composition's clips are drawn together, since they are not
  independent. All networks are scored on the same draws, so that differences between them are
  paired.
* Seeds, each network's own: one fewer than there are, with replacement, which gives the mean's
  variance without bias (Rao & Wu, *Resampling inference with complex survey data*, 1988); as many
  as there are would give two thirds of it with three seeds.

Resampling both counts what is peculiar to a seed on a clip more than once, so that intervals are
somewhat too wide, never too narrow (Owen, *The pigeonhole bootstrap*, 2007).
"""

import dataclasses
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np
import scipy.stats
from jaxtyping import Bool, Float, Float32, Int

from crnn_jax.study.runs import Predictions

Key = TypeVar("Key", bound=Hashable)

# Numbers that one step of the computation keeps in memory.
LARGEST_CHUNK = 2**25


@dataclasses.dataclass(frozen=True)
class Resampled:
    """A network's scores, averaged over seeds: of the test split, and of each resample.

    A tag without both classes has the AUC NaN.
    """

    auc: Float[np.ndarray, "tags"]
    bce: float
    resampled_auc: Float[np.ndarray, "resamples tags"]
    resampled_bce: Float[np.ndarray, "resamples"]

    @property
    def macro_auc(self) -> float:
        """Mean over the tags."""
        return float(np.nanmean(self.auc))

    @property
    def resampled_macro_auc(self) -> Float[np.ndarray, "resamples"]:
        """Mean over the tags that have both classes in a resample."""
        return np.nanmean(self.resampled_auc, axis=1)


def draw_groups(
    groups: Int[np.ndarray, "clips"], n_resamples: int, rng: np.random.Generator
) -> Float32[np.ndarray, "resamples clips"]:
    """Return how often each clip is in each resample of as many groups as there are."""
    names, group_of_clip = np.unique(groups, return_inverse=True)
    n_groups = len(names)
    counts = rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n_resamples)
    return counts.astype(np.float32)[:, group_of_clip]


def draw_seeds(
    n_seeds: int, n_resamples: int, rng: np.random.Generator
) -> Float[np.ndarray, "resamples seeds"]:
    """Return the weight of each seed in each resample; a single seed always counts."""
    if n_seeds == 1:
        return np.ones((n_resamples, 1))
    drawn = n_seeds - 1
    return rng.multinomial(drawn, np.full(n_seeds, 1 / n_seeds), size=n_resamples) / drawn


def placements(
    is_positive: Bool[np.ndarray, "clips"], scores: Float[np.ndarray, "clips"]
) -> Float[np.ndarray, "clips"]:
    """Return of each clip the part of the clips of the other class that it is ordered right with.

    Ties count half. The mean over the positive clips is the ROC-AUC, and so is the mean over the
    negative ones; NaN if there is one class only.
    """
    ordered = np.full(len(scores), np.nan)
    for of_class in (is_positive, ~is_positive):
        n_others = len(scores) - of_class.sum()
        if n_others and of_class.any():
            ranks = scipy.stats.rankdata(scores)[of_class]
            below = (ranks - scipy.stats.rankdata(scores[of_class])) / n_others
            ordered[of_class] = below if of_class is is_positive else 1 - below
    return ordered


def weighted_auc(
    targets: Bool[np.ndarray, "clips tags"],
    logits: Float[np.ndarray, "clips tags"],
    weights: Float32[np.ndarray, "resamples clips"],
) -> Float[np.ndarray, "resamples tags"]:
    """Return each tag's ROC-AUC with each row of weights, to first order in the weights.

    It is the weighted mean of the positive clips' `placements`, plus that of the negative clips',
    minus the AUC (Hájek's projection, by which DeLong, DeLong & Clarke-Pearson, 1988, find the
    variance of an AUC). With equal weights that is exact; it takes one matrix product for all tags
    and resamples, where sorting each resample would take hours on a large test split. NaN where a
    class has no weight.
    """
    of_clips = np.stack(
        [placements(*columns) for columns in zip(targets.T, logits.T, strict=True)], axis=1
    )
    auc = np.array(
        [
            column[of_tag].mean() if of_tag.any() else np.nan
            for column, of_tag in zip(of_clips.T, targets.T, strict=True)
        ]
    )
    resampled = -auc
    for of_class in (targets, ~targets):
        values = np.where(of_class, of_clips, 0).astype(np.float32)
        total = weights @ of_class.astype(np.float32)
        mean = np.divide(
            weights @ values, total, out=np.full(total.shape, np.nan, np.float32), where=total > 0
        )
        resampled = resampled + mean.astype(float)
    return np.clip(resampled, 0, 1)


def cross_entropy(
    logits: Float[np.ndarray, "clips tags"], targets: Int[np.ndarray, "clips tags"]
) -> Float[np.ndarray, "clips"]:
    """Return each clip's binary cross-entropy, in nats, averaged over its tags."""
    logits = logits.astype(float)
    return np.mean(np.logaddexp(0, logits) - logits * targets, axis=1)


def resample(
    networks: Mapping[Key, Sequence[Predictions]], n_resamples: int, seed: int = 0
) -> dict[Key, Resampled]:
    """Score every network on the same resamples of the test split.

    Parameters
    ----------
    networks
        The predictions of each network, a seed each, all for the same clips.
    n_resamples
        Number of resamples.
    seed
        Of the resampling; the same one gives the same numbers.
    """
    (split, *_) = (predictions for of_network in networks.values() for predictions in of_network)
    rng = np.random.default_rng(seed)
    chosen = {
        key: draw_seeds(len(of_network), n_resamples, rng) for key, of_network in networks.items()
    }
    once = np.ones((1, len(split.groups)), np.float32)
    scores: dict[Key, list[tuple[np.ndarray, np.ndarray]]] = {key: [] for key in networks}
    chunk = max(1, LARGEST_CHUNK // len(split.groups))
    # First the split itself, every seed once.
    whole = {key: np.full((1, len(seeds)), 1 / len(seeds)) for key, seeds in networks.items()}
    for of_seeds, weights in [
        (whole, once),
        *_draw_in_chunks(chosen, split.groups, n_resamples, chunk, rng),
    ]:
        for key, of_network in networks.items():
            scores[key].append(_score(of_network, of_seeds[key], weights))
    resampled = {}
    for key, parts in scores.items():
        (auc, bce), *others = parts
        resampled[key] = Resampled(
            auc[0],
            float(bce[0]),
            np.concatenate([auc for auc, _ in others]),
            np.concatenate([bce for _, bce in others]),
        )
    return resampled


def _draw_in_chunks(
    chosen: Mapping[Key, np.ndarray],
    groups: np.ndarray,
    n_resamples: int,
    chunk: int,
    rng: np.random.Generator,
) -> Iterator[tuple[dict[Key, np.ndarray], np.ndarray]]:
    for start in range(0, n_resamples, chunk):
        size = min(chunk, n_resamples - start)
        of_seeds = {key: weights[start : start + size] for key, weights in chosen.items()}
        yield of_seeds, draw_groups(groups, size, rng)


def _score(
    of_network: Sequence[Predictions],
    of_seeds: Float[np.ndarray, "resamples seeds"],
    weights: Float32[np.ndarray, "resamples clips"],
) -> tuple[Float[np.ndarray, "resamples tags"], Float[np.ndarray, "resamples"]]:
    """Return the AUC of each tag and the cross-entropy, averaged over seeds, in each resample."""
    auc = np.zeros((len(weights), of_network[0].targets.shape[1]))
    bce = np.zeros(len(weights))
    for predictions, of_seed in zip(of_network, of_seeds.T, strict=True):
        losses = cross_entropy(predictions.logits, predictions.targets)
        bce += of_seed * (weights @ losses) / weights.sum(axis=1, dtype=float)
        targets = predictions.targets.astype(bool)
        auc += of_seed[:, None] * weighted_auc(targets, predictions.logits, weights)
    return auc, bce
