"""Differences between networks, against statsmodels' definitions written out, and known truth."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from crnn_jax.analysis.bootstrap import resample
from crnn_jax.analysis.comparison import (
    Estimate,
    Tag,
    compare,
    correct_by_holm,
    degrees_of_freedom,
    estimate,
    two_sided_p,
)
from crnn_jax.analysis.words import describe_difference, describe_interval, describe_tags
from crnn_jax.study.runs import Predictions
from crnn_jax.study.schema import Network

A, B = Network("crnn", "uniform", 100_000), Network("conv2d", "sqrt", 100_000)
TAGS = [Tag(f"tag{n}", "genre" if n < 5 else "mood", 50) for n in range(8)]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_step_by_step(p):
    corrected = correct_by_holm(p)
    # Holm's procedure: from the smallest, reject while p ≤ level / (number left).
    for level in (0.01, 0.05, 0.2):
        rejected = set()
        for step, number in enumerate(sorted(range(len(p)), key=lambda n: (p[n], n))):
            # Compared as products, as the correction does.
            if p[number] * (len(p) - step) > level:
                break
            rejected.add(number)
        assert {n for n in range(len(p)) if corrected[n] <= level} == rejected
    assert all(before <= after for before, after in zip(p, corrected, strict=True))


def test_an_interval_holds_the_middle_of_the_resamples():
    values = np.arange(1001) / 1000
    found = estimate(0.5, np.append(values, np.nan))
    assert (found.low, found.high) == pytest.approx((0.025, 0.975))
    assert found.excludes_zero
    assert not Estimate(0.5, -0.1, 1.0).excludes_zero
    normal = np.random.default_rng(0).normal(size=100_000)
    wider = estimate(0.0, normal, confidence=0.9, degrees=10)
    assert wider.high == pytest.approx(scipy.stats.t.ppf(0.95, 10), abs=0.03)


def test_p_is_that_of_a_normal_test():
    resampled = np.random.default_rng(0).normal(0.3, 0.2, 100_000)
    assert two_sided_p(0.3, resampled) == pytest.approx(2 * scipy.stats.norm.sf(1.5), rel=0.02)
    assert two_sided_p(-0.3, resampled) == two_sided_p(0.3, resampled)
    assert two_sided_p(0.3, resampled, degrees=4) == pytest.approx(
        2 * scipy.stats.t.sf(1.5, 4), rel=0.02
    )
    # Nothing was resampled.
    assert two_sided_p(0.3, np.full(10, 0.3)) == 1


def test_degrees_of_freedom_are_those_of_welch():
    """Two networks whose only variance is that of their seeds: Welch's t-test."""
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=4), 3 * rng.normal(size=3)
    variance = np.var(one, ddof=1) / 4 + np.var(other, ddof=1) / 3
    resampled = rng.normal(0, np.sqrt(variance), 100_000)
    expected = scipy.stats.ttest_ind(one, other, equal_var=False).df
    assert degrees_of_freedom(resampled, one, other) == pytest.approx(expected, rel=0.02)
    # A variance that is mostly that of the clips is known well.
    assert degrees_of_freedom(100 * resampled, one, other) > 1000
    assert degrees_of_freedom(resampled, one[:1], other[:1]) == np.inf


def make_scores(gains, others, n_clips=400, n_seeds=3, seed=0, spread=0.0):
    """Two networks whose tags' scores are that much higher where the tag is present.

    `spread` is the standard deviation over seeds of how much.
    """
    rng = np.random.default_rng(seed)
    targets = (rng.random((n_clips, len(gains))) < 0.3).astype(int)
    groups = np.arange(n_clips)
    hard = rng.normal(size=targets.shape)

    def train(gains):
        noise = 0.9 * hard + np.sqrt(0.19) * rng.normal(size=targets.shape)
        own = gains + spread * rng.normal(size=len(gains))
        return Predictions((targets * own + noise).astype(np.float32), targets, groups)

    networks = {
        A: [train(np.array(gains)) for _ in range(n_seeds)],
        B: [train(np.array(others)) for _ in range(n_seeds)],
    }
    return resample(networks, groups, 500, seed)


