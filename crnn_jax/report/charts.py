"""The charts of a study's page, as Vega-Lite specifications made by Altair.

They refer to their data by name: the page's script fills in the tables of
`crnn_jax.report.contents`, so that each is in the file once, and colours, which depend on whether
the reader's screen is light or dark. Parameters let the script choose what is shown:

hidden
    Names of the lines that are left out.
selected
    Number of the network that is looked at more closely, or -1.
target
    Size, in parameters, whose tags are compared.
"""

import itertools
import json
from collections.abc import Container, Mapping, Sequence
from typing import Any

import altair as alt
from altair.utils.schemapi import debug_mode

from crnn_jax.analysis.costs import MEMORY
from crnn_jax.report.contents import AXES, CURVE_SCORES, CURVE_TIMES, Line

Chart = alt.LayerChart | alt.FacetChart

# Vega's names of Matplotlib's markers.
SHAPES = {
    "o": "circle",
    "s": "square",
    "^": "triangle-up",
    "D": "diamond",
    "v": "triangle-down",
    "P": "cross",
    "X": "triangle-left",
    "p": "triangle-right",
    "*": "stroke",
    "h": "wedge",
}
# Height of the charts against costs and of learning curves, in pixels.
CHART_HEIGHT = 340
# Height of a tag's row per line, and of its name at least.
ROW_PER_LINE, SMALLEST_ROW = 6, 18
# The width is that of the page, the height that of the marks.
AUTOSIZE = alt.AutoSizeParams(type="fit-x", contains="padding")
AUC_SCALE = alt.Scale(zero=False)
# How tooltips show numbers.
WHOLE, AUC, SHORT = ",.0f", ".4f", ",.3~s"
AXIS_FORMATS = {"params": WHOLE, "train_s": ",.1f", "train_flops": SHORT, MEMORY: SHORT}


def make_charts(
    lines: Sequence[Line], *, with_laws: Mapping[str, Container[str]], has_curves: bool
) -> dict[str, dict[str, Any]]:
    """Return the specifications of all charts of a study's page, by name.

    Parameters
    ----------
    lines
        Architectures and rules.
    with_laws
        For each cost the names of the lines that have a law of it.
    has_curves
        Whether there are learning curves.
    """
    # Tests check charts against Vega-Lite's schema; here that would take two seconds.
    with debug_mode(False):
        charts = draw_charts(lines, with_laws=with_laws, has_curves=has_curves)
        return {name: chart.to_dict(validate=False) for name, chart in charts.items()}


def draw_charts(
    lines: Sequence[Line], *, with_laws: Mapping[str, Container[str]], has_curves: bool
) -> dict[str, Chart]:
    """Return all charts of a study's page, see `make_charts`."""
    charts = {f"auc-{axis}": auc_against(axis, lines, with_laws.get(axis, ())) for axis in AXES}
    charts["tags"] = tag_scores(lines)
    if has_curves:
        for score, time in itertools.product(CURVE_SCORES, CURVE_TIMES):
            charts[f"curves-{score}-{time}"] = learning_curves(score, time, lines)
    return charts


def _colour(lines: Sequence[Line]) -> Any:
    """Return the scale of architectures; the script gives the colours of the category."""
    names = list(dict.fromkeys(line.look.name for line in lines))
    return alt.Scale(domain=names, range="category")


def _shape(lines: Sequence[Line]) -> Any:
    shapes = {line.look.name: SHAPES[line.look.marker] for line in lines}
    return alt.Scale(domain=list(shapes), range=list(shapes.values()))


def _dash(lines: Sequence[Line]) -> Any:
    names = [line.name for line in lines]
    return alt.Scale(
        domain=names, range=[[1, 0] if line.rule == "uniform" else [4, 3] for line in lines]
    )


def _parameters() -> tuple[alt.Parameter, alt.Parameter]:
    return alt.param("hidden", value=[]), alt.param("selected", value=-1)


def make_cost_axis(axis: str) -> alt.X:
    """Return a logarithmic axis of a cost."""
    return alt.X(
        f"{axis}:Q",
        scale=alt.Scale(type="log", nice=False, padding=14),
        axis=alt.Axis(title=AXES[axis], format="~s", labelOverlap=True, tickCount=6),
    )


def make_auc_axis() -> alt.Y:
    """Return the axis of macro AUC; those of its interval have `AUC_SCALE` as well."""
    return alt.Y("auc:Q", scale=AUC_SCALE, axis=alt.Axis(title="Macro test AUC", format=".2f"))


