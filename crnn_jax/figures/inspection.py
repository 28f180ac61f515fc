"""A page about a prepared data set that shows whether it was prepared well.

It shows clips that are silent, cut short or all alike, a band limit, a level that differs from
split to split, a tag that hardly any clip has, and tags that do not fit the sound.
"""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from etils import epath
from jaxtyping import Float, UInt8
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.lines import Line2D

from crnn_jax.figures.canvas import (
    SMALL_FONT_SIZE,
    check_image_path,
    new_figure,
    style,
    write_image,
)
from crnn_jax.figures.looks import BLUE, GREEN, OTHER_COLOURS, VERMILION
from crnn_jax.figures.mel_axis import label_mel_bands
from crnn_jax.figures.names import drawable

if TYPE_CHECKING:
    from crnn_jax.data.prepared import PreparedSet

# Inches of the page, and of its parts from top to bottom: a row of clips for each split, the mean
# spectra, and the tags.
WIDTH = 10.0
ROW_HEIGHT = 1.9
SPECTRA_HEIGHT = 2.1
TAGS_HEIGHT = 2.6
CLIPS_OF_A_ROW = 4
# Clips of each split for its spectrum: enough for a smooth curve, and read in less than a second.
CLIPS_OF_A_SPECTRUM = 64
# At this many pixels per inch a clip has about one pixel for each frame, and text stays sharp.
DPI = 130
# Characters in a line above a clip, and in a tag's name below the bars.
LONGEST_LINE = 34
LONGEST_TAG = 20
COLOURS = (BLUE, VERMILION, GREEN, *OTHER_COLOURS)


def check_page_path(path: epath.Path) -> None:
    """Raise a UserError if the file's name is not that of a PNG."""
    check_image_path(path, "out", ("png",))


def draw_page(data: "PreparedSet", out: epath.Path) -> None:
    """Draw sample clips with their tags, mean spectra and tag counts as a PNG.

    Parameters
    ----------
    data
        The data set.
    out
        File to write.

    Raises
    ------
    UserError
        If `out` is not a PNG, or cannot be written.
    """
    check_page_path(out)
    splits = list(data.n_examples)
    with style():
        clips_height = ROW_HEIGHT * len(splits)
        height = clips_height + SPECTRA_HEIGHT + TAGS_HEIGHT
        figure = new_figure(WIDTH, height)
        figure.suptitle(drawable(data.name), x=0.01, ha="left", parse_math=False)
        heights = [clips_height, SPECTRA_HEIGHT, TAGS_HEIGHT]
        clips, spectra, tags = figure.subfigures(3, 1, squeeze=False, height_ratios=heights).flat
        _draw_clips(clips, data)
        _draw_spectra(spectra.subplots(), data)
        _draw_tag_shares(tags.subplots(), data)
    write_image(figure, out, dpi=DPI)


