"""Cells as tasks of a real Ray cluster on this machine: a killed worker, a killed driver."""

import csv
import importlib.util

import psutil
import pytest

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


def test_a_worker_and_the_driver_are_killed(commands, swept_by_two, tmp_path):
    driver = commands.start(tmp_path, *FLAGS, seeds=3)
    wait_until(lambda: sum(len(snapshots(tmp_path / cell)) > 0 for cell in CELLS) >= 1, driver)
    workers(driver)[0].kill()
    before = {cell: snapshots(tmp_path / cell) for cell in CELLS}
    wait_until(lambda: {c: snapshots(tmp_path / c) for c in CELLS} != before, driver)
    kill(driver)

    driver = commands.start(tmp_path, *FLAGS, seeds=3)
    wait_until(lambda: workers(driver), driver)
    workers(driver)[0].kill()
    code, out, err = finish(driver)
    assert code == 0, err
    for cell in CELLS:
        assert f"{cell}: test AUC" in out or f"{cell}: finished before" in out
        assert numbers(tmp_path / cell) == numbers(swept_by_two[0] / cell)
        assert list(parameters(tmp_path / cell)) == list(parameters(swept_by_two[0] / cell))
    with (tmp_path / "results.csv").open() as file:
        assert sorted(row["seed"] for row in csv.DictReader(file)) == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--resources", "GPU"), "--resources GPU: not a JSON object"),
        (("--resources", '{"CPU": "two"}'), '--resources {"CPU": "two"}: CPU is not a number'),
        (("--resources", '{"cpu": 1}'), '--resources {"cpu": 1}: `cpu` is no name'),
        (("--address", "nowhere"), "--address nowhere: no Ray cluster there"),
    ],
)
def test_mistakes_in_the_flags(commands, tmp_path, flags, message):
    code, _, err = finish(commands.start(tmp_path, "--executor", "ray", *flags))
    assert code == 2
    assert err.startswith(f"crnn-jax: {message}")
    assert err.count("\n") == 1
