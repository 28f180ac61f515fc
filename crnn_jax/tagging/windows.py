"""A file in windows, as the network gets them: from audio, or from a stored log-mel."""

import dataclasses
import math
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Float32

from crnn_jax.audio.decode import read_windows
from crnn_jax.audio.files import AudioError, fetched
from crnn_jax.audio.log_mel import log_mel
from crnn_jax.config import MelConfig
from crnn_jax.errors import ARRAY_ERRORS


@dataclasses.dataclass(frozen=True)
class Window:
    """A stretch of a file as the network gets it.

    Attributes
    ----------
    start_s
        Where it begins in the file, in s; negative for a file that is shorter than a window, which
        is centred in it.
    log_mel
        In dB.
    """

    start_s: float
    log_mel: Float32[np.ndarray, "mel frames"]


def file_windows(path: str, mel: MelConfig, hop_seconds: float | None) -> Iterator[Window]:
    """The windows of a file, in their order, while it is read.

    A file that is longer than a window by less than half a hop gives one window, its centre, as in
    training; a shorter one is centred between silence. Of a longer one the first window begins
    with the file, and the last one ends with it.

    Parameters
    ----------
    path
        What `crnn_jax.audio` reads, or a ``.npy`` file of a log-mel: (mel, frames), or (1, 1, mel,
        frames) as the published CRNN's author kept them.
    mel
        Front end; its ``clip_seconds`` are a window's length.
    hop_seconds
        From the start of one window to the start of the next; None: of any file only the centre.

    Raises
    ------
    AudioError
        If the file cannot be used.
    """
    windows = _array_windows if path.lower().endswith(".npy") else _audio_windows
    return windows(path, mel, hop_seconds)


def _audio_windows(path: str, mel: MelConfig, hop_seconds: float | None) -> Iterator[Window]:
    for start_s, samples in read_windows(path, mel, hop_seconds):
        yield Window(start_s, log_mel(samples, mel))


def _array_windows(path: str, mel: MelConfig, hop_seconds: float | None) -> Iterator[Window]:
    stored = _read_log_mel(path, mel)
    seconds_per_frame = mel.hop_length / mel.sample_rate
    spare = stored.shape[1] - mel.frames
    starts = [spare // 2]
    if hop_seconds is not None:
        hop = max(1, round(hop_seconds / seconds_per_frame))
        if spare >= hop / 2:
            starts = [*range(0, spare, hop), spare]
    for start in starts:
        # What does not fit float32 is found by the next line.
        with np.errstate(all="ignore"):
            window = stored[:, max(0, start) :][:, : mel.frames].astype(np.float32)
        if not np.isfinite(window).all():
            raise AudioError("not finite", f"{path}: holds NaN or infinite values")
        # Floor and silence as if the window had been computed by itself, from audio.
        floor = window.max() - mel.top_db
        silence = max(floor, 10 * math.log10(mel.amin))
        before = max(0, -start)
        sides = ((0, 0), (before, mel.frames - window.shape[1] - before))
        window = np.pad(np.maximum(window, floor), sides, constant_values=silence)
        yield Window(start * seconds_per_frame, window)


def _read_log_mel(path: str, mel: MelConfig) -> Float[np.ndarray, "mel frames"]:
    """A log-mel from a ``.npy`` file, mapped into memory.

    Raises
    ------
    AudioError
        If it is none, or has not the front end's number of mel bands.
    """
    wanted = f"give {mel.n_mels} × frames numbers in dB"
    try:
        # Mapped into memory an array cannot be larger than its file, nor a pickle, which could run
        # code. Of a remote file the map keeps the copy.
        with fetched(path) as file, np.errstate(over="ignore"):
            stored = np.lib.format.open_memmap(file.local, mode="r")
    except FileNotFoundError as error:
        raise AudioError("missing", f"{path}: no such file") from error
    except OSError as error:
        raise AudioError("unreadable", f"{path}: {error.strerror or error}") from error
    except ARRAY_ERRORS as error:
        raise AudioError("not audio", f"{path}: not a .npy file of an array; {wanted}") from error
    if stored.dtype.kind not in "fiu":
        raise AudioError("not audio", f"{path}: not an array of real numbers; {wanted}")
    if stored.ndim == 4 and stored.shape[:2] == (1, 1):
        stored = stored[0, 0]
    if stored.ndim != 2 or stored.shape[0] != mel.n_mels or not stored.shape[1]:
        shape = " × ".join(map(str, stored.shape)) or "()"
        raise AudioError("not audio", f"{path}: has shape {shape}; {wanted}")
    return stored
