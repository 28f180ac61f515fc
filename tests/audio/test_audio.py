"""The front end against librosa, on files of every kind, whole and broken."""

import functools
import math
import pickle
import socket
import tracemalloc
import warnings
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
from etils import epath
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_jax.audio.decode import read_clip, read_windows
from crnn_jax.audio.files import AudioError
from crnn_jax.audio.log_mel import log_mel
from crnn_jax.config import MelConfig

# librosa.load imports audioread, which imports what Python 3.13 does without.
pytestmark = pytest.mark.filterwarnings("ignore:'(aifc|audioop|sunau)' is deprecated")

SHARED_CLIPS = Path(__file__).resolve().parents[2] / ".." / "shared" / "clips"
DEFAULT = MelConfig()
TWO_SECONDS = MelConfig(clip_seconds=2.0)
FORMATS = {
    "wav": {"format": "WAV", "subtype": "PCM_16"},
    "float.wav": {"format": "WAV", "subtype": "FLOAT"},
    "flac": {"format": "FLAC", "subtype": "PCM_24"},
    "ogg": {"format": "OGG", "subtype": "VORBIS"},
    "opus": {"format": "OGG", "subtype": "OPUS"},
    "mp3": {"format": "MP3", "subtype": "MPEG_LAYER_III"},
    # The mode of the bit rate is heeded only beside a level.
    "cbr.mp3": {
        "format": "MP3",
        "subtype": "MPEG_LAYER_III",
        "bitrate_mode": "CONSTANT",
        "compression_level": 0.5,
    },
}


def music(frames, rate, channels=1, seed=0):
    """Gliding tones over bursts of noise, different in each channel: (frames, channels)."""
    generator = np.random.default_rng(seed)
    time = np.arange(frames)[:, None] / rate
    pitch = generator.uniform(100, 1000, channels)
    tones = np.sin(2 * np.pi * pitch * (time + 0.05 * np.sin(time)))
    bursts = generator.standard_normal((frames, channels)) * (np.sin(8 * time) > 0.5)
    return (0.4 * tones + 0.1 * bursts).astype(np.float32)


def write(path, samples, rate, kind):
    with soundfile.SoundFile(path, "w", rate, samples.shape[1], **FORMATS[kind]) as sound:
        # libsndfile's Vorbis encoder overruns the stack on longer writes.
        for start in range(0, len(samples), 4096):
            sound.write(samples[start : start + 4096])
    return path


def centre(samples, size):
    """The reference's crop or padding."""
    if len(samples) < size:
        return librosa.util.pad_center(samples, size=size)
    first = (len(samples) - size) // 2
    return samples[first : first + size]


def librosa_clip(path, config):
    return centre(librosa.load(path, sr=config.sample_rate)[0], config.clip_samples)


def librosa_log_mel(clip, config):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="n_fft=.* is too large", category=UserWarning)
        power = librosa.feature.melspectrogram(
            y=clip,
            sr=config.sample_rate,
            n_fft=config.n_fft,
            hop_length=config.hop_length,
            n_mels=config.n_mels,
        )
    return librosa.power_to_db(power**config.mel_exponent, amin=config.amin, top_db=config.top_db)


def assert_same_clip(clip, expected):
    assert clip.dtype == np.float32
    assert clip.shape == expected.shape
    np.testing.assert_allclose(clip, expected, rtol=0, atol=1e-6)


def assert_same_log_mel(actual, expected, down_to_db=80.0):
    assert actual.dtype == np.float32
    assert actual.shape == expected.shape
    heard = expected > expected.max() - down_to_db
    np.testing.assert_allclose(actual[heard], expected[heard], rtol=0, atol=1e-3)
    np.testing.assert_allclose(actual[~heard], expected[~heard], rtol=0, atol=1e-2)


# --- files that can be used ---


