"""Any name is drawn: in one line, with characters that the font has, never as a formula."""

from xml.etree import ElementTree

from etils import epath
from hypothesis import given
from hypothesis import strategies as st

from crnn_jax.figures.auc_against_parameters import auc_against_parameters
from crnn_jax.figures.auc_against_time import auc_against_training_time
from crnn_jax.figures.canvas import write_figure
from crnn_jax.figures.names import drawable
from crnn_jax.figures.per_tag import per_tag_auc
from tests.figures.artists import tick_texts
from tests.tables import make_results, make_scores

ODD = {
    **{"two\nlines": "$\\frac$", "\x1b[31m\x00": "日本語", "日本語": "_", "_hidden": "50%"},
    **{"שלום": "a--b", "<&>": "W" * 500, "x" * 5000: "\t", "🎸": "", "é": "é"},
}


@given(st.text(), st.integers(1, 50))
def test_a_name_is_short_and_in_one_line(name, longest):
    assert len(drawable(name, longest)) <= longest
    assert len(drawable(name).splitlines()) <= 1


def test_half_a_surrogate_pair_is_escaped():
    """It stands for a byte of a file's name that is not UTF-8."""
    assert drawable("a\udcff.mp3") == "a\\udcff.mp3"


def test_any_name_is_drawn(tmp_path):
    """Without a warning (they are errors here), and as XML that can be read again."""
    results = make_results(architectures=tuple(ODD)).assign(device="$\\frac$ 日\n")
    tags = per_tag_auc(make_scores(tags=ODD, without_auc=("_hidden",)), 100_000)
    names = tick_texts(tags.axes[-1].xaxis)
    assert {"two\\nlines (1)", "\\x1b[31m\\x00 (2)", "□□□ (3)", "שלום (5)"} < set(names)
    assert max(map(len, names)) < 50
    for name, figure in (
        ("tags", tags),
        ("time", auc_against_training_time(results)),
        ("parameters", auc_against_parameters(results)),
    ):
        _, svg = write_figure(figure, epath.Path(tmp_path), name)
        ElementTree.parse(svg)
