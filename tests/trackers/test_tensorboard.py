"""TensorBoard's event files: all of a run's numbers, each once, whatever happens to the run."""

import dataclasses
import json
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from etils import epath

from crnn_jax.study.events import CellProgress
from crnn_jax.study.sweep import sweep
from crnn_jax.train.events import RunBegun, StepDone
from tests.commands import finish, history, kill, snapshots, wait_until
from tests.conftest import Log
from tests.trackers.conftest import (
    CELL,
    float32,
    interrupt,
    of_trackers,
    often,
    read_curves,
    same_numbers,
    tracked,
    without_times,
)

pytest.importorskip("tensorboardX", reason="tensorboardX is not installed (the extra `tracking`)")


def test_the_numbers_of_a_run_do_not_depend_on_trackers(whole, plain):
    assert same_numbers(whole, plain)

    def without_times(records):
        return [{**record, "train_s": 0} for record in records]

    histories = [without_times(history(Path(out, CELL))) for out in (whole, plain)]
    assert histories[0] == histories[1]


def test_curves_are_those_of_the_history(whole):
    curves, records = read_curves(whole / CELL), history(Path(whole, CELL))
    names = {"epoch/loss": "loss", "valid/auc": "valid_auc", "valid/ap": "valid_ap"}
    for tag, name in names.items():
        assert curves[tag] == [(record["step"], float32(record[name])) for record in records]
    assert [step for step, _ in curves["train/loss"]] == list(range(1, 19))
    losses = np.reshape([loss for _, loss in curves["train/loss"]], (3, 6))
    np.testing.assert_allclose(losses.mean(1), [record["loss"] for record in records], rtol=1e-6)
    assert all(norm > 0 for _, norm in curves["train/gradient_norm"])
    assert {rate for _, rate in curves["train/learning_rate"]} == {float32(1e-3)}


def test_clips_per_second_are_by_the_training_clock(whole):
    curves, records = read_curves(whole / CELL), history(Path(whole, CELL))
    seconds = np.diff([0.0, *(record["train_s"] for record in records)])
    expected = [float32(6 * 8 / each) for each in seconds]
    assert [value for _, value in curves["speed/clips_per_s"]] == expected


def test_final_scores_are_those_of_the_result(whole):
    curves = read_curves(whole / CELL)
    result = json.loads((whole / CELL / "result.json").read_text())
    for name in ("test_auc", "test_ap", "test_bce", "valid_auc", "train_s"):
        assert curves[f"final/{name}"] == [(18, float32(result[name]))]


def test_steps_are_thinned(small_set, tmp_path):
    out = epath.Path(tmp_path)
    assert sweep(tracked("tensorboard", every=4), small_set, out) == []
    curves = read_curves(out / CELL)
    assert [step for step, _ in curves["train/loss"]] == [4, 8, 12, 16]
    assert [step for step, _ in curves["valid/auc"]] == [6, 12, 18]


def test_tensorboard_shows_a_sweep(small_set, whole, tmp_path):
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed (the extra `test`)")
    from tensorboard import context
    from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

    out = epath.Path(tmp_path / "sweep")
    shutil.copytree(whole, out)
    study = dataclasses.replace(tracked("tensorboard"), seeds=(0, 1))
    log = Log()
    assert sweep(study, small_set, out, on_event=log) == []
    assert log.skipped == [CELL]

    shown = EventMultiplexer().AddRunsFromDirectory(str(out)).Reload()
    names = [f"conv1d-4000-uniform-seed{seed}" for seed in range(2)]
    assert sorted(shown.Runs()) == [f"{name}/tensorboard" for name in names]
    points = shown.Tensors(f"{CELL}/tensorboard", "valid/auc")
    values = [(point.step, point.tensor_proto.float_val[0]) for point in points]
    assert values == read_curves(out / CELL)["valid/auc"]

    # The table of hyperparameters and the parallel coordinates are drawn from this answer.
    provider = MultiplexerDataProvider(shown, str(out))
    there = backend_context.Context(
        TBContext(logdir=str(out), multiplexer=shown, data_provider=provider)
    )
    request = api_pb2.ListSessionGroupsRequest(
        slice_size=9, allowed_statuses=[api_pb2.STATUS_SUCCESS]
    )
    metrics = ("final/test_auc", "final/test_ap", "final/test_bce", "final/valid_auc")
    for tag in metrics:
        request.col_params.add(metric=api_pb2.MetricName(tag=tag))
    asked = list_session_groups.Handler(context.RequestContext(), there, "", request)
    rows = {row.name.split("/")[0]: row for row in asked.run().session_groups}
    assert sorted(rows) == names
    for seed, name in enumerate(names):
        settings = dict(rows[name].hparams.items())
        assert settings["arch"].string_value == "conv1d"
        assert settings["schedule"].string_value == "constant"
        expected = {"target": 4000, "seed": seed, "batch_size": 8, "learning_rate": 1e-3}
        assert {key: settings[key].number_value for key in expected} == expected
        result = json.loads((out / name / "result.json").read_text())
        scores = {value.name.tag: value.value for value in rows[name].metric_values}
        for tag in metrics:
            assert scores[tag] == float32(result[tag.removeprefix("final/")])


def test_a_finished_cell_is_not_touched(small_set, whole):
    def look():
        return {path: path.stat().st_mtime_ns for path in Path(whole, CELL).rglob("*")}

    before = look()
    assert sweep(tracked("tensorboard", every=3), small_set, whole) == []
    assert look() == before


