"""Tagging: which windows, in which order, whose scores; and what is said of files that are none."""

import dataclasses
import functools
import io
import json
import pickle
import struct

import jax
import numpy as np
import pytest
import soundfile
from etils import epath
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from crnn_jax.audio.decode import read_clip
from crnn_jax.audio.files import AudioError
from crnn_jax.audio.log_mel import log_mel
from crnn_jax.config import MelConfig, ModelConfig, TrainConfig
from crnn_jax.errors import UserError
from crnn_jax.figures.tag_scores import spectrogram
from crnn_jax.models import build
from crnn_jax.study import runs
from crnn_jax.study.schema import DataDescription, RunConfig
from crnn_jax.tagging import tagger as tagging
from crnn_jax.tagging.tagger import BadFile, TaggedFile, load_tagger, tag_files
from crnn_jax.tagging.windows import file_windows
from crnn_jax.train.checkpoints import OrbaxCheckpoints
from tests.audio.test_audio import with_two_tags
from tests.conftest import SHARED

RATE, HOP = 12_000, 256
# 2.56 s: 121 frames.
MEL = MelConfig(clip_seconds=2.56)
TAGS = ("piano", "calm", "loud")
WIDTHS = {
    "conv1d": (2, 3, 3, 2, 4, 5),
    "conv2d": (2, 3, 3, 2, 5),
    "crnn": (2, 3, 3, 2, 4, 5),
}


def random_array(rng, like):
    return rng.normal(0.1, 1.0 / np.sqrt(np.prod(like.shape[:-1])), like.shape).astype(np.float32)


def make_run(run, arch):
    """A run's folder as training leaves it, with random parameters and statistics."""
    model = ModelConfig(arch, WIDTHS[arch], n_tags=len(TAGS))
    # Trained on the centre of clips that were stored longer.
    stored = MelConfig(clip_seconds=4.0)
    config = RunConfig(
        **{"arch": arch, "target": 99, "rule": "uniform", "seed": 0, "params": 99, "s": 0.1},
        model=model,
        train=TrainConfig(clip_seconds=MEL.clip_seconds),
        data=DataDescription("made-up", None, stored, TAGS, TAGS, None),
    )
    runs.claim_folder(run, config)
    shapes = jax.eval_shape(
        lambda key, x: build(model).init(key, x, train=False),
        jax.random.key(0),
        jax.ShapeDtypeStruct((1, MEL.n_mels, MEL.frames), "float32"),
    )
    rng = np.random.default_rng(0)
    variables = {
        "params": jax.tree.map(lambda leaf: random_array(rng, leaf), shapes["params"]),
        # Of the input the usual mean and variance; those of the layers are not far from these.
        "batch_stats": jax.tree.map(
            lambda leaf: np.full(leaf.shape, 400.0 if leaf.shape == (96,) else 1.0, np.float32),
            shapes["batch_stats"],
        ),
    }
    variables["batch_stats"]["input_norm"]["mean"][:] = -30.0
    with OrbaxCheckpoints(run / "checkpoints") as checkpoints:
        checkpoints.save_best(variables)
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(epath.Path(tmp_path_factory.mktemp("run")) / "conv1d", "conv1d")


@pytest.fixture(scope="module")
def tagger(run):
    return load_tagger(run)


def noise(seconds, seed=0):
    rng = np.random.default_rng(seed)
    loudness = np.repeat(rng.uniform(0.001, 0.2, 1 + int(seconds)), RATE)[: round(seconds * RATE)]
    return (loudness * rng.standard_normal(len(loudness))).astype(np.float32)


def write_wav(path, samples):
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    return str(path)


def write_npy(path, array):
    np.save(path, array, allow_pickle=array.dtype == object)
    return str(path)


# --- windows ---


def test_long_audio_is_cut_into_windows(tmp_path):
    samples = noise(10.0)
    path = write_wav(tmp_path / "a.wav", samples)
    windows = list(file_windows(path, MEL, 2.0))
    assert [window.start_s for window in windows] == pytest.approx([0.0, 2.0, 4.0, 6.0, 7.44])
    for window in windows:
        first = round(window.start_s * RATE)
        expected = log_mel(samples[first : first + MEL.clip_samples], MEL)
        np.testing.assert_allclose(window.log_mel, expected, atol=1e-3)


