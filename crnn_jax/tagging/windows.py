"""Cut a file into windows for the network: from audio, or from a stored log-mel."""

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
    """A stretch of a file as input to the network.

    Attributes
    ----------
    start_s
        Where it begins in the file, in s; negative if the file is shorter than the window and
        centred in it.
    log_mel
        In dB.
    """

    start_s: float
    log_mel: Float32[np.ndarray, "mel frames"]


def file_windows(path: str, mel: MelConfig, hop_seconds: float | None) -> Iterator[Window]:
    """Yield the windows of a file, in order, while it is being read.

    A file that is longer than a window by less than half a hop yields one window, its centre, as in
    training; a shorter one is padded with silence on both sides. In a longer one, the first window
    begins with the file, and the last window ends with it.

    Parameters
    ----------
    path
        A file that `crnn_jax.audio` reads, or a ``.npy`` file of a log-mel: (mel, frames), or (1,
        1, mel, frames) as stored by the published CRNN's author.
    mel
        Front end; its ``clip_seconds`` is the length of a window.
    hop_seconds
        Distance from the start of one window to the start of the next; None: only the centre of
        the file.

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
        # Values that do not fit float32 become infinite and are found below.
        with np.errstate(all="ignore"):
            window = stored[:, max(0, start) :][:, : mel.frames].astype(np.float32)
        if not np.isfinite(window).all():
            raise AudioError("not finite", f"{path}: holds NaN or infinite values")
        # The floor and silence that this window would have if it were computed from its audio.
        floor = window.max() - mel.top_db
        silence = max(floor, 10 * math.log10(mel.amin))
        before = max(0, -start)
        sides = ((0, 0), (before, mel.frames - window.shape[1] - before))
        window = np.pad(np.maximum(window, floor), sides, constant_values=silence)
        yield Window(start * seconds_per_frame, window)


def _read_log_mel(path: str, mel: MelConfig) -> Float[np.ndarray, "mel frames"]:
    """Read a log-mel from a ``.npy`` file, mapped into memory.

    Raises
    ------
    AudioError
        If it is not a log-mel, or does not have the front end's number of mel bands.
    """
    wanted = f"give {mel.n_mels} × frames values in dB"
    try:
        # A memory-mapped array cannot be larger than its file, nor a pickle, which could run code.
        # The map keeps the local copy of a remote file alive.
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
