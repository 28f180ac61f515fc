"""What several rooms' tests share: where the optional real data is, and small prepared sets."""

import dataclasses
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import jax
import pytest
from etils import epath
from fsspec.implementations.local import LocalFileSystem

from crnn_jax.cli import main as cli
from crnn_jax.config import DataConfig, MelConfig, SweepConfig, TrainConfig
from crnn_jax.data.prepared import PreparedSet, prepare
from crnn_jax.study import events
from crnn_jax.study.schema import RunResult
from crnn_jax.study.sweep import sweep
from crnn_jax.train import parallel
from crnn_jax.train.events import StepDone
from tests.commands import Commands, finish


@pytest.fixture(scope="session", autouse=True)
def caches(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The user's cache folder, so to speak.

    Steps that several tests need are compiled by the first of them, in whichever process.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "caches"
    parallel.keep_compiled(folder / "crnn_jax" / "compiled")
    # The tests' own processes; the commands that they start use every core, as a user's do.
    jax.config.update("jax_num_cpu_devices", 1)
    return folder


SHARED = Path(__file__).resolve().parents[1] / ".." / "shared"


@pytest.fixture(scope="session")
def real_clips() -> Path:
    """Folder of 123 clips of real music with ``tags.csv``, kept outside of the repository."""
    folder = SHARED / "clips"
    if not folder.exists():
        pytest.skip("needs the real clips in ../shared/clips")
    return folder.resolve()


@pytest.fixture(scope="session")
def buckets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder that is reached by ``az://…`` alone, on the way by which epath reaches a bucket.

    One for all tests of a process, since epath keeps the first file system of a scheme.
    """
    folder = tmp_path_factory.mktemp("buckets")

    class Buckets(LocalFileSystem):
        protocol = "az"

        @classmethod
        def _strip_protocol(cls, path: Any) -> str:
            name = os.fspath(path)
            if name.startswith("az://"):
                name = str(folder / name.removeprefix("az://"))
            return LocalFileSystem._strip_protocol(name)

    fsspec.register_implementation("az", Buckets, clobber=True)
    return folder


@pytest.fixture
def bucket(buckets: Path) -> Path:
    """An empty folder of a test's own, ``az://`` and its name."""
    folder = buckets / str(len(list(buckets.iterdir())))
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def small_set(tmp_path_factory: pytest.TempPathFactory) -> PreparedSet:
    """75 synthetic clips of 4 s: 48 for training, 9 for validation, 18 for the test."""
    config = DataConfig(
        data_dir=str(tmp_path_factory.mktemp("data")),
        n_examples=75,
        mel=MelConfig(clip_seconds=4.0),
        workers=2,
    )
    return prepare(config)


@dataclasses.dataclass
class Log:
    """Remembers a sweep's events."""

    started: list[str] = dataclasses.field(default_factory=list)
    skipped: list[str] = dataclasses.field(default_factory=list)
    finished: dict[str, RunResult] = dataclasses.field(default_factory=dict)
    failed: dict[str, str] = dataclasses.field(default_factory=dict)
    left: list[str] = dataclasses.field(default_factory=list)
    steps: list[tuple[str, int, int]] = dataclasses.field(default_factory=list)

    def __call__(self, event: events.SweepEvent) -> None:
        match event:
            case events.CellStarted(cell, _):
                self.started.append(cell.name)
            case events.CellProgress(cell, StepDone(epoch, step, _, _), _):
                self.steps.append((cell.name, epoch, step))
            case events.CellFinished(cell, result):
                self.finished[cell.name] = result
            case events.CellSkipped(cell):
                self.skipped.append(cell.name)
            case events.CellFailed(cell, error):
                self.failed[cell.name] = error
            case events.CellLeft(cell):
                self.left.append(cell.name)


@dataclasses.dataclass(frozen=True)
class SweptFolder:
    """A finished sweep: its study, its folder, and its events."""

    study: SweepConfig
    out: epath.Path
    log: Log


STUDY = SweepConfig(targets=(4_000,), train=TrainConfig(epochs=1, batch_size=8, clip_seconds=2.5))


@pytest.fixture(scope="session")
def small_sweep(small_set: PreparedSet, tmp_path_factory: pytest.TempPathFactory) -> SweptFolder:
    """The three architectures at 4,000 parameters, trained for an epoch."""
    out = epath.Path(tmp_path_factory.mktemp("sweep"))
    log = Log()
    assert sweep(STUDY, small_set, out, on_event=log) == []
    return SweptFolder(STUDY, out, log)


@pytest.fixture(scope="session")
def commands(small_set: PreparedSet, caches: Path) -> Commands:
    """Sweeps of small networks in processes of their own, compiled once for all of them."""
    return Commands(small_set.path, caches)


@pytest.fixture(scope="session")
def swept_by_two(
    commands: Commands, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[tuple[int, str, str]]]:
    """Two processes' sweep of three seeds, never stopped: its folder, and what each said."""
    out = tmp_path_factory.mktemp("by_two")
    both = [commands.start(out, seeds=3) for _ in range(2)]
    return out, [finish(process) for process in both]


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    caches: Path,
) -> Callable[..., tuple[int, str, str]]:
    """Run a command as the console script does: (exit code, standard output, standard error)."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(caches))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["crnn-jax", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        said = capsys.readouterr()
        return stop.value.code or 0, said.out, said.err

    return run