@pytest.mark.parametrize(("seconds", "start_s"), [(3.4, 0.42), (2.56, 0.0), (1.0, -0.78)])
def test_audio_of_about_a_window_gives_its_centre(tmp_path, seconds, start_s):
    path = write_wav(tmp_path / "a.wav", noise(seconds))
    (window,) = file_windows(path, MEL, 2.0)
    assert window.start_s == pytest.approx(start_s)
    np.testing.assert_array_equal(window.log_mel, log_mel(read_clip(path, MEL), MEL))
    (window,) = file_windows(write_wav(tmp_path / "b.wav", noise(9.0)), MEL, None)
    assert window.start_s == pytest.approx(3.22)


@given(
    frames=st.integers(1, 700),
    hop_frames=st.integers(1, 300),
    form=st.sampled_from([(), (1, 1)]),
    dtype=st.sampled_from(["float64", "float32", "float16", "int16", ">f4"]),
)
@settings(deadline=None, max_examples=50)
def test_stored_log_mel_is_cut_likewise(tmp_path_factory, frames, hop_frames, form, dtype):
    stored = np.random.default_rng(frames).uniform(-40, 30, (96, frames)).astype(dtype)
    path = write_npy(tmp_path_factory.mktemp("npy") / "a.npy", stored.reshape(*form, 96, frames))
    windows = list(file_windows(path, MEL, hop_frames * HOP / RATE))
    starts = [round(window.start_s * RATE / HOP) for window in windows]
    spare = frames - MEL.frames
    if len(windows) == 1:
        assert starts == [spare // 2]
        assert spare < hop_frames / 2
    else:
        assert starts[0] == 0
        assert starts[-1] == spare
        steps = np.diff(starts)
        assert (steps[:-1] == hop_frames).all()
        assert 0 < steps[-1] <= hop_frames
    for start, window in zip(starts, windows, strict=True):
        assert window.log_mel.shape == (96, MEL.frames)
        assert window.log_mel.dtype == np.float32
        first = max(0, -start)
        inside = stored[:, max(0, start) :][:, : MEL.frames]
        heard = slice(first, first + inside.shape[1])
        np.testing.assert_array_equal(window.log_mel[:, heard], inside.astype(np.float32))
        silence = np.delete(window.log_mel, heard, axis=1)
        assert (silence == inside.astype(np.float32).max() - MEL.top_db).all()


def test_stored_silence_beside_a_short_clip_is_that_of_audio(tmp_path):
    """A clip's own log-mel, padded, is the log-mel of the padded clip, but for its two edges."""
    # So long that the frames of both lie on the same samples.
    samples = noise(3.0)[: MEL.clip_samples - 2 * 36 * HOP]
    short = write_npy(tmp_path / "a.npy", log_mel(samples, MEL))
    padded = write_wav(tmp_path / "a.wav", samples)
    ((from_array,), (from_audio,)) = (
        list(file_windows(path, MEL, 2.0)) for path in (short, padded)
    )
    assert from_array.start_s == pytest.approx(from_audio.start_s)
    edges = [35, 84]
    np.testing.assert_allclose(
        np.delete(from_array.log_mel, edges, axis=1),
        np.delete(from_audio.log_mel, edges, axis=1),
        atol=1e-3,
    )


def test_real_mp3_with_two_tags_is_cut_into_windows(tagger, bucket, real_clips):
    """What libsndfile knows by its name alone: here, and in a bucket."""
    path = bucket / "a.mp3"
    path.write_bytes(with_two_tags((real_clips / "audio" / "asc_frontiers_0.mp3").read_bytes()))
    names = [str(path), f"az://{bucket.name}/a.mp3"]
    for name in names:
        starts = [window.start_s for window in file_windows(name, MEL, 5.0)]
        assert starts == pytest.approx([0, 5, 10, 15, 20, 25, 30 - 2.56], abs=0.1)
        (window,) = file_windows(name, MEL, None)
        assert window.start_s == pytest.approx((30 - 2.56) / 2, abs=0.1)
    here, there = tag_files(tagger, names, hop_seconds=5.0)
    assert [here.path, there.path] == names
    np.testing.assert_array_equal(here.start_s, there.start_s)
    np.testing.assert_allclose(here.scores, there.scores, atol=1e-5)
    (missing,) = tag_files(tagger, [f"az://{bucket.name}/b.mp3"])
    assert missing.message == f"az://{bucket.name}/b.mp3: no such file"


@pytest.mark.parametrize("kept_s", [1.5, 9.3])
def test_where_windows_of_a_broken_off_file_begin(tmp_path, kept_s):
    """Where the samples say, not the header, which promises 20 s."""
    path = tmp_path / "a.mp3"
    soundfile.write(path, noise(20.0), RATE, format="MP3")
    data = path.read_bytes()
    path.write_bytes(data[: round(kept_s / 20 * len(data))])
    length_s = len(soundfile.read(path)[0]) / RATE
    assert length_s < 11 < 19 < soundfile.info(path).duration
    *_, last = file_windows(str(path), MEL, 2.56)
    spare_s = length_s - MEL.clip_seconds
    assert last.start_s == pytest.approx(spare_s if spare_s > 0 else spare_s / 2, abs=1e-3)


# --- scores ---


def test_scores_are_the_networks_of_each_window(tagger, tmp_path):
    paths = [
        write_wav(tmp_path / "long.wav", noise(9.0)),
        write_wav(tmp_path / "short.wav", noise(1.5, seed=1)),
        write_npy(tmp_path / "stored.npy", log_mel(noise(4.5, seed=2), MEL)),
    ]
    results = list(tag_files(tagger, paths, hop_seconds=1.5))
    assert [result.path for result in results] == paths
    network = tagger.network
    apply = jax.jit(functools.partial(build(network.config.model).apply, train=False))
    for result in results:
        windows = list(file_windows(result.path, tagger.mel, 1.5))
        np.testing.assert_array_equal(result.start_s, [window.start_s for window in windows])
        logits = [apply(network.variables, window.log_mel[None])[0] for window in windows]
        np.testing.assert_allclose(result.scores, jax.nn.sigmoid(np.stack(logits)), atol=1e-5)
        np.testing.assert_allclose(result.mean_scores, result.scores.mean(0), rtol=1e-6)
    # Neither files nor windows all sound the same to it.
    assert np.ptp(results[0].scores, axis=0).max() > 2e-4
    assert np.ptp([result.mean_scores for result in results], axis=0).max() > 2e-4


@pytest.mark.parametrize("arch", ["conv1d", "conv2d", "crnn"])
def test_features_are_what_the_output_layer_reads(tmp_path, arch):
    tagger = load_tagger(make_run(epath.Path(tmp_path / arch), arch))
    (result,) = tag_files(tagger, [write_wav(tmp_path / "a.wav", noise(5.0))])
    output = tagger.network.variables["params"]["output"]
    logits = result.features @ output["kernel"] + output["bias"]
    assert result.features.shape == (2, WIDTHS[arch][-1])
    np.testing.assert_allclose(result.scores, 1 / (1 + np.exp(-logits)), atol=1e-5)


def test_order_is_that_of_the_files_whatever_their_length(tagger, tmp_path):
    # Batches with windows of several files, and a last one that is not full.
    tagger = dataclasses.replace(tagger, windows_per_device=4)
    paths = []
    for i, seconds in enumerate([20.0, 2.0, 7.0, None, 3.0, None, None, 12.0, 2.0]):
        path = tmp_path / f"{i}.wav"
        paths.append(str(path))
        if seconds is not None:
            write_wav(path, noise(seconds, seed=i))
    results = list(tag_files(tagger, paths, threads=3))
    assert [result.path for result in results] == paths
    lengths = [len(r.start_s) if isinstance(r, TaggedFile) else r.message for r in results]
    bad = {i: f"{paths[i]}: no such file" for i in (3, 5, 6)}
    assert lengths == [8, 1, 3, bad[3], 1, bad[5], bad[6], 5, 1]
    for result in results:
        if isinstance(result, TaggedFile):
            (alone,) = tag_files(tagger, [result.path])
            np.testing.assert_allclose(result.scores, alone.scores, atol=1e-5)


def test_file_that_fails_late_is_bad_as_a_whole(tagger, tmp_path):
    samples = noise(60.0)
    samples[55 * RATE] = np.nan
    good, bad = write_wav(tmp_path / "good.wav", noise(3.0)), write_wav(tmp_path / "a.wav", samples)
    first, second, third = tag_files(tagger, [good, bad, good])
    assert second == BadFile(bad, f"{bad}: holds NaN or infinite samples")
    np.testing.assert_array_equal(first.scores, third.scores)


def test_a_file_is_read_one_window_ahead(tagger):
    """What is kept of a long file does not grow with it."""
    read = scored = 0

    def windows():
        nonlocal read
        for start in range(50):
            read += 1
            yield tagging.Window(float(start), np.zeros((96, MEL.frames), np.float32))

    items = tagging._scored(tagger, tagging._read_ahead([windows()], threads=2))
    for _, item in items:
        if item is not None:
            scored += 1
            # One being read, one in each of two steps.
            assert read - scored <= 3
    assert scored == 50


def test_no_files_no_results(tagger):
    assert list(tag_files(tagger, [])) == []


@pytest.mark.parametrize("hop_seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_hop_must_be_positive(tagger, hop_seconds):
    with pytest.raises(UserError, match="hop_seconds"):
        list(tag_files(tagger, ["a.wav"], hop_seconds=hop_seconds))


# --- log-mels that are none ---


class Exploit:
    """Unpickled, it would write a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_pickle_is_not_run(tmp_path):
    witness = tmp_path / "witness"
    exploits = np.array([Exploit(witness)], dtype=object)
    write_npy(tmp_path / "array.npy", exploits)
    (tmp_path / "bare.npy").write_bytes(pickle.dumps(Exploit(witness)))
    for name in ("array.npy", "bare.npy"):
        with pytest.raises(AudioError, match=r"not a \.npy file of an array"):
            list(file_windows(str(tmp_path / name), MEL, 2.0))
    assert not witness.exists()


def archive():
    content = io.BytesIO()
    np.savez(content, log_mel=np.zeros((96, 200)))
    return content.getvalue()


def saved(array):
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def with_header(text):
    """What a .npy file of this header could be."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + bytes(76_800)


def with_shape(shape):
    return with_header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n")


# Each of them another error of NumPy's, or a warning.
SENSELESS_ARRAYS = [
    *(with_shape("(96, -1)"), with_shape(f"(96, {10**30})"), with_shape(f"(96, {2**62})")),
    *(with_shape(f"(96, {2**45})"), with_shape("(96, True)"), with_shape("None")),
    *(with_header("-" * 9_000 + "1"), with_header("(" * 9_000), with_header("{1: 2, 'descr': 3}")),
    *(with_header("{1, 2, [3]}"), with_header("a" * 20_000), b"PK\x03\x04", b"\x80\x04K\x01."),
]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        *((content, "not a .npy file of an array") for content in SENSELESS_ARRAYS),
        (b"", "not a .npy file of an array"),
        (b"RIFF" + bytes(100), "not a .npy file of an array"),
        (saved(np.zeros((96, 200)))[:5_000], "not a .npy file of an array"),
        (archive(), "not a .npy file of an array"),
        (saved(np.zeros((96, 200), complex)), "not an array of real numbers"),
        (saved(np.full((96, 200), "a")), "not an array of real numbers"),
        (saved(np.zeros((200, 96))), "has shape 200 × 96"),
        (saved(np.zeros((2, 1, 96, 200))), "has shape 2 × 1 × 96 × 200"),
        (saved(np.zeros(96)), "has shape 96"),
        (saved(np.array(1.0)), "has shape ()"),
        (saved(np.full((96, 200), np.nan)), "holds NaN or infinite values"),
        (saved(np.full((96, 200), 1e300)), "holds NaN or infinite values"),
    ],
)
def test_unfit_log_mel_is_refused_in_a_line(tmp_path, content, said):
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    with pytest.raises(AudioError) as caught:
        list(file_windows(str(path), MEL, 2.0))
    assert str(caught.value).startswith(f"{path}: {said}")
    assert "\n" not in str(caught.value)


