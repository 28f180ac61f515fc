"""The figures hold the numbers of the CSV files, and say so in the same bytes every time."""

import csv
import dataclasses
import itertools
import os
import subprocess
import sys
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from etils import epath
from hypothesis import example, given, settings
from hypothesis import strategies as st
from matplotlib.colors import same_color
from matplotlib.text import Annotation

from crnn_jax import plots
from crnn_jax.errors import UserError
from crnn_jax.plots import Cell, TagScore

ARCHITECTURES = ("conv1d", "conv2d", "crnn")
RULES = ("uniform", "sqrt")
NAMES = {"conv1d": "Conv1D", "conv2d": "Conv2D", "crnn": "CRNN"}
RULE_NAMES = {"uniform": "uniform s", "sqrt": "√s at the output"}
TAGS = {
    "slow": "tempo",
    "piano": "instrument",
    "80s": "era",
    "sad": "mood",
    "rock": "genre",
    "violin": "instrument",
    "jazz": "genre",
    "drums": "instrument",
}


def make_cells(
    targets=(100_000, 250_000), rules=RULES, seeds=(0, 1, 2), architectures=ARCHITECTURES
):
    rng = np.random.default_rng(0)
    return [
        Cell(
            arch=arch,
            rule=rule,
            target=target,
            seed=seed,
            params=target + 37,
            test_auc=float(rng.uniform(0.7, 0.9)),
            seconds_per_2500_samples=float(target / 1e4 * rng.uniform(1, 2)),
            train_s=float(target / 1e2 * rng.uniform(1, 2)),
            device="cpu",
            device_count=1,
        )
        for arch, rule, target, seed in itertools.product(architectures, rules, targets, seeds)
    ]


def make_scores(
    targets=(100_000,),
    rules=("uniform",),
    seeds=(0, 1),
    architectures=ARCHITECTURES,
    tags=TAGS,
    without_auc=(),
):
    rng = np.random.default_rng(1)
    return [
        TagScore(
            arch=arch,
            rule=rule,
            target=target,
            seed=seed,
            tag=tag,
            category=category,
            popularity_rank=rank,
            auc=None if tag in without_auc else float(rng.uniform(0.5, 1)),
        )
        for arch, rule, target, seed in itertools.product(architectures, rules, targets, seeds)
        for rank, (tag, category) in enumerate(tags.items(), start=1)
    ]


def write_csv(path, rows, **replaced_in_first_row):
    """Rows as a sweep writes them: None as an empty cell, and columns that no figure needs."""
    records = [dataclasses.asdict(row) | {"dataset": "synthetic"} for row in rows]
    records[0] |= replaced_in_first_row
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(records[0]))
        writer.writeheader()
        writer.writerows(records)


@pytest.fixture
def sweep(tmp_path):
    return write_sweep(tmp_path)


@pytest.fixture(scope="module")
def drawn_sweep(tmp_path_factory):
    """A sweep's folder and the figures in it, by name."""
    folder = write_sweep(tmp_path_factory.mktemp("sweep"))
    return folder, {path.name: path.read_bytes() for path in plots.draw(folder)}


def write_sweep(folder):
    write_csv(folder / "results.csv", make_cells(targets=(100_000,)))
    write_csv(folder / "per_tag.csv", make_scores())
    return folder


def lines(axes):
    return {line.get_label(): line for line in axes.lines}


def collections(axes):
    return {collection.get_label(): collection for collection in axes.collections}


def legend_texts(figure):
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts() if text.get_text().strip()]


