"""Text of the user's comes out as it went in, and is nothing but text on its way."""

import csv
import io

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from crnn_jax.user_text import csv_field, csv_text, printable

# OWASP, "CSV Injection": a field must not begin with one of these.
FORMULA_SIGNS = tuple("=+-@\t\r\n＝＋－＠")
words = st.text(
    st.one_of(st.sampled_from(["'", '"', ",", "x", *FORMULA_SIGNS]), st.characters(codec="utf-8")),
    max_size=6,
)


@given(st.lists(words, min_size=1, max_size=3))
@example(["=cmd|' /C calc'!A0", "'=1", "''=1", "'80s", "-0.5", "\r", "a\rb", ""])
@settings(deadline=None)
def test_no_field_begins_like_a_formula_and_each_is_read_back(row):
    (read,) = csv.reader(io.StringIO(csv_text([row]), newline=""))
    assert not any(field.startswith(FORMULA_SIGNS) for field in read)
    assert [csv_field(field) for field in read] == row


def test_numbers_and_ordinary_words_are_written_as_they_are():
    row = [-0.5, -3, 1e-9, None, "rock", "'80s", "drum'n'bass", "rock-n-roll", "a=b"]
    assert csv_text([row]) == "-0.5,-3,1e-09,,rock,'80s,drum'n'bass,rock-n-roll,a=b\n"


def test_a_table_of_an_older_version_is_read_as_it_stands():
    for field in ("=x", "-x", "'80s", "'", ""):
        assert csv_field(field) == field


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("two\nlines\r", "two\\nlines\\r"),
        ("\x1b[31mred\x07\x9b", "\\x1b[31mred\\x07\\x9b"),
        ("\u2028\u2029", "\\u2028\\u2029"),
        (b"\xff.wav".decode("utf-8", "surrogateescape"), "\\udcff.wav"),
        ("ambiance\xa0féerique, 日本語, שלום, 🎸", "ambiance\xa0féerique, 日本語, שלום, 🎸"),
    ],
)
def test_what_is_shown_is_one_line_of_readable_signs(text, shown):
    assert printable(text) == shown