def fill_by_rule() -> Any:
    """Return the opacity of a network's mark: hollow unless its rule is uniform."""
    return alt.condition("datum.rule === 'uniform'", alt.value(1), alt.value(0))


def tell_costs() -> list[alt.Tooltip]:
    """Return the lines of a network's tooltip that tell its costs."""
    return [
        alt.Tooltip(f"{name}:Q", title=title.lower(), format=AXIS_FORMATS[name])
        for name, title in AXES.items()
    ]


def finish(chart: Any, description: str, height: int = CHART_HEIGHT) -> Any:
    """Return a chart as wide as the page, described for who does not see it."""
    return chart.properties(
        description=description, width="container", height=height, autosize=AUTOSIZE
    )


IS_SHOWN = "indexof(hidden, datum.line) < 0"
IS_SELECTED = "datum.network === selected"


def auc_against(axis: str, lines: Sequence[Line], with_law: Container[str]) -> Chart:
    """Draw macro test AUC against a cost: means with intervals, seeds, laws and the front.

    The points of a line that has no law are joined.
    """
    hidden, selected = _parameters()
    x = make_cost_axis(axis)
    y = make_auc_axis()
    colour = alt.Color("architecture:N", scale=_colour(lines), legend=None)
    interval = {"y": alt.Y("low:Q", scale=AUC_SCALE), "y2": "high:Q"}

    laws = alt.Chart(alt.NamedData(name="laws")).transform_filter(
        f"datum.axis === '{axis}' && {IS_SHOWN}"
    )
    law_x = alt.X("x:Q")
    band = laws.mark_area(opacity=0.12, clip=True, tooltip=None).encode(
        x=law_x, color=colour, detail="line:N", **interval
    )
    dash = alt.StrokeDash("line:N", scale=_dash(lines), legend=None)
    law = laws.mark_line(clip=True, strokeWidth=1.6, tooltip=None).encode(
        x=law_x, y=y, color=colour, strokeDash=dash
    )
    front = (
        alt.Chart(alt.NamedData(name="fronts"))
        .transform_filter(f"datum.axis === '{axis}' && {IS_SHOWN}")
        .mark_line(interpolate="step-after", strokeWidth=5, opacity=0.16, tooltip=None)
        .encode(x=x, y=y, color=alt.value("currentColor"))
    )
    shown = alt.Chart(alt.NamedData(name="points")).transform_filter(IS_SHOWN)
    bars = shown.mark_rule(strokeWidth=1.4, tooltip=None).encode(x=x, color=colour, **interval)
    seeds = (
        alt.Chart(alt.NamedData(name="runs"))
        .transform_filter(IS_SHOWN)
        .mark_circle(size=12, opacity=0.55, tooltip=None)
        .encode(x=x, y=y, color=colour)
    )
    points = shown.mark_point(size=90, strokeWidth=1.8, cursor="pointer").encode(
        x=x,
        y=y,
        stroke=alt.Stroke("architecture:N", scale=_colour(lines), legend=None),
        fill=alt.Fill("architecture:N", scale=_colour(lines), legend=None),
        fillOpacity=fill_by_rule(),
        shape=alt.Shape("architecture:N", scale=_shape(lines), legend=None),
        tooltip=[
            alt.Tooltip("line:N", title="network"),
            alt.Tooltip("auc:Q", title="AUC", format=AUC),
            alt.Tooltip("interval:N", title="95 % interval"),
            alt.Tooltip("seeds:Q", title="seeds"),
            *tell_costs(),
        ],
    )
    without = [line.name for line in lines if line.name not in with_law]
    joined = (
        shown.transform_filter(f"indexof({json.dumps(without)}, datum.line) >= 0")
        .mark_line(strokeWidth=0.8, tooltip=None)
        .encode(x=x, y=y, color=colour, strokeDash=dash)
    )
    ring = (
        shown.transform_filter(IS_SELECTED)
        .mark_point(size=380, strokeWidth=2, filled=False, tooltip=None)
        .encode(x=x, y=y, color=alt.value("currentColor"))
    )
    layers = alt.layer(
        front,
        *((band, law) if len(without) < len(lines) else ()),
        *((joined,) if without else ()),
        bars,
        seeds,
        ring,
        points,
    )
    return finish(
        layers.add_params(hidden, selected),
        f"Macro test AUC against {AXES[axis].lower()}; see the table of runs",
    )


