"""All figures of a sweep, drawn from its tables alone, and those of its analysis."""

from collections.abc import Iterable

from etils import epath
from matplotlib.figure import Figure

from crnn_jax.analysis.comparison import Difference
from crnn_jax.analysis.selection import (
    RUN_COLUMNS,
    has_several,
    select_largest_part,
    select_learning_rates,
    select_longest,
    select_runs,
)
from crnn_jax.analysis.study import Analysis
from crnn_jax.analysis.tables import read_per_tag, read_results
from crnn_jax.config import Architecture
from crnn_jax.errors import UserError
from crnn_jax.figures.auc_against_data import auc_against_data
from crnn_jax.figures.auc_against_parameters import auc_against_parameters
from crnn_jax.figures.auc_against_time import auc_against_training_time
from crnn_jax.figures.canvas import write_figure
from crnn_jax.figures.learning_rates import learning_rates
from crnn_jax.figures.per_tag import complete_targets, per_tag_auc
from crnn_jax.figures.scaling import scaling
from crnn_jax.figures.tag_differences import tag_differences
from crnn_jax.study.runs import TRIAL
from crnn_jax.study.schema import AXIS_COLUMNS, CELL_COLUMNS

# Tables of older versions lack other columns.
RESULT_COLUMNS = (
    *(*CELL_COLUMNS, *AXIS_COLUMNS, "params", "n_train", "valid_auc", "test_bce", "test_auc"),
    *("seconds_per_2500_samples", "train_s", "device", "device_count"),
)
TAG_COLUMNS = (*CELL_COLUMNS, *AXIS_COLUMNS, "tag", "category", "popularity_rank", "auc")


def draw(folder: epath.PathLike) -> list[epath.Path]:
    """Draw every figure of a sweep, as PNG and SVG, into ``<folder>/figures``.

    The per-tag figure is drawn for each target at which one rule has all architectures of the
    sweep.

    Parameters
    ----------
    folder
        The sweep's folder, local or in a bucket (``gs://…``).

    Returns
    -------
    list of epath.Path
        The files written. Existing figures are replaced.

    Raises
    ------
    UserError
        If one of the two tables is missing, empty, damaged, or has nothing to draw.
    """
    folder = epath.Path(folder)
    results = read_results(folder, RESULT_COLUMNS)
    scores = read_per_tag(folder, TAG_COLUMNS)
    if results["test_auc"].isna().all():
        raise UserError(
            f"{folder / 'results.csv'}: no run has a test_auc; sweep a data set whose test split "
            "has a tag with both positive and negative clips"
        )
    chosen = select_runs(results)
    longest = select_longest(chosen)
    figures = {
        "auc_against_parameters": auc_against_parameters(longest),
        "auc_against_training_time": auc_against_training_time(chosen),
    }
    # Those of the short runs, if the study had any.
    trial = folder / TRIAL
    has_trial = (trial / "results.csv").exists()
    tried = read_results(trial, RESULT_COLUMNS) if has_trial else results
    if has_several(tried, "learning_rate"):
        figures["learning_rates"] = learning_rates(select_longest(select_largest_part(tried)))
    if has_several(results, "train_fraction"):
        figures["auc_against_data"] = auc_against_data(
            select_longest(select_learning_rates(results))
        )
    scores = scores.merge(longest[list(RUN_COLUMNS)])
    for target in complete_targets(scores):
        figures[f"per_tag_auc_{target}"] = per_tag_auc(scores, target)
    return _write(figures, folder)


def draw_analysis(
    analysis: Analysis, between: tuple[Architecture, Architecture] | None = None
) -> list[epath.Path]:
    """Draw an analysis into the ``figures`` of its study: curves, and differences of each tag.

    Parameters
    ----------
    analysis
        What `crnn_jax.analyse` returned.
    between
        Two architectures, whose tags are compared at each size at which both were trained by the
        same rule; if not given, the tags of the two best networks of each size are.

    Returns
    -------
    list of epath.Path
        The files written.

    Raises
    ------
    UserError
        If the study does not compare these architectures.
    """
    of_one_rule = [row for row in analysis.differences if row.first.rule == row.second.rule]
    compared = _name_differences(of_one_rule, between)
    if between is not None and not compared:
        pairs = {" ".join(sorted((row.first.arch, row.second.arch))) for row in of_one_rule}
        raise UserError(
            f"{analysis.folder} compares them at no size and rule; give two that it compares: "
            f"{', '.join(sorted(pairs))}"
            if pairs
            else f"{analysis.folder} compares nothing; see what it lacks, above",
            field="between",
            value=" ".join(between),
        )
    figures = {
        "scaling": scaling(analysis),
        **{f"tag_differences_{name}": tag_differences(row) for name, row in compared.items()},
    }
    return _write(figures, epath.Path(analysis.folder))


def _name_differences(
    differences: Iterable[Difference], between: tuple[Architecture, Architecture] | None
) -> dict[str, Difference]:
    """Return the differences whose tags are drawn, by the ends of their figures' names.

    Each is of two architectures, scaled by one rule.
    """
    named: dict[str, Difference] = {}
    for row in differences:
        first, second = row.first, row.second
        if between is None:
            # The best comes first, and so does the comparison with the second best.
            named.setdefault(f"{first.target}", row)
        elif {first.arch, second.arch} == set(between):
            rule = "" if first.rule == "uniform" else f"_{first.rule}"
            named[f"{'_'.join(between)}_{first.target}{rule}"] = row
    return named


def _write(figures: dict[str, Figure], folder: epath.Path) -> list[epath.Path]:
    return [
        path
        for name, figure in figures.items()
        for path in write_figure(figure, folder / "figures", name)
    ]
