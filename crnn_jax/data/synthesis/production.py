"""From a score to a recording: the ensemble's performance, the mix, the sound of the era."""

from collections.abc import Callable

import numpy as np
import scipy.ndimage
import scipy.signal
from jaxtyping import Float

from crnn_jax.data.synthesis.composition import MOODS, Part, Score
from crnn_jax.data.synthesis.form import gain
from crnn_jax.data.synthesis.instruments import INSTRUMENTS, Instrument, bass, drum_kit, hertz
from crnn_jax.data.synthesis.traits import Traits

Signal = Float[np.ndarray, "samples"]

RELEASE_SECONDS = 0.04
TUNING_CENTS = 30.0  # largest deviation of an ensemble from 440 Hz
LEVELS_DB = {"lead": 0.0, "chords": 4.0, "bass": -3.0, "drums": 3.0}
MIX_DB = 2.0  # largest deviation from these levels
BRIGHTNESS_CORNER = 1200.0  # Hz
PEAK_DB = (-20.0, -0.5)  # range of the finished clip's peak, dB relative to full scale


def decibels(level: float) -> np.float32:
    """Return the amplitude of a level in dB."""
    return np.float32(10 ** (level / 20))


def play(
    part: Part,
    instrument: Instrument,
    tuning: float,
    sample_rate: int,
    clip_samples: int,
    rng: np.random.Generator,
) -> Signal:
    """Play all notes of a part; each pitch is synthesised once, as long as the longest note."""
    release = round(RELEASE_SECONDS * sample_rate)
    ramp = np.linspace(1.0, 0.0, release, dtype=np.float32)
    starts = np.round(part.onset * sample_rate).astype(int)
    lengths = np.round(part.duration * sample_rate).astype(int) + release
    pitches, which = np.unique(part.pitch, return_inverse=True)
    tones = instrument(hertz(pitches + tuning), lengths.max(), sample_rate, rng)
    played = np.zeros(clip_samples + lengths.max(), np.float32)
    for start, length, tone, velocity in zip(starts, lengths, which, part.velocity, strict=True):
        note = tones[tone, :length] * np.float32(velocity)
        note[-release:] *= ramp
        played[start : start + length] += note
    return played[:clip_samples]


def play_drums(
    onsets: dict[str, Float[np.ndarray, "hits"]],
    sample_rate: int,
    clip_samples: int,
    rng: np.random.Generator,
) -> Signal:
    """Play all strokes of the drums."""
    kit = drum_kit(sample_rate, rng)
    played = np.zeros(clip_samples + sample_rate, np.float32)
    for name, hits in onsets.items():
        for start in np.round(hits * sample_rate).astype(int):
            played[start : start + kit[name].size] += kit[name]
    return played[:clip_samples]


def perform(
    score: Score, traits: Traits, sample_rate: int, clip_samples: int, rng: np.random.Generator
) -> Signal:
    """Mix the ensemble: every part at its level, the mood's brightness, the dynamics."""
    tuning = rng.uniform(-TUNING_CENTS, TUNING_CENTS) / 100
    parts = {
        "lead": play(score.lead, INSTRUMENTS[traits.lead], tuning, sample_rate, clip_samples, rng),
        "chords": play(
            score.chords, INSTRUMENTS[traits.chords], tuning, sample_rate, clip_samples, rng
        ),
        "bass": play(score.bass, bass, tuning, sample_rate, clip_samples, rng),
    }
    if score.drums:
        parts["drums"] = play_drums(score.drums, sample_rate, clip_samples, rng)
    mix = np.zeros(clip_samples, np.float32)
    for name, part in parts.items():
        level = LEVELS_DB[name] + rng.uniform(-MIX_DB, MIX_DB)
        mix += decibels(level) * part / part.std()
    brightness = MOODS[traits.mood].brightness_db + rng.uniform(-2.0, 2.0)
    mix = shelve(mix, brightness, BRIGHTNESS_CORNER, sample_rate)
    x = np.linspace(0.0, 1.0, clip_samples, dtype=np.float32)
    return mix / np.abs(mix).max() * gain(x, traits.dynamics)


def shelve(signal: Signal, high_db: float, corner: float, sample_rate: int) -> Signal:
    """Apply a first-order shelf: `high_db` well above `corner` (Hz), 0 dB well below it."""
    b, a = scipy.signal.butter(1, corner, fs=sample_rate)
    low = scipy.signal.lfilter(b.astype(np.float32), a.astype(np.float32), signal)
    return low + decibels(high_db) * (signal - low)