@pytest.mark.parametrize("seconds", [0.7, 2.0, 3.1, 9.3])
@pytest.mark.parametrize(
    ("kind", "rate", "channels"),
    [
        ("wav", 8_000, 2),
        ("wav", 11_025, 1),
        ("float.wav", 12_000, 3),
        ("float.wav", 96_000, 6),
        ("flac", 22_050, 1),
        ("flac", 44_100, 5),
        ("flac", 44_056, 1),
        ("ogg", 32_000, 2),
        ("ogg", 44_100, 4),
        ("opus", 48_000, 2),
        ("mp3", 8_000, 1),
        ("mp3", 22_050, 1),
        ("mp3", 44_100, 2),
        ("cbr.mp3", 16_000, 1),
        ("cbr.mp3", 48_000, 2),
    ],
)
def test_clip_is_librosas(tmp_path, kind, rate, channels, seconds):
    samples = music(round(seconds * rate), rate, channels)
    path = write(tmp_path / f"a.{kind}", samples, rate, kind)
    clip = read_clip(path, TWO_SECONDS)
    expected = librosa_clip(path, TWO_SECONDS)
    assert_same_clip(clip, expected)
    spectrum = log_mel(clip, TWO_SECONDS)
    assert_same_log_mel(spectrum, librosa_log_mel(clip, TWO_SECONDS))
    # Resampled from another sample on, the same values are rounded otherwise, by 1e-7. That is
    # all that can be resolved in a band 80 dB down.
    assert_same_log_mel(spectrum, librosa_log_mel(expected, TWO_SECONDS), down_to_db=60)


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "mp3"])
def test_clip_from_the_middle_of_a_long_file(tmp_path, kind):
    path = write(tmp_path / f"a.{kind}", music(100 * 11_025, 11_025), 11_025, kind)
    assert_same_clip(read_clip(path, DEFAULT), librosa_clip(path, DEFAULT))


@pytest.mark.parametrize("kind", ["wav", "mp3"])
@pytest.mark.parametrize("seconds", [1.0, 7.0, 60.0])
@pytest.mark.parametrize("position", [0.0, 0.25, 0.9, 1.0])
def test_clip_from_anywhere_in_a_file(tmp_path, kind, seconds, position):
    path = write(tmp_path / f"a.{kind}", music(round(seconds * 22_050), 22_050), 22_050, kind)
    whole = librosa.load(path, sr=TWO_SECONDS.sample_rate)[0]
    size = TWO_SECONDS.clip_samples
    first = int(max(0, len(whole) - size) * position)
    expected = whole[first : first + size]
    if len(expected) < size:
        expected = librosa.util.pad_center(expected, size=size)
    assert_same_clip(read_clip(path, TWO_SECONDS, position), expected)


def test_clip_of_an_mp3_at_the_lowest_bit_rate(tmp_path):
    """Its frames have 24 bytes and need those of more than a second before."""
    path, rate = tmp_path / "a.mp3", 24_000
    kind = FORMATS["cbr.mp3"] | {"compression_level": 0.999}
    with soundfile.SoundFile(path, "w", rate, 2, **kind) as sound:
        sound.write(music(60 * rate, rate, 2))
    assert path.stat().st_size < 1.1 * 60 * 1000
    whole = librosa.load(path, sr=12_000)[0]
    for clip_seconds in (1.0, 1.5, 2.0, 2.5, 3.0):
        config = MelConfig(clip_seconds=clip_seconds)
        assert_same_clip(read_clip(path, config), centre(whole, config.clip_samples))


def clip_files():
    return sorted((SHARED_CLIPS / "audio").glob("*"))


@pytest.mark.skipif(not clip_files(), reason="no ../shared/clips beside the repository")
@pytest.mark.parametrize("path", clip_files(), ids=lambda path: path.name)
def test_real_music_is_librosas(path):
    clip = read_clip(path, DEFAULT)
    expected = librosa_clip(path, DEFAULT)
    assert_same_clip(clip, expected)
    assert_same_log_mel(log_mel(clip, DEFAULT), librosa_log_mel(expected, DEFAULT))


@settings(deadline=None, max_examples=60)
@given(
    rate=st.sampled_from([8_000, 11_025, 12_000, 22_050, 44_100, 48_000, 96_000]),
    # In clips: short ones, those about as long as a clip, and ones that are long enough to jump.
    clips=st.sampled_from([0, 0.5, 1, 2, 20, 24, 31]),
    more=st.integers(0, 300),
)
def test_clip_of_any_length(tmp_path_factory, rate, clips, more):
    config = MelConfig(clip_seconds=0.25)
    samples = music(round(clips * 0.25 * rate) + more, rate)
    path = write(tmp_path_factory.mktemp("lengths") / "a.wav", samples, rate, "float.wav")
    if not len(samples):
        with pytest.raises(AudioError, match="no sample decodes"):
            read_clip(path, config)
        return
    expected = librosa_clip(path, config)
    if expected.any():
        assert_same_clip(read_clip(path, config), expected)
    else:
        # A sample or two at a high rate leave nothing at a low one.
        assert len(samples) < 8
        with pytest.raises(AudioError, match="every sample is zero"):
            read_clip(path, config)


