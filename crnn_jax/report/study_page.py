"""The page of a study: one HTML file that opens offline."""

import html
from collections.abc import Iterator, Sequence

from etils import epath

from crnn_jax.analysis.comparison import Difference
from crnn_jax.analysis.study import analyse
from crnn_jax.analysis.words import describe_crossing, describe_difference, describe_tags
from crnn_jax.config import RESAMPLES
from crnn_jax.figures.looks import RULE_LOOKS
from crnn_jax.files import write_file
from crnn_jax.report.contents import (
    AXES,
    CURVE_SCORES,
    CURVE_TIMES,
    Line,
    StudyContents,
    count_values,
    gather,
    name_architecture,
)
from crnn_jax.report.html import (
    Cell,
    attribute,
    escape,
    make_page,
    make_select,
    make_table,
    number,
    require_altair,
)

FILE = "report.html"
# Colours on a dark page, of the same hues as Okabe & Ito's: theirs are for white paper.
DARK_COLOURS = {
    "#009E73": "#3ed6a8",
    "#0072B2": "#5db4f5",
    "#D55E00": "#ff9557",
    "#CC79A7": "#e8a6cc",
    "#E69F00": "#ffc34d",
    "#56B4E9": "#9bd4f7",
    "#000000": "#f0f0f0",
}
# Space around the tags' AUCs, as a part of their range.
MARGIN = 0.04


def write_report(
    folder: epath.PathLike,
    out: epath.PathLike | None = None,
    *,
    n_resamples: int = RESAMPLES,
    seed: int = 0,
) -> epath.Path:
    """Write the page of a study.

    Parameters
    ----------
    folder
        The sweep's folder.
    out
        The file; None: ``report.html`` in the folder. One that was there is replaced in one piece.
    n_resamples, seed
        Of the intervals, see `crnn_jax.analysis.study.analyse`.

    Raises
    ------
    UserError
        If Altair is not installed, no run is finished, or the study is a cross-validation.
    """
    require_altair()
    folder = epath.Path(folder)
    contents = gather(folder, analyse(folder, n_resamples, seed))
    path = folder / FILE if out is None else epath.Path(out)
    write_file(path, render(contents))
    return path


def render(contents: StudyContents) -> bytes:
    """Return the page of a study."""
    # It needs Altair; this module can be imported without, to say so.
    from crnn_jax.report.charts import make_charts

    analysis, lines = contents.analysis, contents.lines
    has_curves = bool(contents.tables["curves"]["run"])
    looks = list(dict.fromkeys(line.look for line in lines))
    target = _choose_target(contents)
    values = {
        "charts": make_charts(
            lines, law_axes=set(contents.tables["laws"]["axis"]), has_curves=has_curves
        ),
        "tables": contents.tables,
        "lines": [
            {"name": line.name, "architecture": line.look.name, "rule": line.rule} for line in lines
        ],
        "looks": [
            {"light": look.colour, "dark": DARK_COLOURS.get(look.colour, look.colour)}
            for look in looks
        ],
        "target": target,
        "tagDomain": _find_tag_domain(contents),
    }
    body = "\n".join(
        (
            '<a class="skip" href="#main">Skip to the charts</a>',
            _make_header(contents),
            _make_legend(lines),
            '<main id="main">',
            _make_costs(),
            _make_tags(contents, target),
            _make_curves(has_curves),
            _make_runs(contents),
            _make_differences(contents),
            _make_failed(contents),
            _make_provenance(contents),
            "</main>",
        )
    )
    title = f"{contents.folder}: {analysis.dataset}"
    return make_page(title, body, values, "page.js")


def _choose_target(contents: StudyContents) -> int:
    """Return the size whose tags are shown at first: the largest that most lines have."""
    targets = [row.target for row in contents.analysis.networks]
    return max(set(targets), key=lambda target: (targets.count(target), target))


def _find_tag_domain(contents: StudyContents) -> list[float]:
    """Return the range of all tags' AUCs and their intervals."""
    scores = contents.tables["tagScores"]
    values = [
        value for column in ("auc", "low", "high") for value in scores[column] if value is not None
    ]
    if not values:
        return [0.0, 1.0]
    low, high = min(values), max(values)
    margin = MARGIN * (high - low) or MARGIN
    return [max(0.0, low - margin), min(1.0, high + margin)]


def _make_header(contents: StudyContents) -> str:
    analysis, question = contents.analysis, contents.manifest.question
    asked, _, more = (question or "").partition("\n\n")
    archs = ", ".join(dict.fromkeys(line.look.name for line in contents.lines))
    heading = asked or f"How does AUC depend on size and training time? {archs}"
    groups = "" if analysis.n_groups is None else f" of {analysis.n_groups:,} works"
    facts = (
        f"{escape(analysis.dataset)}: {analysis.n_clips:,} test clips{groups}, {analysis.n_tags} "
        f"tags; {len(contents.results)} runs of {len(analysis.networks)} networks"
    )
    parts = [
        "<header>",
        f"<h1>{escape(' '.join(heading.split()))}</h1>",
        f'<p class="facts">{facts}</p>',
        _make_verdict(contents),
    ]
    if more:
        parts.append(f"<details><summary>About the study</summary><pre>{escape_lines(more)}</pre>")
        parts.append("</details>")
    return "\n".join((*parts, "</header>"))


