"""What a study consists of: ``study.json``, for those who look at it."""

import dataclasses
import json
from collections.abc import Iterable
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
    commands
        The commands that worked on it, in the order in which each came for the first time.
    question
        What it asks.
    cells
        Names of all cells of all commands. Empty until the study's short runs are done, since the
        names contain the learning rates that these choose.
    """

    commands: tuple[str, ...] = ()
    question: str | None = None
    cells: tuple[str, ...] = ()


def read_manifest(out: epath.Path) -> Manifest | None:
    """Read a study's ``study.json``; None if it is missing or damaged.

    Older versions wrote none. Nothing depends on it but what is shown.
    """
    path = out / FILE
    try:
        values = json.loads(path.read_text())
        return Manifest(
            commands=_strings(values["commands"]),
            question=None if values["question"] is None else str(values["question"]),
            cells=_strings(values["cells"]),
        )
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _strings(values: Any) -> tuple[str, ...]:
    if not (isinstance(values, list) and all(isinstance(value, str) for value in values)):
        raise TypeError
    return tuple(values)


def announce(out: epath.Path, origin: Origin, cells: Iterable[Cell] = ()) -> None:
    """Add a command and its cells to a study's ``study.json``.

    Several commands may work on one folder, each with a grid of its own.
    """
    with lock(out / LOCKS / "study", wait=True):
        there = read_manifest(out) or Manifest()
        command = () if origin.command is None else (origin.command,)
        manifest = Manifest(
            commands=tuple(dict.fromkeys((*there.commands, *command))),
            question=there.question if origin.question is None else origin.question,
            cells=tuple(dict.fromkeys((*there.cells, *(cell.name for cell in cells)))),
        )
        if manifest != there or not (out / FILE).exists():
            text = json.dumps(dataclasses.asdict(manifest), indent=2, ensure_ascii=False)
            write_file(out / FILE, (text + "\n").encode("utf-8", "backslashreplace"))
