"""The charts of several studies side by side, as Vega-Lite specifications made by Altair.

As in `crnn_jax.report.charts`, they refer to their data by name, and ``hidden`` has the names of
the studies that are left out.
"""

from collections.abc import Sequence
from typing import Any

import altair as alt

from crnn_jax.report.charts import (
    AUC,
    AUC_SCALE,
    SHAPES,
    fill_by_rule,
    finish,
    make_auc_axis,
    make_cost_axis,
    tell_costs,
)
from crnn_jax.report.contents import AXES, Line

# Height of a network's row per study, in pixels.
ROW = 12
IS_SHOWN = "indexof(hidden, datum.study) < 0"


def make_comparison_charts(
    lines: Sequence[Line], studies: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Return the specifications of all charts of the page, by name."""
    charts = {f"auc-{axis}": draw_costs(axis, lines, studies) for axis in AXES}
    charts["differences"] = draw_differences(studies)
    return {name: chart.to_dict() for name, chart in charts.items()}


def _scale(studies: Sequence[str]) -> alt.Scale:
    return alt.Scale(domain=list(studies), range="category")


def draw_costs(axis: str, lines: Sequence[Line], studies: Sequence[str]) -> Any:
    """Draw macro test AUC against a cost: a colour per study, a shape per architecture."""
    shapes = {line.look.name: SHAPES[line.look.marker] for line in lines}
    points = alt.Chart(alt.NamedData(name="points")).transform_filter(IS_SHOWN)
    x = make_cost_axis(axis)
    y = make_auc_axis()
    colour = alt.Color("study:N", scale=_scale(studies), legend=None)
    joined = points.mark_line(strokeWidth=1.2, opacity=0.6, tooltip=None).encode(
        x=x, y=y, color=colour, detail="line:N"
    )
    bars = points.mark_rule(strokeWidth=1.4, tooltip=None).encode(
        x=x, y=alt.Y("low:Q", scale=AUC_SCALE), y2="high:Q", color=colour
    )
    marks = points.mark_point(size=80, strokeWidth=1.8).encode(
        x=x,
        y=y,
        stroke=alt.Stroke("study:N", scale=_scale(studies), legend=None),
        fill=alt.Fill("study:N", scale=_scale(studies), legend=None),
        fillOpacity=fill_by_rule(),
        shape=alt.Shape(
            "architecture:N",
            scale=alt.Scale(domain=list(shapes), range=list(shapes.values())),
            legend=alt.Legend(title=None, orient="top"),
        ),
        tooltip=[
            alt.Tooltip("study:N"),
            alt.Tooltip("line:N", title="network"),
            alt.Tooltip("auc:Q", title="AUC", format=AUC),
            alt.Tooltip("interval:N", title="95 % interval"),
            *tell_costs(),
        ],
    )
    hidden = alt.param("hidden", value=[])
    return finish(
        alt.layer(joined, bars, marks).add_params(hidden),
        f"Macro test AUC against {AXES[axis].lower()}, by study",
    )


def draw_differences(studies: Sequence[str]) -> Any:
    """Draw the difference of each network's AUC from the first study's, a row per network.

    The height is that of one network: the script multiplies it by their number.
    """
    rows = alt.Chart(alt.NamedData(name="differences")).transform_filter(IS_SHOWN)
    y = alt.Y(
        "network:N",
        sort=None,
        axis=alt.Axis(title=None, labelLimit=220, grid=True, tickBand="extent", domain=False),
    )
    offset = alt.YOffset("study:N", sort=list(studies), scale=alt.Scale(padding=0.8))
    x_scale = alt.Scale(zero=True)
    colour = alt.Color("study:N", scale=_scale(studies), legend=None)
    zero = (
        alt.Chart(alt.NamedData(name="zero"))
        .mark_rule(strokeDash=[4, 4], tooltip=None)
        .encode(x=alt.X("x:Q"), color=alt.value("currentColor"))
    )
    bars = rows.mark_rule(strokeWidth=1.6, tooltip=None).encode(
        x=alt.X("low:Q", scale=x_scale), x2="high:Q", y=y, yOffset=offset, color=colour
    )
    marks = rows.mark_circle(size=60, opacity=1).encode(
        x=alt.X("value:Q", scale=x_scale, axis=alt.Axis(title="Difference of AUC", format="+.3f")),
        y=y,
        yOffset=offset,
        color=colour,
        tooltip=[
            alt.Tooltip("study:N"),
            alt.Tooltip("network:N"),
            alt.Tooltip("value:Q", title="difference", format="+.4f"),
            alt.Tooltip("interval:N", title="95 % interval"),
        ],
    )
    height = max(22, ROW * (len(studies) - 1) + 8)
    layers = alt.layer(zero, bars, marks).add_params(alt.param("hidden", value=[]))
    return finish(layers, "Difference of each network's AUC from the first study's", height)