@pytest.mark.parametrize("as_path", [str, Path, epath.Path])
def test_any_kind_of_path(tmp_path, as_path):
    path = write(tmp_path / "a.wav", music(6000, 12_000), 12_000, "wav")
    assert read_clip(as_path(path), TWO_SECONDS).any()


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "mp3"])
def test_remote_file(bucket, kind):
    path = write(bucket / f"a.{kind}", music(9 * 22_050, 22_050), 22_050, kind)
    remote = epath.Path(f"az://{bucket.name}") / path.name
    np.testing.assert_array_equal(read_clip(remote, TWO_SECONDS), read_clip(path, TWO_SECONDS))
    np.testing.assert_array_equal(read_clip(str(remote), TWO_SECONDS), read_clip(path, TWO_SECONDS))
    with pytest.raises(AudioError) as caught:
        read_clip(remote.parent / "b.wav", TWO_SECONDS)
    assert caught.value.reason == "missing"


@pytest.fixture
def decoded(monkeypatch):
    """The lengths of all reads."""
    lengths = []
    read = soundfile.SoundFile.read

    def noted_read(self, *arguments, **options):
        samples = read(self, *arguments, **options)
        lengths.append(len(samples))
        return samples

    monkeypatch.setattr(soundfile.SoundFile, "read", noted_read)
    return lengths


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "mp3"])
def test_only_the_middle_is_decoded(tmp_path, decoded, kind):
    rate = 8_000
    path = write(tmp_path / f"a.{kind}", music(80 * rate, rate), rate, kind)
    read_clip(path, TWO_SECONDS)
    # 4.4 s in the middle and 8.2 s at the end, which show that it is the end.
    assert 2 * rate < sum(decoded) < 13 * rate


@pytest.mark.parametrize("seconds", [4.0, 30.0])
def test_mp3_that_does_not_say_how_long_it_is(tmp_path, decoded, seconds):
    """The number of frames is then a guess from size and bit rate, and here too high."""
    rate = 44_100
    path = write(tmp_path / "a.mp3", music(round(seconds * rate), rate), rate, "cbr.mp3")
    # The number stands in the first frame, after the word "Info".
    data = path.read_bytes()
    second_frame = data.index(data[:2], 100)
    assert b"Info" in data[:second_frame]
    path.write_bytes(data[second_frame:])
    with soundfile.SoundFile(path) as sound:
        guessed = sound.frames
        assert len(sound.read()) < guessed
    expected = librosa_clip(path, TWO_SECONDS)
    decoded.clear()
    assert_same_clip(read_clip(path, TWO_SECONDS), expected)
    # Once at most if it is short, else the middle and the end.
    assert sum(decoded) < min(1.1 * seconds, 6.0) * rate


# --- files that break off, or say nothing of their length ---


@pytest.mark.parametrize("kept", [0.2, 0.55, 0.9])
@pytest.mark.parametrize("kind", ["wav", "ogg", "mp3", "cbr.mp3"])
def test_cut_file_counts_as_a_shorter_file(tmp_path, kind, kept):
    path = write(tmp_path / f"a.{kind}", music(15 * 22_050, 22_050, 2), 22_050, kind)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    # What librosa decodes of it is the shorter file.
    whole = librosa.load(path, sr=12_000)[0]
    assert 0.5 * kept < len(whole) / (15 * 12_000) < 1.5 * kept
    assert_same_clip(read_clip(path, TWO_SECONDS), centre(whole, TWO_SECONDS.clip_samples))
    *_, (start_s, last) = read_windows(path, TWO_SECONDS, hop_seconds=0.5)
    np.testing.assert_allclose(last, whole[-TWO_SECONDS.clip_samples :], atol=1e-6)
    assert start_s == pytest.approx(len(whole) / 12_000 - 2.0)