def test_log_mel_that_cannot_be_opened(tmp_path):
    for path, said in ((tmp_path / "none.npy", "no such file"), (tmp_path / "a.npy", "directory")):
        (tmp_path / "a.npy").mkdir(exist_ok=True)
        with pytest.raises(AudioError, match=said):
            list(file_windows(str(path), MEL, 2.0))


def test_stored_log_mel_in_a_bucket(bucket):
    path = write_npy(bucket / "a.npy", np.random.default_rng(0).normal(size=(96, 400)))
    remote = f"az://{bucket.name}/a.npy"
    here, there = (list(file_windows(name, MEL, 2.0)) for name in (path, remote))
    assert [window.start_s for window in here] == [window.start_s for window in there]
    np.testing.assert_array_equal(here[-1].log_mel, there[-1].log_mel)
    with pytest.raises(AudioError, match=f"^{remote}s: no such file"):
        list(file_windows(f"{remote}s", MEL, 2.0))
    with pytest.raises(AudioError, match=r"b\.npy: no such file"):
        list(file_windows(f"az://{bucket.name}/b.npy", MEL, 2.0))


HEADER = saved(np.zeros((96, 130), np.float32))[:128]


@given(
    st.dictionaries(st.integers(0, len(HEADER) - 1), st.integers(32, 126), min_size=1, max_size=9)
)
@settings(deadline=None, max_examples=150, derandomize=True)
def test_damaged_header_is_refused_or_read(tmp_path_factory, changes):
    content = bytearray(HEADER)
    for place, value in changes.items():
        content[place] = value
    path = tmp_path_factory.mktemp("damaged") / "a.npy"
    path.write_bytes(content + bytes(4 * 96 * 130))
    try:
        windows = list(file_windows(str(path), MEL, 2.0))
        assert {window.log_mel.shape for window in windows} == {(96, MEL.frames)}
        return
    except AudioError as error:
        said = str(error)
    assert "\n" not in said


