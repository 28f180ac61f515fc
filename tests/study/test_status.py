"""How far a study is, seen from outside: real sweeps, killed and not."""

import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from etils import epath

from crnn_jax import api
from crnn_jax.config import HEARTBEAT_SECONDS, TrainConfig
from crnn_jax.study import heartbeat, manifest, runs
from crnn_jax.study.heartbeat import beating, read_heartbeat
from crnn_jax.study.manifest import Manifest, Origin, announce, read_manifest
from crnn_jax.study.schema import Cell
from crnn_jax.study.status import SILENT_AFTER, CellStatus, StatusReader, StudyStatus
from crnn_jax.study.sweep import sweep
from crnn_jax.train.events import EpochDone, RunBegun, StepDone
from crnn_jax.train.progress import EpochRecord
from tests.analysis.studies import make_split, write_run
from tests.commands import CELL, kill, wait_until
from tests.conftest import STUDY
from tests.study.test_trial import TRIED

CELLS = [Cell("conv1d", 4_000, "uniform", seed) for seed in range(3)]


@pytest.fixture
def out(tmp_path):
    return epath.Path(tmp_path)


def cell(name, state, seconds=None):
    return CellStatus(name, state, seconds=seconds)


def states(status):
    return {cell.name: cell.state for cell in status.cells}


def test_a_killed_sweep_runs_then_is_silent_then_finishes(commands, tmp_path):
    out = tmp_path / "out"
    reader = StatusReader(epath.Path(out))
    assert reader.read() is None
    process = commands.start(out, "--epochs", 2000, seeds=2)
    wait_until(lambda: (out / CELL / "metrics.jsonl").exists(), process)

    def beat():
        found = read_heartbeat(epath.Path(out / CELL))
        return found and found[0].samples_per_s and found[0].valid_auc

    wait_until(beat, process)
    cell, other = reader.read().cells
    assert (cell.name, cell.state, other.state) == (CELL, "running", "waiting")
    assert (cell.heartbeat.pid, cell.heartbeat.epochs) == (process.pid, 2000)
    assert cell.heartbeat.seconds_left > 0
    assert 0 < cell.auc < 1
    kill(process)
    # At once nobody can tell; later its silence does.
    assert states(reader.read())[CELL] == "running"
    later = reader.read(time.time() + SILENT_AFTER + 1)
    assert states(later)[CELL] == "stopped"
    lines = (out / CELL / "metrics.jsonl").read_text().splitlines()
    assert later.cells[0].auc == json.loads(lines[-1])["valid_auc"]
    assert later.seconds_left is None
    assert not later.is_over


@pytest.mark.parametrize("ahead", [-3600, 0, 3600], ids=["late", "right", "early"])
def test_a_server_with_another_clock_does_not_hide_who_is_alive(out, ahead):
    announce(out, Origin(), CELLS[:1])
    run = out / CELLS[0].name
    run.mkdir()
    beat = json.dumps({"host": "far", "pid": 1, "epochs": 2})

    def beat_at(time):
        (run / heartbeat.FILE).write_text(beat)
        os.utime(run / heartbeat.FILE, (time + ahead, time + ahead))

    reader, now = StatusReader(out), time.time()

    def state(seconds):
        return states(reader.read(now + seconds))[CELLS[0].name]

    beat_at(now)
    # From one look alone it cannot be told.
    if ahead >= 0:
        assert state(0) == "running"
    else:
        assert state(0) == "waiting"
    beat_at(now + 5)
    assert state(6) == "running"
    assert state(6 + SILENT_AFTER) == "running"
    # No other sign since.
    assert state(7 + SILENT_AFTER) == "waiting"
    beat_at(now + 100)
    assert state(101) == "running"


def test_a_terminated_sweep_leaves_no_sign_of_life(commands, tmp_path):
    process = commands.start(tmp_path, "--epochs", 2000)
    wait_until(lambda: (tmp_path / CELL / heartbeat.FILE).exists(), process)
    wait_until(lambda: (tmp_path / CELL / "metrics.jsonl").exists(), process)
    process.terminate()
    process.communicate(timeout=60)
    assert not (tmp_path / CELL / heartbeat.FILE).exists()
    assert states(StatusReader(epath.Path(tmp_path)).read()) == {CELL: "stopped"}


