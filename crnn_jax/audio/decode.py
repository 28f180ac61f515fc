"""From an audio file to the samples of a clip, or of windows over all of it.

The numbers are those of ``librosa.load``, at less cost: of a long file only the part that a clip
needs is decoded.
"""

import math
import os
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import soundfile
import soxr
from jaxtyping import Float32

from crnn_jax.audio.files import AudioError, ForwardSound, LocalFile, fetched
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
# A damaged header may give any sample rate.
LARGEST_STREAM = 2**22


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
    with fetched(path) as file:
        return _read_centre(file, config).samples


class Stretch(NamedTuple):
    """Samples of a file.

    Attributes
    ----------
    start_s
        Where they begin in the file, in s; negative where zeros come before it.
    samples
        At the configuration's sample rate.
    """

    start_s: float
    samples: Float32[np.ndarray, "samples"]


def read_windows(
    path: str | os.PathLike[str], config: MelConfig, hop_seconds: float | None
) -> Iterator[Stretch]:
    """All of an audio file in windows of a clip's length, while it is decoded.

    Memory does not grow with the file.

    Parameters
    ----------
    path, config
        As for `read_clip`.
    hop_seconds
        From the start of one window to the start of the next, in s; None: only the centre.

    Yields
    ------
    Windows of ``config.clip_samples`` samples from the first sample on. The last one ends where
    the file ends, and so may lie closer to the one before. A file that is longer than a window by
    less than half a hop, or shorter, gives one window, that of `read_clip`.

    Raises
    ------
    AudioError
        As `read_clip`: for NaN or infinite samples when they are met, for silence in place of the
        last window if all are silent.
    """
    if hop_seconds is not None and round(hop_seconds * config.sample_rate) < 1:
        raise ValueError(f"windows must be a sample apart or more, not {hop_seconds} s")
    with fetched(path) as file:
        if hop_seconds is not None:
            with file.opened() as sound:
                # By what the header says: all is not yet decoded.
                spare_s = sound.frames / sound.samplerate - config.clip_seconds
                if spare_s >= hop_seconds / 2:
                    yield from _windows(sound, config, round(hop_seconds * config.sample_rate))
                    return
        yield _read_centre(file, config)


def _read_centre(file: LocalFile, config: MelConfig) -> Stretch:
    """The clip of a file."""
    with file.opened() as sound:
        clip = _decode_centre(sound, config)
    if clip is None:
        # A decoder that has met an error need not recover: begin again with a new one.
        with file.opened() as sound:
            samples = np.concatenate(list(_resampled_chunks(sound, config)))
        clip = _centre(samples, 0, len(samples), config)
    if not _peak(clip, config, file.path):
        raise AudioError("silent", f"{file.path}: every sample is zero")
    return clip


def _windows(sound: ForwardSound, config: MelConfig, hop: int) -> Iterator[Stretch]:
    """All of a file, in windows `hop` samples apart."""
    size = config.clip_samples
    # `kept` ends with what was decoded last and begins at sample `offset` of the file.
    kept, offset = np.zeros(0, np.float32), 0
    start, heard = 0, False
    for chunk in _resampled_chunks(sound, config):
        kept = np.concatenate([kept, chunk])
        # A window that ends with the last sample known may be the file's last.
        while start + size < offset + len(kept):
            window = Stretch(start / config.sample_rate, kept[start - offset :][:size])
            heard |= _peak(window, config, sound.path) > 0
            yield window
            start += hop
        passed = max(0, min(start - offset, len(kept) - size))
        kept, offset = kept[passed:], offset + passed
    length = offset + len(kept)
    kept = kept[-size:]
    if length > size:
        last = Stretch((length - size) / config.sample_rate, kept)
    else:
        # The header has promised more.
        last = _centre(kept, 0, length, config)
    if not _peak(last, config, sound.path) and not heard:
        raise AudioError("silent", f"{sound.path}: every sample is zero")
    yield last


def _peak(stretch: Stretch, config: MelConfig, path: str) -> float:
    """The largest absolute value, which must not be too large for a log-mel in float32."""
    peak = max(float(stretch.samples.max()), -float(stretch.samples.min()))
    # No bin of a spectrum is larger than the sum of a frame, no mel band than the largest power.
    limit = np.finfo(np.float32).max ** (0.5 / config.mel_exponent) / config.n_fft
    if not peak < limit:
        raise AudioError("not finite", f"{path}: samples up to {peak:.0e} are not those of music")
    return peak


def _read_mono(sound: ForwardSound, frames: int) -> Float32[np.ndarray, "samples"]:
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
    # What is or becomes infinite is found by whoever looks at the mean.
    with np.errstate(over="ignore", invalid="ignore"):
        for channel in others:
            out += channel
    out /= channels.shape[1]


def _resampled_length(frames: int, rate: int, config: MelConfig) -> int:
    """Samples of a whole file at the configuration's sample rate."""
    # With the ratio rounded to a double first, as librosa has it: the length can be one more than
    # in exact arithmetic, and the centre moves with it.
    return math.ceil(frames * (config.sample_rate / rate))


def _decode_centre(sound: ForwardSound, config: MelConfig) -> Stretch | None:
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


def _count_frames(sound: ForwardSound) -> int | None:
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
    sound: ForwardSound, config: MelConfig
) -> Iterator[Float32[np.ndarray, "samples"]]:
    """All of a file from first to last sample, piece by piece."""
    rate = sound.samplerate
    resampler = soxr.ResampleStream(rate, config.sample_rate, num_channels=1)
    wanted = min(math.ceil(STREAM_SECONDS * rate), LARGEST_STREAM)
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
) -> Stretch:
    """The clip of a file of `length` samples, of which `samples` begin at `offset`."""
    size = config.clip_samples
    before = max(0, size - length) // 2
    first = max(0, length - size) // 2
    middle = samples[first - offset :][:size]
    clip = np.zeros(size, np.float32)
    clip[before : before + len(middle)] = middle
    return Stretch((first - before) / config.sample_rate, clip)