@pytest.mark.parametrize("damage", ["cut", "noise"])
def test_flac_counts_up_to_its_damage(tmp_path, damage):
    rate = 12_000
    samples = music(30 * rate, rate)
    path = write(tmp_path / "a.flac", samples, rate, "flac")
    data = path.read_bytes()
    middle = len(data) // 2
    noise = np.random.default_rng(0).bytes(20_000)
    rest = noise + data[middle + len(noise) :] if damage == "noise" else b""
    path.write_bytes(data[:middle] + rest)
    # librosa refuses such a file. Where it ends is found from the clip's place in the original.
    clip = read_clip(path, TWO_SECONDS)
    original = np.round(samples[:, 0] * 2**23) / 2**23
    first = int(np.flatnonzero(np.abs(original - clip[0]) < 1e-6)[0])
    assert_same_clip(clip, original[first : first + len(clip)].astype(np.float32))
    end = 2 * first + len(clip)
    assert 0.3 < end / len(samples) < 0.55


def test_flac_of_unknown_length(tmp_path):
    """What an encoder writes to a pipe: no number of samples in the header."""
    path = write(tmp_path / "a.flac", music(30 * 22_050, 22_050), 22_050, "flac")
    expected = librosa_clip(path, TWO_SECONDS)
    data = bytearray(path.read_bytes())
    # STREAMINFO begins at byte 8; its total is the last 36 bits before the MD5 (RFC 9639, 8.2).
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    path.write_bytes(data)
    with soundfile.SoundFile(path) as sound:
        assert sound.frames > 10**12
    assert_same_clip(read_clip(path, TWO_SECONDS), expected)


# --- files that cannot be used ---


def broken_file(folder, reason):
    path = folder / "a.wav"
    samples = music(12_000, 12_000)
    if reason == "empty file":
        path.touch()
    elif reason == "not audio":
        path.write_text("not audio\n")
    elif reason == "no samples":
        write(path, samples[:0], 12_000, "wav")
    elif reason == "not finite":
        samples[6_000] = np.nan
        write(path, samples, 12_000, "float.wav")
    elif reason == "silent":
        write(path, 0 * samples, 12_000, "wav")
    return path


@pytest.mark.parametrize(
    "reason", ["missing", "empty file", "not audio", "no samples", "not finite", "silent"]
)
def test_broken_file_is_refused_by_name(tmp_path, reason):
    path = broken_file(tmp_path, reason)
    with pytest.raises(AudioError) as caught:
        read_clip(path, TWO_SECONDS)
    assert caught.value.reason == reason
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    with pytest.raises(AudioError) as caught:
        list(read_windows(path, TWO_SECONDS, hop_seconds=1.0))
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "data", [b"RIFF", b"\xff\xfb\x90\x44", b"fLaC", b"OggS", np.random.default_rng(1).bytes(30_000)]
)
def test_nothing_but_a_beginning(tmp_path, data):
    path = tmp_path / "a.audio"
    path.write_bytes(data)
    with pytest.raises(AudioError) as caught:
        read_clip(path, TWO_SECONDS)
    assert caught.value.reason in ("not audio", "no samples")


def test_folder_is_no_audio(tmp_path):
    with pytest.raises(AudioError) as caught:
        read_clip(tmp_path, TWO_SECONDS)
    assert caught.value.reason == "not audio"


def test_what_the_system_does_not_open_is_unreadable(tmp_path, monkeypatch):
    # A socket, since a file that only its owner may read is no obstacle to root; named from
    # within its folder, since a socket's path must be short.
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as endpoint:
        endpoint.bind("a.wav")
        with pytest.raises(AudioError) as caught:
            read_clip("a.wav", TWO_SECONDS)
    assert caught.value.reason == "unreadable"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rate", [12_000, 22_050])
