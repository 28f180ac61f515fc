"""Signatures of the API reference: the shapes of jaxtyping stay strings.

Griffe takes a string in an annotation for a forward reference if it can, so that
``Float[Array, "samples"]`` would lose its quotes and ``Float[Array, "mel frames"]`` would not.
"""

from collections.abc import Iterator
from typing import Any

import griffe


class JaxtypingShapes(griffe.Extension):
    """Puts the quotes back, in the annotations of functions and attributes."""

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        _quote_shapes(func.returns)
        for parameter in func.parameters:
            _quote_shapes(parameter.annotation)

    def on_attribute(self, *, attr: griffe.Attribute, **_: Any) -> None:
        _quote_shapes(attr.annotation)


def _quote_shapes(annotation: str | griffe.Expr | None) -> None:
    if not isinstance(annotation, griffe.Expr):
        return
    for part in _walk(annotation):
        if (
            isinstance(part, griffe.ExprSubscript)
            and isinstance(part.slice, griffe.ExprTuple)
            and part.canonical_path.startswith("jaxtyping.")
        ):
            array, shape = part.slice.elements
            part.slice.elements = [array, '"' + str(shape).strip("'\" ") + '"']


def _walk(expression: griffe.Expr) -> Iterator[griffe.Expr]:
    yield expression
    for part in expression.iterate(flat=False):
        # A name has itself as its only part.
        if isinstance(part, griffe.Expr) and part is not expression:
            yield from _walk(part)
