"""The charts of a run's page, as Vega-Lite specifications made by Altair.

As in `crnn_jax.report.charts`, they refer to their data by name. The parameter ``tag`` is the
number of the tag whose curves are drawn strongly.
"""

from typing import Any

import altair as alt

from crnn_jax.report.charts import CURVE_SCORES, finish

HEIGHT = 300
# Range of a part of clips, with room for a line at its ends.
PART = alt.Scale(domain=[0, 1], nice=False, padding=2)


def make_run_charts() -> dict[str, dict[str, Any]]:
    """Return the specifications of all charts of a run's page, by name."""
    charts = {
        "history-loss": draw_history("loss"),
        "history-auc": draw_history("auc"),
        "roc": draw_tag_curves("roc", "False positive rate", "True positive rate"),
        "precision": draw_tag_curves("precision", "Recall", "Precision"),
        "calibration": draw_calibration(),
    }
    return {name: chart.to_dict() for name, chart in charts.items()}


def draw_history(score: str) -> Any:
    """Draw the training loss or the validation AUC of each epoch."""
    chart = alt.Chart(alt.NamedData(name="history")).encode(
        x=alt.X("epoch:Q", axis=alt.Axis(title="Epoch", tickMinStep=1)),
        y=alt.Y(
            f"{score}:Q", scale=alt.Scale(zero=False), axis=alt.Axis(title=CURVE_SCORES[score])
        ),
        color=alt.Color("series:N", scale=alt.Scale(range="category"), legend=None),
        tooltip=[
            alt.Tooltip("epoch:Q"),
            alt.Tooltip("seconds:Q", title="training time (s)", format=",.1f"),
            alt.Tooltip("loss:Q", title="training loss", format=".4f"),
            alt.Tooltip("auc:Q", title="validation AUC", format=".4f"),
        ],
    )
    layers = alt.layer(chart.mark_line(tooltip=None), chart.mark_circle(size=40))
    return finish(layers, f"{CURVE_SCORES[score]} of each epoch", HEIGHT)


def draw_tag_curves(table: str, x: str, y: str) -> Any:
    """Draw a curve of every tag faintly, and that of the chosen one strongly."""
    tag = alt.param("tag", value=-1)
    curves = alt.Chart(alt.NamedData(name=table))
    encoding: dict[str, Any] = {
        "x": alt.X("x:Q", scale=PART, axis=alt.Axis(title=x)),
        "y": alt.Y("y:Q", scale=PART, axis=alt.Axis(title=y)),
        "color": alt.Color("series:N", scale=alt.Scale(range="category"), legend=None),
        "detail": "tag:N",
        # In the order of the table: both curves have vertical parts.
        "order": alt.Order("place:Q"),
    }
    every = curves.mark_line(strokeWidth=1, opacity=0.15, tooltip=None).encode(**encoding)
    chosen = (
        curves.transform_filter("datum.tag === tag")
        .mark_line(strokeWidth=2.6, tooltip=None)
        .encode(**encoding)
    )
    return finish(
        alt.layer(every, chosen).add_params(tag), f"{y} against {x.lower()}, by tag", HEIGHT
    )


def draw_calibration() -> Any:
    """Draw how often an output is right against its score."""
    bins = alt.Chart(alt.NamedData(name="calibration"))
    x = alt.X("predicted:Q", scale=PART, axis=alt.Axis(title="Score"))
    y = alt.Y("observed:Q", scale=PART, axis=alt.Axis(title="Part that is right"))
    ideal = (
        bins.transform_aggregate(n="count()")
        .transform_calculate(ends="[0, 1]")
        .transform_flatten(["ends"])
        .mark_line(strokeDash=[4, 4], strokeWidth=1, tooltip=None)
        .encode(
            x=alt.X("ends:Q", scale=PART),
            y=alt.Y("ends:Q", scale=PART),
            color=alt.value("currentColor"),
        )
    )
    colour = alt.Color("series:N", scale=alt.Scale(range="category"), legend=None)
    line = bins.mark_line(strokeWidth=1.6, tooltip=None).encode(x=x, y=y, color=colour)
    points = bins.mark_circle(opacity=0.9).encode(
        x=x,
        y=y,
        color=colour,
        size=alt.Size("outputs:Q", scale=alt.Scale(range=[20, 400]), legend=None),
        tooltip=[
            alt.Tooltip("predicted:Q", title="mean score", format=".4f"),
            alt.Tooltip("observed:Q", title="part that is right", format=".4f"),
            alt.Tooltip("outputs:Q", title="outputs", format=",.0f"),
        ],
    )
    return finish(alt.layer(ideal, line, points), "How often outputs are right, by score", HEIGHT)
