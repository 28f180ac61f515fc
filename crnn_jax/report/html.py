"""Pieces of HTML, in which users' text is text: tags and names cannot become elements or code."""

import contextlib
import dataclasses
import html
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import resources
from string import Template
from typing import Any

from etils import epath

from crnn_jax.errors import DISK_ERRORS, UserError
from crnn_jax.files import write_file
from crnn_jax.user_text import printable


@dataclasses.dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes
    ----------
    text
        What is shown.
    value
        What the column is sorted by, if that is a number.
    markup
        HTML that is shown in place of the text.
    """

    text: str
    value: float | None = None
    markup: str | None = None


def escape(text: str) -> str:
    """Return text as HTML, in its own direction of writing."""
    return f"<bdi>{html.escape(printable(text))}</bdi>"


def attribute(text: str) -> str:
    """Return text as the quoted value of an attribute."""
    return f'"{html.escape(printable(text))}"'


def number(value: float | None, form: str) -> Cell:
    """Return a number's cell; without one, a dash that is sorted to the end."""
    if value is None:
        return Cell("–", float("nan"))
    return Cell(format(value, form), value)


def make_table(
    identifier: str,
    caption: str,
    columns: Sequence[tuple[str, bool]],
    rows: Iterable[tuple[str, Sequence[Cell]]],
    *,
    is_sortable: bool = True,
) -> str:
    """Return a table.

    Parameters
    ----------
    identifier, caption
        The table's ``id``, and what it shows.
    columns
        Names, and whether they hold text (left) or numbers (right).
    rows
        Attributes of each row, and its cells.
    is_sortable
        Whether the headers are buttons that sort the rows.
    """
    head = "".join(
        f'<th scope="col"{_class(is_text)} aria-sort="none"><button>{html.escape(name)}</button>'
        f"</th>"
        if is_sortable
        else f'<th scope="col"{_class(is_text)}>{html.escape(name)}</th>'
        for name, is_text in columns
    )
    body = "\n".join(
        f"<tr{attributes}>"
        + "".join(
            f"<td{_class(is_text)}{_value(cell)}>"
            f"{html.escape(cell.text) if cell.markup is None else cell.markup}</td>"
            for cell, (_, is_text) in zip(cells, columns, strict=True)
        )
        + "</tr>"
        for attributes, cells in rows
    )
    # A region that scrolls must be reachable by the keyboard.
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label={attribute(caption)}>'
        f'<table id="{identifier}"><caption>{html.escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


def _class(is_text: bool) -> str:
    return ' class="text"' if is_text else ""


def _value(cell: Cell) -> str:
    return "" if cell.value is None else f' data-value="{cell.value!r}"'


def make_list(sentences: Sequence[str], shown: int | None = None) -> str:
    """Return a list, of which what is beyond the first ones is folded away."""
    first, more = sentences[:shown], sentences[shown:] if shown is not None else ()
    parts = ["<ul>", *(f"<li>{escape(each)}</li>" for each in first), "</ul>"]
    if more:
        parts += [f"<details><summary>{len(more)} more</summary>", make_list(more), "</details>"]
    return "".join(parts)


def make_facts(facts: Mapping[str, str]) -> str:
    """Return a list of names and what is said of each."""
    listed = (
        f"<dt>{html.escape(name)}</dt><dd>{escape(fact)}</dd>" for name, fact in facts.items()
    )
    return f"<dl>{''.join(listed)}</dl>"


def make_notes(title: str, notes: Sequence[str]) -> str:
    """Return a section of notes, if there are any."""
    return f"<section><h2>{html.escape(title)}</h2>{make_list(notes)}</section>" if notes else ""


def make_select(
    identifier: str, label: str, options: Sequence[tuple[str, str]], chosen: str
) -> str:
    """Return a labelled list of options, each a value and its text."""
    listed = "".join(
        f"<option value={attribute(value)}{' selected' if value == chosen else ''}>"
        f"{html.escape(text)}</option>"
        for value, text in options
    )
    return f'<label>{html.escape(label)} <select id="{identifier}">{listed}</select></label>'


def make_page(title: str, body: str, contents: Any, script: str, bundle: str) -> bytes:
    """Return a page in which everything is that it needs.

    Parameters
    ----------
    title, body
        Its title, and the HTML of its body.
    contents
        What its script reads, as JSON values.
    script
        Name of the script among the assets.
    bundle
        The script of `bundling`.
    """
    # Within a script element only these end it; in JSON, characters may be written as escapes.
    values = json.dumps(contents, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    page = Template(read_asset("page.html")).substitute(
        title=html.escape(printable(title)),
        style=read_asset("page.css"),
        body=body,
        contents=values,
        bundle=bundle,
        script=read_asset("common.js") + read_asset(script),
    )
    return page.encode()


def write_page(path: epath.Path, page: bytes) -> None:
    """Write a page; one that was there is replaced in one piece.

    Raises
    ------
    UserError
        If it cannot be written there.
    """
    try:
        write_file(path, page)
    except OSError as error:
        of_path = (FileNotFoundError, IsADirectoryError)
        if error.errno not in DISK_ERRORS and not isinstance(error, of_path):
            raise
        raise UserError(
            f"{error.strerror or error}; give a file that can be written", field="out", value=path
        ) from error


def read_asset(name: str) -> str:
    """Return the text of a file of the page."""
    return resources.files("crnn_jax.report").joinpath("assets", name).read_text("utf-8")


# What the other process of `bundling` does.
MAKE_BUNDLE = "import sys, vl_convert; sys.stdout.write(vl_convert.javascript_bundle())"


@contextlib.contextmanager
def bundling() -> Iterator[Callable[[], str]]:
    """Make one script of Vega, Vega-Lite and Vega-Embed; yield the function that waits for it.

    That takes seconds, in a process of its own: meanwhile this one analyses.

    Raises
    ------
    UserError
        If what draws the charts is not installed.
    """
    require_altair()
    # -P: nothing is imported from the folder that the command was given in.
    command = [sys.executable, "-P", "-c", MAKE_BUNDLE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as process:

        def wait() -> str:
            bundle, _ = process.communicate()
            if process.returncode:
                raise RuntimeError(f"vl_convert ended with exit code {process.returncode}")
            # It would end the script element; in strings and patterns this is the same.
            return bundle.replace("</script", r"<\/script")

        try:
            yield wait
        finally:
            # Something has failed here if it is still working.
            process.kill()


def require_altair() -> None:
    """Raise a UserError unless Altair and its bundle of scripts are installed."""
    try:
        import altair  # noqa: F401
        import vl_convert  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(f"a report needs {error.name}; `pip install 'crnn_jax[report]'`") from error
