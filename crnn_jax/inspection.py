"""A prepared data set at a glance: a page that shows whether it was prepared well.

What goes wrong shows: clips that are silent, cut short or all alike, a band limit, a level that
differs from split to split, a tag that hardly any clip has, tags that do not fit the sound.
"""

import io
import textwrap
from collections.abc import Sequence

import matplotlib.style
import numpy as np
from etils import epath
from jaxtyping import Float, UInt8
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D

from crnn_jax.config import MelConfig
from crnn_jax.datasets import PreparedSet
from crnn_jax.errors import UserError
from crnn_jax.files import write_file
from crnn_jax.plots import STYLE, drawable

# Inches of a page, and of its parts from top to bottom: a row of clips for each split, the mean
# spectra, and the tags.
WIDTH = 10.0
ROW_HEIGHT = 1.9
SPECTRA_HEIGHT = 2.1
TAGS_HEIGHT = 2.6
CLIPS_OF_A_ROW = 4
# Clips of each split over which a spectrum is averaged: enough for a smooth curve, read in less
# than a second.
CLIPS_OF_A_SPECTRUM = 64
# Pixels of an inch: a clip has about as many columns as pixels, and text stays sharp.
RESOLUTION = 130
# Characters above a clip, and of a tag's name below the bars.
LONGEST_LINE = 34
LONGEST_TAG = 20
FREQUENCY_TICKS = (250, 500, 1000, 2000, 4000, 8000, 16_000)
# Of Okabe & Ito (2008), which colour-blind readers can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def check_page_path(path: epath.Path) -> None:
    """Raise a UserError if a page cannot be named so."""
    if path.suffix != ".png" or path.is_dir():
        raise UserError(f"--out {path}: give a file name that ends in .png")


def draw_page(data: PreparedSet, out: epath.Path) -> None:
    """Draw sample clips with their tags, mean spectra and tag counts as a PNG.

    Parameters
    ----------
    data
        The set.
    out
        Where to.
    """
    splits = list(data.n_examples)
    with matplotlib.style.context(dict(STYLE), after_reset=True):
        clips_height = ROW_HEIGHT * len(splits)
        height = clips_height + SPECTRA_HEIGHT + TAGS_HEIGHT
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(drawable(data.name), x=0.01, ha="left", parse_math=False)
        heights = [clips_height, SPECTRA_HEIGHT, TAGS_HEIGHT]
        clips, spectra, tags = figure.subfigures(3, 1, squeeze=False, height_ratios=heights).flat
        _draw_clips(clips, data)
        _draw_spectra(spectra.subplots(), data)
        _draw_tag_shares(tags.subplots(), data)
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=RESOLUTION, metadata={"Software": None})
    out.parent.mkdir(parents=True, exist_ok=True)
    write_file(out, content.getvalue())


def spread(n_examples: int, wanted: int) -> list[int]:
    """Up to `wanted` positions, evenly over `n_examples`."""
    count = min(n_examples, wanted)
    return [(2 * number + 1) * n_examples // (2 * count) for number in range(count)]


def tags_of(targets: UInt8[np.ndarray, "tags"], tag_names: Sequence[str]) -> str:
    """The names of a clip's tags, in one line, as they can be drawn."""
    names = (drawable(tag_names[column]) for column in np.flatnonzero(targets).tolist())
    return ", ".join(names) or "no tag"


def band_percentiles(data: PreparedSet, split: str) -> Float[np.ndarray, "3 mel"]:
    """The 5th, 50th and 95th percentile of each mel band in dB, over clips of a split."""
    source = data.source(split)
    places = spread(len(source), CLIPS_OF_A_SPECTRUM)
    # A frame in eight says as much of a spectrum as all.
    frames = np.concatenate([source[place]["log_mel"][:, ::8] for place in places], axis=1)
    return np.percentile(frames.astype(np.float32), [5, 50, 95], axis=1)


def _draw_clips(figure: SubFigure, data: PreparedSet) -> None:
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
            # One scale for all clips: one that is too soft or too loud is seen as that.
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
            tags = tags_of(example["tags"], data.tag_names)
            lines = textwrap.wrap(tags, LONGEST_LINE, max_lines=2, placeholder=" …")
            axes.set_title("\n".join([track_id, *lines]), loc="left", parse_math=False)
        _label_bands(axes_of_row[0], data.mel, axis="y")
        axes_of_row[0].set_ylabel(f"{split}\n\nfrequency (kHz)", parse_math=False)
    for axes in grid[-1]:
        axes.set_xlabel("time (s)")
    # Every split has a clip, and all clips have one scale.
    image = grid[0, 0].images[0]
    figure.colorbar(image, ax=grid, label="log-mel (dB)", pad=0.01, fraction=0.02, aspect=40)


def _draw_spectra(axes: Axes, data: PreparedSet) -> None:
    bands = np.arange(data.mel.n_mels)
    for split, colour in zip(data.n_examples, COLOURS, strict=False):
        low, middle, high = band_percentiles(data, split)
        axes.plot(bands, middle, color=colour, label=split)
        axes.fill_between(bands, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set_xlim(0, bands[-1])
    title = "Level of each band: median, and from the 5th to the 95th percentile"
    axes.set_title(title, loc="left")
    _label_bands(axes, data.mel, axis="x")
    axes.set_xlabel("frequency (kHz)")
    axes.set_ylabel("log-mel (dB)")
    _legend_above(axes, axes.get_legend_handles_labels()[0])


def _draw_tag_shares(axes: Axes, data: PreparedSet) -> None:
    train, *others = data.n_examples
    shares = {
        split: 100 * np.array(data.tag_counts[split]) / data.n_examples[split]
        for split in data.n_examples
    }
    categories = sorted(set(data.tag_categories))
    # By category, and within it the most frequent first.
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
        # More than a hundred names must still find room.
        fontsize=min(6.5, 600 / len(order)),
    )
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.6, len(order) - 0.4)
    axes.set_title(f"Clips that have a tag: {train} (bars)", loc="left")
    axes.set_ylabel("clips (%)")
    # Where colours come again, they are no names.
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
    # Many or long names must not take the axes' room; they stand beside the title, which has it.
    legend.set_in_layout(False)
    for text in legend.get_texts():
        text.set_parse_math(False)


def _label_bands(axes: Axes, mel: MelConfig, *, axis: str) -> None:
    """Frequencies in kHz along an axis of mel bands."""
    # Over a second to import, most of it numba.
    from librosa import mel_frequencies

    # The filters' peaks lie between two more frequencies, 0 Hz and the highest.
    peaks = mel_frequencies(mel.n_mels + 2, fmin=0.0, fmax=mel.sample_rate / 2)[1:-1]
    ticks = [hz for hz in FREQUENCY_TICKS if peaks[0] <= hz <= peaks[-1]]
    places = np.interp(ticks, peaks, np.arange(mel.n_mels))
    axes.set(**{f"{axis}ticks": places, f"{axis}ticklabels": [f"{hz / 1000:g}" for hz in ticks]})
