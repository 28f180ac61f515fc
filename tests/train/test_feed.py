"""Feeding the devices: the same batches from wherever they come, and few words with the host."""

import contextlib
import dataclasses
import subprocess
import sys

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax._src.array import ArrayImpl

from crnn_jax.config import RuntimeConfig, TrainConfig
from crnn_jax.data.batches import training_batches
from crnn_jax.data.prepared import open_set
from crnn_jax.errors import UserError
from crnn_jax.train import feed as feeding
from crnn_jax.train import training_run
from crnn_jax.train.devices import batch_mesh
from crnn_jax.train.feed import Feed
from crnn_jax.train.pace import (
    DISPATCH_S,
    LONG_STEP_S,
    MEASURED,
    WARM_UP,
    Pace,
    choose_steps,
    fit_epoch,
)
from tests.train.test_training import CONFIG, network, numbers, run

__all__ = ["network"]


def fetched(batch):
    return {name: np.asarray(values) for name, values in batch.items()}


def assert_same(batch, expected):
    assert batch.keys() == expected.keys()
    for name, values in expected.items():
        assert batch[name].dtype == values.dtype
        np.testing.assert_array_equal(batch[name], values)


def check_feeds(data, config):
    """Every residence gives the reader's batches, one by one and several at once."""
    mesh = batch_mesh(config.batch_size)
    with contextlib.closing(training_batches(data, config, seed=5)) as reader:
        expected = [next(reader) for _ in range(9)]
    tags = np.stack([example["tags"] for example in data.source("test")])
    for residence in ("disk", "memory", "devices"):
        feed = Feed(data, config, mesh)
        feed.residence = residence
        with contextlib.closing(feed.training(seed=5, first=1)) as batches:
            batches.start()
            taken = [fetched(batches.take(count)) for count in (1, 3, 3, 1)]
        assert_same(taken[0], expected[1])
        assert_same(taken[3], expected[8])
        for several, numbers_of in ((taken[1], range(2, 5)), (taken[2], range(5, 8))):
            for row, number in enumerate(numbers_of):
                assert_same({name: part[row] for name, part in several.items()}, expected[number])
        evaluated = [fetched(batch) for batch in feed.evaluation("test")]
        assert {len(batch["tags"]) for batch in evaluated} == {config.batch_size}
        np.testing.assert_array_equal(
            np.concatenate([batch["tags"] for batch in evaluated])[: len(tags)], tags
        )
        with contextlib.closing(feed.evaluation("test")) as batches:
            np.testing.assert_array_equal(
                next(batches)["log_mel"][3], data.source("test")[3]["log_mel"]
            )
    return mesh.size


def test_batches_are_the_readers_wherever_the_clips_are(small_set):
    assert check_feeds(small_set, TrainConfig(batch_size=10)) == 1


def test_so_they_are_on_several_devices(small_set):
    script = (
        "import sys; from crnn_jax.train.devices import use_cores; use_cores(4)\n"
        "from crnn_jax.config import TrainConfig; from crnn_jax.data.prepared import open_set\n"
        "from tests.train.test_feed import check_feeds\n"
        "print(check_feeds(open_set(sys.argv[1]), TrainConfig(batch_size=8)))"
    )
    process = subprocess.run(
        [sys.executable, "-c", script, small_set.path], capture_output=True, text=True, check=False
    )
    assert (process.returncode, process.stdout) == (0, "4\n"), process.stderr