@pytest.mark.parametrize("step", [3, 6])
def test_a_resumed_run_has_every_step_once(small_set, tmp_path, whole, plain, step):
    out = epath.Path(tmp_path)
    interrupt(tracked("tensorboard"), small_set, out, step=step)
    before = read_curves(out / CELL)["train/loss"]
    assert before[-1][0] > snapshots(Path(out, CELL))[-1], "nothing is repeated"
    # What a killed process and a power cut leave of a record.
    (path,) = Path(out, CELL, "tensorboard").iterdir()
    with path.open("ab") as file:
        file.write(path.read_bytes()[:50] if step == 3 else bytes(64))
    assert sweep(tracked("tensorboard"), small_set, out) == []
    assert without_times(read_curves(out / CELL)) == without_times(read_curves(whole / CELL))
    assert same_numbers(out, plain)
    sizes = [path.stat().st_size for path in sorted(Path(out, CELL, "tensorboard").iterdir())]
    assert sizes[0] == 0 < sizes[1]
    assert len(sizes) == 2


def test_an_epoch_scored_after_the_last_snapshot_is_not_doubled(small_set, tmp_path, whole):
    """The process is killed after an epoch was scored; the snapshot has its steps alone."""
    out = epath.Path(tmp_path)

    class Killed(BaseException):
        pass

    def end(event):
        match event:
            case CellProgress(_, StepDone(epoch=2), _):
                raise Killed

    with pytest.raises(Killed):
        sweep(often(tracked("tensorboard")), small_set, out, on_event=end)
    before = read_curves(out / CELL)
    assert (before["train/loss"][-1][0], before["valid/auc"][-1][0]) == (12, 12)
    shutil.rmtree(Path(out, CELL, "checkpoints", str(snapshots(Path(out, CELL))[-1])))
    begun = []

    def remember(event):
        match event:
            case CellProgress(_, RunBegun(step, history), _):
                begun.append((step, len(history)))

    assert sweep(tracked("tensorboard"), small_set, out, on_event=remember) == []
    assert begun == [(12, 1)]
    assert without_times(read_curves(out / CELL)) == without_times(read_curves(whole / CELL))


def test_a_live_tensorboard_forgets_what_is_repeated(small_set, tmp_path, whole):
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed (the extra `test`)")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = epath.Path(tmp_path)
    interrupt(tracked("tensorboard"), small_set, out, step=4)
    looking = EventAccumulator(str(out / CELL / "tensorboard")).Reload()
    assert len(looking.Scalars("train/loss")) >= 10
    assert sweep(tracked("tensorboard"), small_set, out) == []
    for reader in (looking, EventAccumulator(str(out / CELL / "tensorboard"))):
        points = [(point.step, point.value) for point in reader.Reload().Scalars("train/loss")]
        assert points == read_curves(whole / CELL)["train/loss"]


def test_a_run_that_was_not_tracked_gets_its_epochs(small_set, tmp_path, whole):
    out = epath.Path(tmp_path)
    interrupt(tracked(), small_set, out, step=4)
    assert sweep(tracked("tensorboard"), small_set, out) == []
    curves, expected = read_curves(out / CELL), read_curves(whole / CELL)
    assert curves["valid/auc"] == expected["valid/auc"]
    first = curves["train/loss"][0][0]
    assert first > 6
    assert curves["train/loss"] == expected["train/loss"][first - 1 :]


def test_a_file_in_place_of_the_folder(small_set, tmp_path, plain):
    out = epath.Path(tmp_path)
    (out / CELL).mkdir()
    (out / CELL / "tensorboard").write_text("")
    with pytest.warns(UserWarning, match="tracker") as said:
        assert sweep(tracked("tensorboard"), small_set, out) == []
    (line,) = of_trackers(said)
    assert line.startswith("--tracker tensorboard: FileExistsError: ")
    assert "make the folder writable" in line
    assert "\n" not in line
    assert same_numbers(out, plain)


@pytest.fixture
def tiny_disk(tmp_path):
    """A disk of one page."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("file systems cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_fills_up_while_a_run_trains(small_set, tmp_path, tiny_disk):
    out, other = epath.Path(tmp_path / "out"), epath.Path(tmp_path / "other")
    (out / CELL).mkdir(parents=True)
    Path(out, CELL, "tensorboard").symlink_to(tiny_disk)
    with pytest.warns(UserWarning, match="tracker") as said:
        assert sweep(tracked("tensorboard", epochs=6), small_set, out) == []
    (line,) = of_trackers(said)
    assert line == (
        "--tracker tensorboard: OSError: [Errno 28] No space left on device; free up space and "
        "make the folder writable, or leave it out; the run goes on without it (see metrics.jsonl)"
    )
    # It failed in the middle, and what it has is readable up to there.
    from crnn_jax.trackers.event_files import read_records

    (path,) = tiny_disk.iterdir()
    assert 20 < len(list(read_records(path.read_bytes()))) < 1 + 36 + 6
    assert sweep(tracked(epochs=6), small_set, other) == []
    assert same_numbers(out, other)


@pytest.mark.cluster
def test_a_killed_process_has_every_step_once(commands, whole, tmp_path):
    flags = ("--tracker", "tensorboard", "--tracker-steps", 1)
    run = tmp_path / CELL
    for send in (signal.SIGTERM, signal.SIGKILL):
        process = commands.start(tmp_path, *flags)
        count = len(snapshots(run))
        newest = snapshots(run)[-1] if count else 0
        wait_until(lambda newest=newest: (snapshots(run) or [0])[-1] >= newest + 3, process)
        if send == signal.SIGTERM:
            process.send_signal(send)
            assert finish(process)[0] == 143
        else:
            kill(process)
    code, _, err = finish(commands.start(tmp_path, *flags))
    assert (code, err) == (0, "")
    assert without_times(read_curves(run)) == without_times(read_curves(whole / CELL))
    # However often it was killed.
    assert len(list((run / "tensorboard").iterdir())) == 2
