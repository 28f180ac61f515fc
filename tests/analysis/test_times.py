"""Times of a reference machine in place of the runs' own."""

import shutil
from pathlib import Path

import pytest

from crnn_jax import analyse
from crnn_jax.errors import UserError
from tests.analysis.studies import GAINS, SPEEDS, TARGETS, write_speeds, write_study


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    write_study(out, GAINS)
    return out


def test_only_the_times_are_replaced(study, tmp_path):
    path = write_speeds(tmp_path / "speeds.csv")
    own, replaced = (analyse(study, 100, times=times) for times in (None, path))
    for before, after in zip(own.networks, replaced.networks, strict=True):
        # A thousandth of a second per parameter, at 100 clips/s.
        assert before.train_s == pytest.approx(before.target / 1000)
        clips = 100 * before.target / 1000
        assert after.train_s == pytest.approx(clips / SPEEDS[after.arch])
        assert after.train_flops == pytest.approx(before.train_flops)
        assert (after.auc, after.auc_interval) == (before.auc, before.auc_interval)
    assert own.differences == replaced.differences
    assert replaced.notes == (
        *own.notes, f"training times are those at the speeds of {path}, not the runs' own"
    )  # fmt: skip
    laws = {(law.arch, law.cost, law.score): law for law in own.laws}
    for law in replaced.laws:
        before = laws[law.arch, law.cost, law.score]
        if law.cost == "train_s":
            assert law.costs[0] == pytest.approx(before.costs[0] * 100 / SPEEDS[law.arch])
        else:
            assert law == before


def test_the_front_is_that_of_the_other_times(study, tmp_path):
    """As slow as here, CRNN is on no front but where nothing else is as cheap."""
    path = write_speeds(tmp_path / "speeds.csv")
    (front,) = (each for each in analyse(study, 100, times=path).fronts if each.cost == "train_s")
    cheapest = [each for each in front.networks if each.arch == "crnn"]
    assert all(each.target < 200_000 for each in cheapest)
    seconds = {
        (row.arch, row.target): row.train_s for row in analyse(study, 100, times=path).networks
    }
    on_front = [seconds[each.arch, each.target] for each in front.networks]
    assert on_front == sorted(on_front)


def test_the_command_takes_a_table(study, tmp_path, command):
    path = write_speeds(tmp_path / "speeds.csv")
    code, said, err = command("analyse", study, "--resamples", 100, "--times", path)
    assert (code, err) == (0, "")
    assert "not the runs' own" in " ".join(said.split())


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda path: path.unlink(), "No such file"),
        (lambda path: path.write_bytes(b"\xff\xfe\x00"), "not UTF-8 text"),
        (lambda path: path.write_text(""), "holds no rows"),
        (
            lambda path: path.write_text("arch,target\ncrnn,3\n"),
            "lacks the column rule, samples_per_s",
        ),
        (lambda path: write_speeds(path, samples_per_s=0), "samples_per_s is 0 or missing"),
        (lambda path: write_speeds(path, samples_per_s=""), "samples_per_s is 0 or missing"),
        (
            lambda path: write_speeds(path, samples_per_s="inf"),
            "row 2: samples_per_s 'inf' is not a number",
        ),
        (
            lambda path: write_speeds(path, samples_per_s="fast"),
            "row 2: samples_per_s 'fast' is not a number",
        ),
        (lambda path: write_speeds(path, targets=TARGETS[1:]), r"conv2d 25,000, crnn"),
        (
            lambda path: write_speeds(path, targets=(25_000, *TARGETS)),
            r"conv2d 25,000 is there more than once",
        ),
    ],
)
def test_a_table_that_is_none_is_told_in_a_line(study, tmp_path, command, spoil, complaint):
    path = write_speeds(tmp_path / "speeds.csv")
    spoil(path)
    with pytest.raises(UserError, match=complaint) as caught:
        analyse(study, 100, times=path)
    assert str(path) in str(caught.value)
    code, said, err = command("analyse", study, "--times", path)
    assert (code, said, err.count("\n")) == (2, "", 1)


def test_the_studys_files_are_left_as_they_are(study, tmp_path):
    copied = tmp_path / "study"
    shutil.copytree(study, copied)
    before = {path: path.read_bytes() for path in Path(copied).rglob("*") if path.is_file()}
    analyse(copied, 100, times=write_speeds(tmp_path / "speeds.csv"))
    after = {path: path.read_bytes() for path in Path(copied).rglob("*") if path.is_file()}
    assert before == after
