"""The sections of a study's page, as HTML."""

import html
from collections.abc import Iterator, Sequence

from crnn_jax.analysis.comparison import Difference
from crnn_jax.analysis.words import (
    describe_crossing,
    describe_difference,
    describe_tags,
    name_network,
)
from crnn_jax.figures.looks import RULE_LOOKS
from crnn_jax.report.contents import (
    AXES,
    CURVE_SCORES,
    CURVE_TIMES,
    Line,
    StudyContents,
    count_values,
    list_versions,
    name_architecture,
)
from crnn_jax.report.html import (
    Cell,
    attribute,
    escape,
    make_facts,
    make_list,
    make_notes,
    make_select,
    make_table,
    number,
)
from crnn_jax.study.schema import Network

# Sentences of the verdict on the first screen.
FIRST_SENTENCES = 6


def make_header(contents: StudyContents) -> str:
    """Return the question, the data set and the verdict."""
    analysis, question = contents.analysis, contents.manifest.question
    asked, _, more = (question or "").partition("\n\n")
    archs = ", ".join(dict.fromkeys(line.look.name for line in contents.lines))
    heading = asked or f"How does AUC depend on size and training time? {archs}"
    groups = "" if analysis.n_groups is None else f" in {analysis.n_groups:,} groups"
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
    best = max(analysis.networks, key=lambda row: row.auc)
    interval = best.auc_interval
    within = f", 95 % interval {interval[0]:.3f} to {interval[1]:.3f}" if interval else ""
    network = name_network(Network(best.arch, best.rule, best.target))
    said = [
        f"the best of all is {network} of {best.params:,} parameters: AUC {best.auc:.3f}{within}"
    ]
    if contents.unfinished:
        said.append(f"{contents.unfinished} cells are not finished yet")
    said += [
        f"{describe_difference(each)}; {describe_tags(each)}"
        for each in find_leading(analysis.differences)
    ]
    return (
        '<section class="verdict" aria-label="Verdict"><strong>The best network, and the two best '
        "of each size that have the same width rule</strong>"
        f"{make_list(said, shown=FIRST_SENTENCES)}</section>"
    )


def make_legend(lines: Sequence[Line]) -> str:
    """Return the lines, as buttons that filter all charts."""
    looks = list(dict.fromkeys(line.look for line in lines))
    buttons = "".join(
        f'<button class="legend" data-line={attribute(line.name)} aria-pressed="false">'
        f'<svg width="22" height="14" viewBox="0 0 22 14" aria-hidden="true" '
        f'data-look="{looks.index(line.look)}">{_draw_mark(line)}</svg>'
        f"{html.escape(line.name)}</button>"
        for line in lines
    )
    return (
        f'<div class="bar" role="group" aria-label="Show only these networks">{buttons}'
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


def make_costs() -> str:
    """Return the chart of AUC against a cost."""
    select = make_select("axis", "Against", list(AXES.items()), "params")
    return (
        f'<section><h2>AUC against its cost</h2><div class="controls">{select}</div>'
        '<figure><div class="chart" id="costs"></div><figcaption>Points: means over seeds, with '
        "95 % intervals over seeds and test clips; dots: seeds. Lines: fitted laws of 1 − AUC, "
        "with the law's interval; where the scores determine none, points are joined. The broad "
        "step is the Pareto front: no network is better at the "
        "same cost or less.</figcaption></figure></section>"
    )


def make_tags(contents: StudyContents, target: int) -> str:
    """Return the charts of each tag, by category."""
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


def make_curves(has_curves: bool) -> str:
    """Return the learning curves."""
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


def make_runs(contents: StudyContents) -> str:
    """Return the table of all runs."""
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


def make_differences(contents: StudyContents) -> str:
    """Return all comparisons, and what is to be kept in mind."""
    analysis = contents.analysis
    said = [f"{describe_difference(each)}; {describe_tags(each)}" for each in analysis.differences]
    said += [describe_crossing(each) for each in analysis.crossings]
    parts = []
    if said:
        parts.append(
            f"<section><h2>All comparisons</h2><details><summary>{len(said)} comparisons of "
            f"networks of one size, and crossings of their laws</summary>"
            f"{make_list(said)}</details></section>"
        )
    parts.append(make_notes("To be kept in mind", analysis.notes))
    return "\n".join(parts)


def make_failed(contents: StudyContents) -> str:
    """Return the cells that failed, with their reason."""
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


def make_provenance(contents: StudyContents) -> str:
    """Return where the study comes from: processors, versions, commands."""
    results = list(contents.results.values())
    facts = {
        "processors": _list(count_values(results, "device")),
        "devices": _list(count_values(results, "device_count")),
        "commit": _list(count_values(results, "git_commit")),
        "versions": list_versions(results),
        "intervals": f"{contents.analysis.n_resamples:,} resamples of test clips and seeds",
    }
    commands = "".join(
        f"<pre>{escape(command)}</pre>" for command in contents.manifest.command_lines
    )
    made = f"<h3>The command that made it</h3>{commands}" if commands else ""
    return f"<section><h2>Where it comes from</h2>{make_facts(facts)}{made}</section>"


def _list(counts: dict[str, int]) -> str:
    if len(counts) == 1:
        return next(iter(counts))
    return "; ".join(f"{value} ({count} runs)" for value, count in counts.items())