def test_tags_that_differ_are_found_and_others_are_not():
    scores = make_scores([3, 3, 0.5, 1, 1, 1, 1, 1], [0.5, 0.5, 3, 1, 1, 1, 1, 1])
    difference = compare(A, B, (scores[A], scores[B]), TAGS)
    verdicts = [tag.verdict for tag in difference.tags]
    assert verdicts == ["higher", "higher", "lower"] + ["undecided"] * 5
    assert describe_tags(difference) == "higher on 2 tags, lower on 1, undecided on 5"
    assert difference.auc.value == pytest.approx(scores[A].macro_auc - scores[B].macro_auc)
    assert difference.auc.excludes_zero
    assert set(difference.categories) == {"genre", "mood"}
    assert difference.categories["genre"].excludes_zero
    assert not difference.categories["mood"].excludes_zero
    of_genre = [tag.auc.value for tag in difference.tags if tag.category == "genre"]
    assert difference.categories["genre"].value == pytest.approx(np.mean(of_genre))


def test_the_other_way_round_is_the_opposite():
    scores = make_scores([2, 1, 1, 1, 1, 1, 1, 1], [1] * 8)
    one = compare(A, B, (scores[A], scores[B]), TAGS)
    other = compare(B, A, (scores[B], scores[A]), TAGS)
    assert other.auc.value == -one.auc.value
    assert (other.auc.low, other.auc.high) == pytest.approx((-one.auc.high, -one.auc.low))
    assert other.p == one.p


@pytest.mark.parametrize("spread", [0.0, 0.2])
def test_equal_networks_are_rarely_told_apart(spread):
    """At most one in twenty comparisons of equals finds any tag to differ."""
    found, apart = 0, 0
    for seed in range(60):
        scores = make_scores([1] * 8, [1] * 8, n_clips=800, seed=seed, spread=spread)
        difference = compare(A, B, (scores[A], scores[B]), TAGS)
        found += any(tag.verdict != "undecided" for tag in difference.tags)
        apart += difference.auc.excludes_zero
    # More than 8 of 60 would happen to a rate of 5 % once in five hundred times.
    assert found <= 8
    assert apart <= 8


def test_rare_tags_are_not_decided():
    scores = make_scores([3] * 8, [1] * 8)
    rare = [*TAGS[:7], Tag("tag7", "mood", 2, is_rare=True)]
    *others, last = compare(A, B, (scores[A], scores[B]), rare).tags
    assert {tag.verdict for tag in others} == {"higher"}
    assert (last.verdict, last.p_holm) == ("undecided", None)
    assert last.auc.value > 0


def test_a_tag_without_auc_is_left_out():
    scores = make_scores([1] * 8, [1] * 8)
    for each in scores.values():
        each.auc_of_seeds[:, 7] = np.nan
    difference = compare(A, B, (scores[A], scores[B]), TAGS)
    assert [tag.tag for tag in difference.tags] == [tag.name for tag in TAGS[:7]]


def test_verdicts_in_words():
    scores = make_scores([3] * 8, [1] * 8)
    leads = compare(A, B, (scores[A], scores[B]), TAGS)
    behind = compare(B, A, (scores[B], scores[A]), TAGS)
    text = describe_difference(leads)
    assert text.startswith("at 100,000 parameters crnn leads conv2d (√s) by 0.2")
    assert "95 % interval 0." in text
    assert describe_difference(behind).startswith(
        "at 100,000 parameters conv2d (√s) is behind crnn"
    )
    scores = make_scores([1] * 8, [1] * 8)
    same = compare(A, B, (scores[A], scores[B]), TAGS)
    assert "cannot be told apart" in describe_difference(same)
    assert describe_interval(Estimate(0.12345, 0.1, 0.2)) == "0.123 (0.100 to 0.200)"
