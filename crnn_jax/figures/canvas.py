"""Sizes, style and output that all figures share.

The same figure always gives the same bytes: the style starts from Matplotlib's defaults, whatever
the user's own style is, fonts are those that come with Matplotlib, and no date is written.
"""

import io
import textwrap
from collections.abc import Collection, Mapping
from typing import Any

import matplotlib.style
from etils import epath
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from crnn_jax.errors import UserError
from crnn_jax.files import write_file

# Inches: one column of a two-column page, and both columns.
COLUMN_WIDTH = 3.4
PAGE_WIDTH = 7.0
# Points (1/72 inch).
FONT_SIZE = 8
SMALL_FONT_SIZE = 6.5
GREY = "0.35"

STYLE: Mapping[str, Any] = {
    "font.size": FONT_SIZE,
    "axes.labelsize": FONT_SIZE,
    "axes.titlesize": FONT_SIZE,
    "xtick.labelsize": FONT_SIZE - 1,
    "ytick.labelsize": FONT_SIZE - 1,
    "legend.fontsize": FONT_SIZE - 1,
    "legend.title_fontsize": SMALL_FONT_SIZE,
    "legend.frameon": False,
    "legend.columnspacing": 1.4,
    "legend.handlelength": 2.2,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.1,
    "lines.markersize": 4.2,
    "lines.markeredgewidth": 0.9,
    "savefig.dpi": 300,
    # Without a fixed salt the identifiers inside an SVG are random.
    "svg.hashsalt": "crnn-jax",
}
# None: metadata that would differ between versions and dates is left out.
FORMATS: Mapping[str, Mapping[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None},
}


def style() -> Any:
    """Return a context manager that sets the style of all figures."""
    return matplotlib.style.context(dict(STYLE), after_reset=True)


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure, sizes in inches, to be drawn on within `style`."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def wrap_text(text: str, width: float) -> str:
    """Break text in the small font into lines that fit into `width` inches."""
    return textwrap.fill(text, int(width * 72 / (0.55 * SMALL_FONT_SIZE)))


def check_image_path(path: epath.Path, field: str, formats: Collection[str] = FORMATS) -> None:
    """Raise a UserError that names `field` if the path is not that of such an image."""
    if path.suffix.removeprefix(".") not in formats or path.is_dir():
        names = " or ".join(f".{name}" for name in formats)
        raise UserError(f"give a file name that ends in {names}", field=field, value=path)


def write_figure(figure: Figure, folder: epath.Path, name: str) -> list[epath.Path]:
    """Write a figure as PNG and SVG, and return both paths."""
    paths = [folder / f"{name}.{image_format}" for image_format in FORMATS]
    for path in paths:
        write_image(figure, path)
    return paths


def write_image(figure: Figure, path: epath.Path, *, dpi: int | None = None) -> None:
    """Write a figure in the format of the path's suffix, PNG or SVG.

    Parameters
    ----------
    figure
        The figure, made by `new_figure`.
    path
        The file. The new one replaces the old one in one step; its folder is made if needed.
    dpi
        Pixels per inch, 300 if not given.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    image_format = path.suffix.removeprefix(".")
    content = io.BytesIO()
    # Part of the style is read only while the figure is rendered.
    with style():
        metadata = dict(FORMATS[image_format])
        figure.savefig(content, format=image_format, metadata=metadata, dpi=dpi)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, content.getvalue())
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror or error}; give a folder that can be written to"
        ) from error
