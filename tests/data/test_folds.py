"""Cross-validation: every clip in one test split, groups together, tags evenly."""

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_jax.config import DataConfig, MelConfig
from crnn_jax.data.collection import SPLITS, Track, cut
from crnn_jax.data.folds import Clips, divide, make_fold, read_clips
from crnn_jax.data.prepared import prepare
from crnn_jax.errors import UserError


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(3, 6), st.integers(6, 60), st.integers(1, 6))
def test_groups_stay_together_and_parts_are_even(seed, folds, n_groups, n_tags):
    rng = np.random.default_rng(seed)
    groups = [f"g{i}" for i in range(n_groups) for _ in range(rng.integers(1, 4))]
    tags = (rng.random((len(groups), n_tags)) < 0.4).astype(np.uint8)
    parts = divide(Clips(tags, tuple(groups)), folds)
    assert set(parts) <= set(range(folds))
    for group in set(groups):
        assert len({part for part, of in zip(parts, groups, strict=True) if of == group}) == 1


def test_rare_tags_are_in_every_part():
    """Which a hash of the names does not give: of 177 tracks, it put 15 into the test split."""
    rng = np.random.default_rng(0)
    tags = np.zeros((177, 5), np.uint8)
    # Five albums, one of them of six tracks.
    tags[np.arange(177), np.repeat(np.arange(5), (6, 20, 41, 50, 60))] = 1
    order = rng.permutation(177)
    parts = divide(Clips(tags[order], tuple(map(str, order))), 3)
    for part in range(3):
        counts = tags[order][parts == part].sum(axis=0)
        np.testing.assert_allclose(counts, tags.sum(axis=0) / 3, atol=1)


def test_the_order_of_the_clips_does_not_matter():
    rng = np.random.default_rng(1)
    tags = (rng.random((40, 3)) < 0.3).astype(np.uint8)
    names = [f"track {i}" for i in range(40)]
    parts = dict(zip(names, divide(Clips(tags, tuple(names)), 4), strict=True))
    order = rng.permutation(40)
    again = divide(Clips(tags[order], tuple(names[i] for i in order)), 4)
    assert all(parts[names[i]] == part for i, part in zip(order, again, strict=True))


def test_every_clip_is_tested_once(small_set):
    folds = [make_fold(small_set, fold, 3) for fold in range(3)]
    total = sum(small_set.n_examples.values())
    seen = []
    for fold in folds:
        assert tuple(fold.n_examples) == SPLITS
        assert sum(fold.n_examples.values()) == total
        for split in SPLITS:
            source = fold.source(split)
            assert len(source) == fold.n_examples[split]
            tags = np.stack([np.array(source[i]["tags"]) for i in range(len(source))])
            assert tuple(tags.sum(axis=0).tolist()) == fold.tag_counts[split]
        test = fold.source("test")
        seen += [bytes(test[i]["track_id"]) for i in range(len(test))]
        valid = fold.source("valid")
        assert not {bytes(valid[i]["track_id"]) for i in range(len(valid))} & set(
            seen[-len(test) :]
        )
    assert len(seen) == len(set(seen)) == total


def test_without_groups_every_clip_is_one(small_set):
    clips = read_clips(small_set)
    assert len(set(clips.groups)) == len(clips.groups) == sum(small_set.n_examples.values())


def test_tracks_of_a_csv_stay_together(tmp_path):
    """From its column `track`, also for a set that was prepared before there was `tracks.csv`."""
    for number in range(30):
        tone = np.sin(2 * np.pi * (200 + 20 * number) * np.arange(8_000 * 3) / 8_000)
        soundfile.write(tmp_path / f"{number}.wav", 0.3 * tone, 8_000)
    rows = [("path", "tags", "track")]
    rows += [(f"{number}.wav", "xy"[number % 2], f"song {number // 3}") for number in range(30)]
    with (tmp_path / "tags.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    config = DataConfig(
        *("folder", str(tmp_path / "data"), str(tmp_path / "tags.csv")),
        workers=1,
        mel=MelConfig(clip_seconds=3.0),
    )
    data = prepare(config)
    (Path(data.path) / "tracks.csv").unlink()
    data = prepare(config)
    for fold in range(3):
        view = make_fold(data, fold, 3)
        songs = {}
        for split in SPLITS:
            source = view.source(split)
            for place in range(len(source)):
                number = int(source[place]["track_id"].decode().removesuffix(".wav"))
                songs.setdefault(number // 3, set()).add(split)
        assert len(songs) == 10
        assert all(len(of_song) == 1 for of_song in songs.values())


def test_more_folds_than_tracks_are_refused():
    with pytest.raises(UserError, match="folds 5: the set has 2 groups"):
        divide(Clips(np.ones((4, 1), np.uint8), ("a", "a", "b", "b")), 5)


def test_clips_are_spread_over_a_file():
    track = Track("song.mp3", "/music/song.mp3", (1,))
    assert cut(track, 1) == [track]
    clips = cut(track, 4)
    assert [clip.position for clip in clips] == [0.125, 0.375, 0.625, 0.875]
    assert [clip.track_id for clip in clips] == [f"song.mp3#{i}" for i in range(4)]
    assert {clip.group for clip in clips} == {"song.mp3"}
