"""The user's own collection: what is read, and what is said of what cannot be."""

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from crnn_jax.config import DataConfig, MelConfig
from crnn_jax.datasets import prepare
from crnn_jax.datasets.folder import HASHED_SHARES, Folder, hashed_split
from crnn_jax.errors import UserError


def collect(folder):
    return Folder.collection(DataConfig("folder", manual_dir=str(folder)))


def write_csv(path, *rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


COMPLETE = (
    ("path", "tags", "split", "note"),
    ("a.wav", "rock|mood/happy", "train", ""),
    ("b.wav", "", "valid", "no tag at all"),
    ("sub/c.wav", "mood/happy", "test", ""),
)


def test_csv(tmp_path):
    write_csv(tmp_path / "tags.csv", *COMPLETE)
    collection = collect(tmp_path)
    assert collection == collect(tmp_path / "tags.csv")
    assert collection.tag_names == ("mood/happy", "rock")
    assert collection.tag_categories == ("mood", "tag")
    tracks = {split: tracks[0] for split, tracks in collection.splits.items()}
    assert tracks["train"].tags == (0, 1)
    assert tracks["valid"].tags == ()
    assert Path(tracks["test"].source) == tmp_path / "sub" / "c.wav"


def test_the_real_collections_csv(real_clips):
    collection = collect(real_clips)
    sizes = {split: len(tracks) for split, tracks in collection.splits.items()}
    assert sizes == {"train": 77, "valid": 24, "test": 22}
    assert len(collection.tag_names) == 7
    assert all(Path(t.source).exists() for tracks in collection.splits.values() for t in tracks)


def test_tree(tmp_path):
    for path in ("jazz/a.mp3", "jazz/b.flac", "calm/b.flac", "calm/cover.jpg"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    for number in range(60):
        (tmp_path / "jazz" / f"{number}.wav").touch()
    collection = collect(tmp_path)
    assert collection.tag_names == ("calm", "jazz")
    tracks = {t.track_id: t for tracks in collection.splits.values() for t in tracks}
    assert tracks["b.flac"].tags == (0, 1)
    assert tracks["a.mp3"].tags == (1,)
    assert "cover.jpg" not in tracks


@given(st.text(min_size=1))
def test_a_hashed_split_depends_on_the_name_alone(name):
    assert hashed_split(name) == hashed_split(name)
    assert hashed_split(name) in ("train", "valid", "test")


def test_hashed_splits_have_their_shares():
    splits = [hashed_split(f"track {number}") for number in range(20_000)]
    for split, share in zip(("train", "valid", "test"), HASHED_SHARES, strict=True):
        # Four standard deviations of a binomial count.
        assert abs(splits.count(split) / 20_000 - share / 100) < 4 * np.sqrt(0.25 / 20_000)


def test_hashed_splits_follow_the_track_and_stay_when_files_are_added(tmp_path):
    header = ("path", "tags", "track")
    rows = [(f"{n}.wav", "x", f"song {n // 3}") for n in range(150)]
    before = collect(write_csv(tmp_path / "before.csv", header, *rows))
    after = collect(write_csv(tmp_path / "after.csv", header, ("new.wav", "x", "new"), *rows))
    split_of = {t.track_id: s for s, tracks in before.splits.items() for t in tracks}
    for split, tracks in after.splits.items():
        for track in tracks:
            if track.track_id != "new.wav":
                assert split_of[track.track_id] == split
    for song in range(50):
        assert len({split_of[f"{3 * song + n}.wav"] for n in range(3)}) == 1


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("file", "tags"), ("a.wav", "x")], "no column `path`"),
        ([("path", "genre"), ("a.wav", "x")], "no column `tags`"),
        ([("path", "tags")], "no rows"),
        ([], "no column"),
        ([("path", "tags"), ("a.wav",)], "row 2"),
        ([("path", "tags"), ("a.wav", "x"), ("a.wav", "y")], "row 3.*row 2 already"),
        ([("path", "tags", "split"), ("a.wav", "x", "validation")], "split `validation`"),
        ([*COMPLETE[:3]], "the test split is empty"),
    ],
)
def test_a_csv_that_cannot_be_used(tmp_path, rows, message):
    table = write_csv(tmp_path / "tags.csv", *rows)
    with pytest.raises(UserError, match=message) as error:
        collect(tmp_path)
    assert str(table) in str(error.value)
    assert "\n" not in str(error.value)


def test_folders_that_cannot_be_used(tmp_path):
    with pytest.raises(UserError, match="--manual-dir is missing"):
        Folder.collection(DataConfig("folder"))
    with pytest.raises(UserError, match="no such file or folder"):
        collect(tmp_path / "nothing")
    with pytest.raises(UserError, match="neither a CSV file nor audio"):
        collect(tmp_path)
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00path")
    with pytest.raises(UserError, match="not a CSV in UTF-8"):
        collect(tmp_path)
    write_csv(tmp_path / "other.csv", *COMPLETE)
    with pytest.raises(UserError, match=r"several CSV files \(binary.csv, other.csv\)"):
        collect(tmp_path)


def test_a_changed_collection_is_another_set(tmp_path):
    music = tmp_path / "music"
    music.mkdir()
    for name in ("a", "b", "c", "d"):
        noise = np.random.default_rng(0).normal(0, 0.1, 24_000)
        soundfile.write(music / f"{name}.wav", noise, 12_000)
    rows = [("a.wav", "x", "train"), ("b.wav", "y", "valid"), ("c.wav", "x", "test")]
    write_csv(music / "tags.csv", ("path", "tags", "split"), *rows)
    config = DataConfig(
        "folder", str(tmp_path / "data"), str(music), workers=1, mel=MelConfig(clip_seconds=3.0)
    )
    first = prepare(config)
    with (music / "tags.csv").open("a", newline="") as file:
        csv.writer(file).writerow(("d.wav", "y", "train"))
    second = prepare(config)
    assert (first.n_examples["train"], second.n_examples["train"]) == (1, 2)
    assert first.path != second.path