def tick_texts(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def overlap(first, second):
    return (
        min(first.x1, second.x1) > max(first.x0, second.x0)
        and min(first.y1, second.y1) > max(first.y0, second.y0)
    )  # fmt: skip


def assert_apart(texts):
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    for first, second in itertools.combinations(boxes, 2):
        assert not overlap(first, second)


# AUC against parameters


def test_each_line_against_parameters_is_the_mean_over_seeds():
    cells = make_cells()
    (axes,) = plots.auc_against_parameters(cells[::-1]).axes
    drawn = lines(axes)
    assert len(drawn) == 6
    for arch, rule in itertools.product(ARCHITECTURES, RULES):
        line = drawn[f"{NAMES[arch]}, {RULE_NAMES[rule]}"]
        aucs = np.array([c.test_auc for c in cells if (c.arch, c.rule) == (arch, rule)])
        np.testing.assert_allclose(line.get_xdata(), [100_037, 250_037])
        np.testing.assert_allclose(line.get_ydata(), aucs.reshape(2, 3).mean(axis=1))


def test_bars_reach_from_the_worst_seed_to_the_best():
    cells = make_cells()
    (axes,) = plots.auc_against_parameters(cells).axes
    for arch, rule in itertools.product(ARCHITECTURES, RULES):
        ranges = collections(axes)[f"range of {NAMES[arch]}, {RULE_NAMES[rule]}"]
        aucs = np.array([c.test_auc for c in cells if (c.arch, c.rule) == (arch, rule)])
        expected = np.stack([aucs.reshape(2, 3).min(axis=1), aucs.reshape(2, 3).max(axis=1)], 1)
        segments = np.array(ranges.get_segments())
        np.testing.assert_allclose(segments[:, :, 1], expected)
        np.testing.assert_allclose(segments[:, :, 0], [[100_037] * 2, [250_037] * 2])


def test_everything_drawn_lies_inside_the_axes():
    figure = plots.auc_against_parameters(make_cells())
    figure.draw_without_rendering()
    (axes,) = figure.axes
    drawn = [(line, line.get_xydata()) for line in axes.lines]
    drawn += [(bars, np.concatenate(bars.get_segments())) for bars in axes.collections]
    for artist, points in drawn:
        pixels = artist.get_transform().transform(points)
        assert np.all((axes.bbox.min < pixels) & (pixels < axes.bbox.max))


def test_one_seed_is_a_marker_without_a_bar():
    figure = plots.auc_against_parameters(make_cells(seeds=(0,)))
    (axes,) = figure.axes
    assert all(len(ranges.get_segments()) == 0 for ranges in axes.collections)
    assert figure.legends[0].get_title().get_text() == "one seed"


def test_the_note_counts_the_seeds_that_are_drawn():
    cells = make_cells(targets=(100_000,))
    figure = plots.auc_against_parameters(cells)
    assert figure.legends[0].get_title().get_text() == "mean and range of 3 seeds"
    cells[0] = dataclasses.replace(cells[0], test_auc=None)
    figure = plots.auc_against_parameters(cells)
    assert figure.legends[0].get_title().get_text() == "mean and range of 2 to 3 seeds"


def test_architectures_have_a_colour_and_a_marker_and_rules_a_line_style():
    (axes,) = plots.auc_against_parameters(make_cells()).axes
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
    figure = plots.auc_against_parameters(make_cells())
    assert sorted(legend_texts(figure)) == sorted([*NAMES.values(), *RULE_NAMES.values()])
    figure = plots.auc_against_parameters(make_cells(architectures=("crnn",), rules=("sqrt",)))
    assert legend_texts(figure) == ["CRNN"]
    title = figure.legends[0].get_title().get_text()
    assert title == "√s at the output, mean and range of 3 seeds"


def test_cells_without_an_auc_are_left_out():
    cells = make_cells(targets=(100_000, 250_000), rules=("uniform",), seeds=(0, 1))
    known = [cell for cell in cells if cell.arch != "conv1d"]
    null = [dataclasses.replace(c, test_auc=None) for c in cells if c.arch == "conv1d"]
    (axes,) = plots.auc_against_parameters(null + known).axes
    assert sorted(lines(axes)) == ["CRNN, uniform s", "Conv2D, uniform s"]


def test_the_parameter_axis_is_logarithmic_with_the_targets_as_ticks():
    figure = plots.auc_against_parameters(
        make_cells(targets=(3_000_000, 20_000, 100_000, 250_000, 500_000, 1_000_000), seeds=(0,))
    )
    figure.draw_without_rendering()
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    assert tick_texts(axes.xaxis) == ["20k", "0.1M", "0.25M", "0.5M", "1M", "3M"]


@settings(deadline=None, max_examples=8)
@given(st.lists(st.integers(1_000, 20_000_000), min_size=1, max_size=12, unique=True))
@example([1_276, 250_500, 546_913])
def test_tick_labels_of_any_targets_keep_apart(targets):
    cells = make_cells(targets=targets, rules=("uniform",), seeds=(0,), architectures=("crnn",))
    figure = plots.auc_against_parameters(cells)
    figure.draw_without_rendering()
    assert_apart(figure.axes[0].get_xticklabels())


# AUC against training time


def test_each_line_against_time_is_the_mean_over_seeds_in_both_directions():
    cells = make_cells()
    figure = plots.auc_against_training_time(cells)
    times = ("seconds_per_2500_samples", "train_s")
    for axes, column in zip(figure.axes, times, strict=True):
        for arch, rule in itertools.product(ARCHITECTURES, RULES):
            line = lines(axes)[f"{NAMES[arch]}, {RULE_NAMES[rule]}"]
            seeds = [c for c in cells if (c.arch, c.rule) == (arch, rule)]
            seconds = np.array([getattr(cell, column) for cell in seeds]).reshape(2, 3)
            aucs = np.array([cell.test_auc for cell in seeds]).reshape(2, 3)
            np.testing.assert_allclose(line.get_xdata(), seconds.mean(axis=1))
            np.testing.assert_allclose(line.get_ydata(), aucs.mean(axis=1))


def test_lines_join_the_sizes_in_order_though_a_larger_network_were_quicker():
    cells = [
        dataclasses.replace(cell, train_s=1e9 / cell.target)
        for cell in make_cells(rules=("uniform",), seeds=(0,), architectures=("crnn",))
    ]
    line = lines(plots.auc_against_training_time(cells).axes[1])["CRNN, uniform s"]
    np.testing.assert_allclose(line.get_xdata(), [10_000, 4_000])


def test_the_panels_share_the_auc_and_name_their_units():
    per_samples, total = plots.auc_against_training_time(make_cells()).axes
    assert per_samples.get_shared_y_axes().joined(per_samples, total)
    assert per_samples.get_xlabel() == "Training time per 2,500 samples (s)"
    assert total.get_xlabel() == "Total training time (s)"


@pytest.mark.parametrize(("slowest", "scale"), [(95.0, "linear"), (105.0, "log"), (1e7, "log")])
def test_the_time_axis_is_logarithmic_over_a_factor_of_ten(slowest, scale):
    first, second = make_cells(rules=("uniform",), seeds=(0,), architectures=("crnn",))
    cells = [
        dataclasses.replace(first, train_s=10.0),
        dataclasses.replace(second, train_s=slowest),
    ]
    figure = plots.auc_against_training_time(cells)
    figure.draw_without_rendering()
    axes = figure.axes[1]
    assert axes.get_xscale() == scale
    low, high = axes.get_xlim()
    ticks = dict(zip(axes.get_xticks(), axes.get_xticklabels(), strict=True))
    shown = [label for value, label in ticks.items() if low <= value <= high]
    assert len(shown) >= 2
    assert_apart(shown)


@pytest.mark.parametrize("seed", range(3))
def test_labels_beside_the_markers_cover_neither_each_other_nor_a_marker(seed):
    rng = np.random.default_rng(seed)
    cells = [
        dataclasses.replace(cell, test_auc=float(rng.uniform(0.80, 0.81)))
        for cell in make_cells(targets=(100_000, 250_000, 500_000, 1_000_000), seeds=(0,))
    ]
    figure = plots.auc_against_training_time(cells)
    figure.draw_without_rendering()
    for axes in figure.axes:
        labels = [text for text in axes.texts if isinstance(text, Annotation)]
        assert len(labels) >= 8
        assert_apart(labels)
        markers = [line for line in axes.lines if line.get_marker()]
        assert len(markers) == len(cells)
        for label, marker in itertools.product(labels, markers):
            centre = axes.transData.transform(marker.get_xydata()[0])
            assert not label.get_window_extent().contains(*centre)


def test_a_label_says_the_target_of_its_point():
    cells = make_cells(rules=("uniform",), seeds=(0,))
    for axes in plots.auc_against_training_time(cells).axes:
        labels = [text for text in axes.texts if isinstance(text, Annotation)]
        assert len(labels) == 6
        for label in labels:
            (cell,) = [c for c in cells if c.test_auc == label.xy[1]]
            assert label.get_text() == {100_000: "0.1M", 250_000: "0.25M"}[cell.target]
            assert same_color(label.get_color(), plots.ARCHITECTURE_LOOKS[cell.arch].colour)


def test_the_larger_network_has_the_larger_marker():
    cells = make_cells(
        rules=("uniform",),
        seeds=(0,),
        architectures=("crnn",),
        targets=(100_000, 250_000, 3_000_000),
    )
    axes, _ = plots.auc_against_training_time(cells).axes
    sizes = {line.get_ydata()[0]: line.get_markersize() for line in axes.lines if line.get_marker()}
    of_targets = [sizes[cell.test_auc] for cell in cells]
    assert of_targets == sorted(set(of_targets))


def test_cells_without_a_time_are_left_out_of_that_panel():
    cells = [dataclasses.replace(cell, train_s=None) for cell in make_cells()]
    cells[0] = dataclasses.replace(cells[0], seconds_per_2500_samples=None)
    per_samples, total = plots.auc_against_training_time(cells).axes
    first = lines(per_samples)["Conv1D, uniform s"].get_ydata()[0]
    assert first == pytest.approx(np.mean([cells[1].test_auc, cells[2].test_auc]))
    assert not total.lines
    assert [text.get_text() for text in total.texts] == ["not measured"]


def test_the_devices_are_named():
    cells = make_cells(rules=("uniform",), seeds=(0,))
    cells[0] = dataclasses.replace(cells[0], device="TPU v5 lite", device_count=8)
    title = plots.auc_against_training_time(cells).legends[0].get_title().get_text()
    assert title == "uniform s, one seed, on TPU v5 lite (8 devices), on cpu"


# AUC of each tag


def expected_groups(scores, sort_by="conv2d"):
    """Categories in the paper's order, each with its tags by falling mean AUC, best first."""

    def mean(tag, arch):
        return np.mean([s.auc for s in scores if (s.tag, s.arch) == (tag, arch)])

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
    figure = plots.per_tag_auc(scores, 100_000)
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
    axes = plots.per_tag_auc(scores, 100_000).axes[0]
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
    top, *rows = plots.per_tag_auc(scores, 100_000).axes
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
            assert same_color(bar.get_facecolor(), plots.ARCHITECTURE_LOOKS[better].colour)
        low, high = axes.get_ylim()
        assert low < min(expected) < max(expected) < high
    assert rows[0].get_ylim() == rows[1].get_ylim()


def test_tags_without_an_auc_are_left_out_and_named():
    scores = make_scores(without_auc=("violin", "slow"))
    figure = plots.per_tag_auc(scores, 100_000)
    labels = tick_texts(figure.axes[-1].xaxis)
    assert len(labels) == len(TAGS) - 2
    assert not any(label.startswith(("violin", "slow")) for label in labels)
    note = figure.get_supxlabel().replace("\n", " ")
    assert note.endswith("Left out, one class only in the test split: slow, violin.")
    assert "Left out" not in plots.per_tag_auc(make_scores(), 100_000).get_supxlabel()


def test_a_tag_that_one_architecture_has_no_auc_for_is_left_out():
    scores = [
        dataclasses.replace(s, auc=None) if (s.arch, s.tag) == ("crnn", "sad") else s
        for s in make_scores()
    ]
    tags, without_auc = plots.average_tags(scores)
    assert without_auc == ["sad"]
    assert {tag.name for tag in tags} == TAGS.keys() - {"sad"}


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
    figure = plots.per_tag_auc(scores, 100_000)
    top, *below = figure.axes
    assert sorted(lines(top)) == sorted(f"{NAMES[arch]}, genre" for arch in architectures)
    assert list(lines(top)[f"{NAMES[sort_by]}, genre"].get_ydata()) == sorted(
        lines(top)[f"{NAMES[sort_by]}, genre"].get_ydata(), reverse=True
    )
    assert [axes.get_ylabel() for axes in below] == rows
    assert legend_texts(figure) == [*(NAMES[arch] for arch in architectures), "category mean"]


def test_the_rule_is_uniform_unless_sqrt_has_more_architectures():
    both = make_scores(rules=RULES)
    title = plots.per_tag_auc(both, 100_000).legends[0].get_title().get_text()
    assert title == "0.1M parameters, uniform s, mean of 2 seeds"
    fewer = [score for score in both if (score.arch, score.rule) != ("crnn", "uniform")]
    title = plots.per_tag_auc(fewer, 100_000).legends[0].get_title().get_text()
    assert title == "0.1M parameters, √s at the output, mean of 2 seeds"


def test_targets_are_complete_where_one_rule_has_all_architectures():
    scores = make_scores(targets=(100_000, 250_000, 500_000), rules=RULES)
    unfinished = [
        score
        for score in scores
        # 250k: one architecture a rule is missing, though not the same; 500k: only of uniform.
        if (score.target, score.rule, score.arch)
        not in {
            (250_000, "uniform", "crnn"),
            (250_000, "sqrt", "conv2d"),
            (500_000, "uniform", "conv1d"),
        }
    ]
    assert plots.complete_targets(unfinished) == [100_000, 500_000]
    assert plots.complete_targets(make_scores(without_auc=TAGS)) == []


def test_signs_of_formulas_in_a_tag_are_taken_as_they_are():
    # As formulas these would not even parse.
    tags = {"$\\frac$": "genre", "$^$": "$_$", "under_score": ""}
    figure = plots.per_tag_auc(make_scores(tags=tags, without_auc=("$^$",)), 100_000)
    figure.draw_without_rendering()
    assert tick_texts(figure.axes[-1].xaxis) == ["$\\frac$ (1)", "under_score (3)"]
    assert figure.get_supxlabel().endswith("$^$.")
    assert [text.get_text() for text in figure.axes[0].texts] == ["genre", "no category"]

    figure = plots.per_tag_auc(make_scores(tags=tags), 100_000)
    figure.draw_without_rendering()
    assert "$_$" in [text.get_text() for text in figure.axes[0].texts]


def test_any_name_is_drawn(tmp_path):
    """Without a warning (they are errors here), and as XML that can be read again."""
    odd = {
        **{"two\nlines": "$\\frac$", "\x1b[31m\x00": "日本語", "日本語": "_", "_hidden": "50%"},
        **{"שלום": "a--b", "<&>": "W" * 500, "x" * 5000: "\t", "🎸": "", "\udcff": "é"},
    }
    cells = [dataclasses.replace(cell, device="$\\frac$ 日\n") for cell in make_cells()]
    figure = plots.per_tag_auc(make_scores(tags=odd, without_auc=("_hidden",)), 100_000)
    names = tick_texts(figure.axes[-1].xaxis)
    assert {"two\\nlines (1)", "\\x1b[31m\\x00 (2)", "□□□ (3)", "שלום (5)"} < set(names)
    assert max(map(len, names)) < 50
    for name, drawn in (("tags", figure), ("time", plots.auc_against_training_time(cells))):
        _, svg = plots.write_figure(drawn, epath.Path(tmp_path), name)
        ElementTree.parse(svg)


# Files


def test_draw_writes_every_figure_twice_and_leaves_nothing_else(drawn_sweep):
    folder, figures = drawn_sweep
    names = ("auc_against_parameters", "auc_against_training_time", "per_tag_auc_100000")
    assert figures.keys() == {f"{name}.{suffix}" for name in names for suffix in ("png", "svg")}
    assert {path.name for path in (folder / "figures").iterdir()} == figures.keys()
    for name, content in figures.items():
        assert content.startswith(b"<?xml" if name.endswith("svg") else b"\x89PNG")
        assert (b"<dc:date>" if name.endswith("svg") else b"Software") not in content


def test_a_redraw_gives_the_same_bytes_whatever_the_user_s_own_style(drawn_sweep):
    folder, figures = drawn_sweep
    own = {"lines.linewidth": 9, "font.family": "monospace", "xtick.direction": "in"}
    with matplotlib.rc_context(own):
        paths = plots.draw(str(folder))
    assert all(isinstance(path, epath.Path) for path in paths)
    assert {path.name: path.read_bytes() for path in paths} == figures


def test_another_process_draws_the_same_bytes_without_jax_or_pyplot(drawn_sweep):
    folder, figures = drawn_sweep
    program = (
        "import sys; from crnn_jax import plots; plots.draw(sys.argv[1]);"
        "assert not {'jax', 'matplotlib.pyplot', 'pandas'} & sys.modules.keys()"
    )
    environment = os.environ | {"PYTHONHASHSEED": "123", "SOURCE_DATE_EPOCH": "0"}
    subprocess.run([sys.executable, "-c", program, str(folder)], check=True, env=environment)
    assert {path.name: path.read_bytes() for path in (folder / "figures").iterdir()} == figures


def test_the_style_of_the_process_is_left_as_it_was():
    before = dict(matplotlib.rcParams)
    plots.auc_against_training_time(make_cells())
    assert dict(matplotlib.rcParams) == before


def test_rows_come_back_as_they_were_written(tmp_path):
    cells = make_cells()
    cells[0] = dataclasses.replace(
        cells[0], test_auc=None, train_s=None, device="", device_count=None
    )
    scores = make_scores(tags={'a "quoted", tag': "genre", "ambiance féerique": ""})
    scores[0] = dataclasses.replace(scores[0], auc=None)
    write_csv(tmp_path / "results.csv", cells)
    write_csv(tmp_path / "per_tag.csv", scores)
    assert plots.read_rows(tmp_path / "results.csv", Cell) == cells
    assert plots.read_rows(tmp_path / "per_tag.csv", TagScore) == scores


def test_a_byte_order_mark_is_no_part_of_the_first_column(sweep):
    path = sweep / "results.csv"
    rows = plots.read_rows(path, Cell)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert plots.read_rows(path, Cell) == rows


# Errors


def assert_one_line(error, *parts):
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize("name", ["results.csv", "per_tag.csv"])
def test_a_missing_file_is_named_with_the_command_that_writes_it(sweep, name):
    (sweep / name).unlink()
    with pytest.raises(UserError) as error:
        plots.draw(sweep)
    assert_one_line(error, str(sweep / name), f"`crnn-jax sweep … --out {sweep}` writes it")


@pytest.mark.parametrize("name", ["results.csv", "per_tag.csv"])
@pytest.mark.parametrize("rows_kept", [0, 1])
def test_an_empty_file_is_named(sweep, name, rows_kept):
    path = sweep / name
    header = path.read_text(encoding="utf-8").splitlines(keepends=True)[:rows_kept]
    path.write_text("".join(header), encoding="utf-8")
    with pytest.raises(UserError) as error:
        plots.draw(sweep)
    assert_one_line(error, str(path), "holds no rows", "crnn-jax sweep")


def test_missing_columns_are_named(sweep):
    path = sweep / "results.csv"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("test_auc", "auc").replace("train_s", "t"), encoding="utf-8")
    with pytest.raises(UserError) as error:
        plots.draw(sweep)
    assert_one_line(error, str(path), "without the column test_auc, train_s", "crnn-jax sweep")


