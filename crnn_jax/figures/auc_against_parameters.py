"""AUC against trainable parameters."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from crnn_jax.analysis.tables import mean_over_seeds
from crnn_jax.figures.canvas import COLUMN_WIDTH, new_figure, style
from crnn_jax.figures.legends import add_curves_legend, seeds_note
from crnn_jax.figures.looks import architecture_looks, line_name, line_style, split_curves
from crnn_jax.figures.parameter_axis import scale_parameter_axis

# Points (1/72 inch) to the right. Networks of both rules have the same size: without an offset
# one bar would cover the other.
RULE_OFFSETS = {"uniform": -1.5, "sqrt": 1.5}


def auc_against_parameters(results: pd.DataFrame) -> Figure:
    """Draw macro test ROC-AUC against trainable parameters.

    One line for each architecture and rule. Points are means over seeds, bars reach from the worst
    seed to the best. If there are both rules, they are drawn side by side. Runs without an AUC are
    left out.

    Parameters
    ----------
    results
        Rows of ``results.csv``; see `crnn_jax.analysis.tables.read_results`.
    """
    looks = architecture_looks(results["arch"])
    points = mean_over_seeds(results, "params")
    with style():
        figure = new_figure(COLUMN_WIDTH, 2.9)
        axes = figure.add_subplot()
        for arch, rule, curve in split_curves(points, looks):
            (line,) = axes.plot(curve["params"], curve["test_auc"], **line_style(looks[arch], rule))
            repeated = curve[curve["n_seeds"] > 1]
            ranges = axes.vlines(
                repeated["params"],
                repeated["lowest_auc"],
                repeated["highest_auc"],
                color=looks[arch].colour,
                linewidth=0.8,
                zorder=1.9,
                label=f"range of {line_name(looks[arch], rule)}",
            )
            if points["rule"].nunique() > 1:
                offset = ScaledTranslation(RULE_OFFSETS[rule] / 72, 0, figure.dpi_scale_trans)
                # After plotting: Matplotlib leaves shifted lines out of the axis limits.
                line.set_transform(axes.transData + offset)
                ranges.set_transform(axes.transData + offset)
        scale_parameter_axis(axes, points["params"], points["target"])
        axes.set_ylabel("Macro ROC-AUC, test split")
        note = seeds_note("mean and range", points["n_seeds"])
        add_curves_legend(figure, points, looks, note)
    return figure
