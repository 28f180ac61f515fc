"""The figure of one tagged file: its log-mel, and below it the tags' scores over time."""

import io
import math
from collections.abc import Sequence

import matplotlib.style
import numpy as np
from etils import epath
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator

from crnn_jax.config import MelConfig
from crnn_jax.errors import UserError
from crnn_jax.files import write_file
from crnn_jax.plots import FONT_SIZE, FORMATS, STYLE, drawable
from crnn_jax.tagging import TaggedFile, file_windows

# Inches: both columns of a two-column page.
WIDTH = 7.0
SPECTROGRAM_HEIGHT = 1.7
ROW_HEIGHT = 0.16
MARGINS_HEIGHT = 0.75
# More than the columns that the figure has pixels for at 300 dpi would not be seen.
LARGEST_COLUMNS = 2000
FREQUENCY_TICKS = (250, 500, 1000, 2000, 4000, 8000, 16_000)
# Round steps of a clock, in s.
TIME_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 28_800)


def check_figure_path(path: epath.Path) -> None:
    """Raise a UserError if a figure cannot be named so."""
    if path.suffix.removeprefix(".") not in FORMATS or path.is_dir():
        names = " or ".join(f".{suffix}" for suffix in FORMATS)
        raise UserError(f"--figure {path}: give a file name that ends in {names}")


def draw_tags(
    tagged: TaggedFile, tag_names: Sequence[str], mel: MelConfig, top: int, out: epath.Path
) -> None:
    """Draw a tagged file, which is read once more for it.

    Parameters
    ----------
    tagged
        The file and its scores.
    tag_names
        Names of the scores' columns.
    mel
        Front end of the network; its ``clip_seconds`` are a window's length.
    top
        How many tags: those with the highest mean score.
    out
        Where to, PNG or SVG.

    Raises
    ------
    UserError
        If `out` is neither.
    AudioError
        If the file can no longer be read.
    """
    check_figure_path(out)
    shown = tagged.best(top)
    centres = tagged.start_s + mel.clip_seconds / 2
    begin, end = tagged.start_s[0], tagged.start_s[-1] + mel.clip_seconds
    # Each window has the time that it is nearest to.
    borders = np.concatenate([[begin], (centres[1:] + centres[:-1]) / 2, [end]])
    decibels = spectrogram(tagged, mel)

    with matplotlib.style.context(dict(STYLE), after_reset=True):
        height = MARGINS_HEIGHT + SPECTROGRAM_HEIGHT + ROW_HEIGHT * len(shown)
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        FigureCanvasAgg(figure)
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
        _label_frequencies(upper, mel)
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
        suffix = out.suffix.removeprefix(".")
        content = io.BytesIO()
        figure.savefig(content, format=suffix, metadata=dict(FORMATS[suffix]))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_file(out, content.getvalue())


def spectrogram(tagged: TaggedFile, mel: MelConfig) -> Float[np.ndarray, "mel columns"]:
    """The whole file's log-mel in dB, averaged over time to what a figure can show.

    Each window has a floor of its own, ``top_db`` below its maximum; the highest of them is the
    floor of all.
    """
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


def _label_frequencies(axes: Axes, mel: MelConfig) -> None:
    # Over a second to import, most of it numba.
    from librosa import mel_frequencies

    # The filters' peaks lie between two more frequencies, 0 Hz and the highest.
    peaks = mel_frequencies(mel.n_mels + 2, fmin=0.0, fmax=mel.sample_rate / 2)[1:-1]
    ticks = [hz for hz in FREQUENCY_TICKS if peaks[0] <= hz <= peaks[-1]]
    places = np.interp(ticks, peaks, np.arange(mel.n_mels))
    axes.set_yticks(places, [f"{hz / 1000:g}" for hz in ticks])
    axes.set_ylabel("frequency (kHz)")
    axes.tick_params(axis="x", labelbottom=False)


def _label_times(axes: Axes, begin: float, end: float) -> None:
    step = next((step for step in TIME_STEPS if (end - begin) / step <= 10), TIME_STEPS[-1])
    axes.xaxis.set_major_locator(MultipleLocator(step))
    if end < 120:
        axes.set_xlabel("time (s)")
        return
    axes.xaxis.set_major_formatter(FuncFormatter(lambda s, _: f"{s // 60:.0f}:{s % 60:02.0f}"))
    axes.set_xlabel("time (min:s)")


def _write_means(axes: Axes, means: Float[np.ndarray, "tags"]) -> None:
    """The mean scores, right of the rows."""
    right = axes.secondary_yaxis("right")
    right.set_yticks(range(len(means)), [f"{mean:.3f}" for mean in means])
    right.tick_params(length=0, labelsize=FONT_SIZE - 1)
    right.spines["right"].set_visible(False)
    axes.annotate(
        "mean", (1, 1), (4, 3), xycoords="axes fraction", textcoords="offset points", ha="left"
    )
