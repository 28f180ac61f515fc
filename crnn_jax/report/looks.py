"""Colours of the pages' marks, on light and on dark screens."""

from collections.abc import Iterable

# On a dark page, of the same hues as Okabe & Ito's: theirs are for white paper.
DARK_COLOURS = {
    "#009E73": "#3ed6a8",
    "#0072B2": "#5db4f5",
    "#D55E00": "#ff9557",
    "#CC79A7": "#e8a6cc",
    "#E69F00": "#ffc34d",
    "#56B4E9": "#9bd4f7",
    "#000000": "#f0f0f0",
}


def make_looks(colours: Iterable[str]) -> list[dict[str, str]]:
    """Return for each colour of Okabe & Ito's what a page's script draws on either screen."""
    return [{"light": colour, "dark": DARK_COLOURS.get(colour, colour)} for colour in colours]
