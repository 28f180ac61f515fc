"""Eight devices and one give the same training curve; a CPU is as many devices as it has cores."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping

import jax
import joblib
import pytest
from etils import epath
from hypothesis import given
from hypothesis import strategies as st

from crnn_jax.study.evaluation import evaluate, load_network
from crnn_jax.train.devices import largest_divisor
from tests.commands import CELL, finish, history, numbers

# Scores that are equal but for rounding may change places: one pair, of at least 8 of a tag, of at
# least 20 tags.
ONE_PAIR = 1 / 8 / 20

EIGHT = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}


def test_eight_devices_train_as_one(commands, tmp_path):
    """Initial values, dropout masks and batch statistics included: all of them move the loss."""
    runs = []
    for devices, environment in ((1, {}), (8, EIGHT)):
        out = tmp_path / str(devices)
        flags = ("--checkpoint-seconds", 600)
        code, _, err = finish(commands.start(out, *flags, devices=devices, environment=environment))
        assert code == 0, err
        runs.append(out / CELL)
    one, eight = map(history, runs)
    assert len(one) == len(eight) == 3
    for alone, shared in zip(one, eight, strict=True):
        assert shared["loss"] == pytest.approx(alone["loss"], abs=1e-5)
        assert shared["valid_auc"] == pytest.approx(alone["valid_auc"], abs=ONE_PAIR)
    # This process has one device, and reads what eight have trained.
    (jax_device,) = jax.devices()
    network = load_network(epath.Path(runs[1]))
    for leaf in jax.tree.leaves(network.variables):
        assert leaf.devices() == {jax_device}
    scores = evaluate(network, "test", None)
    assert scores.auc == pytest.approx(numbers(runs[1])["test_auc"], abs=1e-5)


def test_a_batch_that_eight_devices_do_not_divide(commands, tmp_path):
    code, _, err = finish(
        commands.start(tmp_path, "--batch-size", 12, devices=None, environment=EIGHT)
    )
    assert (code, err) == (
        2,
        "crnn-jax: --batch-size 12: not a multiple of 8, the number of devices; give 8 or 16\n",
    )
    # The corrected command may have the folder.
    assert not (tmp_path / CELL).exists()


COUNT = """
import os, sys
cores = sorted(os.sched_getaffinity(0))
os.sched_setaffinity(0, cores[: int(sys.argv[3])])
from crnn_jax.train.devices import batch_mesh, use_cores
use_cores(*eval(sys.argv[1]))
print(batch_mesh(*eval(sys.argv[2])).size)
"""


def count_devices(
    made: tuple[int | None, ...] = (),
    used: tuple[int | None, ...] = (),
    environment: Mapping[str, str] | None = None,
    cores: int = 1000,
) -> str:
    """Devices in the mesh of a new process limited to `cores`, or the last line of its error."""
    process = subprocess.run(
        [sys.executable, "-c", COUNT, repr(made), repr(used), str(cores)],
        env={**os.environ, "JAX_PLATFORMS": "cpu", **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    return (process.stdout or process.stderr).strip().splitlines()[-1]


def test_a_cpu_is_as_many_devices_as_the_process_may_use_cores():
    assert count_devices() == str(joblib.cpu_count())
    assert count_devices(cores=1) == "1"
    # A task of a cluster that has requested three.
    assert count_devices(made=(None, 3)) == "3"


@pytest.mark.parametrize(
    ("batch_size", "size"), [(12, "6"), (16, "4"), (7, "7"), (11, "1"), (1, "1")]
)
def test_as_many_of_them_are_used_as_divide_the_batch(batch_size, size):
    assert count_devices(made=(7,), used=(batch_size,)) == size


def test_the_number_of_devices_is_the_users():
    assert count_devices(made=(3,), used=(12, 3)) == "3"
    assert count_devices(made=(3,), used=(12, 2)) == "2"
    assert count_devices(made=(3,), used=(10, 3)).endswith(
        "batch_size 10: not a multiple of 3, the number of devices; give 9 or 12"
    )
    # What is set in the environment is kept.
    assert count_devices(environment=EIGHT) == "8"
    assert count_devices(made=(3,), environment=EIGHT) == "8"
    assert count_devices(environment={"JAX_NUM_CPU_DEVICES": "5"}) == "5"
    assert count_devices(made=(9,), used=(18, 9), environment=EIGHT).endswith(
        "devices 9: JAX has 8; give at most that"
    )


@pytest.mark.parametrize("platforms", ["gpus", "rocm", "gpus,cpu"])
def test_platforms_that_are_not_here(platforms):
    """One that nobody knows, and one whose plug-in is not installed."""
    assert count_devices(environment={"JAX_PLATFORMS": platforms}) == (
        f"crnn_jax.errors.UserError: JAX_PLATFORMS={platforms}: JAX finds no such devices; unset "
        f"it, set it to cpu, or install JAX for them"
    )


@given(number=st.integers(1, 500), limit=st.integers(1, 300))
def test_the_largest_divisor(number, limit):
    found = largest_divisor(number, limit)
    assert number % found == 0
    assert 1 <= found <= limit
    assert not any(number % n == 0 for n in range(found + 1, min(number, limit) + 1))


def test_a_run_uses_every_core_and_says_so(commands, tmp_path):
    code, _, err = finish(commands.start(tmp_path, devices=None))
    assert code == 0, err
    result = json.loads((tmp_path / CELL / "result.json").read_text())
    assert result["device_count"] == largest_divisor(8, joblib.cpu_count())

    count = (
        "import sys; from crnn_jax import api; print(api.load_run(sys.argv[1]).tagger.mesh.size)"
    )
    process = subprocess.run(
        [sys.executable, "-c", count, tmp_path / CELL], capture_output=True, text=True, check=True
    )
    assert process.stdout == f"{joblib.cpu_count()}\n"


def test_bfloat16_is_refused_where_it_is_slower(commands, tmp_path):
    code, _, err = finish(commands.start(tmp_path, "--precision", "bfloat16"))
    assert (code, err) == (
        2,
        "crnn-jax: --precision bfloat16: on a CPU a step takes longer with it than with float32; "
        "leave it out, or train on a GPU or TPU\n",
    )
    assert not (tmp_path / CELL).exists()
