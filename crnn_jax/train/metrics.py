"""ROC-AUC and average precision, per tag and macro; binary cross-entropy and calibration.

scikit-learn computes each tag's score; this module determines which tags have one. A tag whose
examples are all positive or all negative has no AUC: it is None, and left out of the mean.
"""

import dataclasses
import math

import numpy as np
import scipy.special
from jaxtyping import Float, Int

# Bins of probabilities, as in Guo et al. (2017).
CALIBRATION_BINS = 15


@dataclasses.dataclass(frozen=True)
class TagScores:
    """Scores of a classifier on one split.

    Attributes
    ----------
    auc, average_precision
        Per tag, in the order of the columns; None where the split has one class only.
    """

    auc: tuple[float | None, ...]
    average_precision: tuple[float | None, ...]

    @property
    def macro_auc(self) -> float | None:
        """Mean ROC-AUC over the tags that have one; None if none has."""
        return _mean(self.auc)

    @property
    def macro_average_precision(self) -> float | None:
        """Mean average precision over the tags that have one; None if none has."""
        return _mean(self.average_precision)

    @property
    def n_scored(self) -> int:
        """Number of tags in the means."""
        return sum(value is not None for value in self.auc)


def _mean(values: tuple[float | None, ...]) -> float | None:
    scored = [value for value in values if value is not None]
    return math.fsum(scored) / len(scored) if scored else None


def score_tags(
    targets: Int[np.ndarray, "examples tags"], scores: Float[np.ndarray, "examples tags"]
) -> TagScores:
    """Score every tag of a split.

    Parameters
    ----------
    targets
        1 where the tag belongs to the example, else 0.
    scores
        Logits or probabilities; only their order within a tag counts. Logits are the better
        input: a saturated sigmoid turns them into ties.

    Returns
    -------
    TagScores
        ROC-AUC (ties count half) and average precision (Σ (Rₙ − Rₙ₋₁) Pₙ, no interpolation).

    Raises
    ------
    ValueError
        If a score is not finite.
    """
    # Imported here: it takes longer than everything else that `crnn-jax solve` needs.
    from sklearn.metrics import average_precision_score, roc_auc_score

    positives = targets.sum(axis=0)
    auc: list[float | None] = []
    average_precision: list[float | None] = []
    for tag in range(targets.shape[1]):
        if 0 < positives[tag] < len(targets):
            auc.append(float(roc_auc_score(targets[:, tag], scores[:, tag])))
            average_precision.append(
                float(average_precision_score(targets[:, tag], scores[:, tag]))
            )
        else:
            auc.append(None)
            average_precision.append(None)
    return TagScores(tuple(auc), tuple(average_precision))


@dataclasses.dataclass(frozen=True)
class Calibration:
    """How well the outputs are probabilities.

    Attributes
    ----------
    cross_entropy
        Mean binary cross-entropy over examples and tags, in nats: the training loss, without
        dropout.
    error
        Expected calibration error: mean difference between a probability and the share of positives
        among outputs of about that probability (Guo et al., *On calibration of modern neural
        networks*, 2017; 15 bins, all tags together). 0 is perfect.
    """

    cross_entropy: float
    error: float


def measure_calibration(
    targets: Int[np.ndarray, "examples tags"], logits: Float[np.ndarray, "examples tags"]
) -> Calibration:
    """Measure how well logits predict probabilities.

    Raises
    ------
    ValueError
        If a logit is not finite.
    """
    logits = logits.astype(np.float64)
    if not np.isfinite(logits).all():
        raise ValueError("a logit is not finite")
    cross_entropy = np.logaddexp(0, logits) - targets * logits
    probabilities = scipy.special.expit(logits).ravel()
    bins = np.minimum((probabilities * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    # In each bin: Σ (target − probability); its size is the difference times the bin's outputs.
    excess = np.bincount(bins, targets.ravel() - probabilities, minlength=CALIBRATION_BINS)
    return Calibration(
        float(cross_entropy.mean()), float(np.abs(excess).sum() / len(probabilities))
    )
