"""MTG-Jamendo: splits, subsets and tags; whole songs in either quality."""

import numpy as np
import pytest

from crnn_jax.config import DataConfig
from crnn_jax.data.prepared import prepare
from crnn_jax.data.sets.jamendo import Jamendo
from crnn_jax.errors import UserError
from tests.data.conftest import write_tone

HEADER = "TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS\n"
ROWS = {
    "train": [("15/215", "genre---rock", "instrument---piano"), ("16/216", "mood/theme---happy")],
    "validation": [("17/217", "genre---rock")],
    "test": [("18/218", "instrument---piano"), ("19/219", "genre---rock", "mood/theme---happy")],
}


def write_split(folder, subset="top50tags", rows=ROWS):
    """A split's files, as they are published."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, tracks in rows.items():
        text = HEADER
        for path, *tags in tracks:
            track_id = f"track_{int(path.split('/')[1]):07d}"
            columns = [track_id, "artist_000014", "album_000031", f"{path}.mp3", "151.4", *tags]
            text += "\t".join(columns) + "\n"
        (folder / f"autotagging_{subset}-{name}.tsv").write_text(text)


def collect(folder, **values):
    return Jamendo.collection(DataConfig("jamendo", manual_dir=str(folder), **values))


def test_tags_and_categories(tmp_path):
    write_split(tmp_path / "data" / "splits" / "split-0")
    collection = collect(tmp_path)
    assert collection.tag_names == ("genre---rock", "instrument---piano", "mood/theme---happy")
    assert collection.tag_categories == ("genre", "instrument", "mood")
    assert [track.tags for track in collection.splits["train"]] == [(0, 1), (2,)]
    assert [track.track_id for track in collection.splits["valid"]] == ["track_0000217"]


@pytest.mark.parametrize("folder", ["data/splits/split-3", "split-3", ""])
@pytest.mark.parametrize(
    ("subset", "file"), [("genre", "genre"), ("instrument", "instrument"), ("mood", "moodtheme")]
)
def test_subsets_and_splits(tmp_path, folder, subset, file):
    write_split(tmp_path / folder, file)
    collection = collect(tmp_path, jamendo_subset=subset, jamendo_split=3)
    assert {split: len(tracks) for split, tracks in collection.splits.items()} == {
        "train": 2,
        "valid": 1,
        "test": 2,
    }


def test_forms_do_not_share_a_folder(tmp_path):
    write_split(tmp_path)
    collection = collect(tmp_path)
    variants = {
        Jamendo.variant(DataConfig(jamendo_subset=subset, jamendo_split=split), collection)
        for subset in ("top50tags", "genre", "instrument", "mood")
        for split in range(5)
    }
    assert len(variants) == 20


def test_several_clips_of_a_song_are_another_set(tmp_path):
    write_split(tmp_path)
    one, two = (collect(tmp_path, clips_per_track=number) for number in (1, 2))
    for split, tracks in one.splits.items():
        assert [track.track_id for track in two.splits[split]] == [
            f"{track.track_id}#{number}" for track in tracks for number in range(2)
        ]
        # As in the published splits, an artist is on one side of a cross-validation.
        assert {track.group for track in two.splits[split]} == {"artist_000014"}
    names = {
        Jamendo.variant(DataConfig("jamendo", clips_per_track=number), one) for number in (1, 2)
    }
    assert names == {"top50tags-split0", "top50tags-split0-2-clips-per-track"}


def test_the_published_files(real_formats):
    collection = collect(real_formats / "jamendo")
    listed = (real_formats / "jamendo" / "top50.txt").read_text().split()
    # The first 200 rows of each split need not have every tag.
    assert set(collection.tag_names) <= set(listed)
    assert list(collection.tag_names) == [
        tag for tag in sorted(listed) if tag in collection.tag_names
    ]
    assert {split: len(tracks) for split, tracks in collection.splits.items()} == {
        "train": 200,
        "valid": 200,
        "test": 200,
    }
    track = collection.splits["test"][0]
    assert (track.track_id, track.source) == ("track_0000215", "15/215.mp3")
    assert [collection.tag_names[tag] for tag in track.tags] == ["genre---metal"]


def test_the_middle_of_a_song_in_either_quality(tmp_path, short_mel):
    root = tmp_path / "jamendo"
    write_split(root / "data" / "splits" / "split-0")
    for path, frequency in (("audio/15/215", 300), ("16/216", 400), ("audio/19/219", 700)):
        write_tone(root / f"{path}.mp3", frequency)
    for path, frequency in (("audio-low/17/217", 500), ("18/218", 600), ("audio-low/19/219", 0)):
        write_tone(root / f"{path}.low.mp3", frequency)
    # A song of 12 s, whose middle is of another pitch than its ends.
    import soundfile

    time_s = np.arange(12 * 16_000) / 16_000
    pitch = np.where(abs(time_s - 6) < 2, 2000.0, 300.0)
    soundfile.write(
        root / "audio" / "15" / "215.mp3", np.sin(2 * np.pi * pitch * time_s) / 3, 16_000
    )

    data = prepare(DataConfig("jamendo", str(tmp_path / "data"), str(root), 0, 1, mel=short_mel))
    assert data.name.startswith("jamendo/top50tags-split0")
    assert data.n_examples == {"train": 2, "valid": 1, "test": 2}
    assert data.rejected_by_reason() == {}
    song, test = data.source("train")[0]["log_mel"], data.source("test")[1]["log_mel"]
    from librosa import mel_frequencies

    frequencies = mel_frequencies(98, fmin=0, fmax=6000)[1:-1]
    assert np.all(abs(frequencies[song[:, 5:-5].argmax(axis=0)] - 2000) < 100)
    # Both qualities are there: the better one counts.
    assert abs(frequencies[test.mean(axis=1).argmax()] - 700) < 50


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "autotagging_top50tags-train.tsv is not in"),
        ("", "row 1: ''"),
        ("TRACK_ID\tTAGS\n", "row 1: 'TRACK_ID TAGS' in place of"),
        (HEADER, "no rows"),
        (HEADER + "track_1\ta\tb\t1/1.mp3\t3.0\n", "row 2: a tag is not one of"),
        (HEADER + "track_1\ta\tb\t1/1.mp3\t3.0\trock\n", "row 2: a tag is not one of"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, text, message):
    write_split(tmp_path)
    file = tmp_path / "autotagging_top50tags-train.tsv"
    file.unlink() if text is None else file.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        collect(tmp_path)
    assert "\n" not in str(error.value)


def test_another_split_is_not_taken_for_it(tmp_path):
    write_split(tmp_path / "data" / "splits" / "split-0")
    with pytest.raises(UserError, match="not in .*split-2"):
        collect(tmp_path, jamendo_split=2)