# --- the figure ---


@pytest.mark.parametrize(
    ("seconds", "hop_seconds"), [(9.0, 1.0), (9.0, None), (2.9, 0.2), (1.0, None), (4.0, 60.0)]
)
def test_spectrogram_has_the_whole_file(tagger, tmp_path, seconds, hop_seconds):
    path = write_wav(tmp_path / "a.wav", noise(seconds))
    (tagged,) = tag_files(tagger, [path], hop_seconds=hop_seconds)
    columns = spectrogram(tagged, MEL)
    assert np.isfinite(columns).all()
    end_s = tagged.start_s[-1] + MEL.clip_seconds
    assert columns.shape[1] == pytest.approx((end_s - tagged.start_s[0]) * RATE / HOP, abs=2)
    if len(tagged.start_s) > 1:
        # But for where two windows meet, it is that of the file.
        whole = log_mel(noise(seconds), MEL)[:, : columns.shape[1]]
        assert np.median(abs(columns[:, : whole.shape[1]] - whole)) < 1.5


def test_long_spectrogram_is_averaged(tagger, tmp_path):
    samples = noise(120.0)
    (tagged,) = tag_files(tagger, [write_wav(tmp_path / "a.wav", samples)], hop_seconds=30.0)
    columns = spectrogram(tagged, MEL)
    assert columns.shape[1] <= 2_000
    assert np.isfinite(columns).all()
    # Loudness changes every second: it is found at its place.
    whole = log_mel(samples, MEL).mean(axis=0)
    there = np.interp(np.linspace(0, 1, columns.shape[1]), np.linspace(0, 1, len(whole)), whole)
    assert np.corrcoef(columns.mean(axis=0), there)[0, 1] > 0.95


