"""The page of one run: one HTML file that opens offline."""

import base64
from collections.abc import Sequence

from etils import epath

from crnn_jax.figures.looks import BLUE
from crnn_jax.report.contents import AXES, name_architecture
from crnn_jax.report.html import (
    Cell,
    attribute,
    bundling,
    escape,
    make_facts,
    make_notes,
    make_page,
    make_table,
    number,
    write_page,
)
from crnn_jax.report.looks import make_looks
from crnn_jax.report.run_contents import Example, RunContents, gather_run
from crnn_jax.report.study_page import FILE

KINDS = {
    "right": "Sure, and right",
    "wrong": "Sure, and wrong: the clip does not have the tag",
    "missed": "Missed: the clip has the tag",
}


def write_run_report(run: epath.PathLike, out: epath.PathLike | None = None) -> epath.Path:
    """Write the page of a run.

    Parameters
    ----------
    run
        The run's folder.
    out
        The file; None: ``report.html`` in the folder. One that was there is replaced in one piece.

    Raises
    ------
    UserError
        If Altair is not installed, or the run is not finished.
    """
    run = epath.Path(run)
    path = run / FILE if out is None else epath.Path(out)
    with bundling() as bundle:
        contents = gather_run(run)
        write_page(path, render_run(contents, bundle()))
    return path


def render_run(contents: RunContents, bundle: str) -> bytes:
    """Return the page of a run; `bundle` is that of `crnn_jax.report.html.bundling`."""
    # It needs Altair; this module can be imported without, to say so.
    from crnn_jax.report.run_charts import make_run_charts

    tags = contents.tables["tags"]
    has_predictions = bool(contents.tables["roc"])
    scored = [place for place, auc in enumerate(tags["auc"]) if auc is not None]
    values = {
        "charts": make_run_charts(),
        "tables": contents.tables,
        "looks": make_looks([BLUE]),
        # The best tag is looked at first.
        "tag": max(scored, key=lambda place: tags["auc"][place], default=-1),
    }
    body = "\n".join(
        (
            _make_header(contents),
            '<main id="main">',
            _make_history(contents),
            _make_tags(contents, has_predictions),
            _make_calibration(contents) if has_predictions else "",
            _make_examples(contents.examples),
            make_notes("What is not shown", contents.notes),
            "</main>",
        )
    )
    return make_page(contents.name, body, values, "run.js", bundle)


def _make_header(contents: RunContents) -> str:
    result = contents.result
    score = f"test AUC {result.test_auc:.4f}, AP {result.test_ap:.4f}"
    if result.test_bce is not None:
        score += f", cross-entropy {result.test_bce:.4f} nats"
    if result.test_auc_unheard is not None:
        score += f"; AUC on unheard sounds {result.test_auc_unheard:.4f}"
    facts = {
        "network": f"{name_architecture(result.arch)}, {result.rule} rule, widths "
        f"{' '.join(map(str, result.widths))}",
        "data": f"{result.dataset}: {result.n_train:,} clips for training, {result.n_valid:,} for "
        f"validation, {result.n_test:,} for the test",
        "training": f"{result.epochs} epochs (the best: {result.best_epoch}; ended by "
        f"{result.ended_by}), {result.train_s:,.1f} s at {result.samples_per_s:,.1f} clips/s",
        AXES["params"].lower(): f"{result.params:,}",
        "memory of a step": f"{result.peak_memory_bytes / 1e6:,.0f} MB",
        "processor": f"{result.device} ({result.device_count} devices)",
        "versions": ", ".join(f"{name} {version}" for name, version in result.versions.items()),
        "commit": result.git_commit or "unknown",
    }
    if result.learning_rate is not None:
        facts["learning rate"] = f"{result.learning_rate:g}"
    return (
        f"<header><h1>{escape(contents.name)}</h1>"
        f'<section class="verdict" aria-label="Scores">{escape(score)}</section>'
        f"{make_facts(facts)}</header>"
    )


def _make_history(contents: RunContents) -> str:
    if not contents.tables["history"]["epoch"]:
        return ""
    return (
        '<section><h2>Learning curves</h2><figure class="columns"><div class="chart" '
        'id="history-loss"></div><div class="chart" id="history-auc"></div></figure></section>'
    )


def _make_tags(contents: RunContents, has_predictions: bool) -> str:
    columns = (
        *(("tag", True), ("category", True), ("popularity", False), ("positives", False)),
        *(("AUC", False), ("AP", False)),
    )
    rows = []
    for place, tag in enumerate(contents.result.per_tag):
        name = escape(tag.tag)
        is_drawn = has_predictions and tag.auc is not None
        rows.append(
            (
                f' data-tag="{place}"' if is_drawn else "",
                (
                    Cell(
                        tag.tag,
                        markup=f'<button aria-pressed="false">{name}</button>'
                        if is_drawn
                        else name,
                    ),
                    Cell(tag.category, markup=escape(tag.category)),
                    number(tag.popularity_rank, "d"),
                    number(tag.n_test_positive, ",d"),
                    number(tag.auc, ".4f"),
                    number(tag.ap, ".4f"),
                ),
            )
        )
    table = make_table("tag-table", "Tags of the test split", columns, rows)
    charts = (
        '<figure class="columns"><div class="chart" id="roc"></div><div class="chart" '
        'id="precision"></div></figure><p class="note" id="chosen" role="status"></p>'
        if has_predictions
        else ""
    )
    return f"<section><h2>Each tag</h2>{charts}{table}</section>"


def _make_calibration(contents: RunContents) -> str:
    error = contents.result.test_calibration_error
    said = "" if error is None else f" Expected calibration error: {error:.4f}."
    return (
        '<section><h2>Calibration</h2><figure><div class="chart" id="calibration"></div>'
        "<figcaption>Of the outputs with scores in a range, the part that is right; the larger a "
        f"point, the more outputs.{said}</figcaption></figure></section>"
    )


def _make_examples(examples: Sequence[Example]) -> str:
    parts = []
    for kind, title in KINDS.items():
        of_kind = [_make_example(example) for example in examples if example.kind == kind]
        if of_kind:
            parts.append(f'<h3>{title}</h3><div class="clips">{"".join(of_kind)}</div>')
    if not parts:
        return ""
    return f"<section><h2>Clips that the network is sure of</h2>{''.join(parts)}</section>"


def _make_example(example: Example) -> str:
    image = base64.b64encode(example.image).decode()
    has = ", ".join(example.tags) or "no tag"
    return (
        f'<figure><img src="data:image/png;base64,{image}" alt='
        f"{attribute(f'Log-mel of {example.track_id}')}><figcaption><strong>{escape(example.tag)} "
        f"{example.score:.3f}</strong><br>{escape(example.track_id)}: {escape(has)}</figcaption>"
        f"</figure>"
    )
