"""Validation AUC against the learning rate, and the best learning rate against size."""

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from crnn_jax.analysis.selection import learning_rate_interval
from crnn_jax.figures.canvas import PAGE_WIDTH, new_figure, style
from crnn_jax.figures.legends import add_legend, seeds_note
from crnn_jax.figures.looks import ArchitectureLook, architecture_looks, line_name, split_curves
from crnn_jax.figures.parameter_axis import format_parameters, scale_parameter_axis

# Learning rates within this much of the best validation AUC are drawn as nearly as good: about the
# difference between two seeds.
TOLERANCE = 0.005


def learning_rates(results: pd.DataFrame) -> Figure:
    """Draw validation ROC-AUC against the learning rate, and the best one against parameters.

    A row for each architecture and rule. On the left a line for each size, the mean over seeds,
    with a larger marker at its maximum. On the right the maxima; bars span the learning rates whose
    AUC is within `TOLERANCE` of it. Where the best is the lowest or highest that was tried, its
    marker is open: a better one may lie beyond.

    Parameters
    ----------
    results
        Rows of ``results.csv``; see `crnn_jax.analysis.tables.read_results`.
    """
    looks = architecture_looks(results["arch"])
    known = results[results["learning_rate"].notna() & results["valid_auc"].notna()]
    best = learning_rate_interval(known, TOLERANCE)
    curves = list(split_curves(known, looks))
    targets = sorted(known["target"].unique())
    shades = colormaps["viridis"](np.linspace(0.85, 0.1, len(targets)))
    colours = dict(zip(targets, shades, strict=True))
    with style():
        figure = new_figure(PAGE_WIDTH, 0.7 + 2.1 * len(curves))
        rows = figure.subplots(len(curves), 2, squeeze=False, sharey="col")
        for (left, right), (arch, rule, runs) in zip(rows, curves, strict=True):
            of_this = best[(best["arch"] == arch) & (best["rule"] == rule)]
            _draw_curves(left, runs, colours)
            left.set_title(line_name(looks[arch], rule), loc="left")
            _draw_best(right, of_this, looks[arch])
            _scale_rate_axis(left.xaxis, known["learning_rate"])
            _scale_rate_axis(right.yaxis, known["learning_rate"])
        rows[-1, 0].set_xlabel("Learning rate")
        handles = [
            Line2D([], [], color=colours[target], marker="o", label=format_parameters(target))
            for target in targets
        ]
        note = seeds_note("mean", known.groupby(["arch", "rule", "target", "learning_rate"]).size())
        add_legend(
            figure,
            handles,
            title=f"{note}; bars: validation AUC at most {TOLERANCE:g} below the best",
        )
    return figure


def _draw_curves(axes: Axes, runs: pd.DataFrame, colours: dict) -> None:
    for target, of_size in runs.groupby("target"):
        means = of_size.groupby("learning_rate")["valid_auc"].mean()
        axes.plot(means.index, means, color=colours[target], marker="o", markersize=3)
        axes.plot(means.idxmax(), means.max(), color=colours[target], marker="o", markersize=6)
    axes.set_xscale("log")
    axes.set_ylabel("Macro ROC-AUC, validation")


def _draw_best(axes: Axes, best: pd.DataFrame, look: ArchitectureLook) -> None:
    axes.vlines(best["params"], best["lowest"], best["highest"], color=look.colour, linewidth=0.8)
    axes.plot(best["params"], best["best"], color=look.colour, linewidth=0.8)
    for at_edge, points in best.groupby("at_edge"):
        axes.plot(
            points["params"],
            points["best"],
            color=look.colour,
            marker=look.marker,
            linestyle="",
            markerfacecolor="white" if at_edge else look.colour,
        )
    scale_parameter_axis(axes, best["params"], best["target"].astype(int))
    axes.set_yscale("log")
    axes.set_ylabel("Best learning rate")


def _scale_rate_axis(axis: Axis, rates: pd.Series) -> None:
    """Span all learning rates that were tried, with a tick at each."""
    axis.set_view_interval(rates.min() / 1.3, rates.max() * 1.3, ignore=True)
    axis.set_major_locator(FixedLocator(sorted(rates.unique())))
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_locator(NullLocator())