def escape_lines(text: str) -> str:
    """Return text of several lines as HTML."""
    return "\n".join(escape(line) if line else "" for line in text.splitlines())


def find_leading(differences: Sequence[Difference]) -> Iterator[Difference]:
    """Yield for each size the comparison of the two best networks that have the same rule."""
    seen = set()
    for difference in differences:
        first, second = difference.first, difference.second
        if first.rule == second.rule and first.target not in seen:
            seen.add(first.target)
            yield difference


def _make_verdict(contents: StudyContents) -> str:
    analysis = contents.analysis
    leading = list(find_leading(analysis.differences))
    said = [f"{describe_difference(each)}; {describe_tags(each)}" for each in leading]
    if not said:
        best = max(analysis.networks, key=lambda row: row.auc)
        interval = best.auc_interval
        within = f", 95 % interval {interval[0]:.3f} to {interval[1]:.3f}" if interval else ""
        said = [
            f"the best is {name_architecture(best.arch)} with {best.params:,} parameters: AUC "
            f"{best.auc:.3f}{within}"
        ]
    if contents.unfinished:
        said.append(f"{contents.unfinished} cells are not finished yet")
    items = "".join(f"<li>{escape(each)}</li>" for each in said)
    return (
        '<section class="verdict" aria-label="Verdict"><strong>The two best networks of each size'
        f"</strong><ul>{items}</ul></section>"
    )


def _make_legend(lines: Sequence[Line]) -> str:
    looks = list(dict.fromkeys(line.look for line in lines))
    buttons = "".join(
        f'<button class="legend" data-line={attribute(line.name)} aria-pressed="true">'
        f'<svg width="22" height="14" viewBox="0 0 22 14" aria-hidden="true" '
        f'data-look="{looks.index(line.look)}">{_draw_mark(line)}</svg>'
        f"{html.escape(line.name)}</button>"
        for line in lines
    )
    return (
        f'<div class="bar" role="group" aria-label="Networks that are shown">{buttons}'
        f'<span class="note" id="selected" role="status">Click a point or a row to look at a '
        f"network</span></div>"
    )


# Of a circle of 4 pixels around 11, 7, as SVG paths.
MARKS = {
    "o": "M15 7a4 4 0 1 1-8 0a4 4 0 1 1 8 0Z",
    "s": "M7 3h8v8h-8Z",
    "^": "M11 2L15.6 11H6.4Z",
    "D": "M11 2L16 7L11 12L6 7Z",
    "v": "M11 12L6.4 3H15.6Z",
}


def _draw_mark(line: Line) -> str:
    look = RULE_LOOKS[line.rule]
    dash = "" if look.line_style == "-" else ' stroke-dasharray="4 3"'
    fill = "currentColor" if look.filled else "none"
    return (
        f'<path d="M0 7H22" stroke="currentColor" stroke-width="1.5"{dash}/>'
        f'<path d="{MARKS.get(line.look.marker, MARKS["o"])}" stroke="currentColor" fill="{fill}"/>'
    )


def _make_costs() -> str:
    select = make_select("axis", "Against", list(AXES.items()), "params")
    return (
        f'<section><h2>AUC against its cost</h2><div class="controls">{select}</div>'
        '<figure><div class="chart" id="costs"></div><figcaption>Points: means over seeds, with '
        "95 % intervals over seeds and test clips; dots: seeds. Lines: fitted laws of 1 − AUC, "
        "with the law's interval. The broad step is the Pareto front: no network is better at the "
        "same cost or less.</figcaption></figure></section>"
    )


def _make_tags(contents: StudyContents, target: int) -> str:
    targets = sorted({row.target for row in contents.analysis.networks})
    select = make_select(
        "target", "Networks of", [(str(each), f"{each:,} parameters") for each in targets],
        str(target),
    )  # fmt: skip
    scored = set(contents.tables["tagScores"]["tag"])
    categories = dict.fromkeys(
        category
        for number, category in enumerate(contents.tables["tags"]["category"])
        if number in scored
    )
    blocks = "".join(
        f"<div data-category={attribute(category)}><h3>{escape(category)}</h3>"
        f'<div class="chart"></div></div>'
        for category in categories
    )
    return (
        f'<section id="tags"><h2>Each tag</h2><div class="controls">{select}</div><figure>'
        f'<div class="columns">{blocks}</div>'
        "<figcaption>By category, the best tags first; in brackets the tag's rank by popularity "
        "in the training split. Intervals: 95 %, of each tag alone.</figcaption></figure>"
        "</section>"
    )


