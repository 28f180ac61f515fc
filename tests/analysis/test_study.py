"""What is said of a whole study, and what cannot be said of half of one."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from etils import epath
from sklearn.metrics import roc_auc_score

from crnn_jax import analyse
from crnn_jax.analysis.pareto import pareto_front
from crnn_jax.analysis.predictions import read_study
from crnn_jax.errors import UserError
from crnn_jax.study import runs
from crnn_jax.study.schema import Cell, Network
from tests.analysis.studies import GAINS, TAGS, make_split, write_run, write_study


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    write_study(out, GAINS)
    return out


@pytest.fixture
def copied(study, tmp_path):
    shutil.copytree(study, tmp_path / "copy")
    return tmp_path / "copy"


def test_the_whole_study(study):
    analysis = analyse(study, n_resamples=300)
    assert (analysis.n_clips, analysis.n_groups, analysis.n_tags) == (240, 120, len(TAGS))
    assert len(analysis.networks) == 8
    for row in analysis.networks:
        its_runs = [
            runs.read_predictions(epath.Path(study) / f"{row.arch}-{row.target}-uniform-seed{seed}")
            for seed in range(3)
        ]
        expected = np.mean([roc_auc_score(run.targets, run.logits) for run in its_runs])
        assert row.auc == pytest.approx(expected)
        low, high = row.auc_interval
        assert low < row.auc < high
        assert row.n_seeds == 3
        # 1000 s at 100 samples/s and 10⁴ operations per parameter.
        assert row.train_flops == pytest.approx(1e4 * row.target * 100 * row.target / 1000)
    by_size = {row.first.target: row for row in analysis.differences}
    assert len(by_size) == len(analysis.differences) == 4
    assert (by_size[25_000].first.arch, by_size[25_000].auc.excludes_zero) == ("crnn", True)
    assert (by_size[200_000].first.arch, by_size[200_000].auc.excludes_zero) == ("conv2d", True)
    assert {law.arch for law in analysis.laws} == {"crnn", "conv2d"}
    assert {(law.score, law.cost) for law in analysis.laws} == {
        (score, cost)
        for score in ("1 - test_auc", "test_bce")
        for cost in ("params", "train_flops", "train_s")
    }
    crossings = {
        (crossing.score, crossing.cost): crossing
        for crossing in analysis.crossings
        if crossing.first == "conv2d"
    }
    crossing = crossings["1 - test_auc", "params"]
    # Where 1.2 + 0.1 x = 0.5 + 0.6 x.
    assert crossing.at.low < 25_000 * 2**1.4 < crossing.at.high
    assert analysis.notes == ()


def test_the_same_again_and_from_json(study, command):
    analysis = analyse(study, n_resamples=100, seed=3)
    assert analysis == analyse(study, n_resamples=100, seed=3)
    code, said, error = command("analyse", study, "--json", "--resamples", 100, "--seed", 3)
    assert (code, error) == (0, "")
    read = json.loads(said)
    assert [row["auc_interval"] for row in read["networks"]] == [
        list(row.auc_interval) for row in analysis.networks
    ]
    tags = read["differences"][0]["tags"]
    assert [tag["tag"] for tag in tags] == list(TAGS)
    assert {tag["verdict"] for tag in tags} <= {"higher", "lower", "undecided"}
    assert read["differences"][0]["first"]["arch"] in GAINS


def test_what_is_printed(study, command):
    code, said, _ = command("analyse", study, "--resamples", 200)
    assert code == 0
    for part in (
        "240 test clips in 120 groups, 4 tags; 95 % intervals from 200 resamples",
        "Scores on the test split",
        "Differences of networks of one size",
        "by category",
        "Scaling laws",
        "Pareto fronts",
        "conv2d (uniform) is better than crnn from",
    ):
        assert part in said


@pytest.mark.parametrize("n_networks", [1, 5, 30])
def test_the_front_is_what_nothing_beats(n_networks):
    rng = np.random.default_rng(n_networks)
    # Few values, so that there are equals.
    costs, scores = rng.integers(1, 6, n_networks), rng.integers(0, 5, (3, n_networks))
    fronts = pareto_front(costs, scores)
    for front, of_series in zip(fronts, scores, strict=True):
        for one in range(n_networks):
            beaten = any(
                costs[other] <= costs[one]
                and of_series[other] >= of_series[one]
                and (costs[other], of_series[other]) != (costs[one], of_series[one])
                for other in range(n_networks)
            )
            assert front[one] == (not beaten)


def test_fronts_of_a_study(study):
    (params, *_) = (front for front in analyse(study, 100).fronts if front.cost == "params")
    assert params.networks[0] == Network("crnn", "uniform", 25_000, 1.0)
    assert params.networks[-1] == Network("conv2d", "uniform", 200_000, 1.0)
    assert params.support is not None
    assert params.support[0] > 0.9


def test_a_categorys_name_may_be_anything(tmp_path, command):
    names = {"rock": "genre, style", "jazz": "[bold]", "sad": "a\nb", "piano": ""}
    write_study(tmp_path, GAINS, targets=(25_000,), seeds=(0,), tags=names)
    code, said, error = command("analyse", tmp_path, "--resamples", 100)
    assert (code, error) == (0, "")
    (header,) = (line for line in said.splitlines() if "genre, style" in line)
    assert "[bold]" in header
    assert "a\\nb" in header


def test_the_width_rules_are_compared_as_well(copied):
    write_run(copied, Cell("crnn", 25_000, "sqrt", 0), 2.5, make_split())
    rows = [row for row in analyse(copied, 100).differences if row.first.rule == "sqrt"]
    # With the same architecture; not with another one of another rule.
    assert [(row.second.arch, row.second.rule) for row in rows] == [("crnn", "uniform")]
    assert rows[0].auc.excludes_zero


def test_the_best_learning_rate_alone_is_analysed(tmp_path):
    for rate, gain in ((1e-3, 1.0), (1e-2, 2.0)):
        for seed in (0, 1):
            cell = Cell("crnn", 25_000, "uniform", seed, learning_rate=rate)
            write_run(tmp_path, cell, gain, make_split())
    (row,) = analyse(tmp_path, 100).networks
    assert (row.learning_rate, row.n_seeds) == (1e-2, 2)


def test_runs_without_predictions(copied):
    for path in copied.glob("crnn-25000-*/predictions-test.npz"):
        path.unlink()
    analysis = analyse(copied, 100)
    (note,) = [note for note in analysis.notes if "predictions" in note]
    assert note.startswith("crnn-25000-uniform-seed0, crnn-25000-uniform-seed1, crnn-25000-")
    assert {row.first.target for row in analysis.differences} == {50_000, 100_000, 200_000}
    (row,) = (row for row in analysis.networks if (row.arch, row.target) == ("crnn", 25_000))
    assert row.auc > 0.5
    assert row.auc_interval is None
    # Three sizes are left of it.
    assert {law.arch for law in analysis.laws} == {"conv2d"}
    assert Network("crnn", "uniform", 25_000, 1.0) not in analysis.fronts[0].networks
    assert "crnn, uniform: 3 of the 4 sizes that a scaling law needs" in analysis.notes


def test_no_predictions_at_all(copied, command):
    for path in copied.glob("*/predictions-test.npz"):
        path.unlink()
    code, said, error = command("analyse", copied)
    assert (code, error) == (0, "")
    assert "not in intervals, comparisons and fronts" in said
    assert "Differences" not in said
    assert "Pareto fronts" in said


@pytest.mark.parametrize("arch", ["crnn", "conv1d"])
def test_a_run_of_another_test_split(copied, arch):
    # The other two seeds of CRNN stay; Conv1D would come first.
    cell = Cell(arch, 25_000, "uniform", 1)
    write_run(copied, cell, 3.0, make_split(n_clips=300, seed=5), dataset="other/set")
    analysis = analyse(copied, 100)
    (note,) = [note for note in analysis.notes if "another test split" in note]
    assert note == f"{cell.name}: another test split than most, so not in anything"
    assert {row.first.target for row in analysis.differences} == {25_000, 50_000, 100_000, 200_000}
    assert {row.arch for row in analysis.networks} == set(GAINS)
    assert (analysis.dataset, analysis.n_clips) == ("synthetic/made-up", 240)
    assert all(network.arch in GAINS for front in analysis.fronts for network in front.networks)


def test_predictions_of_an_older_version_have_no_groups(copied):
    def forget_groups(path):
        with np.load(path) as arrays:
            kept = {name: arrays[name] for name in ("logits", "targets")}
        np.savez(path, **kept)

    forget_groups(copied / "conv2d-25000-uniform-seed0" / "predictions-test.npz")
    analysis = analyse(copied, 100)
    assert (analysis.n_groups, analysis.notes) == (120, ())
    for path in copied.glob("*/predictions-test.npz"):
        forget_groups(path)
    analysis = analyse(copied, 100)
    assert analysis.n_groups == 240
    assert "each clip counts as independent" in analysis.notes[0]


def test_too_few_recordings_for_intervals(tmp_path):
    targets, _ = make_split()
    for arch in GAINS:
        cell = Cell(arch, 25_000, "uniform", 0)
        write_run(tmp_path, cell, 1.0, (targets, np.arange(len(targets)) // 60))
    analysis = analyse(tmp_path, 100)
    assert (analysis.n_groups, analysis.differences) == (None, ())
    assert "fewer than 10 recordings or compositions" in analysis.notes[0]


def test_rare_tags_are_named(tmp_path, recwarn):
    targets, groups = make_split()
    targets[:, 3] = 0
    targets[:3, 3] = 1
    for arch in GAINS:
        write_run(tmp_path, Cell(arch, 25_000, "uniform", 0), 1.0, (targets, groups))
    analysis = analyse(tmp_path, 100)
    assert any(note.startswith("piano: in fewer than 5 recordings") for note in analysis.notes)
    (piano,) = [tag for tag in analysis.differences[0].tags if tag.tag == "piano"]
    assert piano.verdict == "undecided"
    assert not recwarn.list


def test_networks_on_parts_of_the_data_are_not_compared(tmp_path):
    for arch in GAINS:
        for fraction in (0.1, 0.3, 1.0):
            # One that is not finished on all of the data.
            if (arch, fraction) != ("conv2d", 1.0):
                cell = Cell(arch, 25_000, "uniform", 0, train_fraction=fraction)
                write_run(tmp_path, cell, 1.0, make_split())
    analysis = analyse(tmp_path, 100)
    assert [row.arch for row in analysis.networks] == ["crnn"]
    assert analysis.differences == ()
    cell = Cell("conv2d", 25_000, "uniform", 0, train_fraction=1.0)
    write_run(tmp_path, cell, 1.0, make_split())
    assert len(analyse(tmp_path, 100).differences) == 1


def test_seeds_are_those_that_have_predictions(copied):
    for seed in (1, 2):
        (copied / f"crnn-25000-uniform-seed{seed}" / "predictions-test.npz").unlink()
    analysis = analyse(copied, 100)
    (row,) = (row for row in analysis.networks if (row.arch, row.target) == ("crnn", 25_000))
    assert row.n_seeds == 1
    assert any(note.startswith("crnn 25,000: one seed") for note in analysis.notes)


@pytest.mark.parametrize("content", ["{}", "[]", "{"])
def test_a_result_of_another_form(copied, content):
    (copied / "crnn-25000-uniform-seed0" / "result.json").write_text(content)
    with pytest.warns(UserWarning, match="does not count as finished"):
        assert analyse(copied, 100).networks


@pytest.mark.parametrize("name", ["demo"])
def test_committed_studies(name):
    folder = Path(__file__).resolve().parents[2] / "results" / name
    analysis = analyse(folder, 200)
    assert len(analysis.networks) == len(list(folder.glob("*/result.json")))
    assert analysis.differences


def test_seeds_that_are_missing(copied):
    shutil.rmtree(copied / "crnn-50000-uniform-seed2")
    for seed in (1, 2):
        shutil.rmtree(copied / f"conv2d-100000-uniform-seed{seed}")
    notes = analyse(copied, 100).notes
    assert notes == (
        "conv2d 100,000: one seed, so that its intervals are over test clips alone, and too narrow",
        "crnn 50,000: fewer seeds than the others, so wider intervals",
    )


def test_fewer_than_four_sizes(tmp_path):
    write_study(tmp_path, GAINS, targets=(25_000, 50_000, 100_000), seeds=(0,))
    analysis = analyse(tmp_path, 100)
    assert analysis.laws == ()
    assert "crnn, uniform: 3 of the 4 sizes that a scaling law needs" in analysis.notes
    assert any(note.startswith("one seed each") for note in analysis.notes)
    assert len(analysis.differences) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere",), "nowhere: no finished run (*/result.json); give a sweep's folder"),
        ((".", "--resamples", 5), "--resamples 5: too few for an interval; give 100 or more"),
        ((".", "--seed", -1), "--seed -1: give 0 or more"),
    ],
)
def test_nothing_can_be_said(command, arguments, message):
    code, said, error = command("analyse", *arguments)
    assert (code, said) == (2, "")
    assert error == f"crnn-jax: {message}\n"


def test_a_cross_validation_is_scored_elsewhere(tmp_path):
    write_run(tmp_path, Cell("crnn", 25_000, "uniform", 0, fold=1), 1.0, make_split())
    with pytest.raises(UserError, match=r"a cross-validation.*folds\.csv"):
        read_study(epath.Path(tmp_path))


def test_a_damaged_result_is_as_if_it_were_not_there(copied):
    (copied / "crnn-25000-uniform-seed0" / "result.json").write_text("{")
    with pytest.warns(UserWarning, match="damaged"):
        analysis = analyse(copied, 100)
    assert "crnn 25,000: fewer seeds than the others, so wider intervals" in analysis.notes


def test_a_law_against_data(tmp_path):
    for part, fraction in enumerate((0.125, 0.25, 0.5, 1.0)):
        for seed in (0, 1, 2):
            cell = Cell("crnn", 25_000, "uniform", seed, train_fraction=fraction)
            write_run(tmp_path, cell, 0.5 + 0.4 * part, make_split(), n_train=int(1000 * fraction))
    analysis = analyse(tmp_path, 100)
    # What is compared is trained on all of the data.
    assert [(row.target, row.n_seeds) for row in analysis.networks] == [(25_000, 3)]
    assert {(law.cost, law.target, law.n_points) for law in analysis.laws} == {
        ("n_train", 25_000, 4)
    }
    assert (analysis.laws[0].costs[0], analysis.laws[0].costs[-1]) == pytest.approx((125, 1000))
    assert analysis.laws[0].scores[0].value > analysis.laws[0].scores[-1].value


def test_half_of_a_study(copied):
    for name, content in (("crnn-800000-uniform-seed0", "config.json"), ("lost", "failed.json")):
        (copied / name).mkdir()
        (copied / name / content).write_text("{}")
    for seed in range(3):
        shutil.rmtree(copied / f"crnn-200000-uniform-seed{seed}")
    assert analyse(copied, 100).notes == (
        "crnn-800000-uniform-seed0: not finished yet, so not in anything",
        "lost: failed, so not in anything; see failed.json",
        "crnn, uniform: 3 of the 4 sizes that a scaling law needs",
        "crnn, uniform: no finished run at 200,000, where others have some",
    )
