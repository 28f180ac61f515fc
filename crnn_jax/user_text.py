"""Escaping of user text (tags, names, paths) where it could be taken for more than text.

Terminals obey control characters, a line ends at the first line break, and spreadsheets evaluate
what begins like a formula.
"""

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

# What a spreadsheet takes for the start of a formula (OWASP, "CSV Injection"). A leading apostrophe
# makes it text. To make this reversible, text that has the start of a formula after apostrophes of
# its own gets one, too.
FORMULA = re.compile("'*[=+\\-@\t\r\n＝＋－＠]")
# Control characters, lone surrogates (bytes of a name that is not UTF-8), line and paragraph
# separators.
UNPRINTABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})


def printable(text: str) -> str:
    """Return `text` as one line, with an escape such as ``\\n`` for each unprintable character."""
    return "".join(
        sign.encode("unicode_escape").decode("ascii")
        if unicodedata.category(sign) in UNPRINTABLE
        else sign
        for sign in text
    )


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Return the text of a CSV file in which no field is a formula; see `csv_field`.

    Numbers are left unchanged, and None becomes an empty field.
    """
    lines = []
    for row in rows:
        line = io.StringIO()
        # With its default line terminator the writer quotes fields that contain \r or \n.
        csv.writer(line).writerow(
            f"'{field}" if isinstance(field, str) and FORMULA.match(field) else field
            for field in row
        )
        lines.append(line.getvalue().removesuffix("\r\n") + "\n")
    return "".join(lines)


def csv_field(field: str) -> str:
    """Return the text that `csv_text` wrote as `field`."""
    return field[1:] if field.startswith("'") and FORMULA.match(field) else field


def list_some(names: Sequence[str], shown: int = 3) -> str:
    """Return names as a list for a sentence, of which only so many are shown.

    >>> list_some(["a", "b", "c"], shown=1)
    'a and 2 more'
    """
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
