"""The figure of each tag's AUC shows the numbers of the table."""

import numpy as np
import pytest
from matplotlib.colors import same_color

from crnn_jax.figures.looks import ARCHITECTURE_LOOKS
from crnn_jax.figures.per_tag import complete_targets, per_tag_auc
from tests.figures.artists import (
    NAMES,
    assert_apart,
    collections,
    legend_texts,
    lines,
    tick_texts,
)
from tests.tables import ARCHITECTURES, RULES, TAGS, make_scores


def expected_groups(scores, sort_by="conv2d"):
    """Categories in the paper's order, each with its tags by falling mean AUC, best first."""

    def mean(tag, arch):
        return np.mean([s.auc for s in scores.itertuples() if (s.tag, s.arch) == (tag, arch)])

    return [
        (category, tags, {arch: [mean(tag, arch) for tag in tags] for arch in ARCHITECTURES})
        for category in ("genre", "mood", "instrument", "era", "tempo")
        if (
            tags := sorted(
                [tag for tag, c in TAGS.items() if c == category],
                key=lambda tag: -mean(tag, sort_by),
            )
        )
    ]


def test_tags_are_grouped_and_sorted_by_conv2d_with_their_rank_behind():
    scores = make_scores()
    figure = per_tag_auc(scores, 100_000)
    figure.draw_without_rendering()
    rank = {tag: position for position, tag in enumerate(TAGS, start=1)}
    names = [tag for _, tags, _ in expected_groups(scores) for tag in tags]
    assert tick_texts(figure.axes[-1].xaxis) == [f"{name} ({rank[name]})" for name in names]
    titles = [text.get_text() for text in figure.axes[0].texts]
    assert titles == ["genre", "mood", "instrument", "era", "tempo"]
    assert_apart(figure.axes[0].texts)
    assert_apart(figure.axes[-1].get_xticklabels())


def test_tag_scores_are_means_over_seeds_and_dashes_are_means_over_tags():
    scores = make_scores()
    axes = per_tag_auc(scores, 100_000).axes[0]
    for category, _, means in expected_groups(scores):
        for arch, aucs in means.items():
            line = lines(axes)[f"{NAMES[arch]}, {category}"]
            np.testing.assert_allclose(line.get_ydata(), aucs)
            dashes = collections(axes)[f"{NAMES[arch]}, mean of {category}"]
            ((start, end),) = dashes.get_segments()
            assert start[1] == end[1] == pytest.approx(np.mean(aucs))
            assert start[0] < min(line.get_xdata()) <= max(line.get_xdata()) < end[0]
            ((_, dash),) = dashes.get_linestyle()
            assert dash is not None


def test_bars_are_differences_under_their_tags_in_the_colour_of_the_better():
    scores = make_scores()
    top, *rows = per_tag_auc(scores, 100_000).axes
    assert [axes.get_ylabel() for axes in rows] == ["CRNN −\nConv2D", "Conv2D −\nConv1D"]
    groups = expected_groups(scores)
    positions = np.concatenate(
        [lines(top)[f"Conv2D, {category}"].get_xdata() for category, *_ in groups]
    )
    for axes, (one, other) in zip(rows, [("crnn", "conv2d"), ("conv2d", "conv1d")], strict=True):
        expected = np.concatenate([np.subtract(m[one], m[other]) for _, _, m in groups])
        np.testing.assert_allclose([bar.get_height() for bar in axes.patches], expected)
        centres = [bar.get_x() + bar.get_width() / 2 for bar in axes.patches]
        np.testing.assert_allclose(centres, positions)
        for bar, difference in zip(axes.patches, expected, strict=True):
            better = one if difference > 0 else other
            assert same_color(bar.get_facecolor(), ARCHITECTURE_LOOKS[better].colour)
        low, high = axes.get_ylim()
        assert low < min(expected) < max(expected) < high
    assert rows[0].get_ylim() == rows[1].get_ylim()


def test_tags_without_an_auc_are_left_out_and_named():
    scores = make_scores(without_auc=("violin", "slow"))
    figure = per_tag_auc(scores, 100_000)
    labels = tick_texts(figure.axes[-1].xaxis)
    assert len(labels) == len(TAGS) - 2
    assert not any(label.startswith(("violin", "slow")) for label in labels)
    note = figure.get_supxlabel().replace("\n", " ")
    assert note.endswith("Left out, one class only in the test split: slow, violin.")
    assert "Left out" not in per_tag_auc(make_scores(), 100_000).get_supxlabel()


@pytest.mark.parametrize(
    ("architectures", "sort_by", "rows"),
    [
        (("conv1d", "crnn"), "crnn", []),
        (("conv1d", "conv2d"), "conv2d", ["Conv2D −\nConv1D"]),
        (("conv2d", "crnn"), "conv2d", ["CRNN −\nConv2D"]),
        (("conv1d",), "conv1d", []),
    ],
)
def test_a_missing_architecture_leaves_the_others_drawn(architectures, sort_by, rows):
    scores = make_scores(architectures=architectures, tags={"rock": "genre", "jazz": "genre"})
    figure = per_tag_auc(scores, 100_000)
    top, *below = figure.axes
    assert sorted(lines(top)) == sorted(f"{NAMES[arch]}, genre" for arch in architectures)
    assert list(lines(top)[f"{NAMES[sort_by]}, genre"].get_ydata()) == sorted(
        lines(top)[f"{NAMES[sort_by]}, genre"].get_ydata(), reverse=True
    )
    assert [axes.get_ylabel() for axes in below] == rows
    assert legend_texts(figure) == [*(NAMES[arch] for arch in architectures), "category mean"]


def test_the_rule_is_uniform_unless_sqrt_has_more_architectures():
    both = make_scores(rules=RULES)
    title = per_tag_auc(both, 100_000).legends[0].get_title().get_text()
    assert title == "0.1M parameters, uniform s, mean of 2 seeds"
    fewer = both[(both["arch"] != "crnn") | (both["rule"] != "uniform")]
    title = per_tag_auc(fewer, 100_000).legends[0].get_title().get_text()
    assert title == "0.1M parameters, √s at the output, mean of 2 seeds"


def test_targets_are_complete_where_one_rule_has_all_architectures():
    scores = make_scores(targets=(100_000, 250_000, 500_000), rules=RULES)
    # 250k: each rule lacks an architecture, not the same one; 500k: only uniform lacks one.
    missing = {
        (250_000, "uniform", "crnn"),
        (250_000, "sqrt", "conv2d"),
        (500_000, "uniform", "conv1d"),
    }
    cells = zip(scores["target"], scores["rule"], scores["arch"], strict=True)
    unfinished = scores[[cell not in missing for cell in cells]]
    assert complete_targets(unfinished) == [100_000, 500_000]
    assert complete_targets(make_scores(without_auc=TAGS)) == []


def test_signs_of_formulas_in_a_tag_are_taken_as_they_are():
    # As formulas these would not even parse.
    tags = {"$\\frac$": "genre", "$^$": "$_$", "under_score": ""}
    figure = per_tag_auc(make_scores(tags=tags, without_auc=("$^$",)), 100_000)
    figure.draw_without_rendering()
    assert tick_texts(figure.axes[-1].xaxis) == ["$\\frac$ (1)", "under_score (3)"]
    assert figure.get_supxlabel().endswith("$^$.")
    assert [text.get_text() for text in figure.axes[0].texts] == ["genre", "no category"]

    figure = per_tag_auc(make_scores(tags=tags), 100_000)
    figure.draw_without_rendering()
    assert "$_$" in [text.get_text() for text in figure.axes[0].texts]
