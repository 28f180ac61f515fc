"""A study: every cell once, whatever fails; and results that say all of it."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import pytest
from etils import epath

from crnn_jax.config import RuntimeConfig, SweepConfig
from crnn_jax.data.prepared import open_set
from crnn_jax.errors import UserError
from crnn_jax.study import runs
from crnn_jax.study.grid import check_scorable, list_cells, make_run_config, solve_cell
from crnn_jax.study.schema import Cell
from crnn_jax.study.sweep import sweep
from tests.conftest import STUDY, Log

CELLS = [cell.name for cell in list_cells(STUDY)]
# The keys that readers of result.json may rely on.
DOCUMENTED = {
    *("arch", "rule", "target", "params", "s", "widths", "seed", "dataset", "mel"),
    *("n_train", "n_valid", "n_test", "n_tags", "n_tags_scored", "epochs", "best_epoch"),
    *("ended_by", "valid_auc", "test_auc", "test_ap", "per_tag", "compile_s", "train_s"),
    *("eval_s", "input_wait_s", "checkpoint_s", "seconds_per_2500_samples", "samples_per_s"),
    *("flops_per_sample", "peak_memory_bytes", "device", "device_count", "versions"),
    *("git_commit", "learning_rate", "train_fraction", "max_train_seconds", "fold", "shared_s"),
    *("test_bce", "test_calibration_error", "test_auc_unheard"),
}


@pytest.fixture
def copied(small_sweep, tmp_path):
    """The finished sweep, to be spoiled."""
    out = epath.Path(tmp_path / "copy")
    shutil.copytree(small_sweep.out, out)
    return out


def contents(out):
    return {p: p.read_bytes() for p in Path(out).glob("**/*") if p.is_file()}


def times(out):
    return {p.name: p.stat().mtime for p in out.glob("*/result.json")}


def test_the_grid_has_every_cell_once():
    study = SweepConfig(
        archs=("crnn", "conv1d"),
        targets=(5_000, 4_000),
        rules=("uniform", "sqrt"),
        seeds=(0, 1),
        extra_cells=(("crnn", 4_000, "sqrt", 1), ("conv2d", 9_000, "uniform", 0)),
    )
    cells = list_cells(study)
    assert len(cells) == len(set(cells)) == 2 * 2 * 2 * 2 + 1
    assert cells[0] == Cell("crnn", 4_000, "uniform", 0)
    assert cells[-1] == Cell("conv2d", 9_000, "uniform", 0)
    with pytest.raises(UserError, match="is empty"):
        list_cells(SweepConfig(targets=()))


def test_a_result_says_what_was_done(small_sweep, small_set):
    assert list(small_sweep.log.finished) == CELLS
    for name, result in small_sweep.log.finished.items():
        stored = json.loads((small_sweep.out / name / "result.json").read_text())
        assert set(stored) == DOCUMENTED
        assert stored == json.loads(json.dumps(dataclasses.asdict(result)))
        assert runs.read_result(small_sweep.out / name) == result
        result = stored
        assert abs(result["params"] - 4_000) <= 40
        # Which processor, not just `cpu`.
        assert re.fullmatch(r".{4,}, \d+ cores", result["device"])
        assert (result["n_train"], result["n_valid"], result["n_test"]) == (48, 9, 18)
        assert [row["tag"] for row in result["per_tag"]] == list(small_set.tag_names)
        scored = [row["auc"] for row in result["per_tag"] if row["auc"] is not None]
        assert result["test_auc"] == pytest.approx(sum(scored) / len(scored), abs=1e-12)
        assert result["n_tags_scored"] == len(scored)
        counts = small_set.tag_counts["train"]
        ranks = {row["tag"]: row["popularity_rank"] for row in result["per_tag"]}
        by_rank = sorted(small_set.tag_names, key=lambda tag: ranks[tag])
        in_order = [counts[small_set.tag_names.index(tag)] for tag in by_rank]
        assert in_order == sorted(counts, reverse=True)
        assert result["samples_per_s"] * result["train_s"] == pytest.approx(48)
        assert result["seconds_per_2500_samples"] == pytest.approx(2500 / result["samples_per_s"])


def test_every_step_of_every_cell_is_an_event(small_sweep):
    # 48 examples in batches of 8, for one epoch.
    assert small_sweep.log.steps == [(name, 0, step) for name in CELLS for step in range(1, 7)]


def test_a_finished_cell_is_not_run_again(small_sweep, small_set, copied):
    before = times(copied)
    (copied / "results.csv").unlink()
    log = Log()
    assert sweep(STUDY, small_set, copied, on_event=log) == []
    assert log.skipped == CELLS
    assert not log.started
    assert times(copied) == before
    assert (copied / "results.csv").read_text() == (small_sweep.out / "results.csv").read_text()


def test_a_failed_cell_is_recorded_and_the_others_go_on(small_set, copied):
    for name in CELLS[:2]:
        (copied / name / "result.json").unlink()
        (copied / name / "checkpoints").rmtree()
    broken = copied / CELLS[0]
    # A file where the snapshots belong: no mock, and it can be repaired.
    (broken / "checkpoints").write_text("")
    log = Log()
    assert [cell.name for cell in sweep(STUDY, small_set, copied, on_event=log)] == CELLS[:1]
    assert list(log.failed) == CELLS[:1]
    assert list(log.finished) == CELLS[1:2]
    record = json.loads((broken / "failed.json").read_text())
    assert record["error"] == log.failed[CELLS[0]]
    assert "Traceback" in record["traceback"]
    assert len(runs.read_results(copied)) == 2

    (broken / "checkpoints").unlink()
    log = Log()
    assert sweep(STUDY, small_set, copied, on_event=log) == []
    assert list(log.finished) == CELLS[:1]
    assert log.skipped == CELLS[1:]
    assert not (broken / "failed.json").exists()
    assert len(runs.read_results(copied)) == 3


def test_another_configuration_leaves_the_folder_as_it_is(small_set, copied):
    before = contents(copied)
    other = dataclasses.replace(STUDY, train=dataclasses.replace(STUDY.train, learning_rate=0.5))
    with pytest.raises(UserError, match=r"train.learning_rate is 0.001 there and 0.5 here"):
        sweep(other, small_set, copied)
    assert contents(copied) == before


def test_a_set_that_was_moved_is_the_same_set(small_set, copied, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(small_set.path, moved)
    faster = dataclasses.replace(STUDY, runtime=RuntimeConfig(read_threads=1))
    log = Log()
    assert (
        sweep(faster, dataclasses.replace(small_set, path=str(moved)), copied, on_event=log) == []
    )
    assert log.skipped == CELLS
    changed = dataclasses.replace(small_set, tracks_digest="another list")
    with pytest.raises(UserError, match="data.tracks_digest"):
        sweep(STUDY, changed, copied)


def test_the_set_is_found_from_any_folder(small_set, tmp_path, monkeypatch):
    monkeypatch.chdir(Path(small_set.path).parent)
    relative = dataclasses.replace(small_set, path=Path(small_set.path).name)
    cell = list_cells(STUDY)[0]
    config = make_run_config(cell, solve_cell(cell, STUDY, relative), STUDY, relative)
    monkeypatch.chdir(tmp_path)
    assert config.data.path is not None
    assert open_set(config.data.path).n_examples == small_set.n_examples


def test_unreachable_sizes_stop_before_anything_is_trained(small_set, tmp_path):
    log = Log()
    study = dataclasses.replace(STUDY, targets=(4_000, 40))
    with pytest.raises(UserError, match="target 40"):
        sweep(study, small_set, epath.Path(tmp_path), on_event=log)
    assert not log.started
    assert not list(tmp_path.iterdir())


def test_data_that_cannot_be_scored(small_set):
    nothing = (0,) * len(small_set.tag_names)
    for split, message in (("train", "no tag has a positive"), ("test", "in the test split")):
        counts = {**small_set.tag_counts, split: nothing}
        with pytest.raises(UserError, match=message):
            check_scorable(dataclasses.replace(small_set, tag_counts=counts))
    all_positive = {**small_set.tag_counts, "valid": (9,) * len(small_set.tag_names)}
    with pytest.raises(UserError, match="in the valid split"):
        check_scorable(dataclasses.replace(small_set, tag_counts=all_positive))
