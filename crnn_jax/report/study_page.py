"""The page of a study: one HTML file that opens offline."""

from etils import epath

from crnn_jax.analysis.study import analyse
from crnn_jax.config import RESAMPLES
from crnn_jax.report.contents import AXES, StudyContents, gather
from crnn_jax.report.html import bundling, make_page, write_page
from crnn_jax.report.looks import make_looks
from crnn_jax.report.sections import (
    make_costs,
    make_curves,
    make_differences,
    make_failed,
    make_header,
    make_legend,
    make_provenance,
    make_runs,
    make_tags,
)

FILE = "report.html"
# Space around the tags' AUCs, as a part of their range.
MARGIN = 0.04


def write_report(
    folder: epath.PathLike,
    out: epath.PathLike | None = None,
    *,
    n_resamples: int = RESAMPLES,
    seed: int = 0,
    times: epath.PathLike | None = None,
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
    times
        A table of each network's training speed, as for `crnn_jax.analysis.study.analyse`. Learning
        curves and the table of runs keep the runs' own times.

    Raises
    ------
    UserError
        If Altair is not installed, no run is finished, or the study is a cross-validation; or if
        the table of speeds is none, or lacks a network.
    """
    folder = epath.Path(folder)
    path = folder / FILE if out is None else epath.Path(out)
    with bundling() as bundle:
        contents = gather(folder, analyse(folder, n_resamples, seed, times))
        write_page(path, render(contents, bundle()))
    return path


def render(contents: StudyContents, bundle: str) -> bytes:
    """Return the page of a study; `bundle` is that of `crnn_jax.report.html.bundling`."""
    # It needs Altair; this module can be imported without, to say so.
    from crnn_jax.report.charts import make_charts

    analysis, lines = contents.analysis, contents.lines
    has_curves = bool(contents.tables["curves"]["run"])
    looks = list(dict.fromkeys(line.look for line in lines))
    target = _choose_target(contents)
    values = {
        "charts": make_charts(
            lines, with_laws=_name_lines_with_laws(contents), has_curves=has_curves
        ),
        "tables": contents.tables,
        "lines": [
            {"name": line.name, "architecture": line.look.name, "rule": line.rule} for line in lines
        ],
        "looks": make_looks(look.colour for look in looks),
        "target": target,
        "tagDomain": _find_tag_domain(contents),
    }
    body = "\n".join(
        (
            make_header(contents),
            make_legend(lines),
            '<main id="main">',
            make_costs(),
            make_tags(contents, target),
            make_curves(has_curves),
            make_runs(contents),
            make_differences(contents),
            make_failed(contents),
            make_provenance(contents),
            "</main>",
        )
    )
    title = f"{contents.folder}: {analysis.dataset}"
    return make_page(title, body, values, "study.js", bundle)


def _name_lines_with_laws(contents: StudyContents) -> dict[str, set[str]]:
    """Return for each cost the names of the lines that have a law of it."""
    laws = contents.tables["laws"]
    found: dict[str, set[str]] = {axis: set() for axis in AXES}
    for axis, line in zip(laws["axis"], laws["line"], strict=True):
        found[axis].add(contents.lines[line].name)
    return found


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
