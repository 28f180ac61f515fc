"""Studies with further axes: learning rates, parts of the data, time budgets, folds."""

import csv
import dataclasses

import numpy as np
import pytest
from etils import epath
from sklearn.metrics import log_loss, roc_auc_score

from crnn_jax.config import SweepConfig, TrainConfig
from crnn_jax.data.batches import choose_examples, count_examples
from crnn_jax.errors import UserError
from crnn_jax.study import runs
from crnn_jax.study.evaluation import evaluate, load_network
from crnn_jax.study.events import RareTags
from crnn_jax.study.grid import find_branches, list_cells, list_rare_tags
from crnn_jax.study.sweep import sweep
from tests.conftest import STUDY, Log


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def small_study(**changes):
    return dataclasses.replace(STUDY, archs=("conv1d",), **changes)


def test_axes_are_part_of_a_cell_and_its_name():
    study = SweepConfig(
        archs=("crnn",),
        targets=(4_000,),
        learning_rates=(1e-3, 3e-4),
        train_fractions=(1.0, 0.1),
        time_budgets=(60.0, 600.0),
    )
    names = [cell.name for cell in list_cells(study)]
    assert len(set(names)) == 8
    # The longest budget first: shorter ones branch off it.
    assert names[:2] == [
        "crnn-4000-uniform-seed0-lr0.001-data0.1-600s",
        "crnn-4000-uniform-seed0-lr0.001-data0.1-60s",
    ]
    cell = list_cells(study)[0]
    train = cell.train_config(TrainConfig(epochs=7))
    assert (train.learning_rate, train.train_fraction, train.max_train_seconds) == (1e-3, 0.1, 600)
    assert train.epochs == 7


def test_a_study_without_axes_has_the_names_it_always_had():
    (cell,) = list_cells(SweepConfig(archs=("crnn",), targets=(4_000,)))
    assert cell.name == "crnn-4000-uniform-seed0"
    assert cell.train_config(TrainConfig()) == TrainConfig()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rates": (1e-3, 0.0)}, "learning_rates 0: give numbers above 0"),
        ({"learning_rates": (float("nan"),)}, "learning_rates nan"),
        ({"train_fractions": (0.5, 0.0)}, "train_fractions 0: give a number above 0"),
        ({"train_fractions": (1.5,)}, "train_fractions 1.5"),
        ({"time_budgets": (-1.0,)}, "time_budgets -1"),
        ({"folds": 2}, "folds 2: one part is for test"),
    ],
)
def test_values_that_no_cell_can_have(changes, message):
    with pytest.raises(UserError, match=message):
        SweepConfig(**changes)


def test_fractions_are_nested_and_the_same_for_all_seeds(small_set):
    chosen = {}
    for fraction in (0.1, 0.3, 0.9):
        config = TrainConfig(train_fraction=fraction)
        places = choose_examples(small_set, config)
        assert len(places) == count_examples(small_set, "train", config) == round(48 * fraction)
        assert (np.diff(places) > 0).all()
        chosen[fraction] = set(places.tolist())
    assert chosen[0.1] < chosen[0.3] < chosen[0.9] < set(range(48))
    # Not simply the first ones, which may be all of one album.
    assert chosen[0.3] != set(range(len(chosen[0.3])))
    assert choose_examples(small_set, TrainConfig()) is None
    with pytest.raises(UserError, match=r"train_fraction 0\.001: nothing is left of the 48"):
        count_examples(small_set, "train", TrainConfig(train_fraction=0.001))


def test_a_sweep_over_learning_rates_and_data(small_set, tmp_path):
    study = small_study(learning_rates=(1e-3, 1e-2), train_fractions=(0.5, 1.0))
    log = Log()
    assert sweep(study, small_set, epath.Path(tmp_path), on_event=log) == []
    rows = read_csv(tmp_path / "results.csv")
    read = {(float(row["learning_rate"]), float(row["train_fraction"])) for row in rows}
    assert read == {(1e-3, 0.5), (1e-3, 1.0), (1e-2, 0.5), (1e-2, 1.0)}
    assert {int(row["n_train"]) for row in rows} == {24, 48}
    assert len({row["test_auc"] for row in rows}) == 4
    tags = read_csv(tmp_path / "per_tag.csv")
    assert {(row["learning_rate"], row["train_fraction"]) for row in tags} == {
        (row["learning_rate"], row["train_fraction"]) for row in rows
    }


