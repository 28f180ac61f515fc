"""Conversion of frozen dataclasses to JSON and back, by their type hints."""

import dataclasses
import functools
import json
import types
import typing
from collections.abc import Hashable, Mapping
from typing import Any, TypeVar, cast

RecordT = TypeVar("RecordT")


def to_json(record: Any) -> str:
    """Return a dataclass as JSON, with keys in the order of the fields."""
    return json.dumps(dataclasses.asdict(record), indent=2)


def from_mapping(cls: type[RecordT], values: Mapping[str, Any]) -> RecordT:
    """Build a dataclass from parsed JSON, nested dataclasses and tuples included.

    Raises
    ------
    TypeError
        If a key is not a field of `cls`, or a field without a default is missing.
    """
    hints = _hints_of(cast(Hashable, cls))
    return cls(**{key: _restored(hints.get(key), value) for key, value in values.items()})


@functools.cache
def _hints_of(cls: Hashable) -> dict[str, Any]:
    # Evaluating them takes longer than all else.
    return typing.get_type_hints(cls)


def _restored(hint: Any, value: Any) -> Any:
    """Convert a JSON value to its type hint: lists become tuples, mappings dataclasses."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        others = [each for each in typing.get_args(hint) if each is not types.NoneType]
        hint = others[0] if len(others) == 1 else None
    if isinstance(value, Mapping) and dataclasses.is_dataclass(hint):
        return from_mapping(typing.cast(type, hint), value)
    if isinstance(value, list):
        options = typing.get_args(hint) or (Any, ...)
        # A tuple of any length has one item type, one of fixed length has a type per position.
        of_each = options[:1] * len(value) if options[-1] is ... else options
        return tuple(_restored(each, entry) for each, entry in zip(of_each, value, strict=True))
    return value
