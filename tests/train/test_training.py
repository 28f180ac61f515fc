"""Training: it learns, it is repeatable, it ends for the right reason, it keeps the best."""

import contextlib
import dataclasses
import functools
import itertools
import math

import jax
import numpy as np
import optax
import pytest
from etils import epath

from crnn_jax.config import ModelConfig, RuntimeConfig, TrainConfig
from crnn_jax.data.batches import training_batches
from crnn_jax.errors import UserError
from crnn_jax.models import build
from crnn_jax.signals import Terminated
from crnn_jax.train.checkpoints import OrbaxCheckpoints
from crnn_jax.train.compile import evaluation_step, flops_of_step
from crnn_jax.train.devices import batch_mesh, check_batch_size
from crnn_jax.train.events import EpochDone, RunBegun, StepDone
from crnn_jax.train.feed import Feed
from crnn_jax.train.loop import fit
from crnn_jax.train.metrics import score_tags
from crnn_jax.train.optimizer import make_optimizer, plan_of
from crnn_jax.train.predict import predict
from crnn_jax.train.progress import Progress
from crnn_jax.train.schedule import learning_rate
from crnn_jax.train.snapshots import Snapshot
from crnn_jax.train.state import initial_state
from crnn_jax.train.steps import train_step
from crnn_jax.train.training_run import Diverged

CONFIG = TrainConfig(epochs=3, batch_size=8, learning_rate=3e-3)


@pytest.fixture(scope="module")
def network(small_set):
    return ModelConfig("conv1d", (4, 4, 4, 4, 8, 8), n_tags=len(small_set.tag_names))


def run(
    network, small_set, folder, config=CONFIG, seed=0, on_step=lambda *_: None, kept=None, **asked
):
    histories = []

    def on_event(event):
        match event:
            case StepDone(epoch, step, steps_per_epoch, loss):
                on_step(epoch, step, steps_per_epoch, loss)
            case EpochDone(history):
                histories.append(history)

    with (kept or OrbaxCheckpoints)(epath.Path(folder)) as checkpoints:
        fitted = fit(
            network,
            config,
            seed,
            small_set,
            checkpoints,
            on_event=on_event,
            **asked,
        )
    return fitted, histories


def newest(network, small_set, folder):
    """The newest snapshot."""
    with OrbaxCheckpoints(epath.Path(folder)) as checkpoints:
        optimizer = make_optimizer(CONFIG)
        state = initial_state(build(network), optimizer, 0, 96, small_set.mel.frames)
        return checkpoints.restore(Snapshot(state, state.variables, Progress()))


def numbers(fitted):
    """All that must be the same in two runs: no times."""
    history = [dataclasses.replace(epoch, train_s=0.0) for epoch in fitted.progress.history]
    leaves = [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(fitted.variables)]
    return history, leaves, fitted.scores["valid"].tags, fitted.scores["test"].tags


@pytest.fixture(scope="module")
def fitted(network, small_set, tmp_path_factory):
    return run(network, small_set, tmp_path_factory.mktemp("run"))


def test_a_network_learns_a_batch_by_heart(network, small_set):
    without_dropout = dataclasses.replace(network, dropout_pool=0.0, dropout_output=0.0)
    model, optimizer = build(without_dropout), optax.adam(1e-2)
    with contextlib.closing(training_batches(small_set, CONFIG, 0)) as batches:
        batch = next(batches)
    step = jax.jit(functools.partial(train_step, model=model, optimizer=optimizer, axis_name=None))
    state = initial_state(model, optimizer, 0, 96, batch["log_mel"].shape[2])
    losses = []
    for _ in range(60):
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
    assert int(state.step) == 60
    # A network that knows no more than the tags' frequencies stays above 0.4.
    assert losses[0] > 0.5
    assert losses[-1] < 0.2


