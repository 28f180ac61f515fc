"""The Million Song Dataset: the published split's files, and previews of all sorts."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from etils import epath

from crnn_jax.config import DataConfig
from crnn_jax.data.prepared import prepare
from crnn_jax.data.sets.msd import TAGS, Msd, read_split
from crnn_jax.errors import UserError
from tests.data.conftest import write_tone
from tests.tagging.test_tagging import SENSELESS_ARRAYS

SIZES = {"train": 12, "valid": 5, "test": 6}


def write_split(folder, split, n_tracks, seed=0):
    """A split's files, as they are published; the names and the tags that they hold."""
    rng = np.random.default_rng([seed, n_tracks])
    ids = [str(number) for number in rng.integers(1_000_000, 9_999_999, n_tracks)]
    names = [f"{name[0]}/{name[1]}/{name}.npy" for name in ids]
    targets = rng.random((n_tracks, len(TAGS))) < 0.06
    folder.mkdir(parents=True, exist_ok=True)
    for suffix, lines in (
        ("x_msd_id", [f"TR{split.upper():_<10}{i:06d}" for i in range(n_tracks)]),
        ("x_7d_id", ids),
        ("x_filename", names),
    ):
        (folder / f"{split}_{suffix}.txt").write_text("".join(f"{line}\n" for line in lines))
    np.save(folder / f"{split}_y.npy", targets)
    return names, targets


@pytest.fixture
def million_songs(tmp_path):
    """A small one of the same form: (folder, targets of each split)."""
    root = tmp_path / "msd"
    targets = {}
    for split, n_tracks in SIZES.items():
        names, targets[split] = write_split(root / "MSD_split_for_tagging", split, n_tracks)
        for number, name in enumerate(names):
            write_tone(root / name.replace(".npy", ".clip.mp3"), 200.0 + 60 * number)
    return root, targets


def config_of(root, short_mel, **values):
    data_dir = str(root.parent / "data")
    return DataConfig("msd", data_dir, str(root), workers=1, mel=short_mel, **values)


def test_prepared(million_songs, short_mel):
    root, targets = million_songs
    data = prepare(config_of(root, short_mel))
    assert data.n_examples == SIZES
    assert data.name.startswith("msd/top50tags")
    assert data.tag_names == tuple(name for name, _ in TAGS)
    for split, expected in targets.items():
        stored = [example["tags"] for example in data.source(split)]
        np.testing.assert_array_equal(stored, expected)
        assert data.source(split)[1]["track_id"].decode() == f"TR{split.upper():_<10}000001"
    # Track 3 is a tone of 380 Hz: band of the peak, by the mel filters' own definition.
    peak = data.source("train")[3]["log_mel"].mean(axis=1).argmax()
    import librosa

    frequencies = librosa.mel_frequencies(98, fmin=0, fmax=6000)[1:-1]
    assert abs(frequencies[peak] - 380.0) < 40


def test_a_changed_list_of_tracks_is_not_taken_for_it(million_songs, short_mel):
    root, _ = million_songs
    data = prepare(config_of(root, short_mel))
    write_split(root / "MSD_split_for_tagging", "valid", SIZES["valid"] - 1)
    with pytest.raises(UserError, match="made from another list of tracks") as error:
        prepare(config_of(root, short_mel))
    assert data.path in str(error.value)
    write_split(root / "MSD_split_for_tagging", "valid", SIZES["valid"])
    assert prepare(config_of(root, short_mel)) == data


def test_previews_that_cannot_be_used(million_songs, short_mel):
    root, targets = million_songs
    names = (root / "MSD_split_for_tagging" / "train_x_filename.txt").read_text().split()
    paths = [root / name.replace(".npy", ".clip.mp3") for name in names]
    paths[0].unlink()
    paths[4].write_bytes(b"")
    paths[5].write_bytes(b"not found")
    data = prepare(config_of(root, short_mel, max_rejected=0.2))
    assert data.n_examples == {**SIZES, "train": 9}
    assert data.rejected_by_reason() == {"missing": 1, "empty file": 1, "not audio": 1}
    with (Path(data.path) / "rejected.csv").open() as file:
        rows = {row["path"]: row["reason"] for row in csv.DictReader(file)}
    assert rows[names[0].replace(".npy", ".clip.mp3")] == "missing"
    kept = np.delete(targets["train"], [0, 4, 5], axis=0)
    np.testing.assert_array_equal([e["tags"] for e in data.source("train")], kept)


