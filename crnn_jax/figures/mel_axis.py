"""Frequencies along an axis of mel bands."""

import numpy as np
from matplotlib.axis import Axis

from crnn_jax.config import MelConfig

TICKS_HZ = (250, 500, 1000, 2000, 4000, 8000, 16_000)


def label_mel_bands(axis: Axis, mel: MelConfig) -> None:
    """Write frequencies in kHz at their places along an axis whose unit is a mel band."""
    # Imported here because it takes over a second, most of it numba.
    from librosa import mel_frequencies

    # The filters' peaks lie between two more frequencies, 0 Hz and the highest.
    peaks = mel_frequencies(mel.n_mels + 2, fmin=0.0, fmax=mel.sample_rate / 2)[1:-1]
    ticks = [hz for hz in TICKS_HZ if peaks[0] <= hz <= peaks[-1]]
    places = np.interp(ticks, peaks, np.arange(mel.n_mels))
    axis.set_ticks(places, [f"{hz / 1000:g}" for hz in ticks])