def test_two_runs_give_the_same_numbers(network, small_set, tmp_path, fitted):
    again, _ = run(network, small_set, tmp_path)
    assert numbers(again) == numbers(fitted[0])
    other, _ = run(network, small_set, tmp_path / "other", seed=1)
    assert numbers(other)[0] != numbers(fitted[0])[0]


def test_each_step_is_reported_with_its_learning_rate(network, small_set, tmp_path):
    """Several steps a dispatch, and a decay that begins when the time is due."""
    config = dataclasses.replace(CONFIG, schedule="wsd", epochs=10_000, max_train_seconds=0.3)
    reported = []
    with OrbaxCheckpoints(epath.Path(tmp_path)) as checkpoints:
        fitted = fit(
            network,
            config,
            0,
            small_set,
            checkpoints,
            runtime=RuntimeConfig(steps_per_dispatch=2),
            on_event=reported.append,
        )
    assert reported[0] == RunBegun(0, ())
    steps = [event for event in reported if isinstance(event, StepDone)]
    assert [event.steps_so_far for event in steps] == list(range(1, fitted.progress.step + 1))
    # What the program of the last step had.
    plan = plan_of(newest(network, small_set, tmp_path).state.opt_state)
    expected = learning_rate("wsd", plan, np.arange(len(steps)))
    rates = [event.learning_rate for event in steps]
    np.testing.assert_allclose(rates, expected, rtol=1e-4)
    assert rates[-1] < rates[0]
    assert all(event.gradient_norm > 0 for event in steps)


def test_a_run_goes_on_where_it_was_stopped(network, small_set, tmp_path, fitted):
    class Stopped(Exception):
        pass

    calls = itertools.count()

    def stop_in_the_second_epoch(*_):
        if next(calls) == 8:
            raise Stopped

    # A snapshot after every step: the run goes on in the middle of an epoch.
    often = {"runtime": RuntimeConfig(checkpoint_seconds=0.0)}
    with pytest.raises(Stopped):
        run(network, small_set, tmp_path, on_step=stop_in_the_second_epoch, **often)
    steps = []
    resumed, _ = run(network, small_set, tmp_path, on_step=lambda *s: steps.append(s[:2]), **often)
    assert steps[0][0] == 1, "it began again instead of going on"
    assert numbers(resumed) == numbers(fitted[0])


def test_a_stop_does_not_wait_for_an_evaluation(network, small_set, tmp_path, fitted):
    """Nor is a step lost or made twice, whichever processes read ahead before and after it."""

    def reading(workers):
        return {"runtime": RuntimeConfig(read_workers=workers)}

    steps, saved = [], []

    class Recorded(OrbaxCheckpoints):
        def save(self, snapshot):
            super().save(snapshot)
            saved.append(snapshot.progress.ended_by)

    with pytest.raises(Terminated):
        run(
            *(network, small_set, tmp_path),
            **reading(1),
            on_step=lambda *step: steps.append(step[:2]),
            # The event of an epoch's last step comes after the question that follows it.
            stop_requested=lambda: len(steps) == 6,
        )
    progress = newest(network, small_set, tmp_path).progress
    assert (progress.step, progress.history) == (6, ())
    with pytest.raises(Terminated):
        run(
            *(network, small_set, tmp_path),
            **reading(2),
            kept=Recorded,
            on_step=lambda *step: steps.append(step[:2]),
            # While the best parameters are scored.
            stop_requested=lambda: len(saved) > 0,
        )
    assert saved == ["epochs"]
    assert steps == [(epoch, step) for epoch in range(3) for step in range(1, 7)]
    resumed, _ = run(network, small_set, tmp_path, on_step=pytest.fail)
    assert numbers(resumed) == numbers(fitted[0])