def test_a_finished_sweep_is_over(small_sweep):
    status = StatusReader(small_sweep.out).read()
    assert {cell.name: cell.auc for cell in status.cells} == {
        name: result.test_auc for name, result in small_sweep.log.finished.items()
    }
    assert status.is_over
    assert status.count("finished") == 3


def test_every_event_of_a_sweep_finds_its_cell_running(small_set, out):
    """The sign of life is there from the first event on, and gone when the cell is finished."""
    reader, seen = StatusReader(out), []

    def on_event(event):
        if (cell := getattr(event, "cell", None)) is not None:
            seen.append((type(event).__name__, states(reader.read())[cell.name]))

    study = dataclasses.replace(STUDY, archs=("conv1d",))
    assert sweep(study, small_set, out, on_event=on_event) == []
    assert set(seen) == {
        ("CellStarted", "waiting"), ("CellProgress", "running"), ("CellFinished", "finished")
    }  # fmt: skip


def test_a_study_with_a_trial_is_not_over_after_it(small_set, out):
    reader, over = StatusReader(out), []

    def on_event(event):
        status = reader.read()
        over.append((type(event).__name__, status.is_planned, status.is_over))

    command = Origin("crnn-jax sweep", "Which?")
    api.sweep(TRIED, out, data=small_set, on_event=on_event, origin=command)
    of_rates = [each[1:] for each in over if each[0] == "RatesChosen"]
    assert of_rates == [(False, False)]
    assert not any(is_over for *_, is_over in over[:-1])
    status = reader.read()
    assert status.is_over
    names = {cell.name for cell in status.cells}
    assert names == {str(path.parent.relative_to(out)) for path in Path(out).glob("**/result.json")}
    assert sum(name.startswith(f"{runs.TRIAL}/") for name in names) == 4
    assert read_manifest(out).command_lines == ("crnn-jax sweep",)


def test_a_failed_cell_says_why(out):
    announce(out, Origin(), CELLS[:1])
    runs.write_failure(out / CELLS[0].name, "diverged at step 3", "Traceback …")
    (cell,) = StatusReader(out).read().cells
    assert (cell.state, cell.error) == ("failed", "diverged at step 3")


def test_several_commands_add_to_one_study(out):
    def join(cell):
        announce(out, Origin(f"crnn-jax sweep --seeds {cell.seed}", "Which?"), [cell])

    threads = [threading.Thread(target=join, args=(cell,)) for cell in CELLS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    before = read_manifest(out)
    announce(out, Origin("crnn-jax sweep --seeds 0"))
    join(CELLS[1])
    assert read_manifest(out) == before
    assert sorted(before.cells) == [cell.name for cell in CELLS]
    assert sorted(before.command_lines) == [f"crnn-jax sweep --seeds {seed}" for seed in range(3)]
    assert before.question == "Which?"


def test_a_command_with_a_changed_grid_has_the_cells_of_the_last_one(out):
    """Else the study would wait for cells that nobody wants any more."""
    announce(out, Origin("crnn-jax sweep mine.py"), CELLS)
    announce(out, Origin("crnn-jax sweep other.py"), CELLS[1:2])
    announce(out, Origin("crnn-jax sweep mine.py"), CELLS[:1])
    assert set(states(StatusReader(out).read())) == {cell.name for cell in CELLS[:2]}


def test_calls_from_python_add_to_one_study(out):
    announce(out, Origin(), CELLS[:1])
    announce(out, Origin(), CELLS[2:])
    manifest = read_manifest(out)
    assert set(manifest.cells) == {CELLS[0].name, CELLS[2].name}
    assert manifest.command_lines == ()


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null", '{"commands": 3}', '{"commands": [1], "question": null}'),
        '{"commands": {"a": 1}, "question": null}',
    ],
)
def test_a_damaged_manifest_is_as_none(out, text):
    (out / manifest.FILE).write_text(text)
    assert read_manifest(out) is None
    announce(out, Origin("again"), CELLS[:1])
    assert read_manifest(out) == Manifest(None, {"again": (CELLS[0].name,)})


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"host": "a"}', '{"other": 3}'])
def test_a_damaged_sign_of_life_is_as_none(out, text):
    (out / heartbeat.FILE).write_text(text)
    assert read_heartbeat(out) is None