def _make_curves(has_curves: bool) -> str:
    if not has_curves:
        return (
            '<section><h2>Learning curves</h2><p class="note">The runs\' metrics.jsonl are not in '
            "this folder.</p></section>"
        )
    scores = make_select("curve-score", "Show", list(CURVE_SCORES.items()), "auc")
    times = make_select("curve-time", "against", list(CURVE_TIMES.items()), "epoch")
    return (
        f'<section><h2>Learning curves</h2><div class="controls">{scores}{times}</div>'
        '<figure><div class="chart" id="curves"></div><figcaption>A line per run; those of the '
        "selected network are drawn strongly.</figcaption></figure></section>"
    )


RUN_COLUMNS = (
    *(("run", True), ("architecture", True), ("rule", True), ("size", False)),
    *(("parameters", False), ("seed", False), ("learning rate", False), ("test AUC", False)),
    *(("AP", False), ("BCE (nats)", False), ("validation AUC", False), ("epochs", False)),
    *(("best epoch", False), ("training (s)", False), ("clips/s", False), ("memory (MB)", False)),
)


def _make_runs(contents: StudyContents) -> str:
    names = contents.tables["runs"]["name"]
    networks = dict(zip(names, contents.tables["runs"]["network"], strict=True))
    line_names = {(line.arch, line.rule): line.name for line in contents.lines}
    rows = []
    for name, result in contents.results.items():
        line = line_names.get((result.arch, result.rule), "")
        attributes = f" data-line={attribute(line)}"
        shown = escape(name)
        if name in networks:
            attributes += f' data-network="{networks[name]}"'
            shown = f'<button aria-pressed="false">{shown}</button>'
        rows.append(
            (
                attributes,
                (
                    Cell(name, markup=shown),
                    Cell(name_architecture(result.arch)),
                    Cell(result.rule),
                    number(result.target, ",.0f"),
                    number(result.params, ",.0f"),
                    number(result.seed, "d"),
                    number(result.learning_rate, "g"),
                    number(result.test_auc, ".4f"),
                    number(result.test_ap, ".4f"),
                    number(result.test_bce, ".4f"),
                    number(result.valid_auc, ".4f"),
                    number(result.epochs, "d"),
                    number(result.best_epoch, "d"),
                    number(result.train_s, ",.1f"),
                    number(result.samples_per_s, ",.1f"),
                    number(result.peak_memory_bytes / 1e6, ",.0f"),
                ),
            )
        )
    table = make_table("runs", "All finished runs", RUN_COLUMNS, rows)
    return (
        '<section><h2>All runs</h2><div class="controls"><label>Filter <input id="filter" '
        'type="search" placeholder="such as crnn seed1"></label><span class="note" id="shown" '
        f'role="status">{len(rows)} runs</span></div>{table}</section>'
    )


def _make_differences(contents: StudyContents) -> str:
    analysis = contents.analysis
    said = [f"{describe_difference(each)}; {describe_tags(each)}" for each in analysis.differences]
    said += [describe_crossing(each) for each in analysis.crossings]
    parts = []
    if said:
        items = "".join(f"<li>{escape(each)}</li>" for each in said)
        parts.append(
            f"<section><h2>All comparisons</h2><details><summary>{len(said)} comparisons of "
            f"networks of one size, and crossings of their laws</summary><ul>{items}</ul></details>"
            f"</section>"
        )
    if analysis.notes:
        items = "".join(f"<li>{escape(note)}</li>" for note in analysis.notes)
        parts.append(f"<section><h2>To be kept in mind</h2><ul>{items}</ul></section>")
    return "\n".join(parts)


def _make_failed(contents: StudyContents) -> str:
    if not contents.failed:
        return ""
    rows = [
        ("", (Cell(name, markup=escape(name)), Cell(error, markup=escape(error))))
        for name, error in contents.failed.items()
    ]
    columns = (("cell", True), ("reason", True))
    return "<section><h2>Failed cells</h2>{}</section>".format(
        make_table("failed", "Cells that ended without a result", columns, rows, is_sortable=False)
    )


def _make_provenance(contents: StudyContents) -> str:
    results = list(contents.results.values())
    facts = [
        ("processors", _list(count_values(results, "device"))),
        ("devices", _list(count_values(results, "device_count"))),
        ("commit", _list(count_values(results, "git_commit"))),
        ("versions", _list_versions(contents)),
        (
            "intervals",
            f"{contents.analysis.n_resamples:,} resamples of test clips and seeds",
        ),
    ]
    listed = "".join(f"<dt>{html.escape(name)}</dt><dd>{escape(fact)}</dd>" for name, fact in facts)
    commands = "".join(f"<pre>{escape(command)}</pre>" for command in contents.manifest.commands)
    made = f"<h3>The command that made it</h3>{commands}" if commands else ""
    return f"<section><h2>Where it comes from</h2><dl>{listed}</dl>{made}</section>"


def _list(counts: dict[str, int]) -> str:
    if len(counts) == 1:
        return next(iter(counts))
    return "; ".join(f"{value} ({count} runs)" for value, count in counts.items())


def _list_versions(contents: StudyContents) -> str:
    versions = {
        ", ".join(f"{package} {version}" for package, version in result.versions.items())
        for result in contents.results.values()
    }
    return "; ".join(sorted(versions))