def spread(n_examples: int, wanted: int) -> list[int]:
    """Choose up to `wanted` positions, evenly spaced over `n_examples`."""
    count = min(n_examples, wanted)
    return [(2 * number + 1) * n_examples // (2 * count) for number in range(count)]


def list_tags(targets: UInt8[np.ndarray, "tags"], tag_names: Sequence[str]) -> str:
    """List the names of a clip's tags in one line, as they can be drawn."""
    names = (drawable(tag_names[column]) for column in np.flatnonzero(targets).tolist())
    return ", ".join(names) or "no tag"


def band_percentiles(data: "PreparedSet", split: str) -> Float[np.ndarray, "3 mel"]:
    """Compute the 5th, 50th and 95th percentile of each mel band in dB, over clips of a split."""
    source = data.source(split)
    places = spread(len(source), CLIPS_OF_A_SPECTRUM)
    # One frame in eight gives the same spectrum as all.
    frames = np.concatenate([source[place]["log_mel"][:, ::8] for place in places], axis=1)
    return np.percentile(frames.astype(np.float32), [5, 50, 95], axis=1)


def _draw_clips(figure: SubFigure, data: "PreparedSet") -> None:
    grid = figure.subplots(
        len(data.n_examples), CLIPS_OF_A_ROW, squeeze=False, sharex=True, sharey=True
    )
    rows = []
    for split in data.n_examples:
        source = data.source(split)
        rows.append([source[place] for place in spread(len(source), CLIPS_OF_A_ROW)])
    lowest = min(example["log_mel"].min() for row in rows for example in row)
    highest = max(example["log_mel"].max() for row in rows for example in row)
    for axes_of_row, row, split in zip(grid, rows, data.n_examples, strict=True):
        for axes in axes_of_row[len(row) :]:
            axes.set_visible(False)
        for axes, example in zip(axes_of_row, row, strict=False):
            # All clips share one scale, so that one that is too quiet or too loud stands out.
            axes.imshow(
                example["log_mel"].astype(np.float32),
                origin="lower",
                aspect="auto",
                extent=(0, data.mel.clip_seconds, -0.5, data.mel.n_mels - 0.5),
                cmap="magma",
                vmin=lowest,
                vmax=highest,
                interpolation="antialiased",
            )
            axes.grid(False)
            track_id = example["track_id"].decode()
            if len(track_id) > LONGEST_LINE:
                # Names of files differ at the end.
                track_id = f"…{track_id[1 - LONGEST_LINE :]}"
            track_id = drawable(track_id)
            tags = list_tags(example["tags"], data.tag_names)
            lines = textwrap.wrap(tags, LONGEST_LINE, max_lines=2, placeholder=" …")
            axes.set_title("\n".join([track_id, *lines]), loc="left", parse_math=False)
        label_mel_bands(axes_of_row[0].yaxis, data.mel)
        axes_of_row[0].set_ylabel(f"{split}\n\nfrequency (kHz)", parse_math=False)
    for axes in grid[-1]:
        axes.set_xlabel("time (s)")
    # Every split has a clip, and all clips have the same scale.
    image = grid[0, 0].images[0]
    figure.colorbar(image, ax=grid, label="log-mel (dB)", pad=0.01, fraction=0.02, aspect=40)


def _draw_spectra(axes: Axes, data: "PreparedSet") -> None:
    bands = np.arange(data.mel.n_mels)
    for split, colour in zip(data.n_examples, COLOURS, strict=False):
        low, middle, high = band_percentiles(data, split)
        axes.plot(bands, middle, color=colour, label=split)
        axes.fill_between(bands, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set_xlim(0, bands[-1])
    title = "Level of each band: median, and from the 5th to the 95th percentile"
    axes.set_title(title, loc="left")
    label_mel_bands(axes.xaxis, data.mel)
    axes.set_xlabel("frequency (kHz)")
    axes.set_ylabel("log-mel (dB)")
    _legend_above(axes, axes.get_legend_handles_labels()[0])


def _draw_tag_shares(axes: Axes, data: "PreparedSet") -> None:
    train, *others = data.n_examples
    shares = {
        split: 100 * np.array(data.tag_counts[split]) / data.n_examples[split]
        for split in data.n_examples
    }
    categories = sorted(set(data.tag_categories))
    # By category, and within a category the most frequent first.
    order = sorted(
        range(len(data.tag_names)),
        key=lambda tag: (data.tag_categories[tag], -shares[train][tag], data.tag_names[tag]),
    )
    colour_of = {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(categories)}
    places = np.arange(len(order))
    colours = [colour_of[data.tag_categories[tag]] for tag in order]
    axes.bar(places, shares[train][order], width=0.7, color=colours, alpha=0.5)
    for split, marker in zip(others, "_x+", strict=False):
        axes.plot(places, shares[split][order], marker, color="black", label=split)
    axes.set_xticks(
        places,
        [drawable(data.tag_names[tag], LONGEST_TAG) for tag in order],
        rotation=90,
        parse_math=False,
        # There must be room for more than a hundred names.
        fontsize=min(SMALL_FONT_SIZE, 600 / len(order)),
    )
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.6, len(order) - 0.4)
    axes.set_title(f"Clips that have a tag: {train} (bars)", loc="left")
    axes.set_ylabel("clips (%)")
    # A colour that two categories share identifies neither.
    named = colour_of if len(colour_of) <= len(COLOURS) else {}
    handles = [
        Line2D([], [], color=colour, alpha=0.5, linewidth=5, label=drawable(name, LONGEST_TAG))
        for name, colour in named.items()
    ]
    _legend_above(axes, [*handles, *axes.get_legend_handles_labels()[0]])


def _legend_above(axes: Axes, handles: Sequence[Artist]) -> None:
    legend = axes.legend(
        handles=handles,
        loc="lower right",
        bbox_to_anchor=(1, 1),
        borderaxespad=0,
        ncols=len(handles),
    )
    # Many or long names must not take room from the axes; there is room next to the title.
    legend.set_in_layout(False)
    for text in legend.get_texts():
        text.set_parse_math(False)
