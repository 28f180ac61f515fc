"""How far a study is, from its files alone: which cells run, are finished, failed or wait."""

import dataclasses
import json
import math
import re
import time
from collections.abc import Mapping
from typing import Any, Literal

from etils import epath

from crnn_jax.config import HEARTBEAT_SECONDS
from crnn_jax.study.heartbeat import Heartbeat, read_heartbeat
from crnn_jax.study.manifest import read_manifest
from crnn_jax.study.runs import TRIAL

State = Literal["finished", "failed", "running", "stopped", "waiting"]

# A run whose last sign of life is older, in s, has stopped: some beats are late on a busy machine
# or a slow shared disk.
SILENT_AFTER = 6 * HEARTBEAT_SECONDS


@dataclasses.dataclass(frozen=True)
class CellStatus:
    """State of a cell.

    Attributes
    ----------
    name
        Its folder in the study.
    state
        ``stopped``: begun, but no process is working on it.
    auc
        On the test split if it is finished, else on the validation split after the last epoch.
    seconds
        Wall time of a finished cell, in s.
    heartbeat
        Of a running cell.
    error
        Why it failed.
    """

    name: str
    state: State
    auc: float | None = None
    seconds: float | None = None
    heartbeat: Heartbeat | None = None
    error: str | None = None

    @property
    def is_short(self) -> bool:
        """Whether it is one of the short runs that choose the learning rates."""
        return self.name.startswith(f"{TRIAL}/")

    @property
    def is_over(self) -> bool:
        """Whether it has finished or failed."""
        return self.state in ("finished", "failed")


@dataclasses.dataclass(frozen=True)
class StudyStatus:
    """State of a study.

    Attributes
    ----------
    cells
        Short runs first.
    is_planned
        Whether all its cells are known: not before its short runs are done, nor if an older version
        wrote the folder.
    """

    cells: tuple[CellStatus, ...]
    is_planned: bool

    def count(self, state: State) -> int:
        """Return the number of cells in a state."""
        return sum(cell.state == state for cell in self.cells)

    @property
    def is_over(self) -> bool:
        """Whether every cell has finished or failed; short runs count until all are known."""
        return self.is_planned and all(cell.is_over for cell in self.cells if not cell.is_short)

    @property
    def seconds_left(self) -> float | None:
        """Estimate of the time that the study still takes, in s.

        Cells that wait are taken to be like the finished ones of the same network, else like the
        mean of all; short runs say nothing of the others. None as long as the study's cells are not
        known, none of them is finished, or nothing runs.
        """
        cells = [cell for cell in self.cells if not cell.is_short]
        taken: dict[str, list[float]] = {}
        for cell in cells:
            if cell.seconds is not None:
                for kind in (_kind(cell.name), ""):
                    taken.setdefault(kind, []).append(cell.seconds)
        running = [cell for cell in cells if cell.state == "running"]
        if not (taken and running and self.is_planned):
            return None

        def expect(cell: CellStatus) -> float:
            of_kind = taken.get(_kind(cell.name), taken[""])
            return sum(of_kind) / len(of_kind)

        left = sum(
            expect(cell)
            if cell.heartbeat is None or cell.heartbeat.seconds_left is None
            else cell.heartbeat.seconds_left
            for cell in cells
            if not cell.is_over
        )
        return left / len(running)


def _kind(name: str) -> str:
    """Return what cells share that differ in seed, fold and learning rate alone."""
    return re.sub(r"-(seed\d+|fold\d+|lr[^-]+(-\d+)?(?=-|$))", "", name)


class StatusReader:
    """Reads a study's state again and again; finished cells are read once.

    A cell is alive while its signs of life come. Only at the first look does it count how old the
    last one is by this machine's clock: that of a file server may show another time.
    """

    def __init__(self, folder: epath.Path):
        self.folder = folder
        self._finished: dict[str, CellStatus] = {}
        # Time of each cell's last sign of life, by the file's clock and by this machine's.
        self._alive: dict[str, tuple[float, float]] = {}

    def read(self, now: float | None = None) -> StudyStatus | None:
        """Read the state; None if the folder is not a study's.

        Parameters
        ----------
        now
            This machine's time in s since 1970; None: ask its clock.
        """
        now = time.time() if now is None else now
        manifest = read_manifest(self.folder)
        trial = self._read_cells(self.folder / TRIAL, f"{TRIAL}/", now)
        cells = self._read_cells(self.folder, "", now)
        if manifest is None and not (trial or cells):
            return None
        return StudyStatus((*trial, *cells), manifest is not None and bool(manifest.cells))

    def _read_cells(self, folder: epath.Path, prefix: str, now: float) -> list[CellStatus]:
        manifest = read_manifest(folder)
        names = dict.fromkeys(() if manifest is None else manifest.cells)
        for kind in ("config", "result", "failed"):
            begun = sorted(folder.glob(f"*/{kind}.json"))
            names |= dict.fromkeys(path.parent.name for path in begun)
        return [self._read_cell(folder / name, prefix + name, now) for name in names]

    def _read_cell(self, run: epath.Path, name: str, now: float) -> CellStatus:
        if name in self._finished and (run / "result.json").exists():
            return self._finished[name]
        result = _read_json(run / "result.json")
        if result is not None and _number(result, "test_auc") is not None:
            spent = ("compile_s", "train_s", "eval_s", "checkpoint_s")
            status = CellStatus(
                name,
                "finished",
                auc=_number(result, "test_auc"),
                # Less what it has from the run that it branched off.
                seconds=sum(_number(result, part) or 0.0 for part in spent)
                - (_number(result, "shared_s") or 0.0),
            )
            self._finished[name] = status
            return status
        beat = read_heartbeat(run)
        if beat is not None and now - self._last_alive(name, beat[1], now) <= SILENT_AFTER:
            return CellStatus(name, "running", beat[0].valid_auc, heartbeat=beat[0])
        failure = _read_json(run / "failed.json")
        if failure is not None:
            return CellStatus(name, "failed", error=str(failure.get("error", "")))
        if (run / "config.json").exists():
            return CellStatus(name, "stopped", auc=_last_auc(run))
        return CellStatus(name, "waiting")

    def _last_alive(self, name: str, written: float, now: float) -> float:
        """Return when a cell was alive, by this machine's clock."""
        before = self._alive.get(name)
        if before is None:
            self._alive[name] = written, min(written, now)
        elif before[0] != written:
            self._alive[name] = written, now
        return self._alive[name][1]


def _read_json(path: epath.Path) -> Mapping[str, Any] | None:
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None


def _number(values: Mapping[str, Any], name: str) -> float | None:
    value = values.get(name)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _last_auc(run: epath.Path) -> float | None:
    """Return the validation AUC of the last finished epoch."""
    try:
        lines = (run / "metrics.jsonl").read_text().splitlines()
        return _number(json.loads(lines[-1]), "valid_auc")
    except (OSError, ValueError, LookupError, AttributeError):
        return None