def test_a_folder_of_an_older_version_has_no_plan(out):
    write_run(out, CELLS[0], 1.0, make_split())
    status = StatusReader(out).read()
    assert states(status) == {CELLS[0].name: "finished"}
    assert (status.is_planned, status.is_over) == (False, False)


def test_speed_and_time_left_are_those_of_the_events(out):
    """Against a run whose steps of 10 clips take 20 ms, with pauses for its evaluations."""
    out.mkdir(parents=True, exist_ok=True)
    train = TrainConfig(epochs=4, batch_size=10)
    history, beats = (), []
    with beating(out, train, interval=0.05) as follow:
        for epoch in range(2):
            for step in range(1, 11):
                time.sleep(0.02)
                follow(StepDone(epoch, step, 10, 0.5, 1.0, 1e-3))
            time.sleep(0.2)
            beats.append(read_heartbeat(out)[0])
            history = (*history, EpochRecord(epoch + 1, 10 * epoch + 10, 0.5, 0.7, 0.1, 0.2))
            follow(EpochDone(history))
        time.sleep(0.2)
        beats.append(read_heartbeat(out)[0])
    assert not (out / heartbeat.FILE).exists()
    first, _, last = beats
    assert (first.epoch, first.step, first.steps_per_epoch, first.valid_auc) == (0, 10, 10, None)
    assert (last.epoch, last.step, last.valid_auc, last.loss) == (2, 0, 0.7, 0.5)
    # A sleep is never shorter, and seldom twice as long.
    assert 100 < last.samples_per_s <= 500
    # Half of the run took at least 0.8 s.
    assert 0.7 < last.seconds_left < 10


def test_the_time_left_is_that_of_the_budget_if_this_is_less(out):
    out.mkdir(parents=True, exist_ok=True)
    train = TrainConfig(epochs=10**6, batch_size=10, max_train_seconds=60.0)
    with beating(out, train, interval=0.02) as follow:
        for step in range(1, 5):
            follow(StepDone(0, step, 1000, 0.5, 1.0, 1e-3))
            time.sleep(0.03)
        time.sleep(0.1)
        left = read_heartbeat(out)[0].seconds_left
    assert 50 < left <= 60


def test_a_disk_that_takes_no_sign_of_life_is_told_once(out):
    with pytest.warns(UserWarning, match=r"`crnn-jax watch` will not see it"):
        _beat_in(out / "not there")


def _beat_in(run):
    with beating(run, TrainConfig(), interval=0.01) as follow:
        time.sleep(0.1)
        follow(StepDone(0, 1, 10, 0.5, 1.0, 1e-3))


def test_the_study_takes_as_long_as_its_cells(out):
    status = StudyStatus(
        (
            cell("conv1d-1-uniform-seed0", "finished", 10.0),
            cell("crnn-1-uniform-seed0", "finished", 50.0),
            cell("crnn-1-uniform-seed1", "running"),
            cell("crnn-1-uniform-seed2", "running"),
            cell("conv1d-1-uniform-seed1", "waiting"),
            cell("k2c1-1-uniform-seed0", "waiting"),
            cell("k2c1-1-uniform-seed1", "failed"),
        ),
        is_planned=True,
    )
    # Two at a time: 50 + 50 of its kind, 10 of its kind, and the mean of all, 30.
    assert status.seconds_left == pytest.approx((50 + 50 + 10 + 30) / 2)
    assert dataclasses.replace(status, is_planned=False).seconds_left is None


def test_short_runs_say_nothing_of_how_long_the_others_take():
    trial = [cell(f"{runs.TRIAL}/crnn-1-uniform-seed0-lr0.1", "finished", 10.0)]
    waiting = [cell(f"crnn-1-uniform-seed{seed}-lr0.1", "waiting") for seed in range(2)]
    running = cell("crnn-1-uniform-seed2-lr0.1", "running")
    status = StudyStatus((*trial, *waiting, running), is_planned=True)
    assert status.seconds_left is None
    known = cell("crnn-1-uniform-seed3-lr0.01", "finished", 100.0)
    status = StudyStatus((*trial, *waiting, running, known), is_planned=True)
    assert status.seconds_left == pytest.approx(300)
    # Nor does one that was given up keep a finished study from its end.
    given_up = cell(f"{runs.TRIAL}/crnn-1-uniform-seed0-lr1", "stopped")
    assert StudyStatus((given_up, known), is_planned=True).is_over
    assert not StudyStatus((given_up, known), is_planned=False).is_over


