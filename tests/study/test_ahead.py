"""Between cells: what is compiled once is not compiled again, by whichever thread it was."""

import contextlib
import dataclasses
import itertools
import logging
import threading

import jax
import pytest
from etils import epath

from crnn_jax.study import ahead, events, runs
from crnn_jax.study.sweep import sweep
from crnn_jax.train import parallel
from tests.conftest import STUDY


@pytest.mark.parametrize("started", [True, False])
def test_a_cell_that_another_process_holds_is_passed_over(
    small_set, tmp_path, monkeypatch, started
):
    """Nothing is compiled before the cell's own training has begun here."""
    compiled = []
    monkeypatch.setattr(ahead, "has_free_cores", lambda: True)
    monkeypatch.setattr(ahead, "compile_job", lambda job: compiled.append(job.cell.name))
    cells, out = study(targets=(4_000, 5_000)), epath.Path(tmp_path / "out")
    (tmp_path / "out" / ".locks").mkdir(parents=True)
    held = contextlib.nullcontext() if started else runs.hold(out / "conv1d-4000-uniform-seed0")
    with held:
        sweep(cells, small_set, out)
    assert compiled == (["conv1d-5000-uniform-seed0"] if started else [])


@pytest.fixture
def compilations(tmp_path, caplog):
    """What is compiled and not found in a cache of the test's own: (cell, thread, program)."""
    compiled = []
    current = ["before"]

    class Compiled(logging.Handler):
        def emit(self, record):
            words = record.getMessage()
            if words.startswith("PERSISTENT COMPILATION CACHE MISS for"):
                in_main = threading.current_thread() is threading.main_thread()
                compiled.append((current[0], in_main, words.split("'")[1]))

    def follow(event):
        if isinstance(event, events.CellStarted):
            current[0] = event.cell.name

    before = jax.config.jax_compilation_cache_dir
    parallel.keep_compiled(tmp_path / "compiled")
    # What this process has compiled before would not be compiled again.
    jax.clear_caches()
    handler = Compiled()
    logger = logging.getLogger("jax._src.compiler")
    with caplog.at_level(logging.DEBUG, logger.name):
        logger.addHandler(handler)
        yield compiled, follow
        logger.removeHandler(handler)
    parallel.keep_compiled(before)


# The initial parameters and a prediction, and a training step; everything else is tiny.
PROGRAMS = {"jit__lambda", "jit_train_step"}


def study(**changes):
    return dataclasses.replace(STUDY, archs=("conv1d",), **changes)


def test_seeds_share_what_is_compiled(small_set, compilations, tmp_path):
    compiled, follow = compilations
    cells = study(seeds=(0, 1, 2**31))
    assert sweep(cells, small_set, epath.Path(tmp_path / "out"), on_event=follow) == []
    assert compiled
    assert {cell for cell, _, _ in compiled} == {"conv1d-4000-uniform-seed0"}


def test_the_next_cell_is_compiled_meanwhile(small_set, compilations, tmp_path, monkeypatch):
    """As on a GPU's host; this machine's one device is a CPU, where it is not worth it."""
    assert not ahead.has_free_cores()
    monkeypatch.setattr(ahead, "has_free_cores", lambda: True)
    compiled, follow = compilations
    cells = study(targets=(4_000, 5_000, 6_000))
    assert sweep(cells, small_set, epath.Path(tmp_path / "out"), on_event=follow) == []
    first, *others = (f"conv1d-{target}-uniform-seed0" for target in cells.targets)
    programs = {
        (cell, in_main): {p for c, m, p in compiled if (c, m) == (cell, in_main)} & PROGRAMS
        for cell, in_main in itertools.product([first, *others], [True, False])
    }
    # While the first two train, the two others are compiled.
    assert programs[first, True] == programs[first, False] == programs[others[0], False] == PROGRAMS
    assert programs[others[0], True] == programs[others[1], True] == set()
