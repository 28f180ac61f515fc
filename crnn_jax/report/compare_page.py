"""The page of several studies side by side: one HTML file that opens offline."""

import html
from collections.abc import Iterator

from etils import epath

from crnn_jax.analysis.across import Across, Match
from crnn_jax.analysis.words import describe_change
from crnn_jax.figures.looks import BLUE, GREEN, OTHER_COLOURS, VERMILION
from crnn_jax.report.contents import (
    AXES,
    count_values,
    list_lines,
    list_versions,
    make_columns,
    name_architecture,
)
from crnn_jax.report.html import (
    Cell,
    attribute,
    escape,
    make_list,
    make_notes,
    make_page,
    make_select,
    make_table,
    number,
)
from crnn_jax.report.looks import make_looks
from crnn_jax.user_text import printable

COLOURS = (BLUE, VERMILION, GREEN, *OTHER_COLOURS)
# Sentences on the first screen.
FIRST_SENTENCES = 8


def render_comparison(across: Across, bundle: str) -> bytes:
    """Return the page of several studies; `bundle` is that of `crnn_jax.report.html.bundling`."""
    # It needs Altair; this module can be imported without, to say so.
    from crnn_jax.report.compare_charts import make_comparison_charts

    names = name_studies(across)
    lines = list_lines((match.arch, match.rule) for match in across.matches)
    line_names = {(line.arch, line.rule): line.name for line in lines}
    values = {
        "charts": make_comparison_charts(lines, names),
        "tables": {
            "points": make_columns(
                ("study", "line", "target", "auc", "low", "high", *AXES), _list_points(across)
            ),
            "differences": make_columns(
                ("study", "line", "target", "value", "low", "high"), _list_differences(across)
            ),
        },
        "studies": names,
        "lines": {
            f"{arch}/{rule}": {
                "line": name, "architecture": name_architecture(arch), "rule": rule
            }
            for (arch, rule), name in line_names.items()
        },
        "looks": make_looks(COLOURS[place % len(COLOURS)] for place in range(len(names))),
    }  # fmt: skip
    select = make_select("axis", "Against", list(AXES.items()), "params")
    body = "\n".join(
        (
            _make_header(across, names),
            _make_legend(names),
            '<main id="main">',
            '<section><h2>Differences</h2><figure><div class="chart" id="differences"></div>'
            f"<figcaption>AUC minus that in {escape(names[0])}, with 95 % intervals."
            "</figcaption></figure></section>",
            f'<section><h2>AUC against its cost</h2><div class="controls">{select}</div><figure>'
            '<div class="chart" id="costs"></div><figcaption>Means over seeds, with 95 % intervals '
            "over seeds and test clips.</figcaption></figure></section>",
            _make_matches(across, names),
            make_notes("To be kept in mind", across.notes),
            _make_provenance(across, names),
            "</main>",
        )
    )
    return make_page(f"{', '.join(names)} compared", body, values, "compare.js", bundle)


def name_studies(across: Across) -> list[str]:
    """Return a name for each study: its folder's last part that distinguishes it, numbered."""
    paths = [
        epath.Path(printable(str(epath.Path(each).resolve()))).parts for each in across.folders
    ]
    for length in range(1, 1 + max(map(len, paths))):
        names = ["/".join(parts[-length:]) for parts in paths]
        if len(set(names)) == len(names):
            return names
    # The same folder twice.
    return [f"{printable(name)} ({place})" for place, name in enumerate(across.folders, start=1)]


def _list_points(across: Across) -> Iterator[tuple]:
    for match in across.matches:
        for study, score in enumerate(match.scores):
            if score is not None:
                interval = score.auc_interval or (None, None)
                yield (
                    *(study, f"{match.arch}/{match.rule}", match.target, score.auc, *interval),
                    *(getattr(score, axis) for axis in AXES),
                )


def _list_differences(across: Across) -> Iterator[tuple]:
    for match in across.matches:
        for study, difference in enumerate(match.differences):
            if difference is not None:
                auc = difference.auc
                yield (
                    *(study, f"{match.arch}/{match.rule}", match.target),
                    *(auc.value, auc.low, auc.high),
                )


