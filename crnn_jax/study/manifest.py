"""What a study consists of: ``study.json``, for those who look at it."""

import dataclasses
import itertools
import json
from collections.abc import Iterable, Mapping
from typing import Any

from etils import epath

from crnn_jax.files import write_file
from crnn_jax.locks import lock
from crnn_jax.study.runs import LOCKS
from crnn_jax.study.schema import Cell

FILE = "study.json"


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where a study comes from.

    Attributes
    ----------
    command
        The command that was given, as a line for a shell.
    question
        What the study asks, such as an experiment file's docstring.
    """

    command: str | None = None
    question: str | None = None


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a study consists of.

    Attributes
    ----------
    question
        What it asks.
    commands
        The commands that worked on it, in the order in which each came for the first time, and the
        names of its cells: none until its short runs are done, since the names contain the learning
        rates that these choose. "" stands for all that was done from Python.
    """

    question: str | None = None
    commands: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    @property
    def cells(self) -> tuple[str, ...]:
        """Names of all cells of all commands."""
        return tuple(dict.fromkeys(itertools.chain(*self.commands.values())))

    @property
    def command_lines(self) -> tuple[str, ...]:
        """The commands, as lines for a shell."""
        return tuple(filter(None, self.commands))


def read_manifest(out: epath.Path) -> Manifest | None:
    """Read a study's ``study.json``; None if it is missing, damaged, or another version's.

    Nothing depends on it but what is shown.
    """
    path = out / FILE
    try:
        values = json.loads(path.read_text())
        return Manifest(
            question=None if values["question"] is None else str(values["question"]),
            commands={
                command: _strings(cells) for command, cells in dict(values["commands"]).items()
            },
        )
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _strings(values: Any) -> tuple[str, ...]:
    if not (isinstance(values, list) and all(isinstance(value, str) for value in values)):
        raise TypeError
    return tuple(values)


def announce(out: epath.Path, origin: Origin, cells: Iterable[Cell] | None = None) -> None:
    """Add a command and its cells to a study's ``study.json``.

    Several commands may work on one folder, each with a grid of its own. A command that is given
    again, with a grid that was changed meanwhile, has the cells of its last grid.

    Parameters
    ----------
    out, origin
        The study, and where it comes from.
    cells
        The cells; None if they are not known yet.
    """
    with lock(out / LOCKS / "study", wait=True):
        there = read_manifest(out) or Manifest()
        command = origin.command or ""
        before = there.commands.get(command, ())
        names = tuple(cell.name for cell in cells or ())
        # Calls from Python cannot be told from each other.
        if cells is None or not command:
            names = tuple(dict.fromkeys((*before, *names)))
        manifest = Manifest(
            there.question if origin.question is None else origin.question,
            {**there.commands, command: names},
        )
        if manifest != there or not (out / FILE).exists():
            text = json.dumps(dataclasses.asdict(manifest), indent=2, ensure_ascii=False)
            write_file(out / FILE, (text + "\n").encode("utf-8", "backslashreplace"))
