"""AUC against training time shows the numbers of the table."""

import itertools

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_jax.figures.auc_against_time import auc_against_training_time
from tests.figures.artists import NAMES, RULE_NAMES, assert_apart, lines
from tests.tables import ARCHITECTURES, RULES, make_results

COLUMNS = ("seconds_per_2500_samples", "train_s")


def size_legend(figure):
    """Diameters of the lower legend's markers, by its texts."""
    _, legend = figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    sizes = [handle.get_markersize() for handle in legend.legend_handles]
    return {text: size for text, size in zip(texts, sizes, strict=True) if text.strip()}


def test_each_line_against_time_is_the_mean_over_seeds_in_both_directions():
    results = make_results()
    figure = auc_against_training_time(results)
    for axes, column in zip(figure.axes, COLUMNS, strict=True):
        for arch, rule in itertools.product(ARCHITECTURES, RULES):
            line = lines(axes)[f"{NAMES[arch]}, {RULE_NAMES[rule]}"]
            seeds = results[(results["arch"] == arch) & (results["rule"] == rule)]
            seconds = seeds[column].to_numpy().reshape(2, 3)
            aucs = seeds["test_auc"].to_numpy().reshape(2, 3)
            np.testing.assert_allclose(line.get_xdata(), seconds.mean(axis=1))
            np.testing.assert_allclose(line.get_ydata(), aucs.mean(axis=1))


def test_lines_join_the_sizes_in_order_though_a_larger_network_were_quicker():
    results = make_results(rules=("uniform",), seeds=(0,), architectures=("crnn",))
    results["train_s"] = 1e9 / results["target"]
    line = lines(auc_against_training_time(results).axes[1])["CRNN, uniform s"]
    np.testing.assert_allclose(line.get_xdata(), [10_000, 4_000])


def test_the_panels_share_the_auc_and_name_their_units():
    per_samples, total = auc_against_training_time(make_results()).axes
    assert per_samples.get_shared_y_axes().joined(per_samples, total)
    assert per_samples.get_xlabel() == "Training time per 2,500 samples (s)"
    assert total.get_xlabel() == "Total training time (s)"


@pytest.mark.parametrize(("slowest", "scale"), [(95.0, "linear"), (105.0, "log"), (1e7, "log")])
def test_the_time_axis_is_logarithmic_over_a_factor_of_ten(slowest, scale):
    results = make_results(rules=("uniform",), seeds=(0,), architectures=("crnn",))
    results["train_s"] = [10.0, slowest]
    figure = auc_against_training_time(results)
    figure.draw_without_rendering()
    axes = figure.axes[1]
    assert axes.get_xscale() == scale
    low, high = axes.get_xlim()
    ticks = dict(zip(axes.get_xticks(), axes.get_xticklabels(), strict=True))
    shown = [label for value, label in ticks.items() if low <= value <= high]
    assert len(shown) >= 2
    assert_apart(shown)


def test_the_larger_network_has_the_larger_marker():
    results = make_results(
        rules=("uniform",),
        seeds=(0,),
        architectures=("crnn",),
        targets=(100_000, 250_000, 3_000_000),
    )
    axes, _ = auc_against_training_time(results).axes
    sizes = {line.get_ydata()[0]: line.get_markersize() for line in axes.lines if line.get_marker()}
    of_targets = [sizes[auc] for auc in results["test_auc"]]
    assert of_targets == sorted(set(of_targets))


def test_the_lower_legend_says_the_target_of_each_marker():
    results = make_results(seeds=(0,))
    figure = auc_against_training_time(results)
    sizes = size_legend(figure)
    assert list(sizes) == ["0.1M", "0.25M"]
    for axes in figure.axes:
        markers = [line for line in axes.lines if line.get_marker()]
        assert len(markers) == len(results)
        for marker in markers:
            (target,) = results.loc[results["test_auc"] == marker.get_ydata()[0], "target"]
            assert marker.get_markersize() == sizes[{100_000: "0.1M", 250_000: "0.25M"}[target]]


@settings(deadline=None, max_examples=5)
@given(st.lists(st.integers(1_000, 20_000_000), min_size=1, max_size=12, unique=True))
def test_the_legends_lie_inside_the_figure_and_cover_no_axes(targets):
    figure = auc_against_training_time(make_results(targets=targets, seeds=(0,)))
    figure.draw_without_rendering()
    _, legend = figure.legends
    texts = [text for text in legend.get_texts() if text.get_text().strip()]
    assert len(texts) == len(targets)
    assert_apart(texts)
    for text in texts:
        box = text.get_window_extent()
        assert 0 <= box.x0 < box.x1 <= figure.bbox.width
        assert 0 <= box.y0 < box.y1
    upper, lower = (legend.get_window_extent() for legend in figure.legends)
    for axes in figure.axes:
        assert lower.y1 <= axes.bbox.y0 < axes.bbox.y1 <= upper.y0


def test_runs_without_a_time_are_left_out_of_that_panel():
    results = make_results().assign(train_s=np.nan)
    results.loc[0, "seconds_per_2500_samples"] = None
    per_samples, total = auc_against_training_time(results).axes
    first = lines(per_samples)["Conv1D, uniform s"].get_ydata()[0]
    assert first == pytest.approx(results["test_auc"][1:3].mean())
    assert not total.lines
    assert [text.get_text() for text in total.texts] == ["not measured"]


def test_the_devices_are_named():
    results = make_results(rules=("uniform",), seeds=(0,))
    results.loc[0, ["device", "device_count"]] = ["TPU v5 lite", 8]
    title = auc_against_training_time(results).legends[0].get_title().get_text()
    assert title == "uniform s, one seed, on TPU v5 lite (8 devices), on cpu"


def test_the_style_of_the_process_is_left_as_it_was():
    before = dict(matplotlib.rcParams)
    auc_against_training_time(make_results())
    assert dict(matplotlib.rcParams) == before
