"""The synthesised music: its contract, its sounds, and what its tags are recognisable by."""

import dataclasses
import functools
import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import librosa
import numpy as np
import pytest
import scipy.signal
from jaxtyping import Bool, Float
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

from crnn_jax.data.synthesis import TAGS, draw_tags, instruments, production, render_clip
from crnn_jax.data.synthesis.composition import GENRES, MOODS, Score, compose
from crnn_jax.data.synthesis.form import ARCS, TEMPO_RATIO, times_of
from crnn_jax.data.synthesis.traits import draw_traits

ROOT = Path(__file__).resolve().parents[2]
SAMPLE_RATE = 12_000
TEMPORAL = np.array([tag.temporal for tag in TAGS])
CATEGORY = np.array([tag.category for tag in TAGS])


# The contract of render_clip


def digest(indices: list[int]) -> str:
    """Hash of clips of seed 5, rendered in the order given, taken in ascending order."""
    clips = {i: render_clip(5, i, sample_rate=SAMPLE_RATE, clip_samples=50_000) for i in indices}
    joined = b"".join(
        clips[i].audio.tobytes() + repr(clips[i].tags).encode() for i in sorted(clips)
    )
    return hashlib.sha256(joined).hexdigest()


def test_clips_are_bit_identical_in_another_process_and_order() -> None:
    program = (
        "from tests.data.test_synthesis import digest; print(digest([40, 3, 17, 8, 2**31, 9]))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == digest([2**31, 9, 8, 3, 17, 40])


def test_seed_and_index_both_matter() -> None:
    digests = {
        render_clip(seed, index, sample_rate=SAMPLE_RATE, clip_samples=48_000).audio.tobytes()
        for seed in range(3)
        for index in range(3)
    }
    assert len(digests) == 9


@hypothesis.settings(deadline=None, max_examples=40)
@hypothesis.given(
    seed=st.integers(0, 2**63),
    index=st.integers(0, 2**40),
    seconds=st.floats(4.0, 12.0),
    sample_rate=st.sampled_from([8_000, 12_000, 22_050]),
)
def test_any_clip_is_sound(seed: int, index: int, seconds: float, sample_rate: int) -> None:
    clip_samples = round(seconds * sample_rate)
    clip = render_clip(seed, index, sample_rate=sample_rate, clip_samples=clip_samples)
    assert clip.audio.shape == (clip_samples,)
    assert clip.audio.dtype == np.float32
    assert np.isfinite(clip.audio).all()
    assert 0.05 < np.abs(clip.audio).max() <= 1
    # Tags belong to the clip, not to its length or its sample rate.
    assert clip.tags == draw_tags(seed, index)


@pytest.mark.parametrize("seconds", [4.0, 29.12, 60.0])
def test_the_form_spans_a_clip_of_any_length(seconds: float) -> None:
    clip_samples = round(seconds * SAMPLE_RATE)
    clip = render_clip(0, 1, sample_rate=SAMPLE_RATE, clip_samples=clip_samples)
    assert clip.audio.shape == (clip_samples,)
    tenths = np.array_split(clip.audio, 10)
    assert all(np.abs(tenth).max() > 1e-3 * np.abs(clip.audio).max() for tenth in tenths)


# Tags


def test_tags_fill_the_four_categories() -> None:
    assert len({tag.name for tag in TAGS}) == len(TAGS) >= 20
    assert set(CATEGORY) == {"genre", "mood", "instrument", "era"}
    assert np.sum(CATEGORY == "instrument") >= 6
    assert TEMPORAL.sum() >= 5


def test_tags_are_of_unequal_popularity_and_nearly_independent() -> None:
    labels = np.array(
        [[tag.name in tags for tag in TAGS] for tags in (draw_tags(0, i) for i in range(3000))]
    )
    popularity = labels.mean(axis=0)
    assert popularity.min() > 0.04
    assert popularity.max() < 0.55
    assert popularity.max() > 5 * popularity.min()
    correlation = np.corrcoef(labels.T) - np.eye(len(TAGS))
    assert np.abs(correlation).max() < 0.45
    # Tags of different traits: only "ambient" and "drums" exclude each other.
    assert np.mean(np.abs(correlation) > 0.1) < 0.1


# Form and score


def test_arcs_are_one_material_in_four_orders() -> None:
    x = (np.arange(1000) + 0.5) / 1000
    # An arch passes each height twice, half as densely: equal in distribution only.
    for arc in ARCS.values():
        np.testing.assert_allclose(np.sort(arc(x)), x, atol=1.5e-3)


def test_accelerando_follows_its_closed_form() -> None:
    # Tempo R^(t/T) has the integral (R^(t/T) - 1) / (R - 1) of all beats.
    beats = np.linspace(0, 1, 50)
    expected = 7.0 * np.log1p(beats * (TEMPO_RATIO - 1)) / np.log(TEMPO_RATIO)
    np.testing.assert_allclose(times_of(beats, "rise", 7.0), expected, atol=1e-4)
    np.testing.assert_allclose(7.0 - times_of(1 - beats, "fall", 7.0), expected, atol=1e-4)


def composed(seed: int, traits: dict[str, str]) -> Score:
    """An eight-second score with the given traits, the others drawn."""
    rng = np.random.default_rng(seed)
    return compose(dataclasses.replace(draw_traits(rng), **traits), 8.0, rng)


@pytest.mark.parametrize("genre", GENRES)
@pytest.mark.parametrize("mood", MOODS)
@pytest.mark.parametrize(("arc", "sign"), [("rise", 1), ("fall", -1)])
def test_scores_do_what_their_tags_say(genre: str, mood: str, arc: str, sign: int) -> None:
    for seed in range(4):
        order = {"contour": arc, "tempo": arc, "texture": arc}
        score = composed(seed, {"genre": genre, "mood": mood, "rhythm": "drums", **order})
        semitones = 8.0 * np.polyfit(score.lead.onset, score.lead.pitch, 1)[0]
        assert 15 < sign * semitones < 33  # two octaves, give or take the ornaments
        spacing = np.diff(score.lead.onset)
        assert sign * np.polyfit(score.lead.onset[1:], np.log(spacing), 1)[0] < 0
        for onsets in (score.chords.onset, *score.drums.values()):
            assert np.all(sign * (onsets - 4.0) >= -0.01)  # only in the dense half
        assert (not score.drums) == (genre == "ambient")


# Instruments


def test_hertz_agrees_with_librosa() -> None:
    notes = np.arange(21, 109)
    np.testing.assert_allclose(instruments.hertz(notes), librosa.midi_to_hz(notes))


def pitch(tone: np.ndarray) -> float:
    """Fundamental in Hz: the first high peak of the autocorrelation, between its samples.

    Not librosa's trackers: they are compiled by numba, whose kept code can crash a process.
    """
    correlation = np.fft.irfft(np.square(np.abs(np.fft.rfft(tone, 2 * len(tone)))))
    lags = np.arange(SAMPLE_RATE // 800, SAMPLE_RATE // 150)
    before, here, after = (correlation[lags + step] for step in (-1, 0, 1))
    peaks = (here > before) & (here >= after) & (here > 0.8 * here.max())
    first = np.flatnonzero(peaks)[0]
    a, b, c = before[first], here[first], after[first]
    return SAMPLE_RATE / (lags[first] + 0.5 * (a - c) / (a - 2 * b + c))


@pytest.mark.parametrize("name", ["guitar", "synth lead", "flute", "voice", "strings", "soft pad"])
def test_instruments_are_in_tune(name: str) -> None:
    frequency = librosa.midi_to_hz(np.array([57, 64, 71]))
    tones = instruments.INSTRUMENTS[name](frequency, 12_000, SAMPLE_RATE, np.random.default_rng(1))
    assert tones.shape == (3, 12_000)
    for tone, expected in zip(tones, frequency, strict=True):
        assert abs(12 * np.log2(pitch(tone) / expected)) < 0.3


def test_plucked_string_decays_as_its_averaging_loop() -> None:
    frequency, period = 220.0, 54  # 12 kHz / 220 Hz, whole samples
    rng = np.random.default_rng(0)
    tone = instruments.plucked_string(np.array([frequency]), 12_000, SAMPLE_RATE, rng)[0]
    spectrum = np.abs(librosa.stft(tone, n_fft=2048, hop_length=256, center=False))
    bins = np.round(np.array([1, 2]) * frequency * 2048 / SAMPLE_RATE).astype(int)
    frames = np.arange(12)  # a quarter of a second, before the second harmonic is gone
    fundamental, second = np.polyfit(frames, np.log(spectrum[bins, :12].T), 1)[0]
    loss = np.log(np.cos(np.pi * np.array([1, 2]) / period))
    assert fundamental < 0
    np.testing.assert_allclose(second / fundamental, loss[1] / loss[0], rtol=0.05)


def test_instruments_and_eras_all_sound_different() -> None:
    """Each has a spectral envelope of its own: no two correlate fully."""
    rng = np.random.default_rng(0)
    tones = [
        play(librosa.midi_to_hz(np.array([60.0])), 12_000, SAMPLE_RATE, rng)[0]
        for play in instruments.INSTRUMENTS.values()
    ]
    noise = rng.standard_normal(12_000).astype(np.float32) / 4
    records = [production.record(noise, era, SAMPLE_RATE, rng) for era in production.ERAS]
    for sounds in (tones, records):
        envelopes = np.corrcoef([log_mel(sound).mean(axis=1) for sound in sounds])
        assert np.max(envelopes - np.eye(len(sounds))) < 0.97


# What the tags can be recognised by


@functools.cache
def mel_filters() -> Float[np.ndarray, "mel bins"]:
    return librosa.filters.mel(sr=SAMPLE_RATE, n_fft=512, n_mels=96)


def log_mel(audio: Float[np.ndarray, "samples"]) -> Float[np.ndarray, "mel frames"]:
    power = np.abs(librosa.stft(audio, n_fft=512, hop_length=256)) ** 2
    return librosa.power_to_db(mel_filters() @ power, ref=np.max)


def spectral_statistics(clip: Float[np.ndarray, "mel frames"]) -> Float[np.ndarray, "features"]:
    """Mean (relative to that of all bands) and deviation over time of every band: no order."""
    return np.concatenate([clip.mean(axis=1) - clip.mean(), clip.std(axis=1)])


def order_statistics(clip: Float[np.ndarray, "mel frames"]) -> Float[np.ndarray, "features"]:
    """Level, height, brightness and onsets of each sixth of the clip, in order."""
    strength = np.maximum(np.diff(clip, axis=1, prepend=clip[:, :1]), 0).mean(axis=0)
    onsets, _ = scipy.signal.find_peaks(strength, prominence=strength.std(), distance=3)
    counts, _ = np.histogram(onsets, bins=6, range=(0, clip.shape[1]))
    sixths = np.array_split(clip, 6, axis=1)
    bands = [group.mean() for sixth in sixths for group in np.array_split(sixth, 16)]
    level = [sixth.mean() for sixth in sixths]
    return np.concatenate([counts, level, bands])


@dataclasses.dataclass(frozen=True)
class Probed:
    """Features and labels of many clips."""

    unordered: Float[np.ndarray, "clips features"]
    ordered: Float[np.ndarray, "clips features"]
    labels: Bool[np.ndarray, "clips tags"]


@pytest.fixture(scope="module")
def probed() -> Probed:
    unordered, ordered, labels = [], [], []
    with threadpool_limits(1):  # products of small matrices: threads cost more than they give
        for index in range(600):
            clip = render_clip(7, index, sample_rate=SAMPLE_RATE, clip_samples=5 * SAMPLE_RATE)
            spectrogram = log_mel(clip.audio)
            unordered.append(spectral_statistics(spectrogram))
            ordered.append(order_statistics(spectrogram))
            labels.append([tag.name in clip.tags for tag in TAGS])
    return Probed(np.array(unordered), np.array(ordered), np.array(labels))


def tag_aucs(
    features: Float[np.ndarray, "clips features"],
    labels: Bool[np.ndarray, "clips tags"],
    classifier: Callable[[], SVC | LogisticRegression],
) -> Float[np.ndarray, "tags"]:
    """AUC on the last third of the clips of a classifier a tag that has seen the others."""
    train = slice(0, 2 * len(features) // 3)
    test = slice(train.stop, None)
    aucs = []
    with threadpool_limits(1):
        for column in labels.T:
            model = make_pipeline(StandardScaler(), classifier())
            model.fit(features[train], column[train])
            aucs.append(roc_auc_score(column[test], model.decision_function(features[test])))
    return np.array(aucs)


def test_mean_spectra_tell_timbre_but_not_order(probed: Probed) -> None:
    aucs = tag_aucs(probed.unordered, probed.labels, lambda: SVC(C=3.0))
    timbre = ~TEMPORAL & np.isin(CATEGORY, ["instrument", "era"])
    assert aucs[timbre].mean() > 0.85
    assert aucs[TEMPORAL].mean() < 0.6


def test_spectra_in_their_order_tell_the_temporal_tags(probed: Probed) -> None:
    aucs = tag_aucs(probed.ordered, probed.labels, lambda: LogisticRegression(C=0.1, max_iter=1000))
    assert aucs[TEMPORAL].mean() > 0.8
    assert aucs[TEMPORAL].min() > 0.65
