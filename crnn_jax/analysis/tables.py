"""Read a study's tables, check them against `crnn_jax.study.schema`, and average over seeds."""

import io
import typing
from collections.abc import Sequence
from typing import Any, Literal

import pandas as pd
from etils import epath

from crnn_jax.errors import UserError
from crnn_jax.study.schema import (
    AXIS_COLUMNS,
    CELL_COLUMNS,
    RESULT_COLUMNS,
    TAG_COLUMNS,
    RunResult,
    TagResult,
)
from crnn_jax.user_text import csv_field

PER_TAG_COLUMNS = (*CELL_COLUMNS, *AXIS_COLUMNS, *TAG_COLUMNS)
# A table may contain an architecture that is not registered here.
COLUMN_TYPES: dict[str, Any] = {
    **typing.get_type_hints(TagResult),
    **typing.get_type_hints(RunResult),
    "arch": str,
}
# Elsewhere an empty field is a number that was not measured: it becomes NaN or NA.
NEVER_EMPTY = frozenset({*CELL_COLUMNS, "params", "tag", "popularity_rank"})
# Tables of older versions lack them: they are read as empty.
LATER_COLUMNS = frozenset(
    {
        *(*AXIS_COLUMNS, "test_bce", "test_calibration_error", "test_auc_unheard"),
        "auc_unheard",
    }
)
# Drawn on logarithmic axes.
ABOVE_ZERO = frozenset({"target", "params"})

# Nothing that is measured is negative or infinite. 15 digits are exact in a float64.
WHOLE_NUMBER = r"[0-9]{1,15}"
WHOLE_NUMBER_ABOVE_ZERO = r"[1-9][0-9]{0,14}"
NUMBER = r"[0-9]{1,99}(\.[0-9]*)?([eE][+-]?[0-9]{1,2})?"


class _BadTable(Exception):
    """The text is not a table; the message does not name the file yet."""


def read_results(folder: epath.PathLike, columns: Sequence[str] = RESULT_COLUMNS) -> pd.DataFrame:
    """Read ``results.csv``, a row for each run.

    Parameters
    ----------
    folder
        The sweep's folder, local or in a bucket (``gs://…``).
    columns
        The columns that are needed; the others are not read.

    Raises
    ------
    UserError
        If the file is missing, is not a table, has no rows, lacks a column, or holds a value that
        is not of the column's type.
    """
    return _read(epath.Path(folder) / "results.csv", columns)


def read_per_tag(folder: epath.PathLike, columns: Sequence[str] = PER_TAG_COLUMNS) -> pd.DataFrame:
    """Read ``per_tag.csv``, a row for each run and tag; see `read_results`."""
    return _read(epath.Path(folder) / "per_tag.csv", columns)


def mean_over_seeds(results: pd.DataFrame, column: str) -> pd.DataFrame:
    """Average a column and the test AUC over the seeds of each network and time budget.

    Runs without a test AUC, and runs whose `column` is missing or 0, are left out.

    Returns
    -------
    pandas.DataFrame
        Sorted by ``arch``, ``rule``, ``target`` and ``max_train_seconds``; the other columns are
        the means of `column` and ``test_auc``, the ``lowest_auc`` and ``highest_auc`` of a seed,
        and ``n_seeds``.
    """
    known = results[results["test_auc"].notna() & (results[column] > 0).fillna(False)]
    keys = ["arch", "rule", "target", "max_train_seconds"]
    return known.groupby(keys, as_index=False, dropna=False).agg(
        **{column: (column, "mean")},
        test_auc=("test_auc", "mean"),
        lowest_auc=("test_auc", "min"),
        highest_auc=("test_auc", "max"),
        n_seeds=("test_auc", "size"),
    )


def mean_tag_auc(scores: pd.DataFrame) -> pd.DataFrame:
    """Average each tag's AUC over the seeds of each architecture.

    Parameters
    ----------
    scores
        Rows of ``per_tag.csv`` with one target and one rule.

    Returns
    -------
    pandas.DataFrame
        A row for each tag, in the order of `scores`, and a column for each architecture; NaN
        where no seed has an AUC.
    """
    means = scores.groupby(["tag", "arch"])["auc"].mean().unstack("arch")
    return means.loc[scores["tag"].unique()]


def read_table(path: epath.Path, columns: Sequence[str], command: str) -> pd.DataFrame:
    """Read a table whose columns are some of a study's.

    Parameters
    ----------
    path
        The file.
    columns
        The columns that are needed; the others are not read.
    command
        What writes the file, for messages.

    Raises
    ------
    UserError
        As in `read_results`.
    """
    try:
        # A spreadsheet program that saved the file again puts a byte-order mark in front.
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}; {command} writes it") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text; {command} writes it again") from error
    try:
        fields = _read_fields(text)
        for name in LATER_COLUMNS - set(fields):
            fields[name] = ""
        if missing := [name for name in columns if name not in fields]:
            raise _BadTable(f"lacks the column {', '.join(missing)}")
        table = pd.DataFrame({name: _convert(fields[name]) for name in columns})
    except (_BadTable, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise UserError(f"{path}: {error}; {command} writes it again") from error
    if table.empty:
        raise UserError(f"{path}: holds no rows; {command} adds a row when a run is finished")
    return table.reset_index(drop=True)


def _read(path: epath.Path, columns: Sequence[str]) -> pd.DataFrame:
    return read_table(path, columns, f"`crnn-jax sweep … --out {path.parent}`")


def _read_fields(text: str) -> pd.DataFrame:
    """Read CSV as text: NaN marks a field that its line lacks; the index is a spreadsheet's row."""
    if not text.strip():
        raise _BadTable("holds no rows")
    fields = pd.read_csv(
        io.StringIO(text, newline=""),
        dtype=str,
        keep_default_na=False,
        skip_blank_lines=False,
        # The other engine does not distinguish an empty field from a missing one.
        engine="python",
    )
    if not isinstance(fields.index, pd.RangeIndex):
        raise _BadTable("row 2: more fields than the header")
    fields.index += 2
    return fields.dropna(how="all")


def _convert(fields: pd.Series) -> pd.Series:
    """Convert a column from text to its type."""
    name = fields.name
    if fields.hasnans:
        raise _BadTable(f"row {fields.isna().idxmax()}: ends before the column {name}")
    column_type = COLUMN_TYPES[name]
    options = typing.get_args(column_type)
    if typing.get_origin(column_type) is Literal:
        _require(fields.isin(options), fields, f"one of {', '.join(options)}")
    elif column_type is str:
        _require(fields != "", fields, "a name")
    elif float in (column_type, *options):
        _require(fields.str.fullmatch(NUMBER), fields, "a number of at least 0")
        return fields.where(fields != "").astype(float)
    else:
        if name in ABOVE_ZERO:
            whole_number, expected = WHOLE_NUMBER_ABOVE_ZERO, "a whole number above 0"
        else:
            whole_number, expected = WHOLE_NUMBER, "a whole number of at least 0"
        _require(fields.str.fullmatch(whole_number), fields, expected)
        numbers = fields.where(fields != "").astype(float)
        return numbers.astype(int if name in NEVER_EMPTY else "Int64")
    return fields.map(csv_field)


def _require(valid: pd.Series, fields: pd.Series, expected: str) -> None:
    if fields.name not in NEVER_EMPTY:
        valid = valid | (fields == "")
    if not valid.all():
        row = valid.idxmin()
        raise _BadTable(f"row {row}: {fields.name} {fields[row]!r} is not {expected}")
