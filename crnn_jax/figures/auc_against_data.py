"""AUC against the number of training clips."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from crnn_jax.figures.canvas import COLUMN_WIDTH, new_figure, style
from crnn_jax.figures.legends import add_curves_legend, seeds_note
from crnn_jax.figures.looks import architecture_looks, line_style, split_curves
from crnn_jax.figures.parameter_axis import format_parameters


def auc_against_data(results: pd.DataFrame) -> Figure:
    """Draw macro test ROC-AUC against the training clips that were used.

    One line for each architecture, rule and size, whose number of parameters stands at its end.
    Points are means over seeds.

    Parameters
    ----------
    results
        Rows of ``results.csv``; see `crnn_jax.analysis.tables.read_results`.
    """
    looks = architecture_looks(results["arch"])
    known = results[results["test_auc"].notna() & results["train_fraction"].notna()]
    points = known.groupby(["arch", "rule", "target", "train_fraction"], as_index=False).agg(
        n_train=("n_train", "mean"), test_auc=("test_auc", "mean"), n_seeds=("test_auc", "size")
    )
    with style():
        figure = new_figure(COLUMN_WIDTH, 2.9)
        axes = figure.add_subplot()
        for arch, rule, curves in split_curves(points, looks):
            for target, curve in curves.groupby("target"):
                axes.plot(curve["n_train"], curve["test_auc"], **line_style(looks[arch], rule))
                if points["target"].nunique() > 1:
                    axes.annotate(
                        format_parameters(target),
                        (curve["n_train"].iloc[-1], curve["test_auc"].iloc[-1]),
                        xytext=(4, 0),
                        textcoords="offset points",
                        va="center",
                        fontsize=6,
                        color=looks[arch].colour,
                    )
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(sorted(points["n_train"].unique())))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.set_xlabel("Training clips")
        axes.set_ylabel("Macro ROC-AUC, test split")
        add_curves_legend(figure, points, looks, seeds_note("mean", points["n_seeds"]))
    return figure
