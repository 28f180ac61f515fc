"""The study of training time: its figure, and the table with which it goes on."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from etils import epath

from crnn_jax.config import BenchmarkConfig
from tests.figures.artists import legend_texts, lines

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def study():
    specification = importlib.util.spec_from_file_location(
        "training_time", ROOT / "experiments" / "training_time.py"
    )
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def table(study):
    return study.read_table(epath.Path(ROOT / "results" / "training_time" / "training_time.csv"))


def test_committed_times_are_drawn(study, table):
    times, ratios = study.draw(table).axes
    looks = table[["arch", "batch"]].drop_duplicates()
    assert len(lines(times)) == len(lines(ratios)) - 1 == len(looks) > 0
    for arch, name in (("conv1d", "Conv1D"), ("crnn", "CRNN")):
        batch = table["batch"].max()
        line = lines(times)[f"{name}, batch {batch}"]
        cells = table[(table["arch"] == arch) & (table["batch"] == batch)]
        np.testing.assert_array_equal(np.sort(line.get_xdata()), np.sort(cells["params"]))
        np.testing.assert_allclose(
            np.sort(line.get_ydata()), np.sort(cells["step_s"]) / batch * 1e3
        )


def test_an_architecture_without_a_look_is_drawn(study, table):
    mine = table[:3].assign(arch="mynet")
    figure = study.draw(pd.concat([table, mine]))
    assert f"mynet, batch {mine['batch'].iloc[0]}" in lines(figure.axes[0])
    assert "mynet" in legend_texts(figure)


def test_ratios_are_drawn_where_all_cells_have_one(study, table):
    ratios = table["torch_float32_step_ratio"].where(table.index > 0)
    assert len(study.draw(table.assign(torch_float32_step_ratio=ratios)).axes) == 1


def test_cells_that_are_timed_are_known(study, table):
    arch, target, batch = table.loc[0, ["arch", "target", "batch"]]
    assert study.is_timed(table, BenchmarkConfig(arch, target, batch=batch))
    for other in (
        BenchmarkConfig(arch, target + 1, batch=batch),
        BenchmarkConfig(arch, target, "sqrt", batch=batch),
        BenchmarkConfig(arch, target, batch=batch, clip_seconds=8.0),
    ):
        assert not study.is_timed(table, other)
    with_torch = BenchmarkConfig(arch, target, batch=batch, against="torch")
    assert study.is_timed(table, with_torch)
    without = table.drop(columns=study.RATIO)
    assert study.is_timed(without, BenchmarkConfig(arch, target, batch=batch))
    assert not study.is_timed(without, with_torch)
    assert not study.is_timed(table.assign(**{study.RATIO: float("nan")}), with_torch)
    assert not study.is_timed(study.read_table(epath.Path("missing")), BenchmarkConfig(arch))


@pytest.mark.parametrize(
    ("damaged", "problem"),
    [
        (b"arch,rule\nconv1d,uniform\n", "lacks the column target, params"),
        (
            b"arch,rule,target,params\nconv1d,uniform,1,1\n",
            "lacks the column batch, precision, frames",
        ),
        (b"\xff\xfe\x00", "not UTF-8 text"),
        (b"", "holds no rows"),
    ],
)
def test_a_damaged_table_is_one_line_and_is_kept(damaged, problem, tmp_path):
    table = tmp_path / "training_time.csv"
    table.write_bytes(damaged)
    process = subprocess.run(
        [sys.executable, ROOT / "experiments" / "training_time.py", "--out", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr.startswith(f"crnn-jax: {table}: {problem}")
    assert process.stderr.count("\n") == 1
    assert table.read_bytes() == damaged