def test_a_set_that_fits_is_kept_in_memory(small_set, monkeypatch):
    mesh = batch_mesh(8)
    clip = 2 * 96 * small_set.mel.frames + len(small_set.tag_names)

    def residence(available, **runtime):
        monkeypatch.setattr(feeding, "available_memory", lambda: available)
        # A set of its own: what was decided for a set holds for all its cells.
        return Feed(open_set(small_set.path), CONFIG, mesh, RuntimeConfig(**runtime)).residence

    assert residence(8 * 75 * clip) == "memory"
    assert residence(8 * 75 * clip - 1) == "disk"
    assert residence(75 * clip, resident="yes") == "memory"
    assert residence(8 * 75 * clip, resident="no") == "disk"
    assert residence(8 * 75 * clip, read_workers=1) == "disk"
    with pytest.raises(UserError, match=r"resident yes: .* takes 0\.0027 GB, and 0\.0027 GB are"):
        residence(75 * clip - 1, resident="yes")
    # Only the clips that are used count.
    few = dataclasses.replace(CONFIG, max_examples=8, clip_seconds=2.5)
    monkeypatch.setattr(feeding, "available_memory", lambda: 8 * 35 * (2 * 96 * 118 + 55))
    assert Feed(open_set(small_set.path), few, mesh).residence == "memory"


def test_a_set_is_kept_on_accelerators_with_room(small_set, monkeypatch):
    """As on GPUs; this machine has none."""
    mesh = batch_mesh(8)
    needed = 75 * (2 * 96 * small_set.mel.frames + len(small_set.tag_names))
    monkeypatch.setattr(feeding, "is_cpu", lambda mesh: False)

    def residence(free, step_bytes=0):
        monkeypatch.setattr(feeding, "_free_memory", lambda device: free)
        return Feed(open_set(small_set.path), CONFIG, mesh, step_bytes=step_bytes).residence

    assert residence(2 * needed) == "devices"
    assert residence(2 * needed - 1) == "memory"
    # What a step needs is left for it.
    assert residence(2 * needed, step_bytes=1) == "memory"
    assert residence(2 * needed + 1000, step_bytes=1000) == "devices"


def test_evaluations_are_large_on_accelerators_but_not_beyond_what_training_takes(monkeypatch):
    mesh = batch_mesh(1)
    sizes = {}
    for on_cpu in (True, False):
        monkeypatch.setattr(feeding, "is_cpu", lambda mesh, on_cpu=on_cpu: on_cpu)
        sizes[on_cpu] = [
            feeding.evaluation_batch_size(TrainConfig(batch_size=size), mesh)
            for size in (4, 16, 32, 100)
        ]
    assert sizes == {True: [4, 16, 32, 100], False: [16, 64, 64, 100]}


def test_a_run_is_the_same_wherever_the_clips_are(network, small_set, tmp_path, monkeypatch):
    """Also with the programs that are compiled for the batches' layout beforehand."""
    runs = {}
    for residence in ("disk", "memory", "devices"):
        monkeypatch.setattr(feeding, "choose_residence", lambda *args, to=residence: to)
        for count in (1, 3):
            runtime = RuntimeConfig(steps_per_dispatch=count)
            folder = tmp_path / f"{residence}{count}"
            runs[residence, count], _ = run(network, small_set, folder, runtime=runtime)
    for (residence, count), fitted in runs.items():
        assert numbers(fitted) == numbers(runs["disk", count]), residence


def test_reading_by_processes_and_keeping_in_memory_exclude_each_other():
    with pytest.raises(UserError, match="read_workers 2: .*resident"):
        RuntimeConfig(resident="yes", read_workers=2)


def test_steps_are_the_same_however_many_are_dispatched_at_once(network, small_set, tmp_path):
    """Six steps an epoch: one dispatch of four, and two of one."""
    steps, runs = {}, {}
    for count in (1, 4):
        steps[count] = []
        runs[count], _ = run(
            network,
            small_set,
            tmp_path / str(count),
            on_step=lambda *step, to=steps[count]: to.append(step),
            runtime=RuntimeConfig(steps_per_dispatch=count),
        )
    one, four = steps[1], steps[4]
    assert [step[:3] for step in four] == [step[:3] for step in one]
    np.testing.assert_allclose([s[3] for s in four], [s[3] for s in one], rtol=1e-5)
    histories = [numbers(runs[count])[0] for count in (1, 4)]
    for ours, expected in zip(*histories, strict=True):
        assert (ours.epoch, ours.step) == (expected.epoch, expected.step)
        assert ours.loss == pytest.approx(expected.loss, rel=1e-5)
        assert ours.valid_auc == pytest.approx(expected.valid_auc, abs=1e-2)
    assert runs[4].progress.seconds["compile"] > 0


