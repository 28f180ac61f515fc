"""Parsing of arguments into a command."""

import contextlib
import io
import os
import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Union

import tyro

import crnn_jax
from crnn_jax.cli.commands.analysis import Analyse
from crnn_jax.cli.commands.benchmark import Benchmark
from crnn_jax.cli.commands.data import Inspect, Prepare
from crnn_jax.cli.commands.report import Compare, Report
from crnn_jax.cli.commands.study import Evaluate, Plot, Solve, Sweep, Train
from crnn_jax.cli.commands.tagging import Embed, ImportKeras, Tag
from crnn_jax.cli.commands.watch import Watch
from crnn_jax.cli.experiment import read_experiment
from crnn_jax.config import SweepConfig
from crnn_jax.errors import UserError

HELP = frozenset({"-h", "--help"})


def _experiment_of(arguments: Sequence[str]) -> SweepConfig:
    """Return the study of the experiment file among a sweep's arguments, or the default study.

    Only the parser can distinguish the file from the value of a flag.
    """
    asked = [argument for argument in arguments if argument not in HELP]
    helps = len(asked) < len(arguments)
    try:
        command = _command_of(asked, Sweep(out="" if helps else tyro.MISSING))
    except UserError:
        if not helps:
            raise
        return SweepConfig()
    return SweepConfig() if command.experiment is None else read_experiment(command.experiment)


REGISTRY = tyro.constructors.ConstructorRegistry()


@REGISTRY.primitive_rule
def _numbers_or_per_cent(
    info: tyro.constructors.PrimitiveTypeInfo,
) -> tyro.constructors.PrimitiveConstructorSpec | None:
    """Accept percentages for numbers on the command line: 10% is 0.1."""
    if info.type is not float:
        return None

    def parse(arguments: list[str]) -> float:
        text = arguments[0]
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)

    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="FLOAT",
        instance_from_str=parse,
        is_instance=lambda value: isinstance(value, float | int),
        str_from_instance=lambda value: [f"{value:g}"],
    )


def parse(arguments: Sequence[str]) -> Any:
    """Return the command that the arguments name, as its dataclass.

    Raises
    ------
    UserError
        If the arguments are invalid; the message is tyro's, in one line instead of a box.
    """
    study = _experiment_of(arguments) if arguments[:1] == ["sweep"] else SweepConfig()
    return _command_of(arguments, Sweep(**vars(study), out=tyro.MISSING))


def _command_of(arguments: Sequence[str], sweep: Sweep) -> Any:
    """Parse as `parse` does; `sweep` holds the defaults of that command."""
    subcommand = tyro.conf.subcommand
    commands: Any = Union[  # noqa: UP007 - built at run time
        Annotated[Solve, subcommand("solve")],
        Annotated[Prepare, subcommand("prepare")],
        Annotated[Inspect, subcommand("inspect")],
        Annotated[Train, subcommand("train")],
        Annotated[Sweep, subcommand("sweep", default=sweep)],
        Annotated[Evaluate, subcommand("evaluate")],
        Annotated[Tag, subcommand("tag")],
        Annotated[Embed, subcommand("embed")],
        Annotated[ImportKeras, subcommand("import-keras")],
        Annotated[Plot, subcommand("plot")],
        Annotated[Analyse, subcommand("analyse")],
        Annotated[Compare, subcommand("compare")],
        Annotated[Report, subcommand("report")],
        Annotated[Watch, subcommand("watch")],
        Annotated[Benchmark, subcommand("benchmark")],
    ]
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), _unbroken_lines(arguments):
            return tyro.cli(
                commands,
                prog="crnn-jax",
                description=crnn_jax.__doc__,
                args=arguments,
                registry=REGISTRY,
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise UserError(_one_line(said.getvalue())) from None


@contextlib.contextmanager
def _unbroken_lines(arguments: Sequence[str]) -> Iterator[None]:
    """Keep tyro from breaking lines, and so words, of errors; help is as wide as the terminal."""
    before = os.environ.get("COLUMNS")
    if HELP.isdisjoint(arguments):
        os.environ["COLUMNS"] = "1000000"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("COLUMNS", None)
        else:
            os.environ["COLUMNS"] = before


def _one_line(box: str) -> str:
    """Return the text of a box as one line."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", box)
    lines = (line.strip("│ ") for line in text.splitlines() if line[:1] not in "╭╰")
    return re.sub(r"\s+", " ", " ".join(line for line in lines if line.strip("─")))
