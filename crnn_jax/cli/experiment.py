"""Experiment files: Python that defines ``SWEEP = SweepConfig(...)``."""

import builtins
import dataclasses
import importlib.util
import traceback
import types
import typing
from pathlib import Path
from typing import Any

from crnn_jax.config import SweepConfig
from crnn_jax.errors import UserError


def read_experiment(name: str) -> SweepConfig:
    """Run an experiment file and return its study.

    Raises
    ------
    UserError
        If it is not a Python file, raises, or does not define a valid ``SWEEP``.
    """
    path = Path(name)
    if path.suffix != ".py" or not path.is_file():
        raise UserError(f"{path}: no such experiment file (.py); see experiments/")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.origin is not None
    module = importlib.util.module_from_spec(spec)
    try:
        # Not by the loader, which would read a compiled copy that may be older than the file, and
        # leave one next to it.
        exec(compile(path.read_bytes(), spec.origin, "exec", dont_inherit=True), module.__dict__)
    # Whatever a user's file raises is a user error, SystemExit included.
    except (Exception, SystemExit) as error:
        calls = traceback.walk_tb(error.__traceback__)
        lines = [line for frame, line in calls if frame.f_code.co_filename == spec.origin]
        said = " ".join(str(error).split())
        if isinstance(error, SyntaxError) and error.filename == spec.origin:
            lines, said = [error.lineno or 1], error.msg
        if not isinstance(error, UserError):
            said = f"{type(error).__name__}: {said}"
        place = f"{path}, line {lines[-1]}" if lines else f"{path}"
        raise UserError(f"{place}: {said}; correct the file") from error
    study = getattr(module, "SWEEP", None)
    if not isinstance(study, SweepConfig):
        raise UserError(f"{path}: does not define `SWEEP = SweepConfig(...)`; add it")
    if (misfit := _misfit(study)) is not None:
        raise UserError(f"{path}: SWEEP{misfit}; correct the file")
    return study


def _misfit(config: Any) -> str | None:
    """Describe the first value of a configuration that does not match its field's type."""
    for name, hint in typing.get_type_hints(type(config)).items():
        value = getattr(config, name)
        if not _is_of_type(value, hint):
            wanted = hint.__name__ if isinstance(hint, type) else str(hint)
            return f".{name} = {value!r} is not {wanted.replace('typing.', '')}"
        if dataclasses.is_dataclass(value) and (misfit := _misfit(value)) is not None:
            return f".{name}{misfit}"
    return None


def _is_of_type(value: Any, hint: Any) -> bool:
    """Return whether a value matches a type hint, of the kinds that the configurations use."""
    within = typing.get_args(hint)
    match typing.get_origin(hint):
        case typing.Literal:
            return value in within
        case types.UnionType:
            return any(_is_of_type(value, one) for one in within)
        case builtins.tuple:
            if not isinstance(value, tuple | list):
                return False
            hints = within[:1] * len(value) if within[1:] == (...,) else within
            return len(hints) == len(value) and all(map(_is_of_type, value, hints))
    numbers = int | float if hint is float else hint
    return isinstance(value, numbers) and (hint is bool or not isinstance(value, bool))