def test_the_best_epochs_parameters_are_kept_and_scored(network, small_set, fitted):
    result, _ = fitted
    aucs = [entry.valid_auc for entry in result.progress.history]
    assert result.progress.best_epoch == 1 + int(np.argmax(aucs))
    assert result.scores["valid"].tags.macro_auc == pytest.approx(max(aucs), abs=1e-12)
    mesh = batch_mesh()
    evaluate = evaluation_step(network, mesh)
    logits, targets = predict(evaluate, result.variables, Feed(small_set, CONFIG, mesh), "test")
    # 18 examples in batches of 8: the last two are scored as well.
    assert logits.shape == (18, len(small_set.tag_names))
    expected = np.stack([example["tags"] for example in small_set.source("test")])
    np.testing.assert_array_equal(targets, expected)
    assert score_tags(targets, logits) == result.scores["test"].tags


def test_prediction_does_not_depend_on_the_batch(network, small_set, fitted):
    mesh = batch_mesh()
    evaluate = evaluation_step(network, mesh)
    whole, one_by_one = (
        predict(
            evaluate,
            fitted[0].variables,
            Feed(small_set, dataclasses.replace(CONFIG, batch_size=batch_size), mesh),
            "test",
        )[0]
        for batch_size in (18, 5)
    )
    np.testing.assert_allclose(whole, one_by_one, rtol=1e-4, atol=1e-4)


def test_history_has_a_line_an_epoch(fitted):
    result, histories = fitted
    assert [len(history) for history in histories] == [1, 2, 3]
    assert [entry.epoch for entry in result.progress.history] == [1, 2, 3]
    assert [entry.step for entry in result.progress.history] == [6, 12, 18]
    assert result.progress.ended_by == "epochs"


def test_patience_ends_a_run(network, small_set, tmp_path):
    config = dataclasses.replace(CONFIG, epochs=200, patience=2)
    result, _ = run(network, small_set, tmp_path, config)
    assert result.progress.ended_by == "patience"
    assert result.progress.epoch == result.progress.best_epoch + 2


def test_time_ends_a_run(network, small_set, tmp_path):
    config = dataclasses.replace(CONFIG, epochs=10_000, patience=10_000, max_train_seconds=0.5)
    result, _ = run(network, small_set, tmp_path, config)
    assert result.progress.ended_by == "time"
    assert result.progress.seconds["train"] >= 0.5
    steps = [entry.step for entry in result.progress.history]
    # The budget is over after the step that crosses it, not after the epoch.
    assert result.progress.step == steps[-1]
    before = (
        result.progress.seconds["train"] - result.progress.seconds["train"] / result.progress.step
    )
    assert before < 0.5 * 1.5


def test_a_diverging_run_says_so_and_keeps_its_last_snapshot(network, small_set, tmp_path):
    config = dataclasses.replace(CONFIG, learning_rate=1e30)
    often = RuntimeConfig(checkpoint_seconds=0.0)
    with pytest.raises(Diverged, match=r"diverged at step \d+.*learning rate"):
        run(network, small_set, tmp_path, config, runtime=often)
    snapshot = newest(network, small_set, tmp_path)
    arrays = jax.tree.leaves((snapshot.best, snapshot.state))
    assert all(np.isfinite(leaf).all() for leaf in arrays)


def test_a_batch_that_the_devices_do_not_divide():
    with pytest.raises(UserError, match="batch_size 30: not a multiple of 8.*24 or 32"):
        check_batch_size(30, 8)
    with pytest.raises(UserError, match="batch_size 3: not a multiple of 8.*give 8"):
        check_batch_size(3, 8)


def test_operations_are_counted_alike_where_a_device_does_not_count(network, small_set, fitted):
    counted = fitted[0].compiled.flops_per_sample
    again = flops_of_step(network, CONFIG, small_set.mel.frames)
    assert again == pytest.approx(counted, rel=0.01)


def test_times_add_up(fitted):
    progress = fitted[0].progress
    seconds = progress.seconds
    assert 0 < seconds["input_wait"] < seconds["train"]
    assert seconds["eval"] > 0
    assert seconds["checkpoint"] > 0
    assert math.isfinite(fitted[0].compiled.flops_per_sample)
    assert fitted[0].compiled.flops_per_sample > 0