def test_a_run_stopped_between_dispatches_goes_on(network, small_set, tmp_path):
    from crnn_jax.signals import Terminated

    runtime = RuntimeConfig(steps_per_dispatch=2)
    whole, _ = run(network, small_set, tmp_path / "whole", runtime=runtime)
    seen = []
    with pytest.raises(Terminated):
        run(
            network,
            small_set,
            tmp_path / "stopped",
            on_step=lambda *step: seen.append(step),
            runtime=runtime,
            stop_requested=lambda: len(seen) >= 7,
        )
    resumed, _ = run(network, small_set, tmp_path / "stopped", runtime=runtime)
    assert numbers(resumed) == numbers(whole)


@pytest.mark.parametrize(("per_dispatch", "fetches"), [(1, 6), (2, 3), (6, 1)])
def test_the_host_fetches_once_a_dispatch_and_once_an_evaluation(
    network, small_set, tmp_path, monkeypatch, per_dispatch, fetches
):
    count, elsewhere = [], []
    device_get = jax.device_get
    inside = []

    def counting_get(tree):
        count.append(1)
        inside.append(1)
        try:
            return device_get(tree)
        finally:
            inside.pop()

    def counting_value(array):
        # What `float`, `bool`, NumPy and printing ask for.
        if not inside:
            elsewhere.append(array.shape)
        return value.fget(array)

    def quiet_save(self):
        inside.append(1)
        try:
            save(self)
        finally:
            inside.pop()

    value, save = ArrayImpl._value, training_run.TrainingRun.save
    monkeypatch.setattr(ArrayImpl, "_value", property(counting_value))
    monkeypatch.setattr(training_run.TrainingRun, "save", quiet_save)
    monkeypatch.setattr(jax, "device_get", counting_get)
    # Each epoch's steps and its score; at the end two scores of the best parameters.
    run(
        network,
        small_set,
        tmp_path,
        runtime=RuntimeConfig(steps_per_dispatch=per_dispatch, checkpoint_seconds=1e6),
    )
    assert len(count) == CONFIG.epochs * (fetches + 1) + 2
    assert elsewhere == []


@given(step_s=st.floats(1e-6, 1.0))
def test_steps_per_dispatch_follow_the_steps_time(step_s):
    count = choose_steps(step_s)
    assert count >= 1
    assert (count == 1) or step_s <= LONG_STEP_S
    if count > 1:
        assert count * step_s <= DISPATCH_S + step_s


def test_pace_is_chosen_by_the_steps_after_the_first():
    # Also short epochs, and those that are not much longer than a dispatch.
    for n_steps, expected in ((100, 25), (20, 20), (30, 15)):
        pace = Pace(n_steps)
        for number in range(WARM_UP + MEASURED):
            assert pace.next_steps(n_steps) == 1
            pace.observe(1.0 if number < WARM_UP else 0.001)
        assert pace.next_steps(n_steps) == pace.next_steps(expected) == expected
        # What is left of an epoch is taken step by step: another number would be compiled anew.
        assert pace.next_steps(expected - 1) == 1


@given(st.integers(1, 64), st.integers(1, 200), st.booleans())
def test_an_epoch_takes_few_dispatches(chosen, n_steps, fixed):
    pace = Pace(n_steps, chosen if fixed else fit_epoch(chosen, n_steps))
    remaining, dispatches = n_steps, []
    while remaining:
        dispatches.append(pace.next_steps(remaining))
        remaining -= dispatches[-1]
    assert sum(dispatches) == n_steps
    assert len(set(dispatches) - {1}) <= 1
    assert max(dispatches) <= chosen
    if not fixed:
        others = (n_steps // k + n_steps % k for k in range(1, min(chosen, n_steps) + 1))
        assert len(dispatches) == min(others)
