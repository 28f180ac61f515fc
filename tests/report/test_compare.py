"""Several studies side by side."""

import json
import shutil

import numpy as np
import pytest
from etils import epath

from crnn_jax.analysis.across import compare_studies
from crnn_jax.analysis.study import analyse
from crnn_jax.errors import UserError
from crnn_jax.report.compare_page import name_studies, render_comparison
from crnn_jax.report.html import bundling
from crnn_jax.study import runs
from crnn_jax.study.schema import Cell
from tests.analysis.studies import GAINS, make_split, write_run, write_study
from tests.report.conftest import DESKTOP, NAMES, PHONE

# The second study's networks are better by this much, in standard deviations of a score.
BETTER = {arch: lambda size, gain=gain: gain(size) + 0.3 for arch, gain in GAINS.items()}
TARGETS = (25_000, 50_000)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A study, and one in which every network is better, on the same test clips."""
    before, after = (
        epath.Path(tmp_path_factory.mktemp("compared") / name) for name in ("before", "after")
    )
    write_study(before, GAINS, TARGETS)
    write_study(after, BETTER, (*TARGETS, 100_000), device="gpu")
    return before, after


def test_differences_are_those_of_the_results(two):
    across = compare_studies(two)
    assert [(match.arch, match.target) for match in across.matches] == [
        (arch, target) for target in TARGETS for arch in ("conv2d", "crnn")
    ]
    assert across.is_paired == (True, True)
    for match in across.matches:
        means = [
            np.mean(
                [
                    runs.read_result(
                        out / f"{match.arch}-{match.target}-uniform-seed{seed}"
                    ).test_auc
                    for seed in range(3)
                ]
            )
            for out in two
        ]
        first, second = match.differences
        assert first is None
        assert second.auc.value == pytest.approx(means[1] - means[0], abs=2e-4)
        assert second.auc.low > 0
        assert second.count("lower") == 0
        assert [score.auc for score in match.scores] == pytest.approx(means, abs=2e-4)
    assert any("lacks conv2d 100,000, crnn 100,000" in note for note in across.notes)


def test_the_order_turns_the_sign(two):
    forth, back = compare_studies(two), compare_studies(two[::-1])
    for one, other in zip(forth.matches, back.matches, strict=True):
        assert one.differences[1].auc.value == pytest.approx(-other.differences[1].auc.value)


def test_a_study_is_like_itself(two, tmp_path):
    again = epath.Path(tmp_path / "again")
    shutil.copytree(two[0], again)
    for match in compare_studies([two[0], again]).matches:
        assert match.differences[1].auc.value == 0
        assert not match.differences[1].auc.excludes_zero


def test_pairing_narrows_the_interval(two, tmp_path):
    """Against the same networks on clips of their own, whose chances add."""
    other = epath.Path(tmp_path / "other")
    split = make_split(seed=7)
    for cell in (Cell("crnn", target, "uniform", seed) for target in TARGETS for seed in range(3)):
        write_run(other, cell, BETTER["crnn"](cell.target), split)
    across = compare_studies([two[0], two[1], other])
    assert across.is_paired == (True, True, False)
    of_crnn = [match for match in across.matches if match.arch == "crnn"]
    alone = {(row.arch, row.target): row for row in analyse(two[0]).networks}
    for match in of_crnn:
        paired, independent = (difference.auc for difference in match.differences[1:])
        assert paired.high - paired.low < independent.high - independent.low
        low, high = alone["crnn", match.target].auc_interval
        # Two independent means: wider than either.
        assert independent.high - independent.low > high - low


def test_with_other_tags_the_means_are_compared_alone(two, tmp_path):
    other = epath.Path(tmp_path / "other")
    write_study(other, GAINS, TARGETS, tags=NAMES)
    across = compare_studies([two[0], other])
    for match in across.matches:
        difference = match.differences[1]
        assert difference.tags == ()
        assert difference.auc.value == pytest.approx(match.scores[1].auc - match.scores[0].auc)
    assert any("other tags" in note for note in across.notes)
    assert render_comparison(across, "")


def test_studies_without_predictions_are_compared_without_intervals(two, tmp_path):
    other = epath.Path(tmp_path / "other")
    write_study(other, GAINS, TARGETS, with_predictions=False)
    across = compare_studies([two[0], other])
    assert all(match.differences == (None, None) for match in across.matches)
    assert all(match.scores[1].auc for match in across.matches)
    assert render_comparison(across, "")


def test_what_the_networks_are_trained_with_is_told_where_it_differs(two, tmp_path):
    other = epath.Path(tmp_path / "other")
    write_study(other, GAINS, TARGETS, train_fraction=0.1)
    notes = compare_studies([two[0], other]).notes
    (note,) = (each for each in notes if "another" in each)
    part = "another part of the training split"
    assert note.startswith(f"{other}: {part} than {two[0]} for conv2d 25,000")
    assert not any("another" in each for each in compare_studies(two).notes)


def test_a_tag_that_is_rare_in_either_study_is_not_decided(two, tmp_path):
    """Whichever study comes first; all but three clips of a tag's are of other groups here."""
    rare = epath.Path(tmp_path / "rare")
    targets, groups = make_split(seed=3)
    targets[3:, 0] = 0
    targets[:3, 0] = 1
    for cell in (Cell("crnn", target, "uniform", seed) for target in TARGETS for seed in range(3)):
        write_run(rare, cell, 5.0, (targets, groups))
    for order in ([two[0], rare], [rare, two[0]]):
        for match in compare_studies(order).matches:
            tag = match.differences[1].tags[0]
            assert (tag.tag, tag.p_holm, tag.verdict) == ("rock", None, "undecided")
            assert tag.n_positive == 3


