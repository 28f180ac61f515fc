"""Figures of an analysis: the numbers that they show are the analysis's."""

import dataclasses

import numpy as np
import pytest

from crnn_jax import analyse
from crnn_jax.errors import UserError
from crnn_jax.figures.draw import draw_analysis
from crnn_jax.figures.scaling import PANELS, scaling
from crnn_jax.figures.tag_differences import tag_differences
from tests.analysis.studies import GAINS, TAGS, write_study


@pytest.fixture(scope="module")
def analysis(tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    write_study(out, GAINS)
    return analyse(out, n_resamples=200)


def test_points_bars_and_laws_against_every_cost(analysis):
    figure = scaling(analysis)
    assert len(figure.axes) == len(PANELS)
    for axes, cost in zip(figure.axes, PANELS, strict=True):
        points = [line for line in axes.get_lines() if line.get_linestyle() == "None"]
        laws = [line for line in axes.get_lines() if line.get_linestyle() == "-"]
        assert len(points) == len(laws) == 2
        shown = {
            (float(x), float(y))
            for line in points
            for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
        }
        assert shown == {(getattr(row, cost), row.auc) for row in analysis.networks}
        bars = {
            tuple(segment[:, 1])
            for bar in axes.collections
            if hasattr(bar, "get_segments")
            for segment in bar.get_segments()
        }
        assert bars == {row.auc_interval for row in analysis.networks}
        # A law passes near its points.
        for line, law in zip(points, laws, strict=True):
            at = np.interp(np.log(line.get_xdata()), np.log(law.get_xdata()), law.get_ydata())
            np.testing.assert_allclose(at, line.get_ydata(), atol=0.03)


def test_without_laws_the_points_are_joined(analysis):
    figure = scaling(dataclasses.replace(analysis, laws=()))
    joined = [line for line in figure.axes[0].get_lines() if line.get_linestyle() == "-"]
    assert [len(line.get_xdata()) for line in joined] == [4, 4]


def test_every_tag_with_its_interval(analysis):
    (difference,) = (row for row in analysis.differences if row.first.target == 200_000)
    (axes,) = tag_differences(difference).axes
    labels = {
        label.get_text(): row
        for row, label in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)
    }
    assert {label.partition(" (")[0] for label in labels} == set(TAGS)
    markers = {line.get_ydata()[0]: line for line in axes.get_lines() if line.get_marker() == "o"}
    intervals = {
        segment[0, 1]: segment[:, 0]
        for bar in axes.collections
        if hasattr(bar, "get_segments")
        for segment in bar.get_segments()
    }
    for tag in difference.tags:
        row = labels[f"{tag.tag} ({tag.n_positive})"]
        assert markers[row].get_xdata()[0] == tag.auc.value
        assert tuple(intervals[row]) == tag.auc.interval
        is_open = markers[row].get_markerfacecolor() == "white"
        assert is_open == (tag.verdict == "undecided")


def test_all_figures_of_an_analysis(analysis):
    names = [path.name for path in draw_analysis(analysis)]
    assert names == [
        f"{name}.{suffix}"
        for name in (
            "scaling",
            *(f"tag_differences_{target}" for target in (25_000, 50_000, 100_000, 200_000)),
        )
        for suffix in ("png", "svg")
    ]


def test_the_tags_of_two_architectures(analysis, tmp_path):
    asked = dataclasses.replace(analysis, folder=str(tmp_path))
    written = [path.name for path in draw_analysis(asked, between=("conv2d", "crnn"))]
    assert sorted(written) == sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert {name.removesuffix(".png") for name in written if name.endswith("png")} == {
        "scaling",
        *(f"tag_differences_conv2d_crnn_{target}" for target in (25_000, 50_000, 100_000, 200_000)),
    }


@pytest.mark.parametrize("between", [("conv1d", "crnn"), ("crnn", "crnn")])
def test_architectures_that_a_study_does_not_compare(analysis, tmp_path, between):
    asked = dataclasses.replace(analysis, folder=str(tmp_path))
    with pytest.raises(
        UserError, match=f"between {' '.join(between)}: .*it compares: conv2d crnn$"
    ):
        draw_analysis(asked, between=between)
    assert list(tmp_path.iterdir()) == []


def test_a_study_that_compares_nothing(analysis, tmp_path):
    """Without predictions, for example."""
    asked = dataclasses.replace(analysis, folder=str(tmp_path), differences=())
    with pytest.raises(UserError, match="compares nothing; see what it lacks"):
        draw_analysis(asked, between=("conv2d", "crnn"))
    assert list(tmp_path.iterdir()) == []
