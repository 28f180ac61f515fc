"""From an audio file to a log-mel spectrogram.

The numbers are those of ``librosa.load`` followed by ``librosa.feature.melspectrogram`` and
``librosa.power_to_db``, at less cost: of a long file only the part that a clip needs is decoded.
"""

import contextlib
import functools
import io
import math
import os
from collections.abc import Iterator
from typing import IO, Literal

import numpy as np
import scipy.fft
import scipy.sparse
import soundfile
import soxr
from etils import epath
from jaxtyping import Float, Float32

from crnn_jax.config import MelConfig

# After a jump into an MP3 decoding begins this much early, since a frame borrows bits from those
# before it. At worst, 8 kbit/s in stereo at 24 kHz, each of them lends 3 of up to 255 bytes: that
# is 85 frames of 24 ms (main_data_begin in ISO/IEC 13818-3).
PREROLL_SECONDS = 2.2
# The resampler's filter reaches 12 ms to either side at rates of 8 kHz and more.
FILTER_SECONDS = 0.1
# Samples of one read. Where a file breaks off, fewer than this that would still decode are lost.
READ_FRAMES = 2**16
STREAM_SECONDS = 10.0
# Spectra computed at a time: they, and what they are made from, stay in the processor's cache.
BLOCK_FRAMES = 128
# A float32 FFT errs by 1e-7 of a frame's amplitude. In a band this far below the frame's loudest
# that is nearly 1e-3 dB.
FLOAT32_RANGE_DB = 74.0

Reason = Literal[
    "missing", "unreadable", "empty file", "not audio", "no samples", "not finite", "silent"
]


