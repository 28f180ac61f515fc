"""Decode an audio file to the samples of one clip, or of windows over the whole file.

The samples are those of ``librosa.load``, at less cost: only the part of a long file that a clip
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

# After a seek into an MP3, decoding starts this much earlier, since a frame borrows bits from the
# frames before it. In the worst case, 8 kbit/s stereo at 24 kHz, each of those lends 3 of up to 255
# bytes: 85 frames of 24 ms (main_data_begin in ISO/IEC 13818-3).
PREROLL_SECONDS = 2.2
# The resampler's filter extends 12 ms to either side at rates of 8 kHz and above.
FILTER_SECONDS = 0.1
# Samples per read. If a file is truncated, fewer than this many decodable samples are lost.
READ_FRAMES = 2**16
STREAM_SECONDS = 10.0
# Position of a clip in a file: the room before it over that before and after it.
CENTRE = 0.5
# A damaged header may state any sample rate.
LARGEST_STREAM = 2**22


def read_clip(
    path: str | os.PathLike[str], config: MelConfig, position: float = CENTRE
) -> Float32[np.ndarray, "samples"]:
    """Read one clip of an audio file, its centre by default: mono, at the configured sample rate.

    The samples are those of ``librosa.load(path, sr=config.sample_rate)``: channels averaged, then
    resampled by soxr at its HQ setting. A longer file is cropped to the clip; a shorter one is
    padded with zeros on both sides. A truncated file is treated as ending where it breaks off.

    Parameters
    ----------
    path
        A file that libsndfile can read (WAV, FLAC, Ogg, MP3, …), local or remote (``gs://…``), at
        any sample rate, with any number of channels.
    config
        Sets the sample rate and the length.
    position
        Where the clip is: 0 begins with the file, 1 ends with it.

    Returns
    -------
    numpy.ndarray
        ``config.clip_samples`` samples.

    Raises
    ------
    AudioError
        If the file is missing or not audio, if the clip is digital silence, or if the decoded part
        has no samples or contains NaN or infinite ones.
    """
    with fetched(path) as file:
        return _read_stretch(file, config, position).samples


class Stretch(NamedTuple):
    """Samples of a file.

    Attributes
    ----------
    start_s
        Where they begin in the file, in s; negative if zeros are padded before the file.
    samples
        At the configured sample rate.
    """

    start_s: float
    samples: Float32[np.ndarray, "samples"]


def read_windows(
    path: str | os.PathLike[str], config: MelConfig, hop_seconds: float | None
) -> Iterator[Stretch]:
    """Read a whole audio file in windows of one clip's length, while it is being decoded.

    Memory use does not grow with the length of the file.

    Parameters
    ----------
    path, config
        As for `read_clip`.
    hop_seconds
        Distance from the start of one window to the start of the next, in s; None: only the
        centre.

    Yields
    ------
    Stretch
        Windows of ``config.clip_samples`` samples, starting at the first sample. The last window
        ends where the file ends, so it may be closer to the one before it. A file that is shorter
        than a window, or longer by less than half a hop, yields one window, the clip of
        `read_clip`.

    Raises
    ------
    AudioError
        As for `read_clip`: for NaN or infinite samples as soon as they are decoded, for silence in
        place of the last window if all windows are silent.
    """
    if hop_seconds is not None and round(hop_seconds * config.sample_rate) < 1:
        raise ValueError(f"windows must be at least a sample apart, not {hop_seconds} s")
    with fetched(path) as file:
        if hop_seconds is not None:
            with file.opened() as sound:
                # According to the header: the file is not decoded yet.
                spare_s = sound.frames / sound.samplerate - config.clip_seconds
                if spare_s >= hop_seconds / 2:
                    yield from _windows(sound, config, round(hop_seconds * config.sample_rate))
                    return
        yield _read_stretch(file, config, CENTRE)


def _read_stretch(file: LocalFile, config: MelConfig, position: float) -> Stretch:
    """Return a clip of a file."""
    with file.opened() as sound:
        clip = _decode_stretch(sound, config, position)
    if clip is None:
        # A decoder may not recover from an error: start over with a new one.
        with file.opened() as sound:
            samples = np.concatenate(list(_resampled_chunks(sound, config)))
        clip = _crop(samples, 0, len(samples), config, position)
    if not _peak(clip, config, file.path):
        raise AudioError("silent", f"{file.path}: every sample is zero")
    return clip


def _windows(sound: ForwardSound, config: MelConfig, hop: int) -> Iterator[Stretch]:
    """Yield a whole file in windows `hop` samples apart."""
    size = config.clip_samples
    # `kept` ends with the last decoded sample and begins at sample `offset` of the file.
    kept, offset = np.zeros(0, np.float32), 0
    start, heard = 0, False
    for chunk in _resampled_chunks(sound, config):
        kept = np.concatenate([kept, chunk])
        # A window that ends with the last decoded sample may be the file's last.
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
        # The file is shorter than its header says.
        last = _crop(kept, 0, length, config, CENTRE)
    if not _peak(last, config, sound.path) and not heard:
        raise AudioError("silent", f"{sound.path}: every sample is zero")
    yield last


def _peak(stretch: Stretch, config: MelConfig, path: str) -> float:
    """Return the largest absolute value; raise if it is too large for a log-mel in float32."""
    peak = max(float(stretch.samples.max()), -float(stretch.samples.min()))
    # No spectrum bin exceeds the sum of the frame, and no mel band exceeds the largest power.
    limit = np.finfo(np.float32).max ** (0.5 / config.mel_exponent) / config.n_fft
    if not peak < limit:
        raise AudioError("not finite", f"{path}: samples up to {peak:.0e} are not music")
    return peak


def _read_mono(sound: ForwardSound, frames: int) -> Float32[np.ndarray, "samples"]:
    """Read the next `frames` samples, channels averaged; fewer if the file ends or is truncated."""
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
            # Column by column: a mean over such a short axis takes several times as long.
            _mean_of_columns(channels[:read], out=block[:read])
        filled += read
        if read < len(block):
            break
    mono = mono[:filled]
    # Two passes, but neither allocates an array as np.isfinite would.
    if filled and not math.isfinite(float(mono.max()) - float(mono.min())):
        raise AudioError("not finite", f"{sound.path}: holds NaN or infinite samples")
    return mono


def _mean_of_columns(
    channels: Float32[np.ndarray, "samples channels"], out: Float32[np.ndarray, "samples"]
) -> None:
    """Average the channels into `out`, without an intermediate array."""
    first, *others = channels.T
    out[:] = first
    # The caller checks the mean for infinite values.
    with np.errstate(over="ignore", invalid="ignore"):
        for channel in others:
            out += channel
    out /= channels.shape[1]


def _resampled_length(frames: int, rate: int, config: MelConfig) -> int:
    """Return the length of a whole file in samples at the configured sample rate."""
    # The ratio is rounded to a double first, as in librosa: the length can be one more than in
    # exact arithmetic, which shifts the centre.
    return math.ceil(frames * (config.sample_rate / rate))


def _decode_stretch(sound: ForwardSound, config: MelConfig, position: float) -> Stretch | None:
    """Return the clip, or None if the whole file must be decoded to find it."""
    rate = sound.samplerate
    margin = math.ceil(FILTER_SECONDS * rate)
    preroll = math.ceil(PREROLL_SECONDS * rate)
    if sound.frames <= config.clip_seconds * rate + 2 * (preroll + margin):
        # Decoding all of a file this short costs less than seeking.
        samples = _read_mono(sound, sound.frames)
        if not samples.size:
            return None
        resampled = soxr.resample(samples, rate, config.sample_rate)
        length = _resampled_length(len(samples), rate, config)
        return _crop(resampled, 0, length, config, position)

    frames = _count_frames(sound)
    if frames is None:
        return None
    length = _resampled_length(frames, rate, config)
    first = _first_sample(length, config, position)
    # Every `period`-th input sample coincides with an output sample. If resampling starts at one of
    # these, the output lies on the same grid as for the whole file.
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
    return _crop(resampled, start * config.sample_rate // rate, length, config, position)


def _count_frames(sound: ForwardSound) -> int | None:
    """Count the frames that decode; None if reading the end of the file does not show it."""
    # If an MP3 does not state the number, libsndfile derives it from the file size and bit rate: up
    # to 0.5 % too many at 44.1 kHz, where frames differ by a byte. And seeking into the last block
    # of a FLAC file, of up to 65 535 samples, can cost as much as decoding the whole file.
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
    """Yield a whole file in chunks, resampled."""
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
    # The resampler rounds the length to the nearest integer, librosa rounds up.
    yield np.zeros(_resampled_length(frames, rate, config) - produced, np.float32)


def _first_sample(length: int, config: MelConfig, position: float) -> int:
    """Return where the clip begins in a file of `length` samples."""
    return int(max(0, length - config.clip_samples) * position)


def _crop(
    samples: Float32[np.ndarray, "samples"],
    offset: int,
    length: int,
    config: MelConfig,
    position: float,
) -> Stretch:
    """Return the clip of a file of `length` samples; `samples` begin at its sample `offset`."""
    size = config.clip_samples
    before = max(0, size - length) // 2
    first = _first_sample(length, config, position)
    middle = samples[first - offset :][:size]
    clip = np.zeros(size, np.float32)
    clip[before : before + len(middle)] = middle
    return Stretch((first - before) / config.sample_rate, clip)
