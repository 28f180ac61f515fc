"""Learning rates chosen by short runs before a study."""

import dataclasses
import json
import subprocess
import sys
import threading

import pytest
from etils import epath

from crnn_jax import api
from crnn_jax.cli.display import _describe_rates
from crnn_jax.config import SweepConfig
from crnn_jax.errors import UserError
from crnn_jax.study import events, runs
from crnn_jax.study.grid import list_cells
from crnn_jax.study.schema import Cell, Network
from crnn_jax.study.sweep import sweep
from crnn_jax.study.trial import (
    _wait_for,
    list_cells_with,
    make_trial,
    try_rates,
)
from tests.conftest import STUDY, Log

TRIED = dataclasses.replace(
    STUDY,
    archs=("conv1d", "conv2d"),
    learning_rates=(1e-4, 3e-2),
    trial_epochs=1,
    seeds=(3, 4),
    extra_cells=(("conv1d", 9_000, "sqrt", 5),),
)


def test_the_study_is_trained_with_the_best_rate_of_the_trial(small_set, tmp_path):
    chosen = []
    log = Log()

    def on_event(event):
        log(event)
        if isinstance(event, events.RatesChosen):
            chosen.append(event.rates)

    study = dataclasses.replace(TRIED, train=dataclasses.replace(TRIED.train, epochs=2))
    summary = api.sweep(study, tmp_path, data=small_set, on_event=on_event)
    out = epath.Path(tmp_path)
    trial = [
        runs.read_result(path.parent) for path in sorted((out / runs.TRIAL).glob("*/result.json"))
    ]
    assert {(r.arch, r.learning_rate, r.seed, r.epochs) for r in trial} == {
        (arch, rate, 3, 1) for arch in study.archs for rate in study.learning_rates
    }
    best = {
        arch: max((r for r in trial if r.arch == arch), key=lambda r: r.valid_auc).learning_rate
        for arch in study.archs
    }
    (rates,) = chosen
    assert {network.arch: rate for network, rate in rates.items()} == best
    results = [runs.read_result(path.parent) for path in sorted(out.glob("*/result.json"))]
    assert {(r.arch, r.target, r.seed, r.learning_rate, r.epochs) for r in results} == {
        *((arch, 4_000, seed, best[arch], 2) for arch in study.archs for seed in (3, 4)),
        ("conv1d", 9_000, 5, best["conv1d"], 2),
    }
    assert sorted(cell.name for cell in summary.cells) == sorted(
        path.name for path in [path.parent for path in out.glob("*/result.json")]
    )
    assert (out / runs.TRIAL / "results.csv").exists()

    # The same command again trains nothing, neither a short run nor another.
    again = Log()
    api.sweep(study, tmp_path, data=small_set, on_event=again)
    assert again.started == []
    assert len(again.skipped) == len(trial) + len(results)


def test_a_rate_whose_run_fails_is_not_chosen(small_set, tmp_path):
    study = dataclasses.replace(
        TRIED, archs=("conv1d",), extra_cells=(), learning_rates=(1e-3, 1e30)
    )
    cells = try_rates(study, small_set, epath.Path(tmp_path))
    assert {cell.learning_rate for cell in cells} == {1e-3}
    failed = json.loads(
        (tmp_path / runs.TRIAL / "conv1d-4000-uniform-seed3-lr1e+30" / "failed.json").read_text()
    )
    assert "diverged" in failed["error"]


def test_no_rate_left(small_set, tmp_path):
    study = dataclasses.replace(
        TRIED, archs=("conv1d",), extra_cells=(), learning_rates=(1e29, 1e30)
    )
    with pytest.raises(
        UserError, match=r"learning_rates 1e\+29 1e\+30: all learning rates of conv"
    ):
        try_rates(study, small_set, epath.Path(tmp_path))


def test_cells_beside_the_grid_have_the_rate_of_the_nearest_size():
    study = dataclasses.replace(
        SweepConfig(
            archs=("crnn",), targets=(10_000, 100_000), rules=("uniform", "sqrt"), seeds=(0, 1)
        ),
        extra_cells=(("crnn", 20_000, "sqrt", 0), ("crnn", 1_000_000, "uniform", 0)),
    )
    rates = {
        Network("crnn", "uniform", 10_000): 0.1,
        Network("crnn", "uniform", 100_000): 0.2,
        Network("crnn", "sqrt", 10_000): 0.3,
        Network("crnn", "sqrt", 100_000): 0.4,
    }
    cells = list_cells_with(study, rates)
    assert len(cells) == 10
    assert {(c.rule, c.target): c.learning_rate for c in cells if c.target <= 100_000} == {
        **{(network.rule, network.target): rate for network, rate in rates.items()},
        ("sqrt", 20_000): 0.3,
    }
    assert Cell("crnn", 1_000_000, "uniform", 0, 0.2) in cells


