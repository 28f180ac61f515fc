"""Names, colours, markers and line styles of architectures and rules, the same in every figure."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

import pandas as pd

from crnn_jax.config import Rule
from crnn_jax.figures.names import drawable


class ArchitectureLook(NamedTuple):
    """How an architecture is drawn."""

    name: str
    colour: str
    marker: str


class RuleLook(NamedTuple):
    """How a width rule is drawn."""

    name: str
    line_style: Literal["-"] | tuple[float, tuple[float, ...]]
    filled: bool


# Colours of Okabe & Ito (2008), which colour-blind readers can distinguish. Without their
# yellow, which is too light for a line on white.
GREEN, BLUE, VERMILION = "#009E73", "#0072B2", "#D55E00"
OTHER_COLOURS = ("#CC79A7", "#E69F00", "#56B4E9", "#000000")
OTHER_MARKERS = ("D", "v", "P", "X", "p", "*", "h")

# Markers and fills make the same distinction in greyscale. Legends have this order.
ARCHITECTURE_LOOKS: Mapping[str, ArchitectureLook] = {
    "conv1d": ArchitectureLook("Conv1D", GREEN, "o"),
    "conv2d": ArchitectureLook("Conv2D", BLUE, "s"),
    "crnn": ArchitectureLook("CRNN", VERMILION, "^"),
}
RULE_LOOKS: Mapping[Rule, RuleLook] = {
    "uniform": RuleLook("uniform s", "-", filled=True),
    "sqrt": RuleLook("√s at the output", (0, (4, 2)), filled=False),
}


def architecture_looks(archs: Iterable[str]) -> dict[str, ArchitectureLook]:
    """Return the looks of all architectures of a table, in the order of the legend.

    Parameters
    ----------
    archs
        The table's column. Architectures without a look of their own come last, in the order of
        their first rows, under their own names.
    """
    present = dict.fromkeys(archs)
    looks = {arch: look for arch, look in ARCHITECTURE_LOOKS.items() if arch in present}
    others = (arch for arch in present if arch not in ARCHITECTURE_LOOKS)
    # 4 colours and 7 markers: 28 pairs before one repeats.
    pairs = zip(itertools.cycle(OTHER_COLOURS), itertools.cycle(OTHER_MARKERS), strict=False)
    for arch, (colour, marker) in zip(others, pairs, strict=False):
        looks[arch] = ArchitectureLook(drawable(arch), colour, marker)
    return looks


def split_curves(
    points: pd.DataFrame, looks: Mapping[str, ArchitectureLook]
) -> Iterator[tuple[str, Rule, pd.DataFrame]]:
    """Yield each architecture and rule that has points, in the order of the legend."""
    for arch, rule in itertools.product(looks, RULE_LOOKS):
        curve = points[(points["arch"] == arch) & (points["rule"] == rule)]
        if len(curve):
            yield arch, rule, curve


def line_name(look: ArchitectureLook, rule: Rule) -> str:
    """Return the name of a line, such as ``CRNN, uniform s``."""
    return f"{look.name}, {RULE_LOOKS[rule].name}"


def line_style(look: ArchitectureLook, rule: Rule) -> dict[str, Any]:
    """Return the keyword arguments of a line and its markers."""
    rule_look = RULE_LOOKS[rule]
    return {
        "color": look.colour,
        "marker": look.marker,
        "linestyle": rule_look.line_style,
        "markerfacecolor": look.colour if rule_look.filled else "white",
        "label": line_name(look, rule),
    }
