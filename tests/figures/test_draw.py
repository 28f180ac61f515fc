"""All figures of a sweep: the same bytes every time, and errors in one line."""

import os
import subprocess
import sys

import matplotlib
import pytest
from etils import epath

from crnn_jax.errors import UserError
from crnn_jax.figures.draw import draw
from tests.tables import assert_one_line, make_results, write_csv


def test_draw_writes_every_figure_twice_and_leaves_nothing_else(drawn_sweep):
    folder, figures = drawn_sweep
    names = ("auc_against_parameters", "auc_against_training_time", "per_tag_auc_100000")
    assert figures.keys() == {f"{name}.{suffix}" for name in names for suffix in ("png", "svg")}
    assert {path.name for path in (folder / "figures").iterdir()} == figures.keys()
    for name, content in figures.items():
        assert content.startswith(b"<?xml" if name.endswith("svg") else b"\x89PNG")
        assert (b"<dc:date>" if name.endswith("svg") else b"Software") not in content


def test_a_redraw_gives_the_same_bytes_whatever_the_user_s_own_style(drawn_sweep):
    folder, figures = drawn_sweep
    own = {"lines.linewidth": 9, "font.family": "monospace", "xtick.direction": "in"}
    with matplotlib.rc_context(own):
        paths = draw(str(folder))
    assert all(isinstance(path, epath.Path) for path in paths)
    assert {path.name: path.read_bytes() for path in paths} == figures


def test_another_process_draws_the_same_bytes_without_jax_or_pyplot(drawn_sweep):
    folder, figures = drawn_sweep
    program = (
        "import sys; from crnn_jax.figures.draw import draw; draw(sys.argv[1]);"
        "assert not {'jax', 'matplotlib.pyplot'} & sys.modules.keys()"
    )
    environment = os.environ | {"PYTHONHASHSEED": "123", "SOURCE_DATE_EPOCH": "0"}
    subprocess.run([sys.executable, "-c", program, str(folder)], check=True, env=environment)
    assert {path.name: path.read_bytes() for path in (folder / "figures").iterdir()} == figures


def test_a_sweep_without_any_auc_is_an_error_not_an_empty_figure(sweep):
    write_csv(sweep / "results.csv", make_results().assign(test_auc=None))
    with pytest.raises(UserError) as error:
        draw(sweep)
    assert_one_line(error, str(sweep / "results.csv"), "no run has a test_auc")


def test_a_folder_that_cannot_be_written_to_is_named(sweep):
    (sweep / "figures").write_text("a file where the folder belongs", encoding="utf-8")
    with pytest.raises(UserError) as error:
        draw(sweep)
    assert_one_line(error, str(sweep / "figures"), "can be written to")
