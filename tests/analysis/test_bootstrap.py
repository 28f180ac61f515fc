"""Scores of resamples, against scikit-learn, closed forms, and the variance they should have."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score

from crnn_jax.analysis.bootstrap import (
    cross_entropy,
    draw_groups,
    draw_seeds,
    mean_of_known,
    placements,
    resample,
    resample_auc,
)
from crnn_jax.analysis.comparison import degrees_of_freedom, estimate
from crnn_jax.study.runs import Predictions


def auc_with(positive, scores, total):
    """The AUC of each resample, whose clips `total` counts."""
    n_clips = total(np.ones((len(scores), 1)))[:, 0]
    return resample_auc(positive, scores, total, total(positive.astype(float)), n_clips)


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
    ordered = placements(positive[:, None], scores[:, None])[:, 0]
    once = np.ones((1, len(data)))
    (auc,), ((resampled,),) = auc_with(
        positive[:, None], scores[:, None], lambda values: once @ values
    )
    if positive.all() or not positive.any():
        assert np.isnan(ordered).all()
        assert np.isnan(auc)
    else:
        expected = roc_auc_score(positive, scores)
        assert ordered[positive].mean() == pytest.approx(expected)
        assert ordered[~positive].mean() == pytest.approx(expected)
        assert auc == pytest.approx(expected)
        assert resampled == pytest.approx(expected)


@pytest.mark.parametrize("n_positive", [15, 60])
def test_resampled_scores_are_those_of_repeated_clips(n_positive):
    """To first order: the same spread and the same places as scikit-learn on each resample."""
    rng = np.random.default_rng(n_positive)
    positive = np.arange(240) < n_positive
    scores = positive + rng.normal(size=240)
    draws = draw_groups(np.arange(240), 500, rng)
    found = auc_with(positive[:, None], scores[:, None], draws.total)[1][:, 0]
    exact = np.array(
        [
            roc_auc_score(np.repeat(positive, counts), np.repeat(scores, counts))
            for counts in draws.counts
        ]
    )
    assert found.std() == pytest.approx(exact.std(), rel=0.05)
    np.testing.assert_allclose(
        np.quantile(found, [0.025, 0.975]), np.quantile(exact, [0.025, 0.975]), atol=0.01
    )
    assert np.corrcoef(found, exact)[0, 1] > 0.99


def test_a_resample_without_positive_clips_has_no_auc():
    positive, scores = np.array([[True], [False], [False]]), np.array([[0.5], [0.1], [0.7]])
    weights = np.array([[0, 2, 1], [3, 0, 0], [1, 2, 0]])
    _, auc = auc_with(positive, scores, lambda values: weights @ values)
    assert np.isnan(auc[:, 0]).tolist() == [True, True, False]


def test_cross_entropy_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(30, 4)) * 5, rng.integers(0, 2, (30, 4))
    expected = log_loss(targets.ravel(), 1 / (1 + np.exp(-logits.ravel())))
    assert cross_entropy(logits.astype(np.float32), targets).mean() == pytest.approx(
        expected, rel=1e-6
    )


def test_groups_are_drawn_as_a_whole(monkeypatch):
    groups = np.array([7, 7, 3, 9, 9, 9])
    draws = draw_groups(groups, 500, np.random.default_rng(0))
    weights = draws.total(np.eye(6))
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 3] == weights[:, 4]).all()
    # As many groups as there are, each once on average.
    assert (weights[:, [0, 2, 3]].sum(axis=1) == 3).all()
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.1)
    monkeypatch.setattr("crnn_jax.analysis.bootstrap.LARGEST_CHUNK", 20)
    np.testing.assert_array_equal(draws.total(np.eye(6)), weights)


def test_means_leave_out_what_is_not_known():
    values = np.array([[1.0, np.nan, 3.0], [np.nan] * 3])
    mean, nothing = mean_of_known(values)
    assert mean == 2
    assert np.isnan(nothing)


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
    scores = resample({"network": of_seeds}, np.arange(60), n_resamples=100)["network"]
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


def test_the_same_seed_gives_the_same_numbers():
    rng = np.random.default_rng(0)
    targets = (rng.random((20, 2)) < 0.4).astype(int)
    groups = np.arange(20) // 2
    networks = {"a": [make_predictions(rng, targets, groups, 1.0)]}
    first = resample(networks, groups, 50, seed=3)["a"].resampled_auc
    np.testing.assert_array_equal(first, resample(networks, groups, 50, seed=3)["a"].resampled_auc)
    others = resample(networks, groups, 50, seed=4)["a"].resampled_auc
    assert not np.array_equal(first, others, equal_nan=True)


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
        resample({"a": [predictions]}, predictions.groups, 2000)["a"].resampled_macro_auc.std()
        for predictions in (single, copies, copies._replace(groups=np.arange(800)))
    )
    assert of_copies == pytest.approx(of_single, rel=0.1)
    assert careless < 0.5 * of_single


@pytest.mark.parametrize(("n_seeds", "seed_spread"), [(1, 0.0), (3, 0.0), (3, 0.3), (5, 0.3)])
def test_intervals_cover_the_truth(n_seeds, seed_spread):
    """95 % intervals of an AUC, over many test splits and trainings of known AUC."""
    rng = np.random.default_rng(5)
    # A positive clip's score is one standard deviation higher on average over seeds: with the
    # spread of seeds about it the mean AUC is Φ(1/√(2 + spread²)).
    truth = scipy.stats.norm.cdf(1 / np.sqrt(2 + seed_spread**2))
    covered = 0
    for repeat in range(200):
        targets = (rng.random((240, 1)) < 0.4).astype(int)
        # What is hard about a clip is so for all seeds; the rest is each seed's own.
        hard = 0.9 * rng.normal(size=targets.shape)
        of_seeds = []
        for _ in range(n_seeds):
            gain = 1 + seed_spread * rng.normal()
            own = np.sqrt(0.19) * rng.normal(size=targets.shape)
            logits = (gain * targets + hard + own).astype(np.float32)
            of_seeds.append(Predictions(logits, targets, np.arange(240)))
        scores = resample({"a": of_seeds}, np.arange(240), 300, seed=repeat)["a"]
        resampled = scores.resampled_macro_auc
        degrees = degrees_of_freedom(resampled, scores.macro_auc_of_seeds)
        found = estimate(scores.macro_auc, resampled, degrees=degrees)
        covered += found.low <= truth <= found.high
    assert covered / 200 >= 0.9