def band_limit(signal: Signal, low: float, high: float, sample_rate: int) -> Signal:
    """Band-pass filter from `low` to `high` Hz."""
    sections = scipy.signal.butter(2, (low, high), "bandpass", fs=sample_rate, output="sos")
    return scipy.signal.sosfilt(sections.astype(np.float32), signal)


def wow(signal: Signal, rate: float, depth: float, sample_rate: int) -> Signal:
    """Vary the playback speed: relative deviation `depth`, `rate` times per second."""
    sample = np.arange(signal.size, dtype=np.float64)
    sway = depth * sample_rate / (2 * np.pi * rate)
    sample += sway * np.sin(2 * np.pi * rate / sample_rate * sample)
    return np.interp(sample, np.arange(signal.size), signal).astype(np.float32)


def shellac(signal: Signal, sample_rate: int, rng: np.random.Generator) -> Signal:
    """Imitate the 1920s: narrow band, crackle, noise, a disc off centre at 78 rpm (1.3 Hz)."""
    swaying = wow(signal, 78 / 60, 0.006, sample_rate)
    noise = decibels(-40.0) * rng.standard_normal(signal.size, dtype=np.float32)
    clicks = rng.integers(signal.size, size=round(15 * signal.size / sample_rate))
    noise[clicks] += rng.uniform(-0.8, 0.8, clicks.size).astype(np.float32)
    return band_limit(np.tanh(2 * swaying) + noise, 350.0, 2500.0, sample_rate)


def tape(signal: Signal, sample_rate: int, rng: np.random.Generator) -> Signal:
    """Imitate the 1970s: tape saturation, loss of treble, wow, hiss rising with frequency."""
    swaying = wow(np.tanh(1.5 * signal), rng.uniform(0.5, 0.9), 0.004, sample_rate)
    dull = band_limit(swaying, 60.0, 3400.0, sample_rate)
    hiss = np.diff(rng.standard_normal(signal.size + 1, dtype=np.float32))
    return dull + decibels(-46.0) * hiss


SAMPLER_RATE = 4000  # Hz
SAMPLER_LEVELS = 64  # 6 bits
MU = 255.0  # companding of ITU-T G.711


def sampler(signal: Signal, sample_rate: int, rng: np.random.Generator) -> Signal:
    """Imitate a 1980s home computer: sample and hold, few mu-law steps of amplitude."""
    del rng
    hold = max(2, round(sample_rate / SAMPLER_RATE))
    held = signal[::hold]
    companded = np.sign(held) * np.log1p(MU * np.abs(held)) / np.log1p(MU)
    steps = np.round(companded * (SAMPLER_LEVELS / 2)) / (SAMPLER_LEVELS / 2)
    expanded = np.sign(steps) * np.expm1(np.abs(steps) * np.log1p(MU)) / MU
    return expanded.repeat(hold)[: signal.size].astype(np.float32)


def loud_master(signal: Signal, sample_rate: int, rng: np.random.Generator) -> Signal:
    """Imitate a loud 2000s master: bright, compressed (2:1 in dB), limited."""
    bright = shelve(signal, rng.uniform(9.0, 12.0), 2500.0, sample_rate)
    window = round(0.1 * sample_rate)
    # A window centred on each sample: the compressor does not lag, so it does not reveal the order.
    power = scipy.ndimage.uniform_filter1d(bright**2, window)
    return np.tanh(2 * bright / np.maximum(power, 1e-8) ** 0.25)


def undated(signal: Signal, sample_rate: int, rng: np.random.Generator) -> Signal:
    """Imitate a clean recording with the noise of a quiet room."""
    del sample_rate
    return signal + decibels(-66.0) * rng.standard_normal(signal.size, dtype=np.float32)


ERAS: dict[str, Callable[[Signal, int, np.random.Generator], Signal]] = {
    "1920s": shellac,
    "1970s": tape,
    "1980s": sampler,
    "2000s": loud_master,
    "undated": undated,
}


def record(mix: Signal, era: str, sample_rate: int, rng: np.random.Generator) -> Signal:
    """Finish the clip: the mix through the chain of its era, at a level drawn from `PEAK_DB`."""
    recorded = ERAS[era](mix, sample_rate, rng)
    return decibels(rng.uniform(*PEAK_DB)) * recorded / np.abs(recorded).max()
