"""What the command line shows: tables, progress, and a sweep's events."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from crnn_jax.study.schema import Cell, Network
from crnn_jax.user_text import list_some, printable

if TYPE_CHECKING:
    from rich.progress import Progress
    from rich.table import Table

    from crnn_jax.study.events import OnSweepEvent, SweepEvent
    from crnn_jax.train.events import TrainEvent


# Of the tags that have few positive clips in a split.
TAGS_SHOWN = 5


class _SweepDisplay:
    """Two progress bars, and a line per finished cell."""

    def __init__(self, progress: "Progress"):
        self.progress = progress
        self.n_cells: int | None = None
        self.done = 0
        self.valid_auc: float | None = None
        self.sweep_bar = progress.add_task("Sweep", total=None)
        self.cell_bar = progress.add_task("", total=1.0, visible=False)

    def show(self, event: "SweepEvent") -> None:
        """Show an event."""
        from crnn_jax.study import events

        match event:
            case events.SweepStarted(cells):
                # A study's short runs are a sweep before it.
                self.n_cells, self.done = len(cells), 0
                description = f"Sweep of {len(cells)} cells"
                self.progress.reset(self.sweep_bar, total=len(cells), description=description)
            case events.RareTags(tags):
                self.progress.console.print(printable(_describe_rare(tags)))
            case events.RatesChosen(rates):
                self.progress.console.print(_describe_rates(rates))
            case events.CellStarted(cell, budget):
                self.valid_auc = None
                text = f"{cell.name}: {budget.params:,} parameters, compiling"
                self.progress.update(self.cell_bar, completed=0.0, description=text, visible=True)
            case events.CellProgress(cell, event_of_cell, max_epochs):
                self._show_training(cell, event_of_cell, max_epochs)
            case events.CellFinished(cell, result):
                self._end(
                    cell,
                    f"test AUC {result.test_auc:.4f}, {result.params:,} parameters, "
                    f"{result.epochs} epochs in {result.train_s:.1f} s "
                    f"(ended by {result.ended_by}; {result.compile_s:.1f} s of compilation)",
                )
            case events.CellSkipped(cell):
                self._end(cell, "already finished")
            case events.CellFailed(cell, error):
                self._end(cell, f"failed: {error}")
            case events.CellLeft(cell):
                self._end(cell, "left to another process, which is still training it")

    def _show_training(self, cell: Cell, event: "TrainEvent", max_epochs: int) -> None:
        from crnn_jax.train.events import EpochDone, StepDone

        match event:
            case EpochDone(history):
                self.valid_auc = history[-1].valid_auc
            case StepDone(epoch, step, steps_per_epoch, loss):
                fraction = (epoch + step / steps_per_epoch) / max_epochs
                score = "" if self.valid_auc is None else f", validation AUC {self.valid_auc:.3f}"
                text = f"{cell.name}: epoch {epoch + 1}, loss {loss:.4f}{score}"
                self.progress.update(self.cell_bar, completed=fraction, description=text)
                self.progress.update(self.sweep_bar, completed=self.done + fraction)

    def _end(self, cell: Cell, text: str) -> None:
        self.done += 1
        self.progress.update(self.sweep_bar, completed=self.done)
        self.progress.update(self.cell_bar, visible=False)
        line = f"[{self.done}/{self.n_cells}] {cell.name}: {text}"
        self.progress.console.print(printable(line))


def _describe_rare(tags: dict[str, tuple[str, ...]]) -> str:
    """Describe in one line which tags have too few positive examples in which split."""
    shown = []
    for split, names in tags.items():
        shown.append(f"{split}: {list_some(names, TAGS_SHOWN)}")
    return f"Fewer than five positive clips ({'; '.join(shown)}): these tags' scores say little"


def _describe_rates(rates: dict[Network, float]) -> str:
    """Describe in a line per architecture and rule which learning rate each size will have."""
    lines: dict[str, list[str]] = {}
    for (arch, rule, target, train_fraction), rate in rates.items():
        part = "" if train_fraction is None else f" with {train_fraction:g} of the data"
        lines.setdefault(f"{arch}, {rule}", []).append(f"{rate:g} at {target:,}{part}")
    shown = "\n".join(f"  {network}: {', '.join(parts)}" for network, parts in lines.items())
    return f"Best learning rates of the short runs:\n{shown}"


@contextlib.contextmanager
def show_sweep() -> Iterator["OnSweepEvent"]:
    """Show a sweep's progress; yield the function to call with each of its events."""
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=make_console()) as progress:
        yield _SweepDisplay(progress).show


@contextlib.contextmanager
def show_preparation(name: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar; yield the function to call with the tracks done and the total."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=make_console()) as progress:
        task = progress.add_task(f"Preparing {name}", total=None, visible=False)

        def report(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total, visible=True)

        yield report


def print_table(table: "Table") -> None:
    """Print a table at its full width: rich would shrink columns until nothing is left of them.

    A narrower terminal wraps the lines.
    """
    console = make_console()
    without_limit = console.options.update(width=sys.maxsize)
    console.width = max(console.width, console.measure(table, options=without_limit).maximum)
    console.print(table)


def make_console(*, stderr: bool = False) -> Any:
    """Return a console as wide as the terminal, or in a log wide enough for a line per cell.

    Text is shown literally: ``[bold]`` or ``:guitar:`` may be a tag of the music.
    """
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(
        width=None if stream.isatty() else 160,
        stderr=stderr,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=True,
    )