class AudioError(Exception):
    """An audio file that cannot be used.

    Attributes
    ----------
    reason
        Why, in one of a few fixed wordings, for counting.
    message
        One line that names the file.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return self.message


def read_clip(path: str | os.PathLike[str], config: MelConfig) -> Float32[np.ndarray, "samples"]:
    """The middle of an audio file: mono, at the configuration's sample rate.

    The samples are those of ``librosa.load(path, sr=config.sample_rate)``: channels averaged, then
    resampled by soxr at its HQ setting. A longer file gives its centre; a shorter one is centred
    between zeros. A file that breaks off counts as a file that ends there.

    Parameters
    ----------
    path
        What libsndfile reads (WAV, FLAC, Ogg, MP3, …), local or remote (``gs://…``), at any
        sample rate, with any number of channels.
    config
        Gives the sample rate and the length.

    Returns
    -------
    ``config.clip_samples`` samples.

    Raises
    ------
    AudioError
        If the file is missing or no audio, if the clip is digital silence, or if what is decoded
        for it has no samples or one that is NaN or infinite.
    """
    with _open(path) as sound:
        clip = _decode_centre(sound, config)
    if clip is None:
        # A decoder that has met an error need not recover: begin again with a new one.
        with _open(path) as sound:
            samples = np.concatenate(list(_resampled_chunks(sound, config)))
        clip = _centre(samples, 0, len(samples), config)
    if not clip.any():
        raise AudioError("silent", f"{path}: every sample is zero")
    return clip


def read_windows(
    path: str | os.PathLike[str], config: MelConfig, hop_seconds: float
) -> Iterator[Float32[np.ndarray, "samples"]]:
    """All of an audio file in windows of a clip's length, while it is decoded.

    Memory does not grow with the file.

    Parameters
    ----------
    path, config
        As for `read_clip`.
    hop_seconds
        From the start of one window to the start of the next, in s.

    Yields
    ------
    Windows of ``config.clip_samples`` samples from the first sample on. The last one ends where
    the file ends, and so may lie closer to the one before. A file no longer than a window gives
    one window, that of `read_clip`.

    Raises
    ------
    AudioError
        As `read_clip`: for NaN or infinite samples when they are met, for silence in place of the
        last window if all are silent.
    """
    hop = round(hop_seconds * config.sample_rate)
    if hop < 1:
        raise ValueError(f"windows must be a sample apart or more, not {hop_seconds} s")
    size = config.clip_samples
    # `kept` ends with what was decoded last and begins at sample `offset` of the file.
    kept, offset = np.zeros(0, np.float32), 0
    start, heard = 0, False
    with _open(path) as sound:
        for chunk in _resampled_chunks(sound, config):
            kept = np.concatenate([kept, chunk])
            # A window that ends with the last sample known may be the file's last.
            while start + size < offset + len(kept):
                window = kept[start - offset :][:size]
                heard = heard or bool(window.any())
                yield window
                start += hop
            passed = max(0, min(start - offset, len(kept) - size))
            kept, offset = kept[passed:], offset + passed
    last = kept[-size:]
    window = _centre(last, 0, len(last), config)
    if not (heard or window.any()):
        raise AudioError("silent", f"{path}: every sample is zero")
    yield window


def log_mel(
    clip: Float[np.ndarray, "samples"], config: MelConfig
) -> Float32[np.ndarray, "mel frames"]:
    """Log-mel spectrogram in dB relative to a power of 1.

    Frame t is centred on sample t · hop_length, with zeros beyond both ends; periodic Hann window,
    power spectrum, mel filters of Slaney's Auditory Toolbox. Within 1e-3 dB of
    ``librosa.power_to_db(librosa.feature.melspectrogram(…) ** mel_exponent)``.

    Parameters
    ----------
    clip
        One sample or more at the configuration's sample rate.
    config
        The front end.

    Returns
    -------
    ``n_mels`` bands, low to high, by ``1 + samples // hop_length`` frames; no value lies more than
    ``top_db`` below the largest.
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


class _ForwardSound(soundfile.SoundFile):
    """A sound file whose next read begins where the last one ended.

    Of a seekable file `soundfile` says so after every read, by a seek to where the file already
    is. To the MP3 decoder that is a jump like any other, and it spoils the samples that follow.
    """

    def __init__(self, file: str | IO[bytes], path: str) -> None:
        super().__init__(file)
        self.path = path

    def seekable(self) -> bool:
        return False


@contextlib.contextmanager
def _open(path: str | os.PathLike[str]) -> Iterator[_ForwardSound]:
    name = os.fspath(path)
    # Raw audio says nothing of its rate, and libsndfile takes names in UTF-8 alone.
    if name.lower().endswith(".raw") or not _is_utf8(name):
        raise AudioError("not audio", f"{name!a}: raw audio, or a name that is not UTF-8")
    with contextlib.ExitStack() as stack:
        try:
            # Read whole: what fails while libsndfile reads by itself looks like the file's end.
            file = io.BytesIO(epath.Path(name).read_bytes()) if "://" in name else name
            sound = stack.enter_context(_ForwardSound(file, name))
        except (FileNotFoundError, soundfile.LibsndfileError) as error:
            raise _refusal(name, error) from error
        yield sound


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refusal(name: str, error: FileNotFoundError | soundfile.LibsndfileError) -> AudioError:
    """Why a file did not open."""
    path = epath.Path(name)
    if not path.exists():
        return AudioError("missing", f"{name}: no such file")
    if isinstance(error, soundfile.LibsndfileError) and error.code == 2:  # SF_ERR_SYSTEM
        return AudioError("unreadable", f"{name}: the system does not let it be read")
    if path.is_file():
        with path.open("rb") as file:
            if not file.read(1):
                return AudioError("empty file", f"{name}: no bytes")
    return AudioError("not audio", f"{name}: no audio format that libsndfile knows")


def _read_mono(sound: _ForwardSound, frames: int) -> Float32[np.ndarray, "samples"]:
    """The next so many samples, channels averaged; fewer where the file ends or breaks off."""
    mono = np.empty(frames, np.float32)
    channels = np.empty((READ_FRAMES, sound.channels), np.float32)
    filled = 0
    while filled < frames:
        block = mono[filled : filled + READ_FRAMES]
        try:
            read = len(sound.read(out=block if sound.channels == 1 else channels[: len(block)]))
        except soundfile.LibsndfileError:
            break
        if sound.channels > 1:
            # Column by column: a mean over an axis this short takes several times as long.
            _mean_of_columns(channels[:read], out=block[:read])
        filled += read
        if read < len(block):
            break
    mono = mono[:filled]
    # Two passes, but none of them makes an array as np.isfinite would.
    if filled and not math.isfinite(float(mono.max()) - float(mono.min())):
        raise AudioError("not finite", f"{sound.path}: holds NaN or infinite samples")
    return mono


def _mean_of_columns(
    channels: Float32[np.ndarray, "samples channels"], out: Float32[np.ndarray, "samples"]
) -> None:
    """Average the channels into `out`, with no array between."""
    first, *others = channels.T
    out[:] = first
    for channel in others:
        out += channel
    out /= channels.shape[1]


def _resampled_length(frames: int, rate: int, config: MelConfig) -> int:
    """Samples of a whole file at the configuration's sample rate."""
    # With the ratio rounded to a double first, as librosa has it: the length can be one more than
    # in exact arithmetic, and the centre moves with it.
    return math.ceil(frames * (config.sample_rate / rate))


def _decode_centre(
    sound: _ForwardSound, config: MelConfig
) -> Float32[np.ndarray, "samples"] | None:
    """The clip, or None if the file must be read from the first sample to the last to know it."""
    rate = sound.samplerate
    margin = math.ceil(FILTER_SECONDS * rate)
    preroll = math.ceil(PREROLL_SECONDS * rate)
    if sound.frames <= config.clip_seconds * rate + 2 * (preroll + margin):
        # To decode all of a file this short costs less than the jumps.
        samples = _read_mono(sound, sound.frames)
        if not samples.size:
            return None
        resampled = soxr.resample(samples, rate, config.sample_rate)
        return _centre(resampled, 0, _resampled_length(len(samples), rate, config), config)

    frames = _count_frames(sound)
    if frames is None:
        return None
    length = _resampled_length(frames, rate, config)
    first = max(0, length - config.clip_samples) // 2
    # Every `period` input samples one of them coincides with an output sample. Resampled from
    # there, the output lies on the same grid as that of the whole file.
    period = rate // math.gcd(rate, config.sample_rate)
    start = max(0, first * rate // config.sample_rate - margin) // period * period
    stop = min(frames, (first + config.clip_samples) * rate // config.sample_rate + margin)
    begin = max(0, start - preroll)
    try:
        sound.seek(begin)
    except soundfile.LibsndfileError:
        return None
    samples = _read_mono(sound, stop - begin)
    if len(samples) < stop - begin:
        return None
    resampled = soxr.resample(samples[start - begin :], rate, config.sample_rate)
    return _centre(resampled, start * config.sample_rate // rate, length, config)


def _count_frames(sound: _ForwardSound) -> int | None:
    """How many frames decode, or None if a look at the end of the file does not tell."""
    # Where an MP3 does not say, libsndfile takes the number from the file's size and bit rate: up
    # to 0.5 % too many at 44.1 kHz, where frames differ by a byte. And a jump into the last block
    # of a FLAC file, of up to 65 535 samples, can cost as much as to decode the whole.
    start = max(0, sound.frames - READ_FRAMES)
    try:
        sound.seek(start)
    except soundfile.LibsndfileError:
        return None
    rest = len(_read_mono(sound, READ_FRAMES))
    return start + rest if rest else None


def _resampled_chunks(
    sound: _ForwardSound, config: MelConfig
) -> Iterator[Float32[np.ndarray, "samples"]]:
    """All of a file from first to last sample, piece by piece."""
    rate = sound.samplerate
    resampler = soxr.ResampleStream(rate, config.sample_rate, num_channels=1)
    wanted = math.ceil(STREAM_SECONDS * rate)
    frames = produced = 0
    last = False
    while not last:
        samples = _read_mono(sound, wanted)
        frames += len(samples)
        last = len(samples) < wanted
        chunk = resampler.resample_chunk(samples, last=last)
        produced += len(chunk)
        yield chunk
    if not frames:
        raise AudioError("no samples", f"{sound.path}: no sample decodes")
    # The resampler rounds the length to the nearest, librosa up.
    yield np.zeros(_resampled_length(frames, rate, config) - produced, np.float32)


def _centre(
    samples: Float32[np.ndarray, "samples"], offset: int, length: int, config: MelConfig
) -> Float32[np.ndarray, "samples"]:
    """The clip of a file of `length` samples, of which `samples` begin at `offset`."""
    size = config.clip_samples
    first = max(0, length - size) // 2 - offset
    middle = samples[first : first + size]
    before = max(0, size - length) // 2
    clip = np.zeros(size, np.float32)
    clip[before : before + len(middle)] = middle
    return clip


@functools.lru_cache(maxsize=8)
def _mel_filters(config: MelConfig) -> scipy.sparse.csr_array:
    """The filter bank, ``n_mels`` by ``1 + n_fft // 2`` bins."""
    # Over a second to import, most of it numba.
    from librosa.filters import mel

    # At most two filters overlap at a bin, so nearly all weights are zero.
    return scipy.sparse.csr_array(
        mel(sr=config.sample_rate, n_fft=config.n_fft, n_mels=config.n_mels)
    )


def _mel_decibels(
    frames: Float32[np.ndarray, "frames n_fft"], config: MelConfig, dtype: type[np.floating]
) -> Float32[np.ndarray, "mel frames"]:
    """Mel spectra in dB, no floor but `amin`; `dtype` is that of the FFT."""
    filters = _mel_filters(config)
    window = np.hanning(config.n_fft + 1)[:-1].astype(dtype)
    decibels = np.empty((config.n_mels, len(frames)), np.float32)
    for start in range(0, len(frames), BLOCK_FRAMES):
        block = slice(start, start + BLOCK_FRAMES)
        # scipy's FFT, unlike NumPy's, takes several transforms at once and computes in float32.
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
