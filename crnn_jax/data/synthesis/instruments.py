"""The instruments: each synthesises tones of given frequencies by its own method.

All have the same signature: from frequencies in Hz, a number of samples, the sample rate in Hz and
a random generator (for noise, and for the small differences between two instruments of one kind)
they return one row of samples per frequency, with an amplitude of about 1. Rows begin with the
attack and have no release: the caller adds it.
"""

from collections.abc import Callable

import numpy as np
import scipy.fft
import scipy.signal
from jaxtyping import Float

Tones = Float[np.ndarray, "tones samples"]
Instrument = Callable[[Float[np.ndarray, "tones"], int, int, np.random.Generator], Tones]

TABLE_SIZE = 2048  # samples per period; noise is below -60 dB without interpolation
TURN = 2 * np.pi
MAX_HARMONICS = 40
PASS_BAND = 0.45  # harmonics above this fraction of the sample rate are omitted: no aliasing


def hertz(midi_note: Float[np.ndarray, "notes"]) -> Float[np.ndarray, "notes"]:
    """Return the frequency of a MIDI note number: A4 is 69 and 440 Hz, an octave is 12."""
    return 440.0 * 2.0 ** ((midi_note - 69) / 12)


def seconds_of(samples: int, sample_rate: int) -> Float[np.ndarray, "samples"]:
    """Return the time of each sample in s."""
    return np.arange(samples) / sample_rate


def vibrato(
    time: Float[np.ndarray, "samples"], rate: float, depth: float
) -> Float[np.ndarray, "samples"]:
    """Warp time with vibrato: a tone read at the result has frequency f (1 + depth cos).

    Parameters
    ----------
    time
        In s.
    rate
        Rate of the vibrato in Hz.
    depth
        Largest relative deviation of the frequency.
    """
    return time + depth * np.sin(2 * np.pi * rate * time) / (2 * np.pi * rate)