def test_cells_on_other_parts_of_the_data_take_another_time():
    status = StudyStatus(
        (
            cell("crnn-1-uniform-seed0-data0.1", "finished", 10.0),
            cell("crnn-1-uniform-seed0-lr1e-05-data1", "finished", 100.0),
            cell("crnn-1-uniform-seed1-lr0.1-data1", "waiting"),
            cell("crnn-1-uniform-seed1-data0.1", "running"),
        ),
        is_planned=True,
    )
    assert status.seconds_left == pytest.approx(110)


def test_a_resumed_run_is_where_it_was(out):
    out.mkdir(parents=True, exist_ok=True)
    train = TrainConfig(epochs=1000, batch_size=10, max_train_seconds=600.0)
    history = tuple(EpochRecord(e, 10 * e, 0.5, 0.7, 0.1, 1.1 * e) for e in range(1, 501))
    with beating(out, train, interval=0.02) as follow:
        # As `TrainingRun.restore` tells it.
        follow(RunBegun(5000, history))
        follow(EpochDone(history))
        time.sleep(0.1)
        beat = read_heartbeat(out)[0]
        assert (beat.epoch, beat.valid_auc) == (500, 0.7)
        follow(StepDone(500, 1, 10, 0.5, 1.0, 1e-3))
        time.sleep(0.2)
        left = read_heartbeat(out)[0].seconds_left
    assert 40 < left <= 50


def test_a_beat_is_well_before_silence():
    assert SILENT_AFTER >= 3 * HEARTBEAT_SECONDS


@pytest.mark.parametrize(
    ("finished", "failed", "code"), [(3, 0, 0), (2, 1, 1), (2, 0, 1), (0, 0, 1)]
)
def test_watch_ends_with_the_sweep_or_when_nobody_works_on_it(out, command, finished, failed, code):
    announce(out, Origin("crnn-jax sweep"), CELLS)
    for each in CELLS[:finished]:
        write_run(out, each, 1.0, make_split())
    for each in CELLS[finished : finished + failed]:
        runs.write_failure(out / each.name, "diverged", "")
    found, said, err = command("watch", out, "--interval", 0.02, "--patience", 0.1)
    assert (found, err) == (code, "")
    assert said.startswith("3 cells: ")
    left = 3 - finished - failed
    assert ("no process is working on it" in said) == bool(left)
    if left:
        assert f"to finish {left} cell" in said


def test_watch_waits_for_who_is_working(out, command):
    """A process in which nothing but its signs of life happens, until its cell is finished."""
    announce(out, Origin("crnn-jax sweep"), CELLS[:1])
    run = out / CELLS[0].name
    run.mkdir()
    code = (
        "import sys, time\nfrom etils import epath\nfrom crnn_jax.config import TrainConfig\n"
        "from crnn_jax.study.heartbeat import beating\n"
        "with beating(epath.Path(sys.argv[1]), TrainConfig()):\n"
        "    print('begun', flush=True)\n    time.sleep(1)\n"
    )
    arguments = [sys.executable, "-c", code, str(run)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        # Ten times as long as its patience with those who do not work.
        found, said, _ = command("watch", out, "--interval", 0.02, "--patience", 0.1)
        assert process.wait() == 0
    assert found == 1
    assert said.startswith("1 cell: 1 running\n1 cell: 1 waiting\n")


@pytest.mark.parametrize("option", ["--interval", "--patience"])
def test_watching_without_a_pause_is_refused(out, command, option):
    announce(out, Origin("crnn-jax sweep"), CELLS)
    found, _, err = command("watch", out, option, 0)
    assert (found, err.count("\n")) == (2, 1)


def test_watching_does_without_jax(small_sweep):
    code = (
        "import sys\nfrom crnn_jax.cli.main import main\n"
        f"sys.argv = ['crnn-jax', 'watch', {str(small_sweep.out)!r}]\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    print(stop.code)\n"
        "print(*{name.split('.')[0] for name in sys.modules} & {'jax', 'flax', 'optax'})"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.stdout == "3 cells: 3 finished\n0\n\n"
    assert answer.stderr == ""
