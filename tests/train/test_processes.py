"""Two processes that train together are one with two devices; the death of one is reported."""

import signal
import time

import numpy as np
import pytest

from tests.commands import CELL, finish, free_port, history, kill, numbers, snapshots, wait_until

# Several processes that wait for each other take minutes: `make test-cluster`.
pytestmark = pytest.mark.cluster


def start_two(commands, out, devices=(1, 1), *more):
    address = f"127.0.0.1:{free_port()}"
    flags = ("--coordinator-address", address, "--num-processes", 2, "--heartbeat-seconds", 20)
    return [
        commands.start(out, *flags, *more, "--process-id", process, devices=count)
        for process, count in enumerate(devices)
    ]


@pytest.fixture(scope="module")
def one_process(commands, tmp_path_factory):
    """A run of one process with two devices."""
    out = tmp_path_factory.mktemp("one_process")
    code, _, err = finish(commands.start(out, devices=2))
    assert code == 0, err
    return out / CELL


def check_same(run, one_process):
    """The same but for rounding, which may exchange the ranks of clips that are nearly tied."""
    assert len(history(run)) == 3
    for here, there in zip(history(run), history(one_process), strict=True):
        assert here["loss"] == pytest.approx(there["loss"], abs=1e-6)
        assert here["valid_auc"] == pytest.approx(there["valid_auc"], abs=0.004)
    with (
        np.load(run / "predictions-test.npz") as here,
        np.load(one_process / "predictions-test.npz") as there,
    ):
        # Two neighbours in float16 differ by up to a thousandth of their size.
        np.testing.assert_allclose(here["logits"], there["logits"], rtol=1e-3, atol=3e-4)
        np.testing.assert_array_equal(here["targets"], there["targets"])
    here, there = numbers(run), numbers(one_process)
    assert here["test_bce"] == pytest.approx(there["test_bce"], abs=1e-5)
    # Of two pairs of clips, for a tag with one positive among 18.
    for key, two_pairs in {"valid_auc": 0.004, "test_auc": 0.004, "test_ap": 0.032}.items():
        assert here[key] == pytest.approx(there[key], abs=two_pairs)
    assert (here["widths"], here["n_test"]) == (there["widths"], there["n_test"])


def test_one_of_two_is_killed_and_both_go_on(commands, one_process, tmp_path):
    first, second = start_two(commands, tmp_path)
    wait_until(lambda: len(snapshots(tmp_path / CELL)) >= 2, first)
    kill(second)
    start = time.monotonic()
    code, _, err = finish(first)
    assert time.monotonic() - start < 120
    assert code != 0
    assert "cannot continue with the others" in err or "another task died" in err
    assert not (tmp_path / CELL / "result.json").exists()
    assert not (tmp_path / CELL / "failed.json").exists()

    both = [finish(process) for process in start_two(commands, tmp_path)]
    assert [code for code, _, _ in both] == [0, 0], both
    # The first one reports for both.
    assert [f"{CELL}: test AUC" in said for _, said, _ in both] == [True, False]
    check_same(tmp_path / CELL, one_process)


def test_one_of_two_is_terminated_and_both_stop(commands, one_process, tmp_path):
    first, second = start_two(commands, tmp_path)
    wait_until(lambda: len(snapshots(tmp_path / CELL)) >= 2, first)
    second.send_signal(signal.SIGTERM)
    assert [finish(process)[0] for process in (first, second)] == [143, 143]
    assert [finish(process)[0] for process in start_two(commands, tmp_path)] == [0, 0]
    check_same(tmp_path / CELL, one_process)


def test_two_processes_of_two_devices_are_one_of_four(commands, tmp_path):
    """Each batch is divided twice; with several steps a dispatch, along its second axis."""
    code, _, err = finish(commands.start(tmp_path / "one", devices=4))
    assert code == 0, err
    flags = ("--steps-per-dispatch", 2)
    for process in start_two(commands, tmp_path / "two", (2, 2), *flags):
        code, _, err = finish(process)
        assert code == 0, err
    check_same(tmp_path / "two" / CELL, tmp_path / "one" / CELL)


def test_processes_with_different_numbers_of_devices(commands, tmp_path):
    for process in start_two(commands, tmp_path, (1, 2)):
        code, _, err = finish(process)
        assert code == 2
        assert err == (
            "crnn-jax: --local-device-ids: the processes have 1, 2 devices; give each the same "
            "number, with --devices on CPUs\n"
        )


def test_processes_that_nothing_names(commands, tmp_path):
    code, _, err = finish(commands.start(tmp_path, "--distributed"))
    assert code == 2
    assert err.startswith("crnn-jax: --distributed: ")
    assert "--coordinator-address HOST:PORT" in err
    assert err.count("\n") == 1
