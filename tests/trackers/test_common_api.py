"""Trackers with the functions of Weights & Biases: what they are told, and what if they fail."""

import dataclasses
import importlib.util
import json
import signal
import sqlite3
import struct
import sys
from pathlib import Path

import pytest
from etils import epath

from crnn_jax import api
from crnn_jax.errors import UserError
from crnn_jax.study.sweep import sweep
from crnn_jax.study.tracking import name_project
from crnn_jax.trackers import subscription
from tests.commands import finish, history, snapshots, wait_until
from tests.trackers.conftest import CELL, interrupt, of_trackers, read_curves, same_numbers, tracked


class Package:
    """A package with that interface, which remembers its calls, or raises at one of them."""

    def __init__(self, fails_at=None):
        self.calls, self.fails_at = [], fails_at

    def _called(self, name, given):
        self.calls.append((name, given))
        if len(self.calls) - 1 == self.fails_at:
            raise RuntimeError(f"{name} is\nnot in the mood")

    def init(self, **given):
        self._called("init", given)

    def log(self, values, step):
        self._called("log", (step, values))

    def finish(self):
        self._called("finish", None)

    @property
    def curves(self):
        points = {}
        for step, values in (given for name, given in self.calls if name == "log"):
            for tag, value in values.items():
                points.setdefault(tag, []).append((step, value))
        return points


def names(package):
    return [name for name, _ in package.calls]


@pytest.mark.parametrize("tracker", ["wandb", "trackio"])
def test_a_run_is_begun_followed_and_ended(small_set, tmp_path, monkeypatch, plain, tracker):
    package = Package()
    monkeypatch.setitem(sys.modules, tracker, package)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    out = epath.Path(tmp_path)
    assert sweep(tracked(tracker, every=5), small_set, out) == []
    assert same_numbers(out, plain)
    # Steps 5, 10 and 15, three epochs, the final scores.
    assert names(package) == ["init", *["log"] * 7, "finish"]
    given = package.calls[0][1]
    assert given["name"] == CELL
    assert given["project"] == name_project(out)
    settings = {"arch": "conv1d", "seed": 0, "learning_rate": 1e-3, "schedule": "constant"}
    assert {key: given["config"][key] for key in settings} == settings
    if tracker == "wandb":
        assert (given["mode"], given["dir"]) == ("offline", str(out / CELL))
    records = history(Path(out, CELL))
    assert package.curves["valid/auc"] == [(each["step"], each["valid_auc"]) for each in records]
    result = json.loads((out / CELL / "result.json").read_text())
    assert package.curves["final/test_auc"] == [(18, result["test_auc"])]


@pytest.mark.parametrize("tracker", ["wandb", "trackio"])
def test_a_resumed_run_is_the_same_one_with_every_step_once(
    small_set, tmp_path, monkeypatch, tracker
):
    package = Package()
    monkeypatch.setitem(sys.modules, tracker, package)
    out = epath.Path(tmp_path)
    interrupt(tracked(tracker), small_set, out, step=4)
    with Path(out, CELL, f"{tracker}-logged.jsonl").open("a") as file:
        file.write('{"st')
    assert sweep(tracked(tracker), small_set, out) == []
    (_, first), (_, second) = (call for call in package.calls if call[0] == "init")
    assert names(package).count("finish") == 2
    if tracker == "wandb":
        assert first["id"] == second["id"]
    else:
        assert (first["resume"], second["resume"]) == ("never", "allow")
    assert first["project"] == second["project"]
    assert [step for step, _ in package.curves["train/loss"]] == list(range(1, 19))
    assert [step for step, _ in package.curves["valid/auc"]] == [6, 12, 18]


# A run of an epoch: init, steps 3 and 6, the epoch, the final scores, finish.
@pytest.mark.parametrize("fails_at", range(6))
def test_a_tracker_that_fails_is_not_called_again(small_set, tmp_path, monkeypatch, fails_at):
    package = Package(fails_at)
    monkeypatch.setitem(sys.modules, "wandb", package)
    study, out = tracked("wandb", every=3, epochs=1), epath.Path(tmp_path)
    with pytest.warns(UserWarning, match="tracker") as said:
        assert sweep(study, small_set, out) == []
    (line,) = of_trackers(said)
    name = ["init", "log", "log", "log", "log", "finish"][fails_at]
    assert line == (
        f"--tracker wandb: RuntimeError: {name} is; install another version of wandb, or leave it "
        "out; the run goes on without it (see metrics.jsonl)"
    )
    assert len(package.calls) == fails_at + 1
    assert (out / CELL / "result.json").exists()


def test_one_that_fails_does_not_stop_another(small_set, tmp_path, monkeypatch):
    broken, works = Package(fails_at=0), Package()
    monkeypatch.setitem(sys.modules, "wandb", broken)
    monkeypatch.setitem(sys.modules, "trackio", works)
    with pytest.warns(UserWarning, match="--tracker wandb: RuntimeError"):
        assert sweep(tracked("wandb", "trackio", epochs=1), small_set, epath.Path(tmp_path)) == []
    assert names(works)[-1] == "finish"


