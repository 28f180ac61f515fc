"""The user's own collection: what is read, and what is said of what cannot be."""

import csv
import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from crnn_jax.config import DataConfig, MelConfig
from crnn_jax.data.folds import read_clips
from crnn_jax.data.prepared import prepare
from crnn_jax.data.sets.folder import HASHED_SHARES, Folder, hashed_split
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


def write_file(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def write_tree(root):
    """Names that stand under several tags: with one content, with two, and with three."""
    for number in range(60):
        write_file(root / "jazz" / f"{number}.wav", bytes([number]))
    write_file(root / "jazz" / "same.wav", b"one" * 99_999)
    write_file(root / "calm" / "same.wav", b"one" * 99_999)
    write_file(root / "calm" / "two.wav", b"one" * 99_999)
    write_file(root / "jazz" / "two.wav", b"one" * 99_998 + b"two")
    write_file(root / "rock" / "two.wav", b"one" * 99_999)
    for tag in ("calm", "jazz", "rock"):
        write_file(root / tag / "three.wav", tag.encode())
    write_file(root / "rock" / "four.wav", b"long")
    write_file(root / "jazz" / "four.wav", b"longer")


def clips_of(collection):
    """The tags of each clip, and the split of each file."""
    tracks = [(track, split) for split, tracks in collection.splits.items() for track in tracks]
    assert len({track.track_id for track, _ in tracks}) == len(tracks)
    tags = {t.track_id: {collection.tag_names[tag] for tag in t.tags} for t, _ in tracks}
    return tags, {Path(track.source).name: split for track, split in tracks}


@pytest.mark.parametrize("where", ["here", "bucket"])
def test_files_of_one_name_are_one_clip_if_they_are_the_same(bucket, where):
    write_tree(bucket)
    tags, split_of = clips_of(collect(bucket if where == "here" else f"az://{bucket.name}"))
    assert {name: of for name, of in tags.items() if not name[0].isdigit()} == {
        "same.wav": {"calm", "jazz"},
        "calm/two.wav": {"calm", "rock"},
        "jazz/two.wav": {"jazz"},
        "calm/three.wav": {"calm"},
        "jazz/three.wav": {"jazz"},
        "rock/three.wav": {"rock"},
        "jazz/four.wav": {"jazz"},
        "rock/four.wav": {"rock"},
    }
    assert split_of["59.wav"] == hashed_split("59.wav")


def test_a_clip_of_a_tree_stays_in_its_split_when_files_are_added(tmp_path):
    write_tree(tmp_path)
    before = collect(tmp_path)
    split_of = {t.source: split for split, tracks in before.splits.items() for t in tracks}
    for number in range(60):
        # Of the same names: every second one the same file, the others different ones.
        write_file(tmp_path / "blues" / f"{number}.wav", bytes([number // 2 * 2]))
    after = collect(tmp_path)
    tags, _ = clips_of(after)
    assert tags["2.wav"] == {"blues", "jazz"}
    assert tags["blues/3.wav"] == {"blues"}
    assert tags["jazz/3.wav"] == {"jazz"}
    for split, tracks in after.splits.items():
        for track in tracks:
            place = track.source.replace("blues", "jazz")
            assert split_of[place] == split


def test_a_tree_whose_files_become_different_is_another_set(tmp_path):
    write_tree(tmp_path)
    config = DataConfig("folder", str(tmp_path / "data"), str(tmp_path))
    variants = [Folder(config).data_path]
    write_file(tmp_path / "jazz" / "same.wav", b"other")
    variants.append(Folder(config).data_path)
    write_file(tmp_path / "jazz" / "same.wav", b"one" * 99_999)
    variants.append(Folder(config).data_path)
    assert variants[0] == variants[2] != variants[1]


def bytes_read(action):
    """What this process asked the system to read in the meantime."""
    counters = Path("/proc/self/io")
    before = counters.read_text()
    action()
    first, last = (int(text.split()[1]) for text in (before, counters.read_text()))
    return last - first


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="counts bytes as Linux does")
def test_a_tree_is_not_read_whole(tmp_path):
    write_tree(tmp_path)
    few = bytes_read(lambda: collect(tmp_path))
    large = 2**24
    for number, tag in enumerate(("calm", "jazz", "rock")):
        for name, size in (
            (f"only {tag}.wav", large),
            ("other size.wav", large + number),
            ("other music.wav", large),
        ):
            write_file(tmp_path / tag / name, tag.encode())
            os.truncate(tmp_path / tag / name, size)
    linked = tmp_path / "calm" / "links.wav"
    write_file(linked, bytes(large))
    (tmp_path / "jazz" / "links.wav").hardlink_to(linked)
    (tmp_path / "rock" / "links.wav").symlink_to(linked)
    assert bytes_read(lambda: collect(tmp_path)) < few + 2**20
    tags, _ = clips_of(collect(tmp_path))
    assert tags["links.wav"] == {"calm", "jazz", "rock"}
    assert tags["rock/other size.wav"] == tags["rock/other music.wav"] == {"rock"}


def test_files_of_one_name_that_cannot_be_read(tmp_path):
    write_tree(tmp_path)
    (tmp_path / "rock" / "0.wav").mkdir()
    (tmp_path / "rock" / "1.wav").symlink_to(tmp_path / "nowhere")
    tags, _ = clips_of(collect(tmp_path))
    for name in ("0.wav", "1.wav"):
        assert tags[f"rock/{name}"] == {"rock"}
        assert tags[f"jazz/{name}"] == {"jazz"}


def test_each_of_two_files_of_one_name_is_decoded(tmp_path):
    music = tmp_path / "music"
    pitches = {"jazz": 300.0, "rock": 3_000.0}
    # One name of each split.
    names = {hashed_split(f"{n}.wav"): f"{n}.wav" for n in range(60)}
    for tag, pitch in pitches.items():
        (music / tag).mkdir(parents=True)
        for name in names.values():
            tone = 0.3 * np.sin(2 * np.pi * pitch * np.arange(36_000) / 12_000)
            soundfile.write(music / tag / name, tone, 12_000)
    config = DataConfig(
        "folder", str(tmp_path / "data"), str(music), workers=1, mel=MelConfig(clip_seconds=3.0)
    )
    data = prepare(config)
    assert data.n_examples == {"train": 2, "valid": 2, "test": 2}
    for split, name in names.items():
        for example in data.source(split):
            tag = data.tag_names[int(np.flatnonzero(example["tags"])[0])]
            assert example["tags"].sum() == 1
            assert example["track_id"].decode() == f"{tag}/{name}"
            loudest = example["log_mel"].astype(np.float32).mean(axis=1).argmax()
            assert (loudest > 48) == (pitches[tag] > 1_000)


@given(st.text(min_size=1))
def test_a_hashed_split_depends_on_the_name_alone(name):
    assert hashed_split(name) == hashed_split(name)
    assert hashed_split(name) in ("train", "valid", "test")


def test_hashed_splits_have_their_shares():
    splits = [hashed_split(f"track {number}") for number in range(20_000)]
    for split, share in zip(("train", "valid", "test"), HASHED_SHARES, strict=True):
        # Four standard deviations of a binomial count.
        assert abs(splits.count(split) / 20_000 - share / 100) < 4 * np.sqrt(0.25 / 20_000)


def test_clips_of_a_file_are_on_one_side_and_sound_different(tmp_path):
    """Cut out of files whose second half is another tone."""
    header = ("path", "tags", "track")
    for number in range(30):
        seconds = np.arange(2 * 6 * 8_000) / 8_000
        tone = np.sin(2 * np.pi * (200 + 20 * number) * seconds * (1 + (seconds > 6)))
        soundfile.write(tmp_path / f"{number}.wav", 0.3 * tone, 8_000)
    rows = [(f"{number}.wav", "x|y"[: 1 + number % 2 * 2], "") for number in range(30)]
    write_csv(tmp_path / "tags.csv", header, *rows)
    config = DataConfig(
        *("folder", str(tmp_path / "data"), str(tmp_path / "tags.csv")),
        workers=1,
        clips_per_track=2,
        mel=MelConfig(clip_seconds=3.0),
    )
    data = prepare(config)
    assert sum(data.n_examples.values()) == 60
    sides = {}
    spectra = {}
    for split in data.n_examples:
        source = data.source(split)
        for place in range(len(source)):
            name, _, number = source[place]["track_id"].decode().partition("#")
            sides.setdefault(name, set()).add(split)
            spectra[name, number] = source[place]["log_mel"].astype(float).mean(axis=1).argmax()
    assert all(len(of_file) == 1 for of_file in sides.values())
    assert all(spectra[name, "1"] > spectra[name, "0"] for name in sides)
    # In a cross-validation, too.
    clips = read_clips(data)
    assert len(set(clips.groups)) == 30
    assert prepare(dataclasses.replace(config, clips_per_track=1)).path != data.path


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
        ([("path", "tags"), ("a.wav", "x"), ("./b/../a.wav", "y")], "row 3.*row 2 already"),
        ([("path", "tags", "split"), ("a.wav", "x", "validation")], "split `validation`"),
        ([*COMPLETE[:3]], "the test split is empty"),
        ([("path", "tags", "split"), ("a.wav", "", "train"), ("b.wav", "|", "test")], "has a tag"),
    ],
)
def test_a_csv_that_cannot_be_used(tmp_path, rows, message):
    table = write_csv(tmp_path / "tags.csv", *rows)
    with pytest.raises(UserError, match=message) as error:
        collect(tmp_path)
    assert str(table) in str(error.value)
    assert "\n" not in str(error.value)


def test_names_that_are_not_text(tmp_path):
    """Of such a file only the bytes of its name are known; it is rejected, as the others are."""
    music = tmp_path / "music"
    names = {hashed_split(f"{n}.wav"): f"{n}.wav" for n in range(60)}
    noise = np.random.default_rng(0).normal(0, 0.1, 36_000)
    (music / "rock").mkdir(parents=True)
    for name in [*names.values(), os.fsdecode(b"\xff.wav")]:
        with (music / "rock" / name).open("wb") as file:
            soundfile.write(file, noise, 12_000, "PCM_16", format="WAV")
    mel = MelConfig(clip_seconds=3.0)
    data = prepare(DataConfig("folder", str(tmp_path / "data"), str(music), 0.5, 1, mel=mel))
    assert sum(data.n_examples.values()) == 3
    assert data.rejected_by_reason() == {"not audio": 1}
    (music / os.fsdecode(b"\xfe")).mkdir()
    with pytest.raises(UserError, match="not a name in UTF-8; rename it"):
        collect(music)
    with pytest.raises(UserError, match="not a name in UTF-8; rename it"):
        collect(music.rename(tmp_path / os.fsdecode(b"\xfd")))


def test_folders_that_cannot_be_used(tmp_path):
    with pytest.raises(UserError, match="--manual-dir is missing"):
        Folder.collection(DataConfig("folder"))
    with pytest.raises(UserError, match="no such file or folder"):
        collect(tmp_path / "nothing")
    with pytest.raises(UserError, match="neither a CSV file nor audio"):
        collect(tmp_path)
    (tmp_path / "folder.csv").mkdir()
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