def write_crnn(out, split, gain=3.0, **changes):
    """Write a study of CRNN alone, on a test split of its own."""
    for cell in (Cell("crnn", target, "uniform", seed) for target in TARGETS for seed in range(3)):
        write_run(out, cell, gain, split, **changes)
    return epath.Path(out)


def test_a_tag_of_one_class_in_one_study_is_left_out_of_the_difference_and_told(two, tmp_path):
    targets, groups = make_split(seed=3)
    targets[:, 0] = 1
    other = write_crnn(tmp_path / "other", (targets, groups))
    across = compare_studies([two[0], other])
    for match in across.matches:
        if (difference := match.differences[1]) is None:
            continue
        assert [tag.tag for tag in difference.tags] == ["jazz", "sad", "piano"]
        of_tags = [np.mean([score.tags[place][0] for place in (1, 2, 3)]) for score in match.scores]
        assert difference.auc.value == pytest.approx(of_tags[1] - of_tags[0])
        assert abs(difference.auc.value - (match.scores[1].auc - match.scores[0].auc)) > 1e-3
    (note,) = (each for each in across.notes if "one class only" in each)
    assert note.startswith(f"{other}: rock cannot be scored in it or in {two[0]}")
    assert not any("one class only" in each for each in compare_studies(two).notes)


def test_the_study_that_knows_which_clips_belong_together_decides_in_any_order(tmp_path):
    """One of them counts each clip as independent, as an older version's files do."""
    targets, groups = make_split()
    knows, told = (
        write_crnn(tmp_path / name, (targets, groups // 6), gain)
        for name, gain in (("knows", 1.0), ("told", 1.2))
    )
    alone = write_crnn(tmp_path / "alone", (targets, np.arange(len(targets))), 1.2)
    for order, expected in (([knows, alone], [knows, told]), ([alone, knows], [told, knows])):
        assert compare_studies(order).matches == compare_studies(expected).matches


def test_of_several_parts_of_the_data_the_largest_is_compared(two, tmp_path):
    """Where those of the largest part are of another test split than most, all parts are left."""
    mixed = tmp_path / "mixed"
    for fraction, gain in ((0.1, 1.0), (0.5, 2.0)):
        for seed in range(3):
            cell = Cell("crnn", TARGETS[0], "uniform", seed, train_fraction=fraction)
            write_run(mixed, cell, gain, make_split())
    odd = Cell("crnn", TARGETS[0], "uniform", 0, train_fraction=1.0)
    write_run(mixed, odd, 3.0, make_split(seed=9))
    (match,) = compare_studies([mixed, two[0]]).matches
    assert match.scores[0].train_fraction == 0.5


def test_folders_are_named_by_what_distinguishes_them(two):
    across = compare_studies(two)
    assert name_studies(across) == ["before", "after"]


def test_the_command_prints_and_writes_and_speaks_json(two, command, tmp_path):
    pytest.importorskip("altair", reason="needs the extra `report`")
    code, said, err = command("compare", *two)
    assert (code, err) == (0, "")
    assert said.endswith("compare.html\n")
    assert "conv2d" in said
    assert (tmp_path / "compare.html").exists()
    code, said, _ = command("compare", *two, "--json")
    values = json.loads(said)
    assert values["matches"][0]["differences"][1]["auc"]["low"] > 0


def test_what_cannot_be_compared_is_told_in_a_line(two, command, tmp_path):
    other = epath.Path(tmp_path / "other")
    write_study(other, GAINS, (30_000,), seeds=(0,))
    for folders, words in (
        ((two[0], other), "no network"),
        ((two[0],), "two sweeps' folders"),
        ((two[0], tmp_path / "nowhere"), "no finished run"),
    ):
        code, said, err = command("compare", *folders, "--json")
        assert (code, said, err.count("\n")) == (2, "", 1)
        assert words in err
    with pytest.raises(UserError):
        compare_studies([])


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_page_opens_offline_and_filters(browser, two, tmp_path, size, dark):
    page = epath.Path(tmp_path / "compare.html")
    with bundling() as wait:
        page.write_bytes(render_comparison(compare_studies(two), wait()))
    browser.open(page, size, dark=dark)
    assert browser.said() == []
    assert browser.requests() == [page.resolve().as_uri()]
    assert browser.evaluate("document.documentElement.scrollWidth") <= size[0]
    marks = (
        "[...document.querySelectorAll('#costs .mark-symbol path')].map((path) => path.__data__)"
        ".filter((item) => item && item.datum && item.datum.study).map((item) => item.datum.study)"
    )
    assert set(browser.evaluate(marks)) == {"before", "after"}
    browser.find('button[data-line="after"]').click()
    browser.wait_until(f"({marks}).every((study) => study === 'after')")
    rows = browser.evaluate(
        "[...document.querySelectorAll('#matches tbody tr:not([hidden])')]"
        ".map((row) => row.dataset.line)"
    )
    assert rows == ["after"] * 4
    # Differences have a row for each network.
    browser.find('button[data-line="after"]').click()
    browser.wait_until("document.querySelectorAll('#differences .mark-symbol path').length === 4")