# --- the command line ---


def test_tag_prints_json_of_the_good_files(command, run, tagger, tmp_path):
    good = write_wav(tmp_path / "good.wav", noise(5.0))
    bad = tmp_path / "bad.wav"
    bad.write_text("not audio\n")
    code, out, err = command("tag", run, good, bad, good, "--json", "--per-window", "--top", 2)
    assert code == 1
    assert err == f"crnn-jax: {bad}: no audio format that libsndfile knows\n"
    files = json.loads(out)
    assert [file["path"] for file in files] == [good, good]
    (expected,) = tag_files(tagger, [good])
    best = np.argsort(-expected.mean_scores)[:2]
    for file in files:
        assert [entry["tag"] for entry in file["tags"]] == [TAGS[tag] for tag in best]
        scores = [entry["score"] for entry in file["tags"]]
        np.testing.assert_allclose(scores, expected.mean_scores[best], atol=1e-5)
        assert [window["start_s"] for window in file["windows"]] == [0.0, 2.44]
        for window, scores in zip(file["windows"], expected.scores, strict=True):
            assert list(window["scores"]) == [TAGS[tag] for tag in best]
            np.testing.assert_allclose(list(window["scores"].values()), scores[best], atol=1e-5)


def test_tag_prints_tables(command, run, tmp_path):
    path = write_wav(tmp_path / "a [b].wav", noise(5.0))
    code, out, err = command("tag", run, path)
    assert (code, err) == (0, "")
    assert path in out
    assert all(tag in out for tag in TAGS)
    code, out, _ = command("tag", run, path, "--per-window", "--hop-seconds", 1)
    assert code == 0
    assert [line.split("│")[1].strip() for line in out.splitlines() if line.startswith("│")] == [
        *("0.0", "1.0", "2.0", "2.4", "mean")
    ]


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_tag_draws_a_figure(command, run, tmp_path, suffix):
    path = write_wav(tmp_path / "a $x$.wav", noise(9.0))
    figure = tmp_path / "figures" / f"a.{suffix}"
    code, _, err = command("tag", run, path, "--figure", figure)
    assert (code, err) == (0, "")
    if suffix == "png":
        with Image.open(figure) as image:
            assert image.width == 2_100
            assert len(image.convert("RGB").getcolors(2**24)) > 1_000
    else:
        assert figure.read_text().startswith("<?xml")
    assert list(figure.parent.iterdir()) == [figure]


