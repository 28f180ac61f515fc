"""A run killed at any moment goes on; two processes on one folder share the work."""

import csv
import multiprocessing
import resource
import shutil
import signal
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorstore
from etils import epath

from crnn_jax.errors import UserError
from crnn_jax.study import runs
from crnn_jax.study.run import describe
from crnn_jax.study.sweep import sweep
from crnn_jax.train.checkpoints import OrbaxCheckpoints, raise_if_not_damage
from crnn_jax.train.progress import Progress
from crnn_jax.train.snapshots import Snapshot
from crnn_jax.train.state import TrainState
from tests.commands import (
    CELL,
    STUDY,
    finish,
    history,
    kill,
    numbers,
    parameters,
    snapshots,
    wait_until,
)
from tests.conftest import Log
from tests.study.test_runs import make_config, make_result

# Real processes, killed and started again, take minutes: `make test-cluster`.
cluster = pytest.mark.cluster


@cluster
def test_killed_and_terminated_ends_with_the_same_bits(commands, swept_by_two, tmp_path):
    run = tmp_path / CELL
    process = commands.start(tmp_path)
    wait_until(lambda: len(snapshots(run)) >= 2, process)
    process.send_signal(signal.SIGTERM)
    code, _, err = finish(process)
    assert (code, err) == (143, "crnn-jax: terminated; give the same command again to resume\n")
    assert not (run / "failed.json").exists()
    before = snapshots(run)[-1]

    process = commands.start(tmp_path)
    wait_until(lambda: snapshots(run)[-1] >= before + 3, process)
    kill(process)
    assert not (run / "result.json").exists()
    # What a power cut may leave: a last snapshot and a history cut short, a half-written file.
    before = snapshots(run)[-1]
    (run / "checkpoints" / str(before) / "progress" / "metadata").write_text("{")
    (run / "metrics.jsonl").write_text('{"epoch": 1, "st')
    (run / ".config.json.elsewhere-1.tmp").write_text("{")

    code, _, err = finish(commands.start(tmp_path))
    assert code == 0, err
    assert f"{before}: cannot be read" in err
    assert err.count("\n") == 1
    whole = swept_by_two[0] / CELL
    assert numbers(run) == numbers(whole)
    assert list(parameters(run)) == list(parameters(whole))
    assert [line["epoch"] for line in history(run)] == [1, 2, 3]
    assert not list(run.glob(".*"))


@cluster
def test_two_processes_share_a_sweep(swept_by_two):
    out, said = swept_by_two
    assert [code for code, _, _ in said] == [0, 0], said
    for seed in range(3):
        name = f"conv1d-4000-uniform-seed{seed}"
        trained = [f"{name}: test AUC" in text for _, text, _ in said]
        assert sorted(trained) == [False, True], "run by none, or by both"
        other = said[trained.index(False)][1]
        assert f"{name}: already finished" in other or f"{name}: left to another process" in other
    with (out / "results.csv").open() as file:
        assert sorted(row["seed"] for row in csv.DictReader(file)) == ["0", "1", "2"]


def a_snapshot(value):
    tree = {"kernel": jnp.full((30, 40), value, jnp.float32)}
    state = TrainState(jnp.int32(0), tree, tree, tree, jnp.zeros(2, jnp.uint32))
    return Snapshot(state, tree, Progress(step=value))


@pytest.fixture(scope="module")
def three_snapshots(tmp_path_factory):
    folder = epath.Path(tmp_path_factory.mktemp("snapshots"))
    with OrbaxCheckpoints(folder) as checkpoints:
        for value in range(3):
            checkpoints.save(a_snapshot(value))
    return folder


