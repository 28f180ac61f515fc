"""Cells as tasks of a real Ray cluster on this machine: a killed worker, a killed driver."""

import csv
import importlib.util
import json
import os
import subprocess
import sys

import psutil
import pytest
from etils import epath

from crnn_jax.study.status import StatusReader
from tests.commands import finish, kill, numbers, parameters, snapshots, wait_until

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None, reason="Ray is not installed (the extra `ray`)"
    ),
]
FLAGS = ("--executor", "ray", "--resources", '{"CPU": 1}')
CELLS = [f"conv1d-4000-uniform-seed{seed}" for seed in range(3)]


def workers(driver):
    """Processes that run a cell."""
    found = []
    for process in psutil.Process(driver.pid).children(recursive=True):
        try:
            if process.name().startswith("ray::run_remot") and process.status() != "zombie":
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


# Ray has one for a cluster that it starts, and asks for it whoever joins.
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "of the tests' cluster"}
CLUSTER = """
import json, logging, os, ray, sys
from crnn_jax.study.executors import ray as executors

def variables():
    names = "CUDA_VISIBLE_DEVICES", "JAX_PLATFORMS", *executors.MEMORY_FRACTION
    return {name: os.environ[name] for name in names if name in os.environ}

here = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
context = ray.init(address="local", num_cpus=1, num_gpus=2, **here)
print(context.address_info["address"], flush=True)
for line in sys.stdin:
    wanted, environment = json.loads(line)
    task = executors.as_task(variables, wanted, ray.cluster_resources(), environment)
    print(json.dumps(ray.get(task.remote(), timeout=60)), flush=True)
"""


@pytest.fixture(scope="module")
def cluster():
    """A cluster that claims two GPUs, and a function that returns a task's variables there."""
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **TOKEN},
        text=True,
    ) as process:
        address = process.stdout.readline().strip()

        def variables(*task):
            print(json.dumps(task), file=process.stdin, flush=True)
            return json.loads(process.stdout.readline())

        yield address, variables
        process.stdin.close()


OLD_NAME = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.3"}


@pytest.mark.parametrize(
    ("wanted", "environment", "expected"),
    [
        ({"CPU": 1}, {}, {"JAX_PLATFORMS": "cpu"}),
        ({"CPU": 1, "GPU": 0}, {}, {"JAX_PLATFORMS": "cpu"}),
        ({}, {"JAX_PLATFORMS": "cuda,cpu"}, {"JAX_PLATFORMS": "cuda,cpu"}),
        ({"GPU": 1}, OLD_NAME, {"CUDA_VISIBLE_DEVICES": "0"}),
        ({"GPU": 2}, {}, {"CUDA_VISIBLE_DEVICES": "0,1"}),
        ({"GPU": 0.5}, {}, {"CUDA_VISIBLE_DEVICES": "0", "XLA_CLIENT_MEM_FRACTION": "0.45"}),
        # JAX refuses the new name beside the old one.
        ({"GPU": 0.5}, OLD_NAME, {"CUDA_VISIBLE_DEVICES": "0", **OLD_NAME}),
    ],
)
def test_what_a_task_is_told_of_its_devices(cluster, wanted, environment, expected):
    _, variables = cluster
    assert variables(wanted, environment) == expected


def test_gpus_that_nobody_asks_for(commands, cluster, tmp_path):
    address, _ = cluster
    flags = ("--executor", "ray", "--address", address)
    code, out, err = finish(commands.start(tmp_path, *flags, environment=TOKEN))
    assert code == 0, err
    assert f"{CELLS[0]}: test AUC" in out
    assert err == (
        "crnn-jax: --resources: a cell requests no GPU, although the cluster has 2, and is trained "
        'on a CPU; give --resources \'{"CPU": 1, "GPU": 1}\'\n'
    )


def test_a_worker_and_the_driver_are_killed(commands, swept_by_two, tmp_path):
    driver = commands.start(tmp_path, *FLAGS, seeds=3)
    wait_until(lambda: sum(len(snapshots(tmp_path / cell)) > 0 for cell in CELLS) >= 1, driver)
    workers(driver)[0].kill()
    before = {cell: snapshots(tmp_path / cell) for cell in CELLS}
    wait_until(lambda: {c: snapshots(tmp_path / c) for c in CELLS} != before, driver)
    kill(driver)

    driver = commands.start(tmp_path, *FLAGS, seeds=3)
    # Who watches sees which worker has which cell.
    reader = StatusReader(epath.Path(tmp_path))

    def is_seen():
        pids = {worker.pid for worker in workers(driver)}
        beats = (cell.heartbeat for cell in reader.read().cells)
        return any(beat is not None and beat.pid in pids for beat in beats)

    wait_until(is_seen, driver)
    wait_until(lambda: workers(driver), driver)
    workers(driver)[0].kill()
    code, out, err = finish(driver)
    assert code == 0, err
    assert reader.read().is_over
    for cell in CELLS:
        assert f"{cell}: test AUC" in out or f"{cell}: already finished" in out
        assert numbers(tmp_path / cell) == numbers(swept_by_two[0] / cell)
        assert list(parameters(tmp_path / cell)) == list(parameters(swept_by_two[0] / cell))
    with (tmp_path / "results.csv").open() as file:
        assert sorted(row["seed"] for row in csv.DictReader(file)) == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--resources", "GPU"), "--resources GPU: not a JSON object"),
        (("--resources", '{"CPU": "two"}'), '--resources {"CPU": "two"}: CPU is not a number'),
        (("--resources", '{"cpu": 1}'), '--resources {"cpu": 1}: `cpu` is not a resource name'),
        (("--resources", '{"GPU": NaN}'), '--resources {"GPU": NaN}: GPU is not a number'),
        (("--resources", '{"GPU": 1.5}'), '--resources {"GPU": 1.5}: more than one GPU, but not'),
        (("--resources", '{"GPU": 1e-5}'), '--resources {"GPU": 1e-5}: GPU has more than four'),
        (("--address", "nowhere"), "--address nowhere: no Ray cluster there"),
    ],
)
def test_mistakes_in_the_flags(commands, tmp_path, flags, message):
    code, _, err = finish(commands.start(tmp_path, "--executor", "ray", *flags))
    assert code == 2
    assert err.startswith(f"crnn-jax: {message}")
    assert err.count("\n") == 1


def test_no_token_where_one_is_asked_for(commands, tmp_path):
    environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(tmp_path / "none")}
    flags = ("--executor", "ray", "--address", "localhost:9")
    code, _, err = finish(commands.start(tmp_path, *flags, environment=environment))
    assert code == 2
    assert err.startswith("crnn-jax: --address localhost:9: no Ray cluster there (")
    assert "RAY_AUTH_MODE=token and put the token in ~/.ray/auth_token" in err
    assert err.count("\n") == 1
