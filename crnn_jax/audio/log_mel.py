"""The log-mel spectrogram of a clip's samples.

The values are those of ``librosa.feature.melspectrogram`` and ``librosa.power_to_db``.
"""

import functools

import numpy as np
import scipy.fft
import scipy.sparse
from jaxtyping import Float, Float32

from crnn_jax.config import MelConfig

# Spectra computed at a time: small enough for them and their inputs to stay in the CPU's cache.
BLOCK_FRAMES = 128
# A float32 FFT has an error of 1e-7 of a frame's amplitude. In a band this far below the loudest
# band of the frame, that is nearly 1e-3 dB.
FLOAT32_RANGE_DB = 74.0


def log_mel(
    clip: Float[np.ndarray, "samples"], config: MelConfig
) -> Float32[np.ndarray, "mel frames"]:
    """Compute the log-mel spectrogram in dB relative to a power of 1.

    Frame t is centred on sample t · hop_length, with zeros beyond both ends; periodic Hann window,
    power spectrum, mel filters of Slaney's Auditory Toolbox. Accurate to within 1e-3 dB of
    ``librosa.power_to_db(librosa.feature.melspectrogram(…) ** mel_exponent)``.

    Parameters
    ----------
    clip
        At least one sample, at the configured sample rate.
    config
        The front end.

    Returns
    -------
    numpy.ndarray
        ``n_mels`` bands, low to high, by ``1 + samples // hop_length`` frames; no value is more
        than ``top_db`` below the largest.
    """
    margin = config.n_fft // 2
    padded = np.zeros(len(clip) + 2 * margin, np.float32)
    padded[margin : margin + len(clip)] = clip
    frames = np.lib.stride_tricks.sliding_window_view(padded, config.n_fft)[:: config.hop_length]

    decibels = _mel_decibels(frames, config, np.float32)
    floor = decibels.max() - config.top_db
    np.maximum(decibels, floor, out=decibels)
    (wide,) = np.nonzero(np.ptp(decibels, axis=0) > FLOAT32_RANGE_DB * config.mel_exponent)
    if wide.size:
        decibels[:, wide] = np.maximum(_mel_decibels(frames[wide], config, np.float64), floor)
    return decibels


@functools.lru_cache(maxsize=8)
def _mel_filters(config: MelConfig) -> scipy.sparse.csr_array:
    """Return the filter bank, ``n_mels`` by ``1 + n_fft // 2`` bins."""
    # Takes over a second to import, most of it numba.
    from librosa.filters import mel

    # At most two filters overlap at a bin, so nearly all weights are zero.
    return scipy.sparse.csr_array(
        mel(sr=config.sample_rate, n_fft=config.n_fft, n_mels=config.n_mels)
    )


def _mel_decibels(
    frames: Float32[np.ndarray, "frames n_fft"], config: MelConfig, dtype: type[np.floating]
) -> Float32[np.ndarray, "mel frames"]:
    """Compute mel spectra in dB, with no floor except `amin`; the FFT uses `dtype`."""
    filters = _mel_filters(config)
    window = np.hanning(config.n_fft + 1)[:-1].astype(dtype)
    decibels = np.empty((config.n_mels, len(frames)), np.float32)
    for start in range(0, len(frames), BLOCK_FRAMES):
        block = slice(start, start + BLOCK_FRAMES)
        # Faster than NumPy's: scipy's FFT vectorises over the transforms of a block.
        spectra = scipy.fft.rfft(frames[block] * window)
        power = np.square(spectra.real)
        power += np.square(spectra.imag)
        decibels[:, block] = filters @ power.T
    if config.mel_exponent != 1:
        decibels **= config.mel_exponent
    np.maximum(decibels, config.amin, out=decibels)
    np.log10(decibels, out=decibels)
    decibels *= 10
    return decibels