def test_samples_that_are_not_finite_matter_where_they_are_decoded(tmp_path, rate, value):
    samples = music(9 * rate, rate)
    samples[rate // 2] = value
    path = write(tmp_path / "a.wav", samples, rate, "float.wav")
    assert np.isfinite(read_clip(path, TWO_SECONDS)).all()
    with pytest.raises(AudioError) as caught:
        list(read_windows(path, TWO_SECONDS, hop_seconds=2.0))
    assert caught.value.reason == "not finite"


def test_silence_matters_only_in_the_clip(tmp_path):
    samples = music(9 * 12_000, 12_000)
    samples[40_000:72_000] = 0
    samples[84_000:] = 0
    path = write(tmp_path / "a.wav", samples, 12_000, "wav")
    with pytest.raises(AudioError) as caught:
        read_clip(path, TWO_SECONDS)
    assert caught.value.reason == "silent"
    windows = list(read_windows(path, TWO_SECONDS, hop_seconds=2.0))
    heard = [bool(window.samples.any()) for window in windows]
    assert heard == [True, True, False, True, False]


def test_error_survives_the_way_between_processes():
    error = pickle.loads(pickle.dumps(AudioError("silent", "a.wav: every sample is zero")))
    assert (error.reason, str(error)) == ("silent", "a.wav: every sample is zero")


@pytest.mark.skipif(not clip_files(), reason="no ../shared/clips beside the repository")
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("empty.mp3", "empty file"),
        ("nan_float.wav", "not finite"),
        ("noise.flac", "not audio"),
        ("silence.wav", "silent"),
        ("text.wav", "not audio"),
        ("zero_samples.wav", "no samples"),
        ("short_3s.wav", None),
        ("stereo_8k.wav", None),
        ("truncated.mp3", None),
    ],
)
def test_shared_broken_files(name, reason):
    path = SHARED_CLIPS / "broken" / name
    if reason is None:
        assert_same_clip(read_clip(path, DEFAULT), librosa_clip(path, DEFAULT))
    else:
        with pytest.raises(AudioError) as caught:
            read_clip(path, DEFAULT)
        assert caught.value.reason == reason


# --- windows over all of a file ---


def windows_by_slicing(samples, spare_s, config, hop):
    size = config.clip_samples
    if spare_s < hop / config.sample_rate / 2:
        padding = max(0, size - len(samples)) // 2
        return [max(0, len(samples) - size) // 2 - padding], [centre(samples, size)]
    starts = [*range(0, len(samples) - size, hop), len(samples) - size]
    return starts, [samples[start : start + size] for start in starts]


def assert_same_windows(path, config, hop):
    windows = list(read_windows(path, config, hop / config.sample_rate))
    whole = librosa.load(path, sr=config.sample_rate)[0]
    spare_s = soundfile.info(path).duration - config.clip_seconds
    starts, expected = windows_by_slicing(whole, spare_s, config, hop)
    assert [round(window.start_s * config.sample_rate, 6) for window in windows] == starts
    for window, slice_of_whole in zip(windows, expected, strict=True):
        assert_same_clip(window.samples, slice_of_whole)
    if len(windows) == 1:
        np.testing.assert_array_equal(windows[0].samples, read_clip(path, config))


@pytest.mark.parametrize("seconds", [0.5, 2.0, 2.1, 10.0, 33.3])
@pytest.mark.parametrize(
    ("kind", "rate", "channels"),
    [("wav", 12_000, 1), ("flac", 44_100, 2), ("ogg", 22_050, 1), ("mp3", 22_050, 1)],
)
def test_windows_are_slices_of_the_whole(tmp_path, kind, rate, channels, seconds):
    samples = music(round(seconds * rate), rate, channels)
    path = write(tmp_path / f"a.{kind}", samples, rate, kind)
    assert_same_windows(path, TWO_SECONDS, hop=18_000)
    assert_same_windows(path, TWO_SECONDS, hop=2_000)


@settings(deadline=None, max_examples=60)
@given(
    frames=st.one_of(st.integers(1, 40), st.integers(900, 1100), st.integers(1, 9000)),
    hop=st.integers(1, 2500).map(lambda samples: max(samples, 50)),
    rate=st.sampled_from([1_000, 1_500, 2_000]),
)
def test_windows_cover_a_file_of_any_length(tmp_path_factory, frames, hop, rate):
    config = MelConfig(sample_rate=1_000, clip_seconds=1.0)
    path = tmp_path_factory.mktemp("windows") / "a.wav"
    write(path, music(frames, rate) + 0.5, rate, "float.wav")
    assert_same_windows(path, config, hop)


@pytest.mark.parametrize("seconds", [0.5, 1.5])
def test_window_of_a_file_that_is_shorter_than_its_header_says(tmp_path, seconds):
    """It is centred, and so begins before the file."""
    path = write(tmp_path / "a.mp3", music(20 * 12_000, 12_000), 12_000, "mp3")
    data = path.read_bytes()
    path.write_bytes(data[: int(seconds / 20 * len(data))])
    assert soundfile.info(path).duration > 19
    whole = librosa.load(path, sr=12_000)[0]
    (window,) = read_windows(path, TWO_SECONDS, hop_seconds=2.0)
    assert_same_clip(window.samples, centre(whole, TWO_SECONDS.clip_samples))
    assert window.start_s < 0
    assert window.start_s == pytest.approx((len(whole) / 12_000 - 2.0) / 2, abs=1e-3)


def test_windows_take_no_more_memory_for_a_longer_file(tmp_path):
    peaks = []
    for seconds in (30, 300):
        path = write(tmp_path / f"{seconds}.flac", music(seconds * 8_000, 8_000), 8_000, "flac")
        tracemalloc.start()
        for _ in read_windows(path, TWO_SECONDS, hop_seconds=2.0):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]