@pytest.mark.parametrize(
    ("tracker", "package", "fix"),
    [
        ("tensorboard", "tensorboardX", "`pip install 'crnn_jax[tracking]'`"),
        ("trackio", "trackio", "`pip install trackio`"),
        ("wandb", "wandb", "`pip install wandb`"),
    ],
)
def test_a_package_that_is_not_installed(small_set, tmp_path, monkeypatch, tracker, package, fix):
    monkeypatch.setitem(sys.modules, package, None)
    out = epath.Path(tmp_path)
    with pytest.warns(UserWarning, match="tracker") as said:
        assert sweep(tracked(tracker, epochs=1), small_set, out) == []
    (line,) = of_trackers(said)
    assert line.startswith(f"--tracker {tracker}: not installed; {fix}, or leave it out; the run")
    assert (out / CELL / "result.json").exists()


def test_a_study_says_once_what_is_not_installed(small_set, tmp_path, monkeypatch):
    monkeypatch.setitem(subscription.PACKAGES, "wandb", ("no_such_package", "wandb"))
    study = dataclasses.replace(tracked("wandb", epochs=1), seeds=(0, 1))
    with pytest.warns(UserWarning, match="--tracker wandb: not installed") as said:
        summary = api.sweep(study, tmp_path, data=small_set)
    (_,) = of_trackers(said)
    assert (len(summary.results()), summary.failed) == (2, ())


def test_an_unknown_tracker_is_refused(command):
    for given in ("tensorboard", ("tensorboards",)):
        with pytest.raises(UserError, match="tracker tensorboards?: give a tuple of tensorboard,"):
            dataclasses.replace(tracked().runtime, tracker=given)
    code, _, err = command("sweep", "--out", "x", "--tracker", "tensorboards")
    assert code == 2
    assert "tensorboards" in err


def test_studies_of_the_same_name_are_different_projects(tmp_path):
    first, second = (epath.Path(tmp_path / name / "study 1") for name in "ab")
    assert name_project(first) != name_project(second)
    assert name_project(first).startswith("study-1-")
    assert name_project(first / "trial").startswith("study-1-trial-")
    assert name_project(epath.Path("gs://bucket/study")).startswith("study-")


def missing(*packages):
    return [name for name in packages if importlib.util.find_spec(name) is None]


def read_trackio(folder):
    """Points by curve, from Trackio's database."""
    (path,) = folder.glob("*.db")
    with sqlite3.connect(path) as database:
        rows = database.execute("SELECT run_name, step, metrics FROM metrics ORDER BY id")
        points = {}
        for run, step, metrics in rows:
            assert run == CELL
            for tag, value in json.loads(metrics).items():
                points.setdefault(tag, []).append((step, value))
    return points


def read_wandb(run):
    """Points by curve, from the files that ``wandb sync`` would send."""
    from wandb.proto.wandb_internal_pb2 import Record

    points, ids = {}, set()
    for path in sorted(run.glob("wandb/offline-run-*/*.wandb")):
        ids.add(path.stem)
        for data in read_blocks(path.read_bytes()):
            record = Record.FromString(data)
            if record.WhichOneof("record_type") == "history":
                values = {
                    "/".join(item.nested_key) or item.key: json.loads(item.value_json)
                    for item in record.history.item
                }
                for tag, value in values.items():
                    if not tag.startswith("_"):
                        points.setdefault(tag, []).append((values["_step"], value))
    assert len(ids) == 1
    return points


def read_blocks(content, block=32768):
    """Records of LevelDB's log format after a head of 7 bytes: parts that fill blocks."""
    start, parts = 7, []
    while start + 7 <= len(content):
        if block - start % block < 7:
            start += block - start % block
            continue
        _, length, kind = struct.unpack_from("<IHB", content, start)
        if kind == 0:
            return
        parts.append(content[start + 7 : start + 7 + length])
        start += 7 + length
        if kind in (1, 4):
            yield b"".join(parts)
            parts = []


@pytest.mark.skipif(
    bool(missing("wandb", "trackio", "tensorboardX")),
    reason=f"not installed: {', '.join(missing('wandb', 'trackio', 'tensorboardX'))}",
)
def test_real_trackers_without_a_network(commands, tmp_path, whole):
    """All three at once, interrupted and resumed: the same points, each once."""
    out, run = tmp_path / "out", tmp_path / "out" / CELL
    environment = {"TRACKIO_DIR": str(tmp_path / "trackio"), "HOME": str(tmp_path)}
    flags = ("--tracker", "tensorboard", "wandb", "trackio", "--tracker-steps", 1)
    process = commands.start(out, *flags, environment=environment)
    wait_until(lambda: len(snapshots(run)) >= 2, process)
    process.send_signal(signal.SIGTERM)
    code, _, err = finish(process)
    assert (code, err) == (143, "crnn-jax: terminated; give the same command again to resume\n")
    code, said, err = finish(commands.start(out, *flags, environment=environment))
    assert (code, err) == (0, "")
    assert "rackio" not in said
    expected = read_curves(whole / CELL)
    for points in (read_wandb(run), read_trackio(tmp_path / "trackio"), read_curves(run)):
        for tag in ("train/loss", "train/gradient_norm", "valid/auc", "valid/ap"):
            assert [step for step, _ in points[tag]] == [step for step, _ in expected[tag]]
            values = [value for _, value in points[tag]]
            assert values == pytest.approx([value for _, value in expected[tag]], rel=1e-6)
        assert len(points["final/test_auc"]) == 1