def tag_scores(lines: Sequence[Line]) -> Chart:
    """Draw the AUC of one category's tags, the best first, for the networks of one size.

    The height is that of one tag: the script multiplies it by their number.
    """
    hidden, selected = _parameters()
    target = alt.param("target", value=0)
    shown = alt.Chart(alt.NamedData(name="tagScores")).transform_filter(
        f"datum.target === target && {IS_SHOWN}"
    )
    # The lines of a tag are below each other, so that intervals can be told apart.
    row = max(SMALLEST_ROW, ROW_PER_LINE * len(lines) + 6)
    y = alt.Y(
        "label:N",
        sort=alt.EncodingSortField(field="auc", op="mean", order="descending"),
        axis=alt.Axis(title=None, labelLimit=190, grid=True, tickBand="extent", domain=False),
    )
    offset = alt.YOffset("line:N", sort=[line.name for line in lines], scale=alt.Scale(padding=0.8))
    x = alt.X(
        "auc:Q",
        scale=alt.Scale(zero=False, domain={"expr": "tagDomain"}, clamp=True),
        axis=alt.Axis(title="AUC of the tag", format=".2f", tickCount=6),
    )
    shape = alt.Shape("architecture:N", scale=_shape(lines), legend=None)
    colour = alt.Color("architecture:N", scale=_colour(lines), legend=None)
    bars = shown.mark_rule(strokeWidth=1.4, opacity=0.7, tooltip=None).encode(
        x=alt.X("low:Q"), x2="high:Q", y=y, yOffset=offset, color=colour
    )
    points = shown.mark_point(size=42, strokeWidth=1.5).encode(
        x=x,
        y=y,
        yOffset=offset,
        stroke=alt.Stroke("architecture:N", scale=_colour(lines), legend=None),
        fill=alt.Fill("architecture:N", scale=_colour(lines), legend=None),
        fillOpacity=fill_by_rule(),
        shape=shape,
        opacity=alt.condition(
            f"selected < 0 || {IS_SELECTED} || datum.target !== selectedTarget",
            alt.value(1),
            alt.value(0.45),
        ),
        tooltip=[
            alt.Tooltip("tag:N"),
            alt.Tooltip("category:N"),
            alt.Tooltip("line:N", title="network"),
            alt.Tooltip("auc:Q", title="AUC", format=AUC),
            alt.Tooltip("interval:N", title="95 % interval"),
            alt.Tooltip("positives:Q", title="positive test clips", format=WHOLE),
            alt.Tooltip("rank:Q", title="popularity rank"),
        ],
    )
    more = (alt.param("tagDomain", value=[0.5, 1]), alt.param("selectedTarget", value=0))
    layers = alt.layer(bars, points).add_params(hidden, selected, target, *more)
    return finish(layers, "AUC of each tag of a category, with intervals", row)


def learning_curves(score: str, time: str, lines: Sequence[Line]) -> Chart:
    """Draw the learning curves of all runs, and those of the selected network more strongly."""
    hidden, selected = _parameters()
    curves = alt.Chart(alt.NamedData(name="curves")).transform_filter(IS_SHOWN)
    encoding: dict[str, Any] = {
        "x": alt.X(f"{time}:Q", axis=alt.Axis(title=CURVE_TIMES[time], tickMinStep=1)),
        "y": alt.Y(
            f"{score}:Q",
            scale=alt.Scale(zero=False),
            axis=alt.Axis(title=CURVE_SCORES[score]),
        ),
        "color": alt.Color("architecture:N", scale=_colour(lines), legend=None),
        "detail": "name:N",
        "strokeDash": alt.StrokeDash("line:N", scale=_dash(lines), legend=None),
    }
    every = curves.mark_line(strokeWidth=1.2, tooltip=None).encode(
        **encoding, opacity=alt.condition("selected < 0", alt.value(0.7), alt.value(0.25))
    )
    of_selected = curves.transform_filter(IS_SELECTED)
    chosen = of_selected.mark_line(strokeWidth=2.4, tooltip=None).encode(**encoding)
    points = curves.mark_circle(size=36).encode(
        x=encoding["x"],
        y=encoding["y"],
        color=encoding["color"],
        # Seen only where the network is selected, but everywhere there for the tooltip.
        opacity=alt.condition(IS_SELECTED, alt.value(1), alt.value(0.01)),
        tooltip=[
            alt.Tooltip("name:N", title="run"),
            alt.Tooltip("epoch:Q"),
            alt.Tooltip("seconds:Q", title="training time (s)", format=",.1f"),
            alt.Tooltip("auc:Q", title="validation AUC", format=AUC),
            alt.Tooltip("loss:Q", title="training loss", format=AUC),
        ],
    )
    layers = alt.layer(every, chosen, points).add_params(hidden, selected)
    return finish(layers, f"{CURVE_SCORES[score]} against {CURVE_TIMES[time].lower()}, by run")
