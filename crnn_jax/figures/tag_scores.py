"""A tagged file: its log-mel, and below it the scores of its tags over time."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from etils import epath
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator

from crnn_jax.config import MelConfig
from crnn_jax.figures.canvas import (
    FONT_SIZE,
    PAGE_WIDTH,
    check_image_path,
    new_figure,
    style,
    write_image,
)
from crnn_jax.figures.mel_axis import label_mel_bands
from crnn_jax.figures.names import drawable

if TYPE_CHECKING:
    from crnn_jax.tagging.tagger import TaggedFile

# Inches.
SPECTROGRAM_HEIGHT = 1.7
ROW_HEIGHT = 0.16
MARGINS_HEIGHT = 0.75
# About the figure's width in pixels, at 300 dpi.
LARGEST_COLUMNS = 2000
# Steps of the time axis, in s.
TIME_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 28_800)


def check_figure_path(path: epath.Path) -> None:
    """Raise a UserError if the file's name is neither that of a PNG nor of an SVG."""
    check_image_path(path, "figure")


def draw_tags(
    tagged: "TaggedFile", tag_names: Sequence[str], mel: MelConfig, top: int, out: epath.Path
) -> None:
    """Draw a tagged file; the file is read again for its log-mel.

    Parameters
    ----------
    tagged
        The file and its scores.
    tag_names
        Names of the scores' columns.
    mel
        Log-mel of the network's input; ``clip_seconds`` is the length of a window.
    top
        Number of tags to draw, those with the highest mean scores.
    out
        File to write, PNG or SVG.

    Raises
    ------
    UserError
        If `out` is neither, or cannot be written.
    AudioError
        If the file can no longer be read.
    """
    check_figure_path(out)
    shown = tagged.best(top)
    centres = tagged.start_s + mel.clip_seconds / 2
    begin, end = tagged.start_s[0], tagged.start_s[-1] + mel.clip_seconds
    # A window is drawn from halfway to the window before it to halfway to the next.
    borders = np.concatenate([[begin], (centres[1:] + centres[:-1]) / 2, [end]])
    decibels = spectrogram(tagged, mel)

    with style():
        height = MARGINS_HEIGHT + SPECTROGRAM_HEIGHT + ROW_HEIGHT * len(shown)
        figure = new_figure(PAGE_WIDTH, height)
        upper, lower = figure.subplots(
            2, 1, sharex=True, height_ratios=[SPECTROGRAM_HEIGHT, ROW_HEIGHT * len(shown)]
        )
        for axes in (upper, lower):
            axes.grid(False)
            axes.spines[["top", "right"]].set_visible(True)

        image = upper.imshow(
            decibels,
            origin="lower",
            aspect="auto",
            extent=(begin, end, -0.5, mel.n_mels - 0.5),
            cmap="magma",
            interpolation="antialiased",
        )
        label_mel_bands(upper.yaxis, mel)
        upper.set_ylabel("frequency (kHz)")
        upper.tick_params(axis="x", labelbottom=False)
        upper.set_title(drawable(epath.Path(tagged.path).name), loc="left", parse_math=False)
        figure.colorbar(image, ax=upper, label="log-mel (dB)", pad=0.012, fraction=0.04, aspect=14)

        mesh = lower.pcolormesh(
            borders,
            np.arange(len(shown) + 1) - 0.5,
            tagged.scores[:, shown].T,
            cmap="viridis",
            vmin=0.0,
        )
        names = [drawable(tag_names[tag]) for tag in shown]
        lower.set_yticks(range(len(shown)), names, parse_math=False)
        lower.invert_yaxis()
        lower.tick_params(axis="y", length=0)
        _write_means(lower, tagged.mean_scores[shown])
        _label_times(lower, begin, end)
        bar = figure.colorbar(mesh, ax=lower, label="score", pad=0.012, fraction=0.04, aspect=14)
        bar.locator = MaxNLocator(4, steps=[1, 2, 2.5, 5, 10])
        bar.update_ticks()
    write_image(figure, out)


def spectrogram(tagged: "TaggedFile", mel: MelConfig) -> Float[np.ndarray, "mel columns"]:
    """Compute the log-mel of a whole file in dB, averaged over time to the resolution of a figure.

    Each window has its own floor, ``top_db`` below its maximum; the highest one is the floor of
    the whole file.
    """
    # Imported here so that no figure needs JAX before it is drawn.
    from crnn_jax.tagging.windows import file_windows

    seconds_per_frame = mel.hop_length / mel.sample_rate
    spare = tagged.start_s[-1] - tagged.start_s[0]
    frames = round(spare / seconds_per_frame) + mel.frames
    pooled = math.ceil(frames / LARGEST_COLUMNS)
    columns = np.full((mel.n_mels, math.ceil(frames / pooled)), np.nan, np.float32)
    floor = -math.inf
    hop_seconds = min(mel.clip_seconds, spare) or None
    for window in file_windows(tagged.path, mel, hop_seconds):
        floor = max(floor, window.log_mel.max() - mel.top_db)
        first = round((window.start_s - tagged.start_s[0]) / seconds_per_frame / pooled)
        starts = np.arange(0, mel.frames, pooled)
        counts = np.diff([*starts, mel.frames])
        means = np.add.reduceat(window.log_mel, starts, axis=1) / counts
        place = columns[:, first : first + means.shape[1]]
        place[:] = means[:, : place.shape[1]]
    return np.maximum(columns, floor)


def _label_times(axes: Axes, begin: float, end: float) -> None:
    step = next((step for step in TIME_STEPS if (end - begin) / step <= 10), TIME_STEPS[-1])
    axes.xaxis.set_major_locator(MultipleLocator(step))
    if end < 120:
        axes.set_xlabel("time (s)")
        return
    axes.xaxis.set_major_formatter(FuncFormatter(lambda s, _: f"{s // 60:.0f}:{s % 60:02.0f}"))
    axes.set_xlabel("time (min:s)")


def _write_means(axes: Axes, means: Float[np.ndarray, "tags"]) -> None:
    """Write the mean scores to the right of the rows."""
    right = axes.secondary_yaxis("right")
    right.set_yticks(range(len(means)), [f"{mean:.3f}" for mean in means])
    right.tick_params(length=0, labelsize=FONT_SIZE - 1)
    right.spines["right"].set_visible(False)
    axes.annotate(
        "mean", (1, 1), (4, 3), xycoords="axes fraction", textcoords="offset points", ha="left"
    )
