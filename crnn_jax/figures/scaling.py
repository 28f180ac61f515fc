"""AUC against what it costs, with intervals and fitted scaling laws."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from crnn_jax.analysis.curves import FALLING_SCORES
from crnn_jax.analysis.study import Analysis
from crnn_jax.config import Rule
from crnn_jax.figures.canvas import PAGE_WIDTH, new_figure, style
from crnn_jax.figures.legends import add_curves_legend, seeds_note
from crnn_jax.figures.looks import ArchitectureLook, architecture_looks, line_style, split_curves
from crnn_jax.figures.parameter_axis import scale_parameter_axis
from crnn_jax.figures.time_axis import scale_time_axis

# Labels of the costs of `crnn_jax.analysis.costs.COSTS`.
PANELS = {
    "params": "Trainable parameters",
    "train_flops": "Floating-point operations of training",
    "train_s": "Training time (s)",
}


def scaling(analysis: Analysis) -> Figure:
    """Draw macro test ROC-AUC against parameters, training operations and training time.

    Points are means over seeds; bars are their 95 % intervals over seeds and test clips. Lines are
    the fitted laws E + A · N^−α of 1 − AUC, with the 95 % interval of the law as a band; where
    the scores do not determine one, the points are joined.
    """
    points = pd.DataFrame(
        {
            "arch": row.arch,
            "rule": row.rule,
            "target": row.target,
            "n_seeds": row.n_seeds,
            "auc": row.auc,
            # Without an interval the bar has no length.
            "low": row.auc_interval[0] if row.auc_interval else row.auc,
            "high": row.auc_interval[1] if row.auc_interval else row.auc,
            **{cost: getattr(row, cost) for cost in PANELS},
        }
        for row in analysis.networks
    )
    looks = architecture_looks(points["arch"])
    with style():
        figure = new_figure(PAGE_WIDTH, 2.9)
        panels = figure.subplots(1, len(PANELS), sharey=True)
        for axes, (cost, label) in zip(panels, PANELS.items(), strict=True):
            for arch, rule, curve in split_curves(points, looks):
                _draw_points(axes, curve, cost, looks[arch], rule)
                _draw_law(axes, analysis, cost, looks[arch], arch, rule, curve)
            if cost == "params":
                scale_parameter_axis(axes, points["params"], points["target"])
            elif cost == "train_s":
                scale_time_axis(axes, points["train_s"])
            else:
                axes.set_xscale("log")
                axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set_xlabel(label)
        panels[0].set_ylabel("Macro ROC-AUC, test split")
        note = seeds_note("mean", points["n_seeds"])
        if any(row.auc_interval for row in analysis.networks):
            note += ", 95 % intervals"
        if any(law.law.identified and law.score == FALLING_SCORES[0] for law in analysis.laws):
            note += ", fitted scaling laws"
        add_curves_legend(figure, points, looks, note)
    return figure


def _draw_points(
    axes: Axes, curve: pd.DataFrame, cost: str, look: ArchitectureLook, rule: Rule
) -> None:
    axes.plot(curve[cost], curve["auc"], **line_style(look, rule) | {"linestyle": ""})
    axes.vlines(
        curve[cost], curve["low"], curve["high"], color=look.colour, linewidth=0.8, zorder=1.9
    )


def _draw_law(
    axes: Axes,
    analysis: Analysis,
    cost: str,
    look: ArchitectureLook,
    arch: str,
    rule: Rule,
    curve: pd.DataFrame,
) -> None:
    """Draw the law of 1 − AUC, turned into AUC; without one, join the points."""
    looks_of_line = line_style(look, rule) | {"marker": "", "label": ""}
    wanted = (arch, rule, FALLING_SCORES[0], cost)
    for law in analysis.laws:
        if (law.arch, law.rule, law.score, law.cost) == wanted and law.law.identified:
            axes.plot(law.costs, [1 - score.value for score in law.scores], **looks_of_line)
            axes.fill_between(
                law.costs,
                [1 - score.high for score in law.scores],
                [1 - score.low for score in law.scores],
                color=look.colour,
                alpha=0.12,
                linewidth=0,
            )
            return
    axes.plot(curve[cost], curve["auc"], **looks_of_line | {"linewidth": 0.6})