def test_tags_of_the_paper():
    assert len(dict(TAGS)) == 50
    assert {category for _, category in TAGS} == {"genre", "mood", "instrument", "era", "vocal"}
    assert [name for name, category in TAGS if category == "era"] == [
        "00s",
        "80s",
        "90s",
        "oldies",
        "70s",
        "60s",
    ]


def test_the_order_of_the_published_tags(real_formats):
    readme = (real_formats.parent / "pretrained" / "README.md").read_text()
    listed = readme.split("in output order: ")[1].split(".\n")[0].split(", ")
    assert listed == [name for name, _ in TAGS]


@pytest.mark.parametrize("split", ["valid", "test"])
def test_the_published_files(real_formats, split):
    tracks = read_split(epath.Path(real_formats / "msd"), split)
    assert len(tracks) == 200
    expected = np.load(real_formats / "msd" / f"{split}_y.npy")
    columns = np.zeros_like(expected)
    for row, track in zip(columns, tracks, strict=True):
        row[list(track.tags)] = True
        assert track.track_id.startswith("TR")
    np.testing.assert_array_equal(columns, expected)
    if split == "test":
        assert tracks[0].source == "6/0/6010476.clip.mp3"
        assert tracks[0].track_id == "TRAADIN128F931D672"


def spoil_rows(folder):
    (folder / "valid_x_filename.txt").write_text("1/2/12.npy\n")


def spoil_shape(folder):
    np.save(folder / "test_y.npy", np.zeros((6, 49), bool))


def spoil_type(folder):
    np.save(folder / "test_y.npy", np.array([None, "pickled"], object), allow_pickle=True)


@pytest.mark.parametrize("content", SENSELESS_ARRAYS)
def test_an_array_that_is_none(tmp_path, content):
    for split, n_tracks in SIZES.items():
        write_split(tmp_path, split, n_tracks)
    (tmp_path / "test_y.npy").write_bytes(content)
    with pytest.raises(UserError, match="test_y.npy: not a") as error:
        Msd.collection(DataConfig("msd", manual_dir=str(tmp_path)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "train_x_msd_id.txt").unlink(), "train_x_msd_id.txt is not in"),
        (lambda folder: (folder / "test_x_filename.txt").unlink(), "test_x_filename.txt: no such"),
        (lambda folder: (folder / "valid_y.npy").unlink(), "valid_y.npy: no such file"),
        (lambda folder: (folder / "valid_y.npy").write_bytes(b""), "valid_y.npy: not a NumPy"),
        (spoil_rows, "valid_x_filename.txt: 1 rows, but 5 in"),
        (spoil_shape, r"test_y.npy: bool \(6, 49\), not"),
        (spoil_type, "test_y.npy: not a NumPy"),
    ],
)
def test_a_split_that_cannot_be_used(tmp_path, spoil, message):
    for split, n_tracks in SIZES.items():
        write_split(tmp_path, split, n_tracks)
    spoil(tmp_path)
    with pytest.raises(UserError, match=message) as error:
        Msd.collection(DataConfig("msd", manual_dir=str(tmp_path)))
    assert "\n" not in str(error.value)


def test_folders_that_cannot_be_used(million_songs, short_mel, tmp_path):
    root, _ = million_songs
    with pytest.raises(UserError, match="--manual-dir is missing"):
        Msd.collection(DataConfig("msd"))
    with pytest.raises(UserError, match="nowhere: no such folder"):
        Msd.collection(DataConfig("msd", manual_dir=str(tmp_path / "nowhere")))
    elsewhere = tmp_path / "elsewhere" / "msd"
    shutil.copytree(root / "MSD_split_for_tagging", elsewhere)
    first = (elsewhere / "train_x_filename.txt").read_text().split()[0]
    missing = first.replace(".npy", ".clip.mp3")
    with pytest.raises(UserError, match=f"no audio in {elsewhere}: {missing} is missing"):
        prepare(config_of(elsewhere, short_mel))
