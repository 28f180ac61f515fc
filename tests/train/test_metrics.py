"""Scores against their definitions, counted out, and against scikit-learn's."""

import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

from crnn_jax.train.metrics import Calibration, measure_calibration, score_tags


def auc_by_pairs(targets, scores):
    """Share of (positive, negative) pairs in the right order; a tie is half a pair."""
    positive, negative = scores[targets == 1][:, None], scores[targets == 0][None, :]
    return float(((positive > negative) + 0.5 * (positive == negative)).mean())


def average_precision_by_thresholds(targets, scores):
    """Σ (Rₙ − Rₙ₋₁) Pₙ over the distinct scores, highest first."""
    total, recall_before = 0.0, 0.0
    for threshold in np.unique(scores)[::-1]:
        chosen = scores >= threshold
        recall = targets[chosen].sum() / targets.sum()
        total += (recall - recall_before) * targets[chosen].mean()
        recall_before = recall
    return total


# Few distinct scores: ties are the rule.
examples = st.integers(2, 30).flatmap(
    lambda n: st.tuples(
        hnp.arrays(np.uint8, (n, 3), elements=st.integers(0, 1)),
        hnp.arrays(np.float32, (n, 3), elements=st.sampled_from([-2.0, -0.5, 0.0, 0.25, 3.0])),
    )
)


@settings(max_examples=100, deadline=None)
@given(examples)
def test_scores_are_those_of_the_definitions(example):
    targets, logits = example
    scores = score_tags(targets, logits)
    for tag in range(targets.shape[1]):
        if 0 < targets[:, tag].sum() < len(targets):
            assert scores.auc[tag] == pytest.approx(
                auc_by_pairs(targets[:, tag], logits[:, tag]), abs=1e-12
            )
            assert scores.average_precision[tag] == pytest.approx(
                average_precision_by_thresholds(targets[:, tag], logits[:, tag]), abs=1e-12
            )
        else:
            assert scores.auc[tag] is None
            assert scores.average_precision[tag] is None


@settings(max_examples=30, deadline=None)
@given(examples)
def test_macro_is_scikit_learns_over_the_tags_that_count(example):
    targets, logits = example
    scores = score_tags(targets, logits)
    counts = [tag for tag in range(3) if 0 < targets[:, tag].sum() < len(targets)]
    assert scores.n_scored == len(counts)
    if not counts:
        assert scores.macro_auc is None
        assert scores.macro_average_precision is None
        return
    assert scores.macro_auc == pytest.approx(
        roc_auc_score(targets[:, counts], logits[:, counts], average="macro"), abs=1e-12
    )
    assert scores.macro_average_precision == pytest.approx(
        average_precision_score(targets[:, counts], logits[:, counts], average="macro"), abs=1e-12
    )


def test_fixed_numbers():
    targets = np.array([[0, 1], [0, 1], [1, 1], [1, 1]], np.uint8)
    logits = np.array([[0.1, 0], [0.4, 0], [0.35, 0], [0.8, 0]], np.float32)
    scores = score_tags(targets, logits)
    assert scores.auc == (0.75, None)
    assert scores.average_precision[0] == pytest.approx(0.5 + 0.5 * 2 / 3, abs=1e-12)
    assert scores.n_scored == 1


def test_scores_that_are_not_numbers_are_refused():
    targets = np.array([[0], [1]], np.uint8)
    with pytest.raises(ValueError, match="NaN"):
        score_tags(targets, np.array([[np.nan], [0.0]], np.float32))


# Calibration


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 4))
def test_cross_entropy_is_that_of_scikit_learn(seed, n_examples, n_tags):
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 2, (n_examples, n_tags))
    logits = rng.normal(0, 4, (n_examples, n_tags))
    expected = log_loss(targets.ravel(), scipy.special.expit(logits).ravel(), labels=[0, 1])
    assert measure_calibration(targets, logits).cross_entropy == pytest.approx(expected, rel=1e-6)


def test_outputs_that_are_probabilities_are_calibrated():
    rng = np.random.default_rng(0)
    probabilities = rng.random((100_000, 2))
    targets = (rng.random((100_000, 2)) < probabilities).astype(int)
    true = measure_calibration(targets, scipy.special.logit(probabilities))
    assert true.error < 0.01
    # Twice as sure as they should be.
    sure = measure_calibration(targets, 2 * scipy.special.logit(probabilities))
    assert sure.error > 0.05
    assert sure.cross_entropy > true.cross_entropy


def test_the_calibration_error_in_a_case_done_by_hand():
    """Two outputs of 0.9, one of them wrong; two of 0.1, both right."""
    targets = np.array([[1], [0], [0], [0]])
    logits = scipy.special.logit(np.array([[0.9], [0.9], [0.1], [0.1]]))
    assert measure_calibration(targets, logits).error == pytest.approx((2 * 0.4 + 2 * 0.1) / 4)


def test_large_logits_do_not_overflow():
    targets, logits = np.array([[1, 0]]), np.array([[1e4, -1e4]], np.float32)
    assert measure_calibration(targets, logits) == (Calibration(0.0, 0.0))
    assert measure_calibration(1 - targets, logits).cross_entropy == pytest.approx(1e4)
    with pytest.raises(ValueError, match="not finite"):
        measure_calibration(targets, np.array([[np.nan, 0.0]]))
