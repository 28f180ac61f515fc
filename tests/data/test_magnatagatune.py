"""MagnaTagATune: the table of annotations, its top tags, and the split by folder."""

import csv

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from crnn_jax.config import DataConfig
from crnn_jax.data.prepared import prepare
from crnn_jax.data.sets.magnatagatune import (
    CATEGORY_OF_TAG,
    SYNONYMS,
    MagnaTagATune,
    merge_synonyms,
)
from crnn_jax.errors import UserError
from tests.data.conftest import write_tone

TAGS = ["no voice", "beats", "guitar", "beat", "woman", "female vocal", "harpsichord", "weird"]
TAGS += [f"tag {number}" for number in range(180)]


def write_table(folder, rows, tags=TAGS):
    """``annotations_final.csv`` as it is published: tabs, and every field in quotes.

    `rows` are (path, tags that the clip has).
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "annotations_final.csv").open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerow(["clip_id", *tags, "mp3_path"])
        for number, (path, present) in enumerate(rows):
            writer.writerow([2 + number, *(int(tag in present) for tag in tags), path])


PATHS = [f"{letter}/artist-album-01-title-30-59.mp3" for letter in "0123456789abcdef"]


@pytest.fixture
def game(tmp_path):
    """One clip a folder; `beats` and `beat` stand in half of the clips each, `guitar` in more."""
    rows = [
        (path, {("beat", "beats")[number % 2], "woman"} | ({"guitar"} if number > 4 else set()))
        for number, path in enumerate(PATHS)
    ]
    write_table(tmp_path / "mtt", rows)
    return tmp_path / "mtt"


def collect(folder, **values):
    return MagnaTagATune.collection(DataConfig("magnatagatune", manual_dir=str(folder), **values))


def test_split_by_folder(game):
    splits = collect(game).splits
    folders = {split: "".join(t.source[0] for t in tracks) for split, tracks in splits.items()}
    assert folders == {"train": "0123456789ab", "valid": "c", "test": "def"}
    assert [track.track_id for track in splits["valid"]] == ["14"]


def test_top_tags_by_count(game):
    collection = collect(game)
    # 16, 11, 8 and 8 clips; then tags of no clip, in the order of the table.
    assert collection.tag_names[:6] == (
        "woman",
        "guitar",
        "beats",
        "beat",
        "no voice",
        "female vocal",
    )
    assert len(collection.tag_names) == 50
    assert collection.tag_categories[:5] == ("vocal", "instrument", "other", "other", "other")
    track = collection.splits["test"][0]
    assert [collection.tag_names[tag] for tag in track.tags] == ["woman", "guitar", "beats"]


def test_synonyms_count_as_one(game):
    collection = collect(game, merge_synonyms=True)
    assert collection.tag_names[:3] == ("beat", "female", "guitar")
    assert "beats" not in collection.tag_names
    names = {collection.tag_names[tag] for tag in collection.splits["train"][0].tags}
    assert names == {"beat", "female"}


@settings(deadline=None, max_examples=30)
@given(hnp.arrays(np.uint8, (5, 8), elements=st.integers(0, 1)))
def test_merging_is_any_of_the_synonyms(targets):
    names, merged = merge_synonyms(TAGS[:8], targets)
    assert len(set(names)) == len(names) == merged.shape[1]
    columns = dict(zip(TAGS, targets.T, strict=False))
    np.testing.assert_array_equal(
        merged[:, names.index("beat")], columns["beat"] | columns["beats"]
    )
    np.testing.assert_array_equal(
        merged[:, names.index("female")], columns["woman"] | columns["female vocal"]
    )
    np.testing.assert_array_equal(merged[:, names.index("guitar")], columns["guitar"])


def test_no_tag_stands_for_two():
    tags = [tag for synonyms in SYNONYMS for tag in synonyms]
    assert len(set(tags)) == len(tags)
    for synonyms in SYNONYMS:
        categories = {CATEGORY_OF_TAG.get(tag, "other") for tag in synonyms}
        assert len(categories - {"other"}) <= 2


def test_prepared_with_and_without_synonyms(game, short_mel, tmp_path):
    for number, path in enumerate(PATHS):
        # Half of the folders beside the table, half in mp3/.
        write_tone(game / (path if number % 2 else f"mp3/{path}"), 200.0 + 50 * number)
    # As clips 35644, 55753 and 57881 are.
    (game / "mp3" / PATHS[4]).write_bytes(b"")
    config = DataConfig(
        "magnatagatune", str(tmp_path / "data"), str(game), 0.2, workers=1, mel=short_mel
    )
    plain = prepare(config)
    assert plain.n_examples == {"train": 11, "valid": 1, "test": 3}
    assert plain.rejected_by_reason() == {"empty file": 1}
    merged = prepare(DataConfig(**{**vars(config), "merge_synonyms": True}))
    assert merged.path != plain.path
    assert merged.tag_counts["train"][0] == 11


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "annotations_final.csv is not in"),
        ("clip_id,rock,mp3_path\n", "row 1: not the columns"),
        ("clip_id\trock\tmp3_path\n2\t1\n", "row 2: expected 1 values of 0 or 1"),
        ("clip_id\trock\tmp3_path\n2\tx\tf/a.mp3\n", "row 2: expected 1 values of 0 or 1"),
        ("clip_id\trock\tmp3_path\n2\t1\tg/a.mp3\n", "row 2: g/a.mp3 is not in a folder"),
        ("clip_id\trock\tmp3_path\n2\t1\tf/a.mp3\n", "no clip of the train split"),
        ("", "row 1: not the columns"),
        ("clip_id\trock\tmp3_path\n", "annotations_final.csv: no rows"),
    ],
)
def test_a_table_that_cannot_be_used(tmp_path, content, message):
    if content is not None:
        (tmp_path / "annotations_final.csv").write_text(content)
    with pytest.raises(UserError, match=message) as error:
        collect(tmp_path)
    assert "\n" not in str(error.value)


def test_no_audio_at_all(game, tmp_path, short_mel):
    with pytest.raises(UserError, match=f"no audio in {game}: {PATHS[0]} or mp3/{PATHS[0]}"):
        prepare(DataConfig("magnatagatune", str(tmp_path / "data"), str(game), mel=short_mel))
