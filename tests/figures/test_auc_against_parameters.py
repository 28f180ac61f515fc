"""AUC against parameters shows the numbers of the table."""

import itertools

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from matplotlib.colors import same_color

from crnn_jax.figures.auc_against_parameters import auc_against_parameters
from tests.figures.artists import (
    NAMES,
    RULE_NAMES,
    assert_apart,
    collections,
    legend_texts,
    lines,
    tick_texts,
)
from tests.tables import ARCHITECTURES, RULES, make_results


def aucs_of(results, arch, rule):
    """Test AUC by target and seed."""
    rows = results[(results["arch"] == arch) & (results["rule"] == rule)]
    return rows["test_auc"].to_numpy().reshape(2, 3)


def test_each_line_against_parameters_is_the_mean_over_seeds():
    results = make_results()
    (axes,) = auc_against_parameters(results[::-1]).axes
    drawn = lines(axes)
    assert len(drawn) == 6
    for arch, rule in itertools.product(ARCHITECTURES, RULES):
        line = drawn[f"{NAMES[arch]}, {RULE_NAMES[rule]}"]
        aucs = aucs_of(results, arch, rule)
        np.testing.assert_allclose(line.get_xdata(), [100_037, 250_037])
        np.testing.assert_allclose(line.get_ydata(), aucs.mean(axis=1))


def test_bars_reach_from_the_worst_seed_to_the_best():
    results = make_results()
    (axes,) = auc_against_parameters(results).axes
    for arch, rule in itertools.product(ARCHITECTURES, RULES):
        ranges = collections(axes)[f"range of {NAMES[arch]}, {RULE_NAMES[rule]}"]
        aucs = aucs_of(results, arch, rule)
        expected = np.stack([aucs.min(axis=1), aucs.max(axis=1)], 1)
        segments = np.array(ranges.get_segments())
        np.testing.assert_allclose(segments[:, :, 1], expected)
        np.testing.assert_allclose(segments[:, :, 0], [[100_037] * 2, [250_037] * 2])


def test_everything_drawn_lies_inside_the_axes():
    figure = auc_against_parameters(make_results())
    figure.draw_without_rendering()
    (axes,) = figure.axes
    drawn = [(line, line.get_xydata()) for line in axes.lines]
    drawn += [(bars, np.concatenate(bars.get_segments())) for bars in axes.collections]
    for artist, points in drawn:
        pixels = artist.get_transform().transform(points)
        assert np.all((axes.bbox.min < pixels) & (pixels < axes.bbox.max))


def test_one_seed_is_a_marker_without_a_bar():
    figure = auc_against_parameters(make_results(seeds=(0,)))
    (axes,) = figure.axes
    assert all(len(ranges.get_segments()) == 0 for ranges in axes.collections)
    assert figure.legends[0].get_title().get_text() == "one seed"


def test_the_note_counts_the_seeds_that_are_drawn():
    results = make_results(targets=(100_000,))
    figure = auc_against_parameters(results)
    assert figure.legends[0].get_title().get_text() == "mean and range of 3 seeds"
    results.loc[0, "test_auc"] = None
    figure = auc_against_parameters(results)
    assert figure.legends[0].get_title().get_text() == "mean and range of 2 to 3 seeds"


def test_architectures_have_a_colour_and_a_marker_and_rules_a_line_style():
    (axes,) = auc_against_parameters(make_results()).axes
    drawn = lines(axes)
    looks = {
        (arch, rule): drawn[f"{NAMES[arch]}, {RULE_NAMES[rule]}"]
        for arch, rule in itertools.product(ARCHITECTURES, RULES)
    }
    for arch in ARCHITECTURES:
        assert same_color(looks[arch, "uniform"].get_color(), looks[arch, "sqrt"].get_color())
        assert looks[arch, "uniform"].get_marker() == looks[arch, "sqrt"].get_marker()
        assert looks[arch, "uniform"].get_linestyle() != looks[arch, "sqrt"].get_linestyle()
    assert len({looks[arch, "uniform"].get_color() for arch in ARCHITECTURES}) == 3
    assert len({looks[arch, "uniform"].get_marker() for arch in ARCHITECTURES}) == 3


def test_the_legend_names_what_is_there_and_no_more():
    figure = auc_against_parameters(make_results())
    assert sorted(legend_texts(figure)) == sorted([*NAMES.values(), *RULE_NAMES.values()])
    figure = auc_against_parameters(make_results(architectures=("crnn",), rules=("sqrt",)))
    assert legend_texts(figure) == ["CRNN"]
    title = figure.legends[0].get_title().get_text()
    assert title == "√s at the output, mean and range of 3 seeds"


def test_runs_without_an_auc_are_left_out():
    results = make_results(targets=(100_000, 250_000), rules=("uniform",), seeds=(0, 1))
    results.loc[results["arch"] == "conv1d", "test_auc"] = None
    (axes,) = auc_against_parameters(results).axes
    assert sorted(lines(axes)) == ["CRNN, uniform s", "Conv2D, uniform s"]


def test_the_parameter_axis_is_logarithmic_with_the_targets_as_ticks():
    figure = auc_against_parameters(
        make_results(targets=(3_000_000, 20_000, 100_000, 250_000, 500_000, 1_000_000), seeds=(0,))
    )
    figure.draw_without_rendering()
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    assert tick_texts(axes.xaxis) == ["20k", "0.1M", "0.25M", "0.5M", "1M", "3M"]


@settings(deadline=None, max_examples=8)
@given(st.lists(st.integers(1_000, 20_000_000), min_size=1, max_size=12, unique=True))
@example([1_276, 250_500, 546_913])
def test_tick_labels_of_any_targets_keep_apart(targets):
    results = make_results(targets=targets, rules=("uniform",), seeds=(0,), architectures=("crnn",))
    figure = auc_against_parameters(results)
    figure.draw_without_rendering()
    assert_apart(figure.axes[0].get_xticklabels())
