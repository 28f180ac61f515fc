"""What the headers of real scores say, and which compositions are one work."""

import collections
import re
from pathlib import Path

import pytest

from crnn_jax.data.rendering import corpus as corpus_module
from crnn_jax.data.rendering.corpus import (
    corpus_folder,
    find_shared,
    join_works,
    list_compositions,
    list_passages,
    read_abc,
    split_tunes,
)
from crnn_jax.errors import UserError


def find(corpus, name):
    return next(composition for composition in corpus if composition.name == name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # Read off the scores by eye.
        ("palestrina/Agnus_03.krn", ("masses by Palestrina", None, "4/2", "dorian", 4)),
        ("bach/bwv66.6.mxl", ("chorales by Bach", None, "4/4", "minor", 4)),
        ("ryansMammoth/AcaciaReel.abc#0", ("American dances", "reel", "2/4", "major", 1)),
        ("oneills1850/0001-0050.abc#0", ("Irish dances and airs", None, "2/4", "minor", 1)),
        ("essenFolksong/han1.abc#0", ("Chinese songs", None, "2/4", None, 1)),
    ],
)
def test_headers_of_known_scores(corpus, name, expected):
    found = find(corpus, name)
    read = (found.repertoire, found.dance, found.metre, found.mode, found.voices)
    if name.startswith("ryansMammoth"):
        # Its header says C or 2/4 depending on the edition: only that there is one.
        assert read[2] in ("2/4", "4/4", "2/2")
        read = (*read[:2], expected[2], *read[3:])
    assert read == expected


def test_headers_agree_with_music21(corpus):
    """A few scores of each kind, read in full by music21."""
    music21 = pytest.importorskip("music21")
    for name in ("bach/bwv66.6.mxl", "palestrina/Agnus_03.krn", "monteverdi/madrigal.3.2.mxl"):
        score = music21.converter.parse(corpus_folder() / name, forceSource=True)
        found = find(corpus, name)
        assert found.voices == len(score.parts)
        first = score.parts[0].flatten().getElementsByClass("TimeSignature")[0]
        assert found.metre == first.ratioString


def test_every_tune_of_a_collection_is_listed(corpus):
    path = corpus_folder() / "airdsAirs" / "book1.abc"
    n_tunes = len(re.findall(r"^X:", read_abc(path), re.MULTILINE))
    assert n_tunes == len(split_tunes(read_abc(path)))
    listed = [c for c in corpus if c.name.startswith("airdsAirs/book1.abc#")]
    assert len(listed) == n_tunes > 150


def test_movements_of_a_mass_are_one_work(corpus):
    works = collections.defaultdict(set)
    for path in (corpus_folder() / "palestrina").glob("*.krn"):
        mass = re.search(r"^!!!OPR:\s*(.+?)\s*$", path.read_text(encoding="latin-1"), re.MULTILINE)
        works[mass[1]].add(find(corpus, f"palestrina/{path.name}").work)
    assert len(works) > 80
    assert all(len(of_mass) == 1 for of_mass in works.values())


@pytest.mark.parametrize(
    "names",
    [
        # Two versions of a movement, which is in another work, too.
        ("bach/bwv248.35-3.mxl", "bach/bwv248.35-3c.mxl", "bach/bwv110.7.mxl"),
        # Settings of one chorale tune.
        ("bach/bwv117.4.mxl", "bach/bwv9.7.mxl", "bach/bwv155.5.mxl"),
        ("bach/bwv248.5.mxl", "bach/bwv270.mxl", "bach/bwv244.62.mxl"),
        # One tune under two titles, or with another upbeat.
        ("airdsAirs/book4.abc#77", "airdsAirs/book6.abc#82"),
        ("essenFolksong/erk10.abc#394", "essenFolksong/erk10.abc#395"),
        ("oneills1850/1276-1375.abc#71", "ryansMammoth/MaggiePickingCockelsReel.abc#0"),
        ("essenFolksong/kinder0.abc#149", "essenFolksong/lux.abc#505"),
    ],
)
def test_the_same_music_is_one_work(corpus, names):
    assert len({find(corpus, name).work for name in names}) == 1


@pytest.mark.parametrize("name", ["bach/bwv846.mxl", "bach/bwv190.7-inst.mxl", "bach/bwv281.krn"])
def test_what_is_no_chorale_in_four_parts_is_left_out(corpus, name):
    assert (corpus_folder() / name).exists()
    assert not [composition for composition in corpus if composition.name == name]


def test_the_mode_is_only_tagged_where_the_encoding_has_it(corpus):
    for composition in corpus:
        if composition.name.startswith(("essenFolksong", "monteverdi", "trecento")):
            assert composition.mode is None


def test_passages_are_the_same_in_every_key_and_place():
    tune = [0, 2, 4, 3, 1, 5, 4, 2, 0, 1, 3, 6, 5, 4, 2, 0]
    higher = [9, 8, 12, *(step + 5 for step in tune), 7, 6]
    assert list_passages(tune) < list_passages(higher)
    assert len(list_passages(tune)) == len(tune) - 13
    # A scale is no tune, nor is a repeated note.
    assert not list_passages(range(30))
    assert not list_passages([4] * 30)


def test_what_is_shared_makes_pairs():
    passages = [frozenset(f"{i}{j}".encode() for j in range(10)) for i in range(3)]
    assert find_shared(passages) == {}
    half = frozenset([*list(passages[0])[:5], b"x", b"y", b"z"])
    assert find_shared([*passages, half]) == {0: [(0, 3)], 3: [(0, 3)]}


def test_the_same_title_is_one_work(corpus):
    """Tunes with the same title in two collections are on the same side, whatever their notes."""
    works = collections.defaultdict(set)
    for composition in corpus:
        if composition.name.startswith(("oneills1850", "ryansMammoth")):
            file, _, number = composition.name.partition("#")
            tune = split_tunes(read_abc(corpus_folder() / file))[int(number)]
            title = re.search(r"^T:\s*(.+?)\s*$", tune, re.MULTILINE)
            if title and len(title[1]) > 12:
                works[title[1].lower()].add(composition.work)
    repeated = {title: of_title for title, of_title in works.items() if len(of_title) > 1}
    assert not repeated


def test_no_work_swallows_the_corpus(corpus):
    sizes = collections.Counter(composition.work for composition in corpus)
    assert max(sizes.values()) < 0.02 * len(corpus)
    assert len(sizes) > 9_000


def test_works_are_joined_through_others():
    works = join_works([("d", ["z"]), ("a", ["x"]), ("c", ["y", "z"]), ("b", ["x", "y"])])
    assert works == dict.fromkeys("abcd", "a")


def test_damaged_files_are_passed_over(tmp_path):
    scores = tmp_path / "bach"
    scores.mkdir()
    (scores / "bwv1.mxl").write_bytes(b"PK\x03\x04 no archive")
    (scores / "bwv2.xml").write_text("<score-partwise/>")
    (tmp_path / "airdsAirs").mkdir()
    (tmp_path / "airdsAirs" / "book1.abc").write_text("no tune at all")
    assert list_compositions(tmp_path) == ()


def test_a_missing_corpus_gets_one_line(monkeypatch):
    monkeypatch.setattr(corpus_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"music21 is not installed; give `pip install"):
        corpus_folder()


def test_the_corpus_is_read_without_music21():
    """Its import takes a second, and every command that names the set would pay for it."""
    source = Path(corpus_module.__file__).read_text()
    assert "import music21" not in source
