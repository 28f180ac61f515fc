"""AUC against training time."""

import math
from collections.abc import Iterable, Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from crnn_jax.analysis.tables import mean_over_seeds
from crnn_jax.figures.canvas import COLUMN_WIDTH, GREY, new_figure, style
from crnn_jax.figures.legends import add_curves_legend, add_legend, seeds_note
from crnn_jax.figures.looks import (
    ArchitectureLook,
    architecture_looks,
    line_style,
    split_curves,
)
from crnn_jax.figures.names import drawable
from crnn_jax.figures.parameter_axis import format_parameters
from crnn_jax.figures.time_axis import scale_time_axis

# Diameters in points (1/72 inch) of the smallest and the largest network's marker.
MARKER_SIZES = (3.2, 7.0)
PANELS = {
    # The unit of Choi et al. (2017).
    "seconds_per_2500_samples": "Training time per 2,500 samples (s)",
    "train_s": "Total training time (s)",
}


def auc_against_training_time(results: pd.DataFrame) -> Figure:
    """Draw macro test ROC-AUC against training time, per 2,500 samples and in total.

    One line for each architecture, rule and time budget, from the smallest network to the largest;
    the markers grow with the networks. Points are means over seeds, in both directions. Runs
    without an AUC are left out, and each panel leaves out runs without its time.

    Parameters
    ----------
    results
        Rows of ``results.csv``; see `crnn_jax.analysis.tables.read_results`.
    """
    looks = architecture_looks(results["arch"])
    points = mean_over_seeds(results, "params")
    sizes = _marker_sizes(points["target"])
    note = ", on ".join([seeds_note("mean", points["n_seeds"]), *_device_names(results)])
    with style():
        figure = new_figure(COLUMN_WIDTH, 5.2)
        add_curves_legend(figure, points, looks, note)
        for axes, (column, label) in zip(
            figure.subplots(2, 1, sharey=True), PANELS.items(), strict=True
        ):
            _draw_panel(axes, mean_over_seeds(results, column), column, looks, sizes)
            axes.set_xlabel(label)
            axes.set_ylabel("Macro ROC-AUC, test split")
        add_legend(
            figure,
            [_size_handle(target, size) for target, size in sizes.items()],
            title="Trainable parameters",
            loc="outside lower center",
            handlelength=1.0,
        )
    return figure


def _draw_panel(
    axes: Axes,
    points: pd.DataFrame,
    column: str,
    looks: Mapping[str, ArchitectureLook],
    sizes: Mapping[int, float],
) -> None:
    if points.empty:
        axes.text(0.5, 0.5, "not measured", ha="center", color=GREY, transform=axes.transAxes)
        axes.set_xticks([])
        return
    for arch, rule, curve in split_curves(points, looks):
        looks_of_line = line_style(looks[arch], rule)
        for _, of_budget in curve.groupby("max_train_seconds", dropna=False):
            axes.plot(
                of_budget[column],
                of_budget["test_auc"],
                **looks_of_line | {"marker": "", "linewidth": 0.8},
            )
        for target, seconds, auc in zip(
            curve["target"], curve[column], curve["test_auc"], strict=True
        ):
            single = {"linestyle": "", "markersize": sizes[target], "label": ""}
            axes.plot(seconds, auc, **looks_of_line | single)
    scale_time_axis(axes, points[column])


def _marker_sizes(targets: Iterable[int]) -> dict[int, float]:
    """Marker diameters in points that grow with the logarithm of the target."""
    targets = sorted(set(targets))
    smallest, largest = MARKER_SIZES
    step = (largest - smallest) / (math.log(targets[-1] / targets[0]) or 1.0)
    return {target: smallest + step * math.log(target / targets[0]) for target in targets}


def _size_handle(target: int, size: float) -> Line2D:
    label = format_parameters(target)
    return Line2D([], [], linestyle="", marker="o", color=GREY, markersize=size, label=label)


def _device_names(results: pd.DataFrame) -> list[str]:
    """Names of the devices, with their number where there are several."""
    devices = results.loc[results["device"] != "", ["device", "device_count"]].drop_duplicates()
    return sorted(
        f"{drawable(name)} ({count} devices)" if pd.notna(count) and count > 1 else drawable(name)
        for name, count in devices.itertuples(index=False)
    )