def test_predictions_are_stored_and_give_the_scores(small_sweep):
    for name, result in small_sweep.log.finished.items():
        logits, targets, _ = runs.read_predictions(small_sweep.out / name)
        aucs = [
            roc_auc_score(targets[:, tag], logits[:, tag])
            for tag in range(targets.shape[1])
            if 0 < targets[:, tag].sum() < len(targets)
        ]
        assert np.mean(aucs) == pytest.approx(result.test_auc, abs=2e-3)
        bce = np.mean(
            [
                log_loss(targets[:, tag], 1 / (1 + np.exp(-logits[:, tag])), labels=[0, 1])
                for tag in range(targets.shape[1])
            ]
        )
        assert bce == pytest.approx(result.test_bce, rel=1e-3)
        assert result.test_auc_unheard is None


@pytest.mark.parametrize("damage", ["truncated", "not finite"])
def test_damaged_predictions_are_not_used(tmp_path, damage):
    run = epath.Path(tmp_path)
    logits = np.full((3, 2), np.nan, np.float32)
    runs.write_predictions(run, "test", runs.Predictions(logits, np.eye(3, 2), np.arange(3)))
    if damage == "truncated":
        (run / "predictions-test.npz").write_bytes(b"PK\x03\x04")
    with pytest.warns(UserWarning, match="damaged"):
        assert runs.read_predictions(run) is None
    assert runs.read_predictions(run / "nowhere") is None


def test_cross_validation_scores_every_clip_once(small_set, tmp_path):
    out = epath.Path(tmp_path)
    log = Log()
    assert sweep(small_study(folds=3), small_set, out, on_event=log) == []
    assert sorted(log.finished) == [f"conv1d-4000-uniform-seed0-fold{fold}" for fold in range(3)]
    assert sum(result.n_test for result in log.finished.values()) == 75
    (row,) = read_csv(tmp_path / "folds.csv")
    assert (int(row["n_test"]), int(row["folds"])) == (75, 3)
    parts = [runs.read_predictions(out / name) for name in sorted(log.finished)]
    logits = np.concatenate([part.logits for part in parts])
    targets = np.concatenate([part.targets for part in parts])
    whole = sum(np.array(counts) for counts in small_set.tag_counts.values())
    np.testing.assert_array_equal(targets.sum(axis=0), whole)
    expected = np.mean(
        [
            roc_auc_score(targets[:, tag], logits[:, tag])
            for tag in range(targets.shape[1])
            if 0 < whole[tag] < 75
        ]
    )
    assert float(row["test_auc"]) == pytest.approx(expected, abs=1e-9)
    # A fold's network is scored on its own test split.
    name = "conv1d-4000-uniform-seed0-fold1"
    again = evaluate(load_network(out / name), "test", None)
    assert again.n_examples == log.finished[name].n_test
    assert again.auc == pytest.approx(log.finished[name].test_auc, abs=1e-9)


def test_an_unfinished_cross_validation_has_no_score(small_set, tmp_path):
    out = epath.Path(tmp_path)
    sweep(small_study(folds=3), small_set, out)
    (out / "conv1d-4000-uniform-seed0-fold2" / "result.json").unlink()
    runs.write_tables(out)
    assert read_csv(tmp_path / "folds.csv") == []


