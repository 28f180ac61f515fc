"""The command that shows how far a sweep is."""

import contextlib
import dataclasses
import json
import sys
import time
from typing import TYPE_CHECKING

import tyro
from etils import epath

from crnn_jax.cli.display import make_console, print_table
from crnn_jax.config import check_positive
from crnn_jax.errors import UserError
from crnn_jax.user_text import printable

if TYPE_CHECKING:
    from rich.table import Table

    from crnn_jax.study.status import CellStatus, State, StatusReader, StudyStatus

# States in the order in which cells are shown.
ORDER: tuple["State", ...] = ("running", "failed", "stopped", "waiting", "finished")


@dataclasses.dataclass(frozen=True)
class Watch:
    """Show which cells of a sweep run, are finished, failed or wait, until the sweep ends.

    Reads the sweep's files alone, so that it works from any machine that sees the folder. Ends with
    exit code 0 once every cell is finished, and with 1 if some failed, or if no process has worked
    on the sweep for a while.

    Attributes
    ----------
    folder
        The sweep's folder.
    interval
        Time between looks, in s.
    patience
        Time without a running cell after which nobody works on the sweep, in s: longer than from
        one cell to the next, or from the short runs to the others.
    once
        Look once, and show every cell.
    json
        Look once, and print everything as JSON.
    """

    folder: tyro.conf.Positional[str]
    interval: float = 2.0
    patience: float = 120.0
    once: bool = False
    json: bool = False

    def run(self) -> int:
        from crnn_jax.study.status import StatusReader

        check_positive(self, "interval", "patience")
        reader = StatusReader(epath.Path(self.folder))
        status = reader.read()
        if status is None:
            raise UserError(
                f"{self.folder}: no sweep's folder (no study.json, no */config.json); give the "
                f"--out of a sweep that has begun to train"
            )
        if self.json:
            print(json.dumps(dataclasses.asdict(status), indent=2, allow_nan=False))
        elif self.once:
            print_table(make_table(self.folder, status, len(status.cells)))
        else:
            status = self._follow(reader, status)
            if not status.is_over:
                print(
                    "no process is working on it: give the sweep's command again, to finish "
                    f"{count_cells(len(status.cells) - status.count('finished'))} or more"
                )
            return 0 if status.is_over and not status.count("failed") else 1
        return 0

    def _follow(self, reader: "StatusReader", status: "StudyStatus") -> "StudyStatus":
        """Show the state until the sweep is over or nobody works on it; return the last one."""
        if sys.stdout.isatty():
            from rich.live import Live

            live = Live(console=make_console(), auto_refresh=False, screen=False)
        else:
            live = None
        active, shown = time.monotonic(), None
        with live or contextlib.nullcontext():
            while True:
                if live is not None:
                    room = max(1, live.console.height - 6)
                    live.update(make_table(self.folder, status, room), refresh=True)
                elif (line := describe(status)) != shown:
                    print(line, flush=True)
                    shown = line
                if status.count("running"):
                    active = time.monotonic()
                if status.is_over or time.monotonic() - active > self.patience:
                    return status
                time.sleep(self.interval)
                status = reader.read() or status


def describe(status: "StudyStatus") -> str:
    """Return a study's state in a line."""
    counts = [(state, status.count(state)) for state in ORDER]
    shown = ", ".join(f"{count} {state}" for state, count in counts if count)
    more = "" if status.is_planned else " (more are not known yet)"
    left = status.seconds_left
    time_left = "" if left is None else f"; about {describe_seconds(left)} left"
    return f"{count_cells(len(status.cells))}{more}: {shown}{time_left}"


def count_cells(number: int) -> str:
    """Return a number of cells in words."""
    return f"{number} cell{'' if number == 1 else 's'}"


def describe_seconds(seconds: float) -> str:
    """Return a time such as ``45 s``, ``12 min`` or ``3.5 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def make_table(name: str, status: "StudyStatus", room: int) -> "Table":
    """Return a study's state as a table of at most about as many rows as there is room for."""
    from rich.table import Table

    table = Table(title=printable(f"{name}: {describe(status)}"))
    for column in ("cell", "state"):
        table.add_column(column)
    for column in ("epoch", "loss", "AUC", "clips/s", "left"):
        table.add_column(column, justify="right")
    table.add_column("where, or why")
    unfinished = [cell for cell in status.cells if cell.state != "finished"]
    # The last ones first, as far as their order in the study tells.
    finished = [cell for cell in reversed(status.cells) if cell.state == "finished"]
    cells = [*sorted(unfinished, key=lambda cell: ORDER.index(cell.state)), *finished]
    for cell in cells[:room]:
        table.add_row(*_row(cell))
    if len(cells) > room:
        table.add_row(f"… and {len(cells) - room} more")
    return table


def _row(cell: "CellStatus") -> list[str]:
    epoch = loss = speed = left = about = ""
    if (beat := cell.heartbeat) is not None:
        within = (beat.step or 0) / (beat.steps_per_epoch or 1)
        epoch = f"{beat.epoch + within:.1f} of {beat.epochs}"
        loss = "" if beat.loss is None else f"{beat.loss:.4f}"
        speed = "" if beat.samples_per_s is None else f"{beat.samples_per_s:,.0f}"
        left = "" if beat.seconds_left is None else describe_seconds(beat.seconds_left)
        about = f"{beat.host}, process {beat.pid}"
    elif cell.error is not None:
        about = cell.error
    elif cell.seconds is not None:
        about = f"took {describe_seconds(cell.seconds)}"
    auc = "" if cell.auc is None else f"{cell.auc:.3f}"
    return [
        printable(part) for part in (cell.name, cell.state, epoch, loss, auc, speed, left, about)
    ]
