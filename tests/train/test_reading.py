"""Runs from the command line, and what can happen to their reading: nothing is lost."""

import dataclasses
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from etils import epath

from crnn_jax.config import DataConfig, RuntimeConfig
from crnn_jax.data import builder
from crnn_jax.data.prepared import OTHER_FILES, open_set, prepare
from crnn_jax.errors import UserError
from crnn_jax.study.sweep import sweep
from tests.commands import CELL, STUDY, Commands, finish, numbers, parameters, snapshots, wait_until
from tests.conftest import Log


@pytest.fixture(scope="module")
def whole(small_set, tmp_path_factory):
    """The folder of a run that nothing has happened to."""
    out = tmp_path_factory.mktemp("whole")
    assert sweep(STUDY, small_set, epath.Path(out)) == []
    return out / CELL


def check_same(run, whole):
    assert numbers(run) == numbers(whole)
    assert list(parameters(run)) == list(parameters(whole))


@pytest.fixture(scope="module")
def many_shards(small_set, caches, tmp_path_factory):
    """The same clips, each in a file of its own: 75 of them."""
    config = DataConfig(
        data_dir=str(tmp_path_factory.mktemp("many")), n_examples=75, mel=small_set.mel, workers=1
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builder, "SMALLEST_SHARD", 1)
        return Commands(prepare(config).path, caches)


def limited(process, soft, hard):
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (soft, hard))
    return process


def test_a_run_may_open_as_many_files_as_it_has_shards(many_shards, whole, tmp_path):
    process = limited(many_shards.start(tmp_path), 60, OTHER_FILES + 75)
    code, _, err = finish(process)
    assert (code, err) == (0, "")
    check_same(tmp_path / CELL, whole)


def test_more_shards_than_files_that_may_be_open(many_shards, tmp_path):
    process = limited(many_shards.start(tmp_path), 60, OTHER_FILES + 74)
    code, _, err = finish(process)
    assert code == 2
    assert err.startswith(f"crnn-jax: {many_shards.dataset}: ")
    assert f"`ulimit -n {OTHER_FILES + 75}`" in err
    assert err.count("\n") == 1


@pytest.fixture
def ctrl_c():
    """Ctrl-C stops what is started here, which a shell's background processes ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def start_training(commands, out, *flags):
    """One network, in a process group of its own."""
    command = [
        *(sys.executable, "-m", "crnn_jax.cli.main", "train", "--out", out, "--dataset"),
        *(commands.dataset, "--arch", "conv1d", "--target", 4000, "--epochs", 3),
        *("--batch-size", 8, "--clip-seconds", 2.5, "--checkpoint-seconds", 0, "--devices", 1),
        *flags,
    ]
    return subprocess.Popen(
        list(map(str, command)),
        env={**os.environ, "XDG_CACHE_HOME": str(commands.caches)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def interrupt(process, signal_number, until):
    """Send a signal to the process and all its children, as a terminal and Slurm do."""
    wait_until(until, process)
    children = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal_number)
    code, _, err = finish(process)
    assert not psutil.wait_procs(children, timeout=60)[1]
    return code, err


GOES_ON = "give the same command again to resume\n"


def test_a_run_whose_processes_read_ahead_is_stopped_and_goes_on(commands, whole, tmp_path):
    run = tmp_path / CELL
    process = start_training(commands, tmp_path, "--read-workers", 1)
    report = interrupt(process, signal.SIGTERM, lambda: len(snapshots(run)) >= 2)
    assert report == (143, f"crnn-jax: terminated; {GOES_ON}")
    process = start_training(commands, tmp_path, "--read-threads", 3, "--checkpoint-seconds", 60)
    code, _, err = finish(process)
    assert (code, err) == (0, "")
    check_same(run, whole)


@pytest.mark.cluster
@pytest.mark.usefixtures("ctrl_c")
def test_processes_that_read_ahead_are_interrupted_at_any_time(commands, whole, tmp_path):
    run = tmp_path / CELL
    flags = ("--read-workers", 2)

    def a_process_starts():
        return len(psutil.Process(process.pid).children()) >= 2

    process = start_training(commands, tmp_path, *flags)
    report = interrupt(process, signal.SIGINT, a_process_starts)
    assert report == (130, f"crnn-jax: stopped; {GOES_ON}")
    process = start_training(commands, tmp_path, *flags)
    report = interrupt(process, signal.SIGTERM, a_process_starts)
    assert report == (143, f"crnn-jax: terminated; {GOES_ON}")
    process = start_training(commands, tmp_path, *flags)
    before = max(snapshots(run), default=-1)
    report = interrupt(process, signal.SIGINT, lambda: max(snapshots(run), default=-1) > before + 1)
    assert report == (130, f"crnn-jax: stopped; {GOES_ON}")
    process = start_training(commands, tmp_path, *flags)
    before = snapshots(run)[-1]
    report = interrupt(process, signal.SIGKILL, lambda: snapshots(run)[-1] > before + 1)
    process = start_training(commands, tmp_path, *flags)
    code, _, err = finish(process)
    assert (code, err) == (0, "")
    check_same(run, whole)


def test_another_set_under_the_same_path_is_refused(small_set, whole, tmp_path):
    out = epath.Path(tmp_path)
    shutil.copytree(whole, out / CELL)
    (out / CELL / "result.json").unlink()
    one_less = {**small_set.n_examples, "train": small_set.n_examples["train"] - 1}
    with pytest.raises(UserError, match="another configuration .data.n_examples.train is 48"):
        sweep(STUDY, dataclasses.replace(small_set, n_examples=one_less), out)


class Damage(Log):
    """Cut a shard short at the third step."""

    def __init__(self, shard):
        super().__init__()
        self.shard = shard

    def __call__(self, event):
        super().__call__(event)
        if len(self.steps) == 3:
            os.truncate(self.shard, 0)


def test_shards_are_damaged_under_a_run(small_set, whole, tmp_path):
    folder = shutil.copytree(small_set.path, tmp_path / "set")
    out = epath.Path(tmp_path / "out")
    run = Path(out / CELL)
    steps = 0
    for name, workers in (
        ("train.array_record-00001-of-00006", 1),
        ("valid.array_record-00000-of-00002", 0),
    ):
        shard = folder / f"synthetic-{name}"
        content = shard.read_bytes()
        log = Damage(shard)
        # Written because of the damage, and not for its own time.
        # From the disk: what is in memory is not read again.
        runtime = RuntimeConfig(resident="no", read_workers=workers, checkpoint_seconds=60.0)
        study = dataclasses.replace(STUDY, runtime=runtime)
        with pytest.raises(UserError) as raised:
            sweep(study, open_set(folder), out, on_event=log)
        assert re.fullmatch(f"{shard}: cannot be read .*prepare the set again", str(raised.value))
        assert not (run / "failed.json").exists()
        shard.write_bytes(content)
        steps += len(log.steps)
    log = Log()
    assert sweep(STUDY, open_set(folder), out, on_event=log) == []
    assert steps + len(log.steps) == 18, "a step was made twice, or not at all"
    check_same(run, whole)