@pytest.mark.parametrize("hop_seconds", [0.0, -1.0, 1e-9])
def test_windows_that_do_not_move_on_are_refused(tmp_path, hop_seconds):
    path = write(tmp_path / "a.wav", music(12_000, 12_000), 12_000, "wav")
    with pytest.raises(ValueError, match="a sample apart"):
        next(read_windows(path, TWO_SECONDS, hop_seconds))


# --- what libsndfile knows by the name alone ---


def with_two_tags(data):
    """An MP3 as some taggers leave it: its ID3v2 tag, an ID3v1 tag, and only then the frames."""
    if data.startswith(b"ID3"):
        size = functools.reduce(lambda total, byte: total << 7 | byte, data[6:10])
        data = data[10 + size :]
    padding = bytes(20)
    return b"ID3\x03\x00\x00\x00\x00\x00\x14" + padding + b"TAG" + bytes(125) + data


def real_mp3s():
    return [path for path in clip_files() if path.suffix == ".mp3"]


@pytest.mark.skipif(not real_mp3s(), reason="no ../shared/clips beside the repository")
def test_mp3_with_two_tags(bucket):
    path = bucket / "a.mp3"
    path.write_bytes(with_two_tags(real_mp3s()[0].read_bytes()))
    with pytest.raises(soundfile.LibsndfileError), path.open("rb") as file:
        soundfile.info(file)
    expected = librosa_clip(path, DEFAULT)
    remote = f"az://{bucket.name}/a.mp3"
    for name in (path, remote):
        assert_same_clip(read_clip(name, DEFAULT), expected)
        starts = [window.start_s for window in read_windows(name, TWO_SECONDS, hop_seconds=5.0)]
        assert starts == pytest.approx([0, 5, 10, 15, 20, 25, 28], abs=0.1)


def test_remote_file_of_any_name(bucket):
    samples = music(6_000, 12_000)
    for name in (f"a.{'b' * 240}.wav", f"a.{'b' * 250}", "a."):
        path = write(bucket / "a.wav", samples, 12_000, "wav").rename(bucket / name)
        assert read_clip(f"az://{bucket.name}/{name}", TWO_SECONDS).any(), path


@pytest.mark.parametrize("suffix", ["au", "AU", "snd", "vox", "gsm"])
@pytest.mark.parametrize("data", [b"not audio\n" * 999, np.random.default_rng(1).bytes(30_000)])
def test_what_has_no_header_is_no_audio_by_its_suffix(tmp_path, suffix, data):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(data)
    with pytest.raises(AudioError, match="no audio format") as caught:
        read_clip(path, TWO_SECONDS)
    assert caught.value.reason == "not audio"
    with pytest.raises(AudioError, match="no audio format"):
        list(read_windows(path, TWO_SECONDS, hop_seconds=1.0))
    path.write_bytes(b"")
    with pytest.raises(AudioError) as caught:
        read_clip(path, TWO_SECONDS)
    assert caught.value.reason == "empty file"


def test_au_with_a_header_is_audio(tmp_path):
    soundfile.write(tmp_path / "a.au", music(9_000, 12_000), 12_000)
    assert_same_clip(
        read_clip(tmp_path / "a.au", TWO_SECONDS), librosa_clip(tmp_path / "a.au", TWO_SECONDS)
    )


def test_name_does_not_end_at_a_null(tmp_path):
    path = write(tmp_path / "a.wav", music(6_000, 12_000), 12_000, "wav")
    with pytest.raises(AudioError) as caught:
        read_clip(f"{path}\0.flac", TWO_SECONDS)
    assert caught.value.reason == "missing"


# --- samples that are numbers, but not those of music ---