def test_embed_writes_features(command, run, tagger, tmp_path):
    paths = [write_wav(tmp_path / f"{i}.wav", noise(2.0 + 3 * i, seed=i)) for i in range(3)]
    out = tmp_path / "new" / "features.npz"
    code, said, err = command("embed", run, *paths, tmp_path / "none.wav", "--out", out)
    assert code == 1
    assert err == f"crnn-jax: {tmp_path / 'none.wav'}: no such file\n"
    assert said == f"{out}: 3 files, 5 features each\n"
    with np.load(out, allow_pickle=False) as stored:
        assert stored["paths"].tolist() == paths
        assert stored["features"].dtype == np.float32
        expected = [result.mean_features for result in tag_files(tagger, paths)]
        np.testing.assert_allclose(stored["features"], expected, atol=1e-5)
    assert list(out.parent.iterdir()) == [out]


def test_embed_of_bad_files_alone_writes_nothing(command, run, tmp_path):
    code, _, err = command("embed", run, tmp_path / "none.wav", "--out", tmp_path / "f.npz")
    assert code == 1
    assert "no such file" in err
    assert not (tmp_path / "f.npz").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("tag", "RUN"), "no file"),
        (("tag", "RUN", "a.wav", "--top", "0"), "--top 0"),
        (("tag", "RUN", "a.wav", "--hop-seconds", "0"), "--hop-seconds 0"),
        (("tag", "RUN", "a.wav", "--figure", "a.gif"), "--figure a.gif"),
        (("tag", "RUN", "a.wav", "b.wav", "--figure", "a.png"), "--figure a.png: 2 files"),
        (("tag", "nowhere", "a.wav"), "nowhere: not a run's folder"),
        (("embed", "RUN", "--out", "f.npz"), "no file"),
        (("import-keras", "none.h5", "out"), "none.h5: no such file"),
    ],
)
def test_what_users_can_mend_is_said_in_a_line(command, run, arguments, said):
    code, out, err = command(*(run if argument == "RUN" else argument for argument in arguments))
    assert (code, out) == (2, "")
    assert err.startswith(f"crnn-jax: {said}")
    assert err.count("\n") == 1


def test_published_network_tags_a_file(command, tmp_path):
    weights = SHARED / "pretrained" / "music_tagger_crnn_weights_tensorflow.h5"
    if not weights.exists():
        pytest.skip("needs the published weights at ../shared/pretrained")
    code, out, _ = command("import-keras", weights, tmp_path / "published")
    assert (code, out.partition(": ")[2]) == (
        *(0, "crnn, 396,786 parameters, 50 tags, tensorflow weights\n"),
    )
    stored = weights.with_name("bensound-cute.npy")
    code, out, _ = command("tag", tmp_path / "published", stored, "--json", "--top", 3)
    (file,) = json.loads(out)
    scores = [(entry["tag"], round(entry["score"], 3)) for entry in file["tags"]]
    assert scores == [("jazz", 0.444), ("instrumental", 0.151), ("folk", 0.103)]