def harmonic_tones(
    frequency: Float[np.ndarray, "tones"],
    time: Float[np.ndarray, "samples"],
    spectrum: Float[np.ndarray, "#tones harmonics"],
    sample_rate: int,
) -> Tones:
    """Synthesise periodic tones with the amplitudes of `spectrum`, by looping one period.

    Tones are scaled to a power of 1/2, that of a sine of amplitude 1.
    """
    number = np.arange(1, spectrum.shape[1] + 1)
    audible = spectrum * (frequency[:, None] * number < PASS_BAND * sample_rate)
    audible = audible / np.sqrt((audible**2).sum(axis=1, keepdims=True))
    bins = np.zeros((frequency.size, TABLE_SIZE // 2 + 1), np.complex64)
    bins[:, 1 : number.size + 1] = -0.5j * TABLE_SIZE * audible
    tables = scipy.fft.irfft(bins, axis=1)
    position = (frequency[:, None] * (TABLE_SIZE * time)).astype(np.int32) & (TABLE_SIZE - 1)
    position += TABLE_SIZE * np.arange(frequency.size, dtype=np.int32)[:, None]
    return tables.ravel().take(position)


def attack(time: Float[np.ndarray, "samples"], seconds: float) -> Float[np.ndarray, "samples"]:
    """Return an envelope that rises linearly from 0 to 1."""
    return np.minimum(time / seconds, 1.0).astype(np.float32)


def plucked_string(
    frequency: Float[np.ndarray, "tones"],
    samples: int,
    sample_rate: int,
    rng: np.random.Generator,
) -> Tones:
    """Synthesise a guitar, by the algorithm of Karplus & Strong (1983).

    A period of noise circulates in a loop that averages neighbouring samples: harmonic m of a
    period of P samples is attenuated by cos(pi m / P) in each round. Round k is therefore known in
    closed form, and all rounds are computed at once. The factor is raised to a power so that the
    fundamental decays equally at every pitch (the decay stretching of Jaffe & Smith 1983), and the
    loop, a whole number of samples, is read slightly slower than written to get the exact pitch.
    """
    decay_seconds = rng.uniform(1.5, 2.5)  # time in which the fundamental decays by 60 dB
    tones = np.empty((frequency.size, samples), np.float32)
    for row, tone_frequency in enumerate(frequency):
        period = int(sample_rate / tone_frequency)
        speed = tone_frequency * period / sample_rate
        rounds = int(samples * speed / period) + 2
        harmonic = np.arange(period // 2 + 1)
        loss = np.log(np.maximum(np.cos(np.pi * harmonic / period), 1e-6))
        per_round = loss / loss[1] * np.log(1e-3) / (decay_seconds * tone_frequency)
        per_round[0] = -np.inf  # no DC
        burst = scipy.fft.rfft(rng.uniform(-1.0, 1.0, period).astype(np.float32))
        kept = np.exp(np.outer(np.arange(1, rounds + 1), per_round)).astype(np.float32)
        string = scipy.fft.irfft(burst * kept, n=period, axis=1).ravel()
        tones[row] = np.interp(np.arange(samples) * speed, np.arange(string.size), string)
    return tones


def electric_piano(
    frequency: Float[np.ndarray, "tones"],
    samples: int,
    sample_rate: int,
    rng: np.random.Generator,
) -> Tones:
    """Synthesise an electric piano, by frequency modulation (Chowning 1973), with tremolo.

    Modulator and carrier have the same frequency; the index falls, so that the tone mellows as it
    decays. A second modulator, nine times as high and shorter, is the hammer's stroke on the tine.
    """
    time = seconds_of(samples, sample_rate)
    phase = (TURN * frequency[:, None] * time % TURN).astype(np.float32)
    body = (rng.uniform(0.8, 1.2) * np.exp(-time / 0.35)).astype(np.float32)
    tine_ratio = np.clip(np.floor(PASS_BAND * sample_rate / frequency) - 1, 1, 9)[:, None]
    tine = (0.9 * np.exp(-time / 0.25)).astype(np.float32)
    modulation = body * np.sin(phase) + tine * np.sin(tine_ratio.astype(np.float32) * phase)
    tremolo = 1 + 0.35 * np.sin(2 * np.pi * rng.uniform(4.0, 6.0) * time)
    envelope = (np.exp(-time / 0.8) * tremolo).astype(np.float32) * attack(time, 0.003)
    return envelope * np.sin(phase + modulation)


def organ(
    frequency: Float[np.ndarray, "tones"],
    samples: int,
    sample_rate: int,
    rng: np.random.Generator,
) -> Tones:
    """Synthesise a drawbar organ: sines at fixed ratios with constant level, rotary speaker.

    The pipes of 16, 8, 5 1/3, 4, 2 2/3, 2 and 1 feet are harmonics of the note an octave below.
    """
    time = vibrato(seconds_of(samples, sample_rate), rate=6.7, depth=0.004)
    drawbars = np.zeros((1, 16))
    pulled = np.array([1, 2, 3, 4, 6, 8, 16])
    drawbars[0, pulled - 1] = rng.uniform(0.5, 1.0, pulled.size)
    rotor = (1 + 0.3 * np.sin(2 * np.pi * 6.7 * time)).astype(np.float32)
    tones = harmonic_tones(frequency / 2, time, drawbars, sample_rate)
    return tones * (rotor * attack(time, 0.006))


def string_section(
    frequency: Float[np.ndarray, "tones"],
    samples: int,
    sample_rate: int,
    rng: np.random.Generator,
) -> Tones:
    """Synthesise strings: three detuned sawtooths (harmonic k at 1/k), low-pass, slow attack."""
    time = seconds_of(samples, sample_rate)
    number = np.arange(1, MAX_HARMONICS + 1)
    cutoff = rng.uniform(3000.0, 4500.0)
    spectrum = 1 / number / (1 + (frequency[:, None] * number / cutoff) ** 2)
    players = sum(
        harmonic_tones(
            frequency * 2 ** (cents / 1200),
            vibrato(time, rng.uniform(4.5, 6.0), 0.003) + rng.random(),
            spectrum,
            sample_rate,
        )
        for cents in (-11.0, 0.0, 9.0)
    )
    return players * attack(time, rng.uniform(0.07, 0.1)) / np.sqrt(np.float32(3))


def pulse_lead(
    frequency: Float[np.ndarray, "tones"],
    samples: int,
    sample_rate: int,
    rng: np.random.Generator,
) -> Tones:
    """Synthesise a pulse wave (harmonic k at sin(pi k duty)/k, duty 1/8 or 1/6)."""
    time = seconds_of(samples, sample_rate)
    number = np.arange(1, MAX_HARMONICS + 1)
    spectrum = np.sin(np.pi * number * rng.choice([1 / 8, 1 / 6])) / number
    tones = harmonic_tones(frequency, time, spectrum[None], sample_rate)
    return tones * attack(time, 0.004)


def flute(
    frequency: Float[np.ndarray, "tones"],
    samples: int,
    sample_rate: int,
    rng: np.random.Generator,
) -> Tones:
    """Synthesise a flute: nearly a sine, with tremolo and breath noise."""
    time = seconds_of(samples, sample_rate)
    tones = harmonic_tones(frequency, time, np.array([[1.0, 0.2, 0.06]]), sample_rate)
    tremble = 1 + 0.3 * np.sin(2 * np.pi * rng.uniform(4.5, 6.0) * time)
    breath = np.diff(rng.standard_normal(samples + 1, dtype=np.float32))
    chiff = 0.12 + 0.2 * np.exp(-time / 0.04)
    envelope = (tremble * attack(time, 0.04)).astype(np.float32)
    return envelope * tones + chiff.astype(np.float32) * breath


# First three formants in Hz, men and women averaged, after Peterson & Barney (1952), table II.
VOWELS = {"a": (790, 1155, 2625), "i": (290, 2540, 3160), "u": (335, 910, 2455)}
FORMANT_BANDWIDTHS = (90.0, 110.0, 160.0)  # Hz
FORMANT_AMPLITUDES = (1.0, 0.6, 0.35)


def sung_vowel(
    frequency: Float[np.ndarray, "tones"],
    samples: int,
    sample_rate: int,
    rng: np.random.Generator,
) -> Tones:
    """Synthesise a sung vowel: glottal harmonics at 1/k, three formants, deep vibrato."""
    time = vibrato(seconds_of(samples, sample_rate), rng.uniform(5.0, 6.2), depth=0.025)
    number = np.arange(1, MAX_HARMONICS + 1)
    harmonic = frequency[:, None] * number
    vowel = VOWELS[str(rng.choice(list(VOWELS)))]
    formants = sum(
        amplitude / (1 + ((harmonic - centre) / (bandwidth / 2)) ** 2)
        for centre, bandwidth, amplitude in zip(
            vowel, FORMANT_BANDWIDTHS, FORMANT_AMPLITUDES, strict=True
        )
    )
    tones = harmonic_tones(frequency, time, (formants + 0.01) / number, sample_rate)
    return tones * attack(time, 0.04)


def bass(
    frequency: Float[np.ndarray, "tones"],
    samples: int,
    sample_rate: int,
    rng: np.random.Generator,
) -> Tones:
    """Synthesise the bass: a dull, decaying tone. It has no tag, since every clip has it."""
    time = seconds_of(samples, sample_rate)
    number = np.arange(1, 9)
    tones = harmonic_tones(frequency, time, 1 / number[None], sample_rate)
    return tones * (attack(time, 0.008) * np.exp(-time / rng.uniform(0.2, 0.4))).astype(np.float32)


def bells(
    frequency: Float[np.ndarray, "tones"],
    samples: int,
    sample_rate: int,
    rng: np.random.Generator,
) -> Tones:
    """Synthesise bells, by frequency modulation at the inharmonic ratio 1:1.4 (Chowning 1973)."""
    time = seconds_of(samples, sample_rate)
    phase = TURN * frequency[:, None] * time
    index = rng.uniform(1.5, 2.5) * np.exp(-time / 0.5)
    modulation = index.astype(np.float32) * np.sin((1.4 * phase % TURN).astype(np.float32))
    envelope = attack(time, 0.002) * np.exp(-time / 0.6).astype(np.float32)
    return envelope * np.sin((phase % TURN).astype(np.float32) + modulation)


def soft_pad(
    frequency: Float[np.ndarray, "tones"],
    samples: int,
    sample_rate: int,
    rng: np.random.Generator,
) -> Tones:
    """Synthesise sines. They have no tag: chords without a tagged instrument."""
    time = seconds_of(samples, sample_rate)
    tones = harmonic_tones(frequency, time, np.array([[1.0, 0.1]]), sample_rate)
    return tones * attack(time, rng.uniform(0.02, 0.06))


INSTRUMENTS: dict[str, Instrument] = {
    "guitar": plucked_string,
    "electric piano": electric_piano,
    "organ": organ,
    "strings": string_section,
    "soft pad": soft_pad,
    "bells": bells,
    "synth lead": pulse_lead,
    "flute": flute,
    "voice": sung_vowel,
}


def drum_kit(sample_rate: int, rng: np.random.Generator) -> dict[str, Float[np.ndarray, "samples"]]:
    """Return one stroke of each drum: a falling sine, noise with a low tone, high-passed noise."""
    time = seconds_of(round(0.35 * sample_rate), sample_rate)
    noise = rng.standard_normal((2, time.size))
    fall = 0.035  # s, time constant of the kick's frequency, from 50 + 120 Hz down to 50 Hz
    kick_cycles = 50 * time + 120 * fall * (1 - np.exp(-time / fall))
    high_pass = scipy.signal.butter(2, 3300.0, "highpass", fs=sample_rate, output="sos")
    hiss = scipy.signal.sosfilt(high_pass, noise[1])
    return {
        "kick": 1.6 * np.sin(2 * np.pi * kick_cycles) * np.exp(-time / 0.09),
        "snare": (0.9 * noise[0] + np.sin(2 * np.pi * 190 * time)) * np.exp(-time / 0.06),
        "hat": 1.2 * hiss * np.exp(-time / rng.uniform(0.02, 0.04)),
    }