@pytest.mark.parametrize("exponent", [1.0, 2.0])
@pytest.mark.parametrize("level", [2.0**15, 1e17, 1e38])
def test_samples_have_a_log_mel_or_are_refused(tmp_path, level, exponent):
    config = MelConfig(clip_seconds=2.0, mel_exponent=exponent)
    samples = np.clip(4 * music(9 * 12_000, 12_000, 2), -1, 1) * np.float32(level)
    path = write(tmp_path / "a.wav", samples, 12_000, "float.wav")
    if level < 1e6:
        clips = [read_clip(path, config)]
        clips += [window.samples for window in read_windows(path, config, hop_seconds=2.0)]
        assert all(np.isfinite(log_mel(clip, config)).all() for clip in clips)
        return
    for read in (read_clip, lambda *how: list(read_windows(*how, hop_seconds=2.0))):
        with pytest.raises(AudioError, match="are not music") as caught:
            read(path, config)
        assert caught.value.reason == "not finite"


def test_opposite_infinities_are_refused_in_silence(tmp_path):
    samples = music(6_000, 12_000, 2)
    samples[3_000] = [np.inf, -np.inf]
    path = write(tmp_path / "a.wav", samples, 12_000, "float.wav")
    with pytest.raises(AudioError, match="NaN or infinite"):
        read_clip(path, TWO_SECONDS)


# --- the log-mel spectrogram ---


@settings(deadline=None, max_examples=60)
@given(
    samples=st.one_of(st.integers(1, 1100), st.integers(1100, 80_000)),
    level=st.sampled_from([1e-6, 1e-3, 1.0, 1e3]),
    seed=st.integers(0, 100),
)
def test_log_mel_of_any_length(samples, level, seed):
    clip = level * music(samples, 12_000, seed=seed)[:, 0]
    assert_same_log_mel(log_mel(clip, DEFAULT), librosa_log_mel(clip, DEFAULT))


@pytest.mark.parametrize(
    "config",
    [
        MelConfig(mel_exponent=2.0),
        MelConfig(sample_rate=22_050, n_fft=2048, hop_length=512, n_mels=128),
        MelConfig(sample_rate=16_000, n_fft=400, hop_length=160, n_mels=40, top_db=60.0),
        MelConfig(n_fft=511, hop_length=100, amin=1e-5),
    ],
    ids=["squared", "22 kHz", "16 kHz", "odd"],
)
def test_log_mel_of_other_front_ends(config):
    clip = music(5 * config.sample_rate, config.sample_rate)[:, 0]
    assert_same_log_mel(log_mel(clip, config), librosa_log_mel(clip, config))


def test_log_mel_of_a_default_clip_has_the_papers_shape():
    clip = music(DEFAULT.clip_samples, 12_000)[:, 0]
    assert log_mel(clip, DEFAULT).shape == (DEFAULT.n_mels, DEFAULT.frames) == (96, 1366)


def test_quiet_bands_beside_a_loud_tone():
    """The hardest case for float32: what lies 75 dB under a bass tone in the same frame."""
    time = np.arange(60_000) / 12_000
    quiet = 10 ** (-75 / 20) * np.random.default_rng(0).standard_normal(60_000)
    clip = (np.sin(2 * np.pi * 60 * time) + quiet / 10).astype(np.float32)
    actual, expected = log_mel(clip, DEFAULT), librosa_log_mel(clip, DEFAULT)
    assert np.ptp(expected) > 75
    assert_same_log_mel(actual, expected)


def test_level_of_a_sine():
    """A sine of amplitude a has the power (a·Σw/2)² at its bin, 6 dB more for twice a."""
    frequency = 64 * 12_000 / 512
    clip = np.sin(2 * np.pi * frequency * np.arange(12_000) / 12_000).astype(np.float32)
    weights = librosa.filters.mel(sr=12_000, n_fft=512, n_mels=96)[:, 63:66]
    # The periodic Hann window of 512 sums to 256; to both sides of the peak lies half of it.
    power = weights @ (np.array([64.0, 128.0, 64.0]) ** 2)
    loudest = np.argmax(power)
    spectrum = log_mel(clip, DEFAULT)[:, 20]
    assert np.argmax(spectrum) == loudest
    assert spectrum[loudest] == pytest.approx(10 * math.log10(power[loudest]), abs=1e-3)
    doubled = log_mel(2 * clip, DEFAULT)[:, 20]
    assert doubled[loudest] - spectrum[loudest] == pytest.approx(20 * math.log10(2), abs=1e-4)
