"""Every architecture of a table is in every figure and its legend."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crnn_jax.figures.auc_against_parameters import auc_against_parameters
from crnn_jax.figures.auc_against_time import auc_against_training_time
from crnn_jax.figures.looks import ARCHITECTURE_LOOKS, architecture_looks
from crnn_jax.figures.per_tag import complete_targets, per_tag_auc
from tests.figures.artists import lines
from tests.tables import make_results, make_scores

ARCHS = ("mynet", "crnn", "k2c1", "conv1d", "a$x^")
NAMES = ("Conv1D", "CRNN", "mynet", "k2c1", "a$x^")


def figures():
    results = make_results(architectures=ARCHS)
    scores = make_scores(architectures=ARCHS, tags={"rock": "genre", "jazz": "genre"})
    yield auc_against_parameters(results)
    yield auc_against_training_time(results)
    yield per_tag_auc(scores, 100_000)


@pytest.fixture(scope="module")
def drawn():
    return list(figures())


def looks_of(axes):
    """Colour and marker of each name."""
    return {
        label.partition(",")[0]: (line.get_color(), line.get_marker())
        for label, line in lines(axes).items()
        if "," in label and line.get_marker()
    }


def test_architectures_without_a_look_are_drawn_under_their_own_names(drawn):
    for figure in drawn:
        figure.draw_without_rendering()
        names = {label.partition(",")[0] for label in lines(figure.axes[0])}
        assert names >= set(NAMES)
        texts = [text.get_text() for text in figure.legends[0].get_texts()]
        assert set(texts) >= set(NAMES)


def test_an_architecture_looks_the_same_in_every_figure(drawn):
    parameters, _, per_tag = drawn
    assert looks_of(parameters.axes[0]).keys() == set(NAMES)
    assert looks_of(parameters.axes[0]) == looks_of(per_tag.axes[0])


def test_the_look_does_not_depend_on_what_a_figure_leaves_out():
    scores = make_scores(targets=(100_000, 250_000), architectures=("crnn", "one", "two"))
    at_one_size = (scores["arch"] == "one") & (scores["target"] == 250_000)
    look = looks_of(per_tag_auc(scores[~at_one_size], 250_000).axes[0])["two"]
    assert look == looks_of(per_tag_auc(scores, 250_000).axes[0])["two"]
    results = make_results(architectures=("crnn", "one", "two"))
    look = looks_of(auc_against_parameters(results).axes[0])["two"]
    results.loc[results["arch"] == "one", "test_auc"] = None
    assert look == looks_of(auc_against_parameters(results).axes[0])["two"]


def test_legends_of_many_architectures_fit(drawn):
    for figure in drawn:
        figure.draw_without_rendering()
        for text in figure.legends[0].get_texts():
            box = text.get_window_extent()
            assert 0 <= box.x0 <= box.x1 <= figure.bbox.width


def test_unknown_architectures_alone_have_a_figure_of_their_tags():
    scores = make_scores(architectures=("two", "one"))
    assert complete_targets(scores) == [100_000]
    top, *below = per_tag_auc(scores, 100_000).axes
    assert looks_of(top).keys() == {"two", "one"}
    assert below == []


@given(st.lists(st.text(min_size=1), max_size=28, unique=True), st.randoms(use_true_random=False))
def test_looks_are_distinct_and_depend_on_the_first_rows_alone(archs, random):
    looks = architecture_looks(archs)
    assert set(looks) == set(archs)
    assert len({look[1:] for look in looks.values()}) == len(archs)
    repeated = [*archs, *random.choices(archs, k=5)] if archs else []
    assert architecture_looks(repeated) == looks
    for first, second in itertools.pairwise(
        arch for arch in looks if arch not in ARCHITECTURE_LOOKS
    ):
        assert archs.index(first) < archs.index(second)
