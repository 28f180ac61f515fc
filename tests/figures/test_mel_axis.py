"""Frequencies stand at the mel bands whose filters have their peaks there."""

import librosa
import numpy as np
import pytest

from crnn_jax.config import MelConfig
from crnn_jax.figures.canvas import new_figure
from crnn_jax.figures.mel_axis import label_mel_bands


@pytest.mark.parametrize(
    ("sample_rate", "labels"),
    [(12_000, "0.25 0.5 1 2 4"), (44_100, "0.25 0.5 1 2 4 8 16")],
)
@pytest.mark.parametrize("name", ["xaxis", "yaxis"])
def test_frequencies_stand_at_the_peaks_of_the_filters(sample_rate, labels, name):
    mel = MelConfig(sample_rate=sample_rate)
    axes = new_figure(3, 3).add_subplot()
    axis = getattr(axes, name)
    label_mel_bands(axis, mel)
    assert " ".join(label.get_text() for label in axis.get_ticklabels()) == labels
    # Finer than the front end's own transform, which has peaks at its bins alone.
    n_fft = 2**16
    filters = librosa.filters.mel(sr=sample_rate, n_fft=n_fft, n_mels=mel.n_mels)
    peaks = filters.argmax(axis=1) * sample_rate / n_fft
    hz = np.interp(axis.get_ticklocs(), np.arange(mel.n_mels), peaks)
    np.testing.assert_allclose(hz, [1000 * float(label) for label in labels.split()], rtol=0.002)
