"""The figure of the study of training time has the same canvas as the others."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from etils import epath

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
def rows(study):
    return study.read_rows(epath.Path(ROOT / "results" / "training_time" / "training_time.csv"))


def test_committed_times_are_drawn(study, rows):
    times, ratios = study.draw(rows).axes
    assert len(lines(times)) == len(lines(ratios)) - 1 == 6
    for arch, name in (("conv1d", "Conv1D"), ("crnn", "CRNN")):
        line = lines(times)[f"{name}, batch 8"]
        cells = [row for row in rows if (row["arch"], row["batch"]) == (arch, "8")]
        np.testing.assert_array_equal(
            np.sort(line.get_xdata()), sorted(int(row["params"]) for row in cells)
        )
        np.testing.assert_allclose(
            np.sort(line.get_ydata()), sorted(float(row["step_s"]) / 8 * 1e3 for row in cells)
        )


def test_an_architecture_without_a_look_is_drawn(study, rows):
    figure = study.draw([*rows, *({**row, "arch": "mynet"} for row in rows[:3])])
    assert "mynet, batch 8" in lines(figure.axes[0])
    assert "mynet" in legend_texts(figure)
