"""Read the artists of a drawn figure."""

import itertools

NAMES = {"conv1d": "Conv1D", "conv2d": "Conv2D", "crnn": "CRNN"}
RULE_NAMES = {"uniform": "uniform s", "sqrt": "√s at the output"}


def lines(axes):
    return {line.get_label(): line for line in axes.lines}


def collections(axes):
    return {collection.get_label(): collection for collection in axes.collections}


def legend_texts(figure):
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts() if text.get_text().strip()]


def tick_texts(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def overlap(first, second):
    return (
        min(first.x1, second.x1) > max(first.x0, second.x0)
        and min(first.y1, second.y1) > max(first.y0, second.y0)
    )  # fmt: skip


def assert_apart(texts):
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    for first, second in itertools.combinations(boxes, 2):
        assert not overlap(first, second)