def test_tags_with_few_positives_are_named(small_set, tmp_path):
    rare = list_rare_tags(small_set)
    for split, counts in small_set.tag_counts.items():
        expected = [n for n, c in zip(small_set.tag_names, counts, strict=True) if c < 5]
        assert list(rare.get(split, ())) == expected
    assert rare["valid"]
    together = list_rare_tags(small_set, all_together=True)
    whole = sum(np.array(counts) for counts in small_set.tag_counts.values())
    expected = [n for n, c in zip(small_set.tag_names, whole, strict=True) if c < 5]
    assert list(together.get("all", ())) == expected
    said = []
    sweep(
        small_study(train=dataclasses.replace(STUDY.train, max_examples=8)),
        small_set,
        epath.Path(tmp_path),
        on_event=lambda event: said.append(event) if isinstance(event, RareTags) else None,
    )
    assert [event.tags for event in said] == [rare]


def test_only_time_budgets_of_wsd_branch():
    budgets = {"archs": ("crnn",), "targets": (4_000,), "time_budgets": (10.0, 40.0, 20.0)}
    constant = SweepConfig(**budgets)
    assert {find_branches(cell, constant) for cell in list_cells(constant)} == {(None, ())}
    wsd = SweepConfig(**budgets, train=TrainConfig(schedule="wsd"))
    longest, *others = list_cells(wsd)
    assert find_branches(longest, wsd) == (None, (10.0, 20.0))
    assert [find_branches(cell, wsd) for cell in others] == [(longest, ())] * 2


def test_shorter_budgets_branch_off_the_longest(small_set, tmp_path):
    """What they share is trained once, and each ends when its own decay has ended."""
    study = small_study(
        time_budgets=(3.0, 6.0),
        train=TrainConfig(
            epochs=100_000, batch_size=8, clip_seconds=2.5, schedule="wsd", decay=0.25
        ),
    )
    log = Log()
    assert sweep(study, small_set, epath.Path(tmp_path), on_event=log) == []
    long, short = (log.finished[f"conv1d-4000-uniform-seed0-{s}s"] for s in (6, 3))
    assert (long.ended_by, short.ended_by) == ("time", "time")
    assert long.shared_s == 0.0
    # At three quarters of its budget, to within a step or a snapshot.
    assert short.shared_s == pytest.approx(0.75 * 3.0, rel=0.2)
    # The machine may be busy with something else while one of them decays.
    assert short.train_s > short.shared_s
    assert long.epochs > short.epochs
    # The first steps were not taken again.
    taken = sum(name.endswith("-3s") for name, *_ in log.steps)
    assert taken < 0.6 * short.epochs * 6
    assert (tmp_path / "conv1d-4000-uniform-seed0-6s" / "branches" / "3s").is_dir()


def test_a_budget_without_a_longer_run_trains_on_its_own(small_set, tmp_path):
    study = small_study(
        time_budgets=(1.0, 2.0),
        train=TrainConfig(epochs=100_000, batch_size=8, clip_seconds=2.5, schedule="wsd"),
    )
    only_short = dataclasses.replace(study, time_budgets=(1.0,))
    log = Log()
    assert sweep(only_short, small_set, epath.Path(tmp_path), on_event=log) == []
    (result,) = log.finished.values()
    assert (result.shared_s, result.ended_by) == (0.0, "time")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": "wsd", "warmup_steps": 6}, "warmup_steps 6: the run has 5 steps"),
        ({"train_crop": 3.0}, "train_crop 3: the examples last 2.5 s"),
        ({"train_fraction": 0.1}, "batch_size 8"),
    ],
)
def test_what_cannot_be_trained_claims_no_folder(small_set, tmp_path, changes, message):
    study = small_study(train=dataclasses.replace(STUDY.train, **changes))
    with pytest.raises(UserError, match=message):
        sweep(study, small_set, epath.Path(tmp_path))
    assert not list(tmp_path.glob("*/config.json"))


def test_crops_train_and_are_scored(small_set, tmp_path):
    study = small_study(train=dataclasses.replace(STUDY.train, clip_seconds=None, train_crop=2.5))
    log = Log()
    out = epath.Path(tmp_path)
    assert sweep(study, small_set, out, on_event=log) == []
    ((name, result),) = log.finished.items()
    network = load_network(out / name)
    # Files are tagged in windows of that length.
    assert network.config.input_mel.clip_seconds == 2.5
    assert evaluate(network, "test", None).auc == pytest.approx(result.test_auc, abs=1e-9)