def _make_header(across: Across, names: list[str]) -> str:
    said = [
        describe_change(difference, names[place], names[0])
        for match in across.matches
        for place, difference in enumerate(match.differences)
        if difference is not None
    ]
    facts = "".join(
        f"<li><strong>{escape(name)}</strong>: {escape(dataset)}, {len(results)} runs"
        f"{_describe_split(across, place)}</li>"
        for place, (name, dataset, results) in enumerate(
            zip(names, across.datasets, across.results, strict=True)
        )
    )
    verdict = (
        '<section class="verdict" aria-label="Verdict"><strong>What differs</strong>'
        f"{make_list(said, shown=FIRST_SENTENCES)}</section>"
        if said
        else ""
    )
    return (
        f"<header><h1>{escape(names[0])}, compared with {escape(', '.join(names[1:]))}</h1>"
        f'<ul class="facts">{facts}</ul>{verdict}</header>'
    )


def _describe_split(across: Across, place: int) -> str:
    if place == 0:
        return ""
    if not any(match.differences[place] for match in across.matches):
        return "; no differences, since it or the first has no predictions-test.npz"
    if across.is_paired[place]:
        return "; the same test clips, so that differences are paired"
    return "; other test clips, so that differences are not paired"


def _make_legend(names: list[str]) -> str:
    buttons = "".join(
        f'<button class="legend" data-line={attribute(name)} aria-pressed="false">'
        f'<svg width="14" height="14" viewBox="0 0 14 14" aria-hidden="true" data-look="{place}">'
        f'<circle cx="7" cy="7" r="5" fill="currentColor"/></svg>{html.escape(name)}</button>'
        for place, name in enumerate(names)
    )
    return f'<div class="bar" role="group" aria-label="Show only these studies">{buttons}</div>'


def _make_matches(across: Across, names: list[str]) -> str:
    columns = (
        *(("architecture", True), ("rule", True), ("size", False), ("study", True)),
        *(("seeds", False), ("AUC", False), ("difference", False), ("low", False)),
        *(("high", False), ("p", False), ("tags higher", False), ("lower", False)),
        *(("training (s)", False), ("times as long", False)),
    )
    rows = [
        (f" data-line={attribute(names[place])}", _make_row(match, place, names[place]))
        for match in across.matches
        for place in range(len(names))
        if match.scores[place] is not None
    ]
    table = make_table("matches", "Networks that the first study and others have", columns, rows)
    return f"<section><h2>Every network</h2>{table}</section>"


def _make_row(match: Match, place: int, name: str) -> tuple[Cell, ...]:
    score, first, difference = match.scores[place], match.scores[0], match.differences[place]
    assert score is not None
    compared: tuple[Cell, ...] = (number(None, ""),) * 6
    if difference is not None:
        auc, has_tags = difference.auc, bool(difference.tags)
        compared = (
            *(number(value, "+.4f") for value in (auc.value, auc.low, auc.high)),
            number(difference.p, ".2g"),
            number(difference.count("higher") if has_tags else None, "d"),
            number(difference.count("lower") if has_tags else None, "d"),
        )
    ratio = None if place == 0 or first is None else score.train_s / first.train_s
    return (
        Cell(name_architecture(match.arch)),
        Cell(match.rule),
        number(match.target, ",d"),
        Cell(name, markup=escape(name)),
        number(score.n_seeds, "d"),
        number(score.auc, ".4f"),
        *compared,
        number(score.train_s, ",.1f"),
        number(ratio, ".2f"),
    )


def _make_provenance(across: Across, names: list[str]) -> str:
    fields = {"device": "processor", "device_count": "devices", "git_commit": "commit"}
    rows = [
        (
            "",
            (
                Cell(name, markup=escape(name)),
                *(
                    Cell("", markup=escape("; ".join(count_values(results, field))))
                    for field in fields
                ),
                Cell("", markup=escape(list_versions(results))),
            ),
        )
        for name, results in zip(names, across.results, strict=True)
    ]
    columns = (("study", True), *((title, True) for title in fields.values()), ("versions", True))
    table = make_table("provenance", "Where they come from", columns, rows, is_sortable=False)
    return f"<section><h2>Where they come from</h2>{table}</section>"