@pytest.mark.parametrize(
    ("column", "value", "complaint"),
    [
        ("target", "many", "target 'many' is not a whole number of at least 0"),
        ("target", "1e5", "target '1e5' is not a whole number of at least 0"),
        ("params", "", "params '' is not a whole number of at least 0"),
        ("params", "0", "params 0 and target 100000 must be above 0"),
        ("test_auc", "0,81", "test_auc '0,81' is not a number of at least 0"),
        ("test_auc", "nan", "test_auc 'nan' is not a number of at least 0"),
        ("train_s", "inf", "train_s 'inf' is not a number of at least 0"),
        ("train_s", "-3", "train_s '-3' is not a number of at least 0"),
        ("target", "1" + "0" * 400, "target is too large or too small to be drawn"),
        ("seed", str(2**63), "seed is too large or too small to be drawn"),
        ("train_s", "1e308", "train_s is too large or too small to be drawn"),
        ("train_s", "5e-324", "train_s is too large or too small to be drawn"),
        ("test_auc", "1.5", "an AUC of 1.5 is above 1"),
        ("device_count", "two", "device_count 'two' is not a whole number of at least 0"),
        ("arch", "conv3d", "arch 'conv3d' is none of conv1d, conv2d, crnn"),
        ("rule", "", "rule '' is none of uniform, sqrt"),
    ],
)
def test_a_damaged_value_is_named_with_its_line(sweep, column, value, complaint):
    path = sweep / "results.csv"
    write_csv(path, make_cells(targets=(100_000,)), **{column: value})
    with pytest.raises(UserError) as error:
        plots.draw(sweep)
    assert_one_line(error, f"{path}, line 2: {complaint}; `crnn-jax sweep … --out {sweep}`")


