"""The whole set, small: what is stored, twice the same, and mistakes."""

import hashlib
import json
from pathlib import Path

import pytest

from crnn_jax.config import DataConfig, MelConfig
from crnn_jax.data.prepared import prepare
from crnn_jax.data.rendering.player import find_font
from crnn_jax.data.sets import rendered as rendered_module
from crnn_jax.errors import UserError

pytestmark = pytest.mark.usefixtures("corpus", "player")


def config(folder, **changes):
    values = {
        **{"dataset": "rendered", "data_dir": str(folder), "n_examples": 150},
        "mel": MelConfig(clip_seconds=3.0),
    }
    return DataConfig(**{**values, **changes})


@pytest.fixture(scope="module")
def rendered(tmp_path_factory, corpus):
    return prepare(config(tmp_path_factory.mktemp("rendered"), workers=2))


def test_the_set_says_what_it_is(rendered):
    # What does not parse is left out, with its reason.
    sizes = {"train": 102, "valid": 12, "test": 18, "unheard": 18}
    assert rendered.n_examples.keys() == sizes.keys()
    assert sum(sizes.values()) - sum(rendered.n_examples.values()) == rendered.n_rejected < 10
    assert len(rendered.tag_names) >= 30
    metadata = json.loads((Path(rendered.path) / "metadata.json").read_text())
    assert metadata["made_with"].keys() == {
        *("music21", "mido", "soxr", "fluidsynth", "abc2midi"),
        *("sound_fonts", "unheard_sound_font"),
    }


def test_the_same_music_is_heard_from_another_font(rendered):
    """Same notes and tags, another sound."""
    test, unheard = (rendered.source(split) for split in ("test", "unheard"))
    pairs = {bytes(unheard[i]["track_id"]): unheard[i] for i in range(len(unheard))}
    compared = 0
    for place in range(len(test)):
        heard = test[place]
        other = pairs.get(bytes(heard["track_id"]))
        if other is not None:
            assert heard["tags"].tolist() == other["tags"].tolist()
            assert heard["log_mel"].tobytes() != other["log_mel"].tobytes()
            compared += 1
    assert compared > 8


def test_groups_are_stored(rendered):
    lines = (Path(rendered.path) / "tracks.csv").read_text().splitlines()
    assert lines[0] == "split,track_id,group"
    assert len(lines) == 151


def test_two_preparations_have_the_same_bytes(rendered, tmp_path):
    again = prepare(config(tmp_path, workers=1))
    digests = [
        {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in Path(data.path).iterdir()
        }
        for data in (rendered, again)
    ]
    assert digests[0] == digests[1]
    assert sum("array_record" in name for name in digests[0]) >= 4


def test_a_link_to_a_font_that_is_heard_is_no_other_font(tmp_path):
    link = tmp_path / "another.sf2"
    link.symlink_to(find_font("FluidR3_GM.sf2", "sound_fonts"))
    with pytest.raises(UserError, match="so it would be heard"):
        prepare(config(tmp_path, unheard_sound_font=str(link)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_examples": 20}, "n_examples 20: too few"),
        ({"sound_fonts": ()}, "sound_fonts: none is given"),
        ({"sound_fonts": ("nothing.sf2",)}, "sound_fonts nothing.sf2: no such sound-font"),
        ({"unheard_sound_font": "FluidR3_GM.sf2"}, "so it would be heard"),
        ({"n_examples": 10**6}, "n_examples 1000000: the corpus gives at most about"),
    ],
)
def test_mistakes_get_one_line(tmp_path, changes, message):
    with pytest.raises(UserError, match=message) as error:
        prepare(config(tmp_path, **changes))
    assert "\n" not in str(error.value)


def test_a_corpus_without_music_gets_one_line(tmp_path, monkeypatch):
    (tmp_path / "corpus").mkdir()
    monkeypatch.setattr(rendered_module, "corpus_folder", lambda: tmp_path / "corpus")
    with pytest.raises(UserError, match=r"no composition in .* can be used; install music21"):
        prepare(config(tmp_path))
