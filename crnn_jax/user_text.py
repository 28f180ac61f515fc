"""What users have written - tags, names, paths - where it would be taken for more than text.

A terminal obeys control characters, a line ends at the first line break, and a spreadsheet computes
what begins like a formula.
"""

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

# What a spreadsheet takes for the beginning of a formula (OWASP, "CSV Injection"). An apostrophe in
# front makes it text; to be taken off again, it is put before text that begins so after
# apostrophes of its own, too.
FORMULA = re.compile("'*[=+\\-@\t\r\n＝＋－＠]")
# Control characters, halves of surrogate pairs (bytes of a name that is not UTF-8), line and
# paragraph separators.
UNPRINTABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})


def printable(text: str) -> str:
    """`text` in one line: an escape such as ``\\n`` for each character that is not for reading."""
    return "".join(
        sign.encode("unicode_escape").decode("ascii")
        if unicodedata.category(sign) in UNPRINTABLE
        else sign
        for sign in text
    )


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Rows of a CSV file, in which no text is a formula; see `csv_field`.

    Numbers stay what they are, and None is an empty field.
    """
    lines = []
    for row in rows:
        line = io.StringIO()
        # With its own line ends the writer quotes both of their characters in a field.
        csv.writer(line).writerow(
            f"'{field}" if isinstance(field, str) and FORMULA.match(field) else field
            for field in row
        )
        lines.append(line.getvalue().removesuffix("\r\n") + "\n")
    return "".join(lines)


def csv_field(field: str) -> str:
    """The text that `csv_text` has written as `field`."""
    return field[1:] if field.startswith("'") and FORMULA.match(field) else field