def test_a_line_cut_short_is_named(sweep):
    path = sweep / "per_tag.csv"
    text = path.read_text(encoding="utf-8")
    path.write_text(text[: text.rindex(",uniform,")], encoding="utf-8")
    with pytest.raises(UserError) as error:
        plots.draw(sweep)
    n_lines = len(text.splitlines())
    assert_one_line(error, f"{path}, line {n_lines}: ends before the column rule")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"arch,rule\n" + b'"' + b"a" * 200_000])
def test_a_file_that_is_no_csv_is_named(sweep, content):
    (sweep / "per_tag.csv").write_bytes(content)
    with pytest.raises(UserError) as error:
        plots.draw(sweep)
    assert_one_line(error, str(sweep / "per_tag.csv"), "crnn-jax sweep")


def test_a_sweep_without_any_auc_is_an_error_not_an_empty_figure(sweep):
    cells = [dataclasses.replace(cell, test_auc=None) for cell in make_cells()]
    write_csv(sweep / "results.csv", cells)
    with pytest.raises(UserError) as error:
        plots.draw(sweep)
    assert_one_line(error, str(sweep / "results.csv"), "no cell has a test_auc")


def test_a_folder_that_cannot_be_written_to_is_named(sweep):
    (sweep / "figures").write_text("a file where the folder belongs", encoding="utf-8")
    with pytest.raises(UserError) as error:
        plots.draw(sweep)
    assert_one_line(error, str(sweep / "figures"), "can be written to")
