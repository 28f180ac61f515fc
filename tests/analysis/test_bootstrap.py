"""Scores of resamples, against scikit-learn, closed forms, and the variance they should have."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score

from crnn_jax.analysis.bootstrap import (
    cross_entropy,
    draw_groups,
    draw_seeds,
    placements,
    resample,
    weighted_auc,
)
from crnn_jax.study.runs import Predictions


@settings(deadline=None)
@given(
    data=st.lists(
        # Few different scores, so that there are ties.
        st.tuples(st.booleans(), st.integers(-3, 3)),
        min_size=2,
        max_size=40,
    )
)
def test_the_mean_placement_is_the_auc(data):
    positive, scores = (np.array(column) for column in zip(*data, strict=True))
    ordered = placements(positive, scores)
    once = np.ones((1, len(data)), np.float32)
    auc = weighted_auc(positive[:, None], scores[:, None], once)[0, 0]
    if positive.all() or not positive.any():
        assert np.isnan(ordered).all()
        assert np.isnan(auc)
    else:
        expected = roc_auc_score(positive, scores)
        assert ordered[positive].mean() == pytest.approx(expected)
        assert ordered[~positive].mean() == pytest.approx(expected)
        assert auc == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("n_positive", [15, 60])
def test_resampled_scores_are_those_of_repeated_clips(n_positive):
    """To first order: the same spread and the same places as scikit-learn on each resample."""
    rng = np.random.default_rng(n_positive)
    positive = np.arange(240) < n_positive
    scores = positive + rng.normal(size=240)
    weights = draw_groups(np.arange(240), 500, rng)
    found = weighted_auc(positive[:, None], scores[:, None], weights)[:, 0]
    exact = np.array(
        [
            roc_auc_score(np.repeat(positive, counts), np.repeat(scores, counts))
            for counts in weights.astype(int)
        ]
    )
    assert found.std() == pytest.approx(exact.std(), rel=0.05)
    np.testing.assert_allclose(
        np.quantile(found, [0.025, 0.975]), np.quantile(exact, [0.025, 0.975]), atol=0.01
    )
    assert np.corrcoef(found, exact)[0, 1] > 0.99


def test_a_resample_without_positive_clips_has_no_auc():
    positive, scores = np.array([[True], [False], [False]]), np.array([[0.5], [0.1], [0.7]])
    weights = np.array([[0, 2, 1], [3, 0, 0], [1, 2, 0]], np.float32)
    auc = weighted_auc(positive, scores, weights)[:, 0]
    assert np.isnan(auc).tolist() == [True, True, False]


def test_cross_entropy_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(30, 4)) * 5, rng.integers(0, 2, (30, 4))
    expected = log_loss(targets.ravel(), 1 / (1 + np.exp(-logits.ravel())))
    assert cross_entropy(logits.astype(np.float32), targets).mean() == pytest.approx(
        expected, rel=1e-6
    )


def test_groups_are_drawn_as_a_whole():
    groups = np.array([7, 7, 3, 9, 9, 9])
    weights = draw_groups(groups, 500, np.random.default_rng(0))
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 3] == weights[:, 4]).all()
    # As many groups as there are, each once on average.
    assert (weights[:, [0, 2, 3]].sum(axis=1) == 3).all()
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.1)


@pytest.mark.parametrize("n_seeds", [2, 3, 5])
def test_drawn_seeds_give_the_variance_of_a_mean(n_seeds):
    values = np.random.default_rng(1).normal(size=n_seeds)
    means = draw_seeds(n_seeds, 100_000, np.random.default_rng(2)) @ values
    assert means.mean() == pytest.approx(values.mean(), abs=0.01)
    assert means.var() == pytest.approx(values.var(ddof=1) / n_seeds, rel=0.02)


def test_a_single_seed_always_counts():
    assert (draw_seeds(1, 10, np.random.default_rng(0)) == 1).all()


def make_predictions(rng, targets, groups, gain):
    noise = rng.normal(size=targets.shape)
    return Predictions((gain * targets + noise).astype(np.float32), targets, groups)


def test_the_split_itself_has_the_scores_of_scikit_learn():
    rng = np.random.default_rng(0)
    targets = (rng.random((60, 3)) < 0.3).astype(int)
    # A tag that no clip has.
    targets[:, 2] = 0
    of_seeds = [make_predictions(rng, targets, np.arange(60), 1.0) for _ in range(2)]
    scores = resample({"network": of_seeds}, n_resamples=100)["network"]
    expected = [
        np.mean([roc_auc_score(targets[:, tag], each.logits[:, tag]) for each in of_seeds])
        for tag in (0, 1)
    ]
    np.testing.assert_allclose(scores.auc[:2], expected)
    assert np.isnan(scores.auc[2])
    assert scores.macro_auc == pytest.approx(np.mean(expected))
    assert scores.bce == pytest.approx(
        np.mean([cross_entropy(each.logits, targets).mean() for each in of_seeds])
    )
    assert scores.resampled_auc.shape == (100, 3)


def test_the_same_seed_gives_the_same_numbers_whatever_the_chunks(monkeypatch):
    rng = np.random.default_rng(0)
    targets = (rng.random((20, 2)) < 0.4).astype(int)
    networks = {"a": [make_predictions(rng, targets, np.arange(20) // 2, 1.0)]}
    first = resample(networks, 50, seed=3)["a"].resampled_auc
    np.testing.assert_array_equal(first, resample(networks, 50, seed=3)["a"].resampled_auc)
    assert not np.array_equal(
        first, resample(networks, 50, seed=4)["a"].resampled_auc, equal_nan=True
    )
    monkeypatch.setattr("crnn_jax.analysis.bootstrap.LARGEST_CHUNK", 20 * 7)
    np.testing.assert_allclose(first, resample(networks, 50, seed=3)["a"].resampled_auc, rtol=1e-5)


def test_clips_of_a_group_are_not_counted_as_independent():
    """Ten copies of each clip say no more than one."""
    rng = np.random.default_rng(0)
    targets = (rng.random((80, 1)) < 0.4).astype(int)
    single = make_predictions(rng, targets, np.arange(80), 1.0)
    copies = Predictions(
        np.repeat(single.logits, 10, axis=0),
        np.repeat(targets, 10, axis=0),
        np.repeat(np.arange(80), 10),
    )
    of_single, of_copies, careless = (
        resample({"a": [predictions]}, 2000)["a"].resampled_macro_auc.std()
        for predictions in (single, copies, copies._replace(groups=np.arange(800)))
    )
    assert of_copies == pytest.approx(of_single, rel=0.1)
    assert careless < 0.5 * of_single


@pytest.mark.parametrize("n_seeds", [1, 3])
def test_intervals_cover_the_truth(n_seeds):
    """95 % intervals of an AUC, over many test splits of known AUC."""
    rng = np.random.default_rng(5)
    # A positive clip's score is one standard deviation higher: AUC = Φ(1/√2).
    truth = 0.76025
    covered = 0
    for repeat in range(200):
        targets = (rng.random((120, 1)) < 0.4).astype(int)
        # What is hard about a clip is so for all seeds; the rest is each seed's own.
        hard = 0.9 * rng.normal(size=targets.shape)
        of_seeds = [
            Predictions(
                (targets + hard + np.sqrt(0.19) * rng.normal(size=targets.shape)).astype("float32"),
                targets,
                np.arange(120),
            )
            for _ in range(n_seeds)
        ]
        scores = resample({"a": of_seeds}, 300, seed=repeat)["a"].resampled_macro_auc
        low, high = np.quantile(scores, [0.025, 0.975])
        covered += low <= truth <= high
    assert 0.9 <= covered / 200 <= 0.99