def test_a_trial_is_short_and_has_one_seed():
    study = dataclasses.replace(
        TRIED, train=dataclasses.replace(TRIED.train, epochs=9, max_train_seconds=5.0)
    )
    trial = make_trial(study)
    assert (trial.seeds, trial.train.epochs, trial.extra_cells) == ((3,), 1, ())
    assert trial.train.max_train_seconds is None
    assert trial.trial_epochs is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rates": (1e-3,)}, "trial_epochs 1: it chooses among learning_rates"),
        ({"trial_epochs": 0}, "trial_epochs 0: give a number above 0"),
        ({"folds": 5, "extra_cells": ()}, "trial_epochs 1: a fold's validation clips"),
        ({"archs": ("crnn",)}, "trial_epochs 1: conv1d is in extra_cells and not in archs"),
    ],
)
def test_trials_that_cannot_choose(changes, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(TRIED, **changes)


def test_a_size_that_cannot_be_built_is_reported_before_the_trial(small_set, tmp_path):
    study = dataclasses.replace(TRIED, extra_cells=(("conv1d", 10, "uniform", 0),))
    with pytest.raises(UserError, match="10"):
        try_rates(study, small_set, epath.Path(tmp_path))
    assert not list(tmp_path.iterdir())


def test_what_was_chosen_is_said_in_a_line_per_architecture():
    rates = {
        Network("crnn", "uniform", 25_000): 0.01,
        Network("crnn", "uniform", 100_000): 0.003,
        Network("conv1d", "sqrt", 25_000, 0.5): 0.03,
    }
    assert _describe_rates(rates).splitlines() == [
        "Best learning rates of the short runs:",
        "  crnn, uniform: 0.01 at 25,000, 0.003 at 100,000",
        "  conv1d, sqrt: 0.03 at 25,000 with 0.5 of the data",
    ]


def test_a_schedule_that_does_not_fit_into_the_trial(small_set, tmp_path):
    study = dataclasses.replace(
        TRIED, train=dataclasses.replace(TRIED.train, schedule="cosine", warmup_steps=6, epochs=9)
    )
    with pytest.raises(
        UserError, match=r"trial_epochs 1: too few for the schedule \(warmup_steps 6"
    ):
        try_rates(study, small_set, epath.Path(tmp_path))


def test_runs_that_failed_are_not_trained_again_while_others_are_waited_for(
    small_set, tmp_path, monkeypatch
):
    """Another command holds a cell, and finishes it."""
    study = dataclasses.replace(TRIED, archs=("conv1d",), extra_cells=())
    diverges, other = list_cells(make_trial(study))
    rounds = []

    def run_study(trial, data, folder, cells):
        rounds.append(list(cells))
        return [diverges] if diverges in cells else []

    def finish_elsewhere(folder, left):
        assert left == [other]
        sweep(make_trial(study), small_set, folder, cells=[other])

    monkeypatch.setattr("crnn_jax.study.trial._wait_for", finish_elsewhere)
    cells = try_rates(study, small_set, epath.Path(tmp_path), run_study)
    assert rounds == [[diverges, other], [other]]
    assert {cell.learning_rate for cell in cells} == {other.learning_rate}


@pytest.mark.parametrize("ends", ["finished", "killed"])
def test_waiting_for_another_command(tmp_path, ends):
    """Until its run is done, or it no longer holds it."""
    folder, cell = epath.Path(tmp_path), Cell("conv1d", 4_000, "uniform", 0)
    code = (
        "import sys, time\n"
        "from etils import epath\n"
        "from crnn_jax.study import runs\n"
        "run = epath.Path(sys.argv[1])\n"
        "with runs.hold(run) as held:\n"
        "    print(held, flush=True)\n"
        "    time.sleep(600)\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, folder / cell.name], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "True\n"
        waiting = threading.Thread(target=_wait_for, args=(folder, [cell]))
        waiting.start()
        waiting.join(0.5)
        assert waiting.is_alive()
        if ends == "killed":
            holder.kill()
        else:
            (folder / cell.name).mkdir()
            (folder / cell.name / "result.json").write_text("{}")
        waiting.join(60)
        assert not waiting.is_alive()
    finally:
        holder.kill()
        holder.communicate()