def cut(content):
    return content[: len(content) // 2]


def emptied(content):
    return b""


def changed(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]


def read_damaged(three_snapshots, folder):
    """Each file of the newest snapshot is damaged in turn: it is read rightly, or not used."""
    files = (path for path in Path(three_snapshots, "2").rglob("*") if path.is_file())
    # The marks of completion are empty words to a reader; the rest are arrays and their places.
    names = [p.relative_to(three_snapshots) for p in files if p.name != "commit_success.txt"]
    for damage in (cut, emptied, changed):
        set_aside = 0
        for number, name in enumerate(names):
            copy = epath.Path(folder / damage.__name__ / str(number))
            shutil.copytree(three_snapshots, copy)
            (copy / name).write_bytes(damage((copy / name).read_bytes()))
            with (
                OrbaxCheckpoints(copy) as checkpoints,
                warnings.catch_warnings(record=True) as said,
            ):
                warnings.simplefilter("always")
                snapshot = checkpoints.restore(a_snapshot(9))
            unreadable = snapshot.progress.step == 1
            assert unreadable == bool(said) == (copy / "2.unreadable").exists()
            for leaf in jax.tree.leaves((snapshot.state.params, snapshot.best)):
                assert np.all(np.asarray(leaf) == snapshot.progress.step)
            set_aside += unreadable
        assert set_aside >= 4


@cluster
def test_no_damage_to_a_snapshot_gives_wrong_numbers(three_snapshots, tmp_path):
    # In a process of its own: Orbax leaves the reading of the other arrays to itself when that of
    # one fails.
    arguments = (three_snapshots, tmp_path)
    reader = multiprocessing.get_context("spawn").Process(target=read_damaged, args=arguments)
    reader.start()
    reader.join()
    assert reader.exitcode == 0


def test_a_run_with_no_readable_snapshot_begins_again(three_snapshots, tmp_path):
    copy = epath.Path(tmp_path / "copy")
    shutil.copytree(three_snapshots, copy)
    for step in (1, 2):
        (copy / str(step) / "progress" / "metadata").unlink()
    with OrbaxCheckpoints(copy) as checkpoints:
        with pytest.warns(UserWarning, match="cannot be read"):
            assert checkpoints.restore(a_snapshot(9)) is None
        checkpoints.save(a_snapshot(5))
        assert checkpoints.restore(a_snapshot(9)).progress.step == 5


def folders(checkpoints):
    return sorted(path.name for path in checkpoints.iterdir())


@pytest.mark.parametrize("file", ["progress/metadata", "state/_METADATA"])
def test_a_failing_disk_sets_no_snapshot_aside(three_snapshots, tmp_path, file):
    copy = epath.Path(tmp_path / "copy")
    shutil.copytree(three_snapshots, copy)
    newest = Path(copy / "2" / file)
    newest.unlink()
    # Address 0 of a process is never mapped: to read it is an I/O error.
    newest.symlink_to("/proc/self/mem")
    with OrbaxCheckpoints(copy) as checkpoints, pytest.raises(OSError, match="Input/output error"):
        checkpoints.restore(a_snapshot(9))
    assert folders(copy) == folders(three_snapshots)


def test_what_tensorstore_says_of_the_system_is_raised_as_such(tmp_path):
    file = tmp_path / "file"
    file.touch()
    store = tensorstore.KvStore.open({"driver": "file", "path": f"{file}/"}).result()
    with pytest.raises(ValueError, match="os_error_code='20'") as caught:
        store.write("key", b"value").result()
    with pytest.raises(NotADirectoryError):
        raise_if_not_damage(caught.value, epath.Path(tmp_path))
    # A file that is gone is damage.
    raise_if_not_damage(FileNotFoundError(), epath.Path(tmp_path))
    raise_if_not_damage(ValueError("NOT_FOUND: [os_error_code='2']"), epath.Path(tmp_path))


def test_a_snapshot_of_another_optimiser_is_the_users_to_decide(three_snapshots, tmp_path):
    copy = epath.Path(tmp_path / "copy")
    shutil.copytree(three_snapshots, copy)
    snapshot = a_snapshot(9)
    state = snapshot.state.replace(opt_state={"momentum": jnp.zeros(3)})
    other = Snapshot(state, snapshot.best, snapshot.progress)
    with (
        OrbaxCheckpoints(copy) as checkpoints,
        pytest.raises(
            UserError, match=r"2: a snapshot of another network.*opt_state.*another output"
        ),
    ):
        checkpoints.restore(other)
    assert folders(copy) == folders(three_snapshots)
    with OrbaxCheckpoints(copy) as checkpoints:
        assert checkpoints.restore(snapshot).progress.step == 2


@cluster
def test_a_result_cut_short_is_made_again(swept_by_two, small_set, tmp_path):
    out = epath.Path(tmp_path / "copy")
    shutil.copytree(swept_by_two[0], out)
    result = out / CELL / "result.json"
    text = result.read_text()
    result.write_text(text[: len(text) // 2])
    log = Log()
    with pytest.warns(UserWarning, match="damaged"):
        assert sweep(STUDY, small_set, out, on_event=log) == []
    assert list(log.finished) == [CELL]
    assert numbers(out / CELL) == numbers(swept_by_two[0] / CELL)


@cluster
def test_a_full_disk_loses_no_result(commands, swept_by_two, tmp_path):
    out = tmp_path / "copy"
    shutil.copytree(swept_by_two[0], out)
    shutil.rmtree(out / "conv1d-4000-uniform-seed1")
    process = commands.start(out, seeds=2)
    # A snapshot is larger, and every other file smaller.
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (30_000, 30_000))
    code, text, err = finish(process)
    # The cell fails; or, where even the tables have no room, the command.
    assert code in (1, 2)
    assert "File too large" in text + err
    # Threads of TensorStore may still complain on the standard error of a loop that is closed.
    assert "Traceback" not in text
    assert "crnn_jax" not in err
    assert numbers(out / CELL) == numbers(swept_by_two[0] / CELL)
    assert finish(commands.start(out, seeds=2))[0] == 0
    seed1 = "conv1d-4000-uniform-seed1"
    assert numbers(out / seed1) == numbers(swept_by_two[0] / seed1)


def test_out_of_memory_names_the_batch_size():
    with pytest.raises(jax.errors.JaxRuntimeError) as caught:
        jnp.zeros(2**50).block_until_ready()
    message = describe(caught.value, STUDY.train)
    assert message.startswith("out of memory with a batch of 8: give a smaller batch_size")
    # A full disk is no lack of memory, though TensorStore calls it the same.
    assert "batch_size" not in describe(ValueError("RESOURCE_EXHAUSTED: disk"), STUDY.train)


def test_a_configuration_cut_short_is_told(tmp_path):
    run = epath.Path(tmp_path / "cell")
    runs.claim_folder(run, make_config())
    (run / "config.json").write_text('{"se')
    with pytest.raises(UserError, match="config.json: damaged; delete"):
        runs.claim_folder(run, make_config())


def test_a_folder_is_held_by_one(tmp_path):
    run = epath.Path(tmp_path / "cell")
    with runs.hold(run) as first, runs.hold(run) as second:
        assert (first, second) == (True, False)
    with runs.hold(run) as again:
        assert again


def write_many(out, arch, turns):
    for _ in range(turns):
        runs.write_result(out / arch, make_result(arch=arch))
        runs.write_tables(out)


def test_tables_of_several_writers_have_every_result(tmp_path):
    out = epath.Path(tmp_path)
    archs = ("conv1d", "conv2d", "crnn")
    for arch in archs:
        (out / arch).mkdir()
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write_many, args=(out, arch, 20)) for arch in archs]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    with (out / "results.csv").open() as file:
        assert [row["arch"] for row in csv.DictReader(file)] == sorted(archs)
