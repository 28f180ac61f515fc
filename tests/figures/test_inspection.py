"""The page about a prepared set shows its clips, spectra and tags."""

import csv
import dataclasses
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from etils import epath
from hypothesis import given
from hypothesis import strategies as st

from crnn_jax.config import DataConfig, MelConfig
from crnn_jax.data.prepared import prepare
from crnn_jax.figures.inspection import band_percentiles, draw_page, list_tags, spread
from tests.data.conftest import write_tone


@given(st.integers(1, 10_000), st.integers(1, 100))
def test_places_are_spread_evenly(n_examples, wanted):
    places = spread(n_examples, wanted)
    assert len(places) == len(set(places)) == min(n_examples, wanted)
    assert all(0 <= place < n_examples for place in places)
    # As far from the first example to the first place as from the last place to the last.
    assert abs(places[0] - (n_examples - 1 - places[-1])) <= 1
    steps = np.diff(places)
    assert steps.size == 0 or np.ptp(steps) <= 1


def test_tags_by_name():
    assert list_tags(np.array([0, 1, 1], np.uint8), ("rock", "pop", "jazz")) == "pop, jazz"
    assert list_tags(np.zeros(3, np.uint8), ("rock", "pop", "jazz")) == "no tag"


def test_percentiles_are_those_of_the_clips(small_set):
    clips = [example["log_mel"][:, ::8] for example in small_set.source("test")]
    expected = np.percentile(np.concatenate(clips, axis=1).astype(np.float64), [5, 50, 95], axis=1)
    np.testing.assert_allclose(band_percentiles(small_set, "test"), expected, atol=0.05)


def test_the_page(small_set, tmp_path):
    draw_page(small_set, epath.Path(tmp_path / "new" / "page.png"))
    draw_page(small_set, epath.Path(tmp_path / "again.png"))
    assert (tmp_path / "new" / "page.png").read_bytes() == (tmp_path / "again.png").read_bytes()
    page = matplotlib.image.imread(tmp_path / "again.png")
    height, width, _ = page.shape
    assert width == 1300
    # A row of clips for each split: the upper part is coloured, and it is not all of one colour.
    clips = page[int(0.1 * height) : int(0.5 * height), int(0.1 * width) : int(0.9 * width), :3]
    assert (clips.std(axis=(0, 1)) > 0.1).all()


@pytest.mark.parametrize("n_categories", [1, 7, 31])
def test_any_name_is_drawn(small_set, tmp_path, n_categories):
    """Without a warning: they are errors here."""
    odd = ("$\\frac$", "two\nlines", "\x1b[31m", "日本語", "_", "W" * 500, "שלום")
    n_tags = len(small_set.tag_names)
    names = tuple(f"{odd[tag % 7]}{tag}" for tag in range(n_tags))
    categories = tuple(names[tag % n_categories] for tag in range(n_tags))
    data = dataclasses.replace(
        small_set, name="$\\frac$", tag_names=names, tag_categories=categories
    )
    draw_page(data, epath.Path(tmp_path / "page.png"))
    assert matplotlib.image.imread(tmp_path / "page.png").shape[1] == 1300


def test_inspect_prints_the_tags_and_draws_the_page(tmp_path, command):
    music = tmp_path / "music"
    rows = [("path", "tags", "split")]
    for number in range(6):
        write_tone(music / f"{number}.mp3", 300.0 + 100 * number)
        split = ("train", "train", "valid", "valid", "test", "test")[number]
        rows.append((f"{number}.mp3", "mood/calm|loud" if number else "loud", split))
    (music / "empty.mp3").write_bytes(b"")
    rows += [("empty.mp3", "loud", "train"), ("gone.mp3", "loud", "train")]
    rows += [("gone too.mp3", "loud", "test")]
    with (music / "tags.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    config = DataConfig(
        "folder", str(tmp_path / "data"), str(music), 0.5, 1, mel=MelConfig(clip_seconds=3.0)
    )
    data = prepare(config)

    arguments = ["folder", "--data-dir", tmp_path / "data", "--manual-dir", music]
    code, out, _ = command("prepare", *arguments, "--mel.clip-seconds", "3")
    assert code == 0
    assert "3 files could not be used (2 missing, 1 empty file)" in out

    code, out, _ = command("inspect", data.path)
    assert code == 0
    assert "96 × 141 log-mels of 3 s" in out
    table = {
        cells[1].strip(): [cell.strip() for cell in cells[2:-1]]
        for cells in (line.split("│") for line in out.splitlines())
        if len(cells) > 3
    }
    assert table["mood/calm"] == ["mood", "1", "2", "2"]
    assert table["loud"] == ["tag", "2", "2", "2"]
    assert table["clips"] == ["", "2", "2", "2"]
    assert "3 files could not be used (2 missing, 1 empty file)" in out
    assert (Path(data.path) / "inspection.png").exists()
    # The set can still be read with the drawing in its folder.
    assert len(data.source("train")) == 2

    code, out, _ = command("inspect", data.path, "--out", tmp_path / "elsewhere.png")
    assert code == 0
    assert out.splitlines()[-1] == str(tmp_path / "elsewhere.png")
    assert (tmp_path / "elsewhere.png").exists()


def test_mistakes_get_one_line(tmp_path, small_set, command):
    for arguments, names in (
        ((tmp_path / "nothing",), "nothing"),
        ((small_set.path, "--out", tmp_path / "page.pdf"), "page.pdf"),
    ):
        code, _, err = command("inspect", *arguments)
        assert code == 2
        assert names in err
        assert err.count("\n") == 1
