"""The compositions in music21's corpus, from their headers alone, without importing music21.

A composition is a tune of an ABC collection, a movement of a mass, a chorale, a madrigal. Those
that may be the same music under another name are one *work*: movements of one mass, settings of one
chorale tune, versions of one dance in several collections. Works are found by name, and by what
they have in common: passages of some voice that move by the same steps of the scale.
"""

import collections
import dataclasses
import functools
import importlib.util
import itertools
import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from crnn_jax.errors import UserError

# Collections of tunes: the repertoire of each file, by the beginning of its path.
ABC_REPERTOIRES = {
    "oneills1850/": "Irish dances and airs",
    "ryansMammoth/": "American dances",
    "airdsAirs/": "Scottish airs",
    "essenFolksong/han": "Chinese songs",
    "essenFolksong/kinder": "German children's songs",
    "essenFolksong/lot": "songs from Lorraine",
    "essenFolksong/lux": "songs from Luxembourg",
    **{
        f"essenFolksong/{name}": "German songs"
        for name in ("altdeu", "ballad", "boehme", "dva", "erk", "fink", "variant", "zuccal")
    },
}
SCORE_REPERTOIRES = {
    "palestrina/": "masses by Palestrina",
    "bach/bwv": "chorales by Bach",
    "monteverdi/madrigal": "madrigals by Monteverdi",
    "trecento/": "Italian trecento",
}
SCORE_SUFFIXES = (".krn", ".mxl", ".xml")
DANCES = (
    *("reel", "jig", "hornpipe", "strathspey", "march", "waltz", "polka", "quickstep", "clog"),
    *("minuet", "schottische", "galop", "quadrille", "slip jig", "double jig", "air"),
)
MODES = {
    **{"": "major", "maj": "major", "ion": "major", "m": "minor", "min": "minor", "aeo": "minor"},
    **{"dor": "dorian", "mix": "mixolydian", "phr": "phrygian", "lyd": "lydian"},
}
# Passages of this many notes are compared. A passage of fewer different intervals (a scale, a
# repeated note), or one that more compositions have, says nothing.
PASSAGE, FEWEST_INTERVALS, MOST_COMPOSITIONS = 14, 3, 40
# Compositions that share as many passages, or this part of the shorter one's (if it has a few), are
# the same music.
SHARED_PASSAGES, SHARED_PART, FEWEST_PASSAGES = 8, 0.5, 4
# Collections whose encoding does not give the mode: the Essen collection writes every key as the
# major one of its tonic, and the others have what the notation program assumes.
WITHOUT_MODE = ("essenFolksong/", "monteverdi/", "trecento/")
# Parts of a chorale; scores with more have obbligato instruments.
CHORALE_PARTS = (4, 5)
# Names of a movement or a kind of music, which do not make two compositions the same.
GENERIC = re.compile(
    r"(untitled|reel|jig|hornpipe|strathspey|march|waltz|polka|air|minuet|quickstep|clog|"
    r"schottische|galop|slow|a|the|favou?rite|irish|scotch|new|old|\d+|ohne titel|kindertanz)*"
)


@dataclasses.dataclass(frozen=True)
class Composition:
    """A composition.

    Attributes
    ----------
    name
        Its file, relative to the corpus, and for a tune its place in the file.
    work
        Name of the work that it belongs to: that of the work's first composition.
    repertoire
        Which collection or composer it is from.
    dance, metre, mode
        As the header gives them; None if it does not.
    voices
        Number of voices or parts.
    """

    name: str
    work: str
    repertoire: str
    dance: str | None
    metre: str | None
    mode: str | None
    voices: int


@dataclasses.dataclass(frozen=True)
class Header:
    """What is read of a composition before works are known.

    Attributes
    ----------
    composition
        The composition, without its work.
    keys
        Names of what it may be part of.
    passages
        The successive intervals, in steps of the scale, of all its passages: the same in every key.
    """

    composition: Composition
    keys: tuple[str, ...]
    passages: frozenset[bytes] = frozenset()


def corpus_folder() -> Path:
    """Return the folder of music21's corpus.

    Raises
    ------
    UserError
        If music21 is not installed.
    """
    spec = importlib.util.find_spec("music21")
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            "rendered: music21 is not installed; give `pip install 'crnn_jax[rendered]'`"
        )
    return Path(next(iter(spec.submodule_search_locations))) / "corpus"


@functools.lru_cache(maxsize=1)
def list_compositions(folder: Path) -> tuple[Composition, ...]:
    """Return all compositions of a corpus that can be used, sorted by name."""
    headers = sorted(_read_headers(folder), key=lambda header: header.composition.name)
    shared = find_shared([header.passages for header in headers])
    names = [header.composition.name for header in headers]
    works = join_works(
        (name, [*header.keys, *(f"shared {pair}" for pair in shared.get(place, ()))])
        for place, (name, header) in enumerate(zip(names, headers, strict=True))
    )
    return tuple(
        dataclasses.replace(header.composition, work=works[header.composition.name])
        for header in headers
    )


def join_works(compositions: Iterable[tuple[str, Sequence[str]]]) -> dict[str, str]:
    """Return the work of each composition: those that share a key, directly or not, are one.

    >>> join_works([("a", ["x"]), ("b", ["x", "y"]), ("c", ["y"]), ("d", [])])
    {'a': 'a', 'b': 'a', 'c': 'a', 'd': 'd'}
    """
    parent: dict[str, str] = {}

    def find(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    first_with: dict[str, str] = {}
    for name, keys in compositions:
        parent[name] = name
        for key in keys:
            older, newer = sorted((find(first_with.setdefault(key, name)), find(name)))
            parent[newer] = older
    return {name: find(name) for name in parent}


def find_shared(
    passages: Sequence[frozenset[bytes]],
) -> dict[int, list[tuple[int, int]]]:
    """Return the pairs of compositions that are the same music, under both their places."""
    having: dict[bytes, list[int]] = {}
    for place, of_one in enumerate(passages):
        for passage in of_one:
            having.setdefault(passage, []).append(place)
    counts = collections.Counter(
        pair
        for places in having.values()
        if 1 < len(places) <= MOST_COMPOSITIONS
        for pair in itertools.combinations(places, 2)
    )
    found: dict[int, list[tuple[int, int]]] = {}
    for pair, count in counts.items():
        shorter = min(len(passages[place]) for place in pair)
        part = count / shorter if shorter >= FEWEST_PASSAGES else 0.0
        if count >= SHARED_PASSAGES or part >= SHARED_PART:
            for place in pair:
                found.setdefault(place, []).append(pair)
    return found


def list_passages(steps: Sequence[int]) -> frozenset[bytes]:
    """Return the intervals of all passages of a voice, given as steps of the scale."""
    intervals = bytes((after - before) % 256 for before, after in itertools.pairwise(steps))
    length = PASSAGE - 1
    found = {intervals[start : start + length] for start in range(len(intervals) - length + 1)}
    return frozenset(passage for passage in found if len(set(passage)) >= FEWEST_INTERVALS)


def _read_headers(folder: Path) -> Iterator[Header]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".abc" and (repertoire := _match(name, ABC_REPERTOIRES)):
            yield from _tunes(path, name, repertoire)
        elif path.suffix in SCORE_SUFFIXES and (repertoire := _match(name, SCORE_REPERTOIRES)):
            reader = _humdrum if path.suffix == ".krn" else _music_xml
            if (header := reader(path, name, repertoire)) is not None:
                yield header


def _match(name: str, repertoires: dict[str, str]) -> str | None:
    return next((value for start, value in repertoires.items() if name.startswith(start)), None)


def split_tunes(text: str) -> list[str]:
    """Return the tunes of an ABC file, each from its ``X:`` line on."""
    return re.split(r"^(?=X:)", text, flags=re.MULTILINE)[1:]


def read_abc(path: Path) -> str:
    """Read an ABC file; the collections are in Latin-1 or plain ASCII."""
    return path.read_text(encoding="latin-1").replace("\r\n", "\n").replace("\r", "\n")


def _tunes(path: Path, name: str, repertoire: str) -> Iterator[Header]:
    for number, tune in enumerate(split_tunes(read_abc(path))):
        fields: dict[str, list[str]] = {}
        for letter, value in re.findall(r"^([A-Z]):[ \t]*(.*?)[ \t]*$", tune, re.MULTILINE):
            fields.setdefault(letter, []).append(value)
        key = fields.get("K", [""])[0]
        # From the key's line on there are notes.
        body = re.split(r"^K:.*$", tune, maxsplit=1, flags=re.MULTILINE)[-1]
        # Text in quotes, decorations, inline fields and lines of other fields are not notes.
        body = re.sub(
            r'"[^"]*"|![^!\n]*!|\{[^}]*\}|\[[A-Z]:[^\]]*\]|^[A-Za-z]:.*$|%.*$',
            " ",
            body,
            flags=re.M,
        )
        steps = [
            _abc_step(letter, marks) for letter, marks in re.findall(r"([A-Ga-g])([,']*)", body)
        ]
        titles = fields.get("T", [])
        kind = " ".join([*fields.get("R", []), *titles]).lower()
        yield Header(
            Composition(
                name=f"{name}#{number}",
                work="",
                repertoire=repertoire,
                dance=_dance(kind) if not name.startswith("essen") else None,
                metre=_metre(fields.get("M", [""])[0]),
                mode=None if name.startswith(WITHOUT_MODE) else _abc_mode(key),
                voices=1,
            ),
            tuple(f"title {plain}" for title in titles if (plain := _plain_title(title))),
            list_passages(steps),
        )


def _abc_step(letter: str, marks: str) -> int:
    step = "CDEFGAB".index(letter.upper()) + (7 if letter.islower() else 0)
    return step + 7 * (marks.count("'") - marks.count(","))


def _dance(kind: str) -> str | None:
    """Return the dance that a rhythm field or a title names; the more specific names come first."""
    found = [
        dance
        for dance in sorted(DANCES, key=len, reverse=True)
        if re.search(rf"\b{dance}s?\b", kind)
    ]
    if not found:
        return None
    return "jig" if found[0].endswith("jig") else found[0]


def _metre(field: str) -> str | None:
    field = {"C": "4/4", "C|": "2/2"}.get(field, field)
    return field if re.fullmatch(r"\d+/\d+", field) else None


def _abc_mode(key: str) -> str | None:
    match = re.match(r"[A-G][b#]?\s*(maj|min|dor|mix|phr|lyd|aeo|ion|m)?", key, re.IGNORECASE)
    return MODES.get((match[1] or "").lower()) if match else None


def _plain_title(title: str) -> str | None:
    """Return a title without case, articles and punctuation; None if it names nothing."""
    plain = re.sub(r"\(.*?\)|--.*$|,\s*(the|a|an)\b|'s\b", " ", title.lower())
    plain = re.sub(r"[^\w]+", "", re.sub(r"\b(the|a|an|mr|mrs|miss)\b", " ", plain))
    return None if len(plain) < 4 or GENERIC.fullmatch(plain) else plain


def _humdrum(path: Path, name: str, repertoire: str) -> Header | None:
    text = path.read_text(encoding="latin-1")
    voices = text.count("**kern")
    # The few chorales in this format are there as MusicXML, too.
    if not voices or name.startswith("bach/"):
        return None
    mass = re.search(r"^!!!OPR:\s*(.+?)\s*$", text, re.MULTILINE)
    metre = re.search(r"\*M(\d+/\d+)", text)
    mode = re.search(r"\*([A-Ga-g])[-#]?:(\w{3})?", text)
    name_of_mode = None
    if mode:
        name_of_mode = MODES.get(mode[2] or ("" if mode[1].isupper() else "m"))
    return Header(
        Composition(name, "", repertoire, None, metre and metre[1], name_of_mode, voices),
        (f"mass {_plain_title(mass[1])}",) if mass else (),
    )


def _music_xml(path: Path, name: str, repertoire: str) -> Header | None:
    text = read_music_xml(path)
    voices = len(re.findall(r"<score-part\b", text))
    chorale = re.match(r"bach/(bwv\d+(\.\d+)?)", name)
    # A text without parts is an incomplete or a damaged score.
    if not voices or (chorale and voices not in CHORALE_PARTS):
        return None
    metre = re.search(r"<beats>(\d+)</beats>\s*<beat-type>(\d+)</beat-type>", text)
    mode = None if name.startswith(WITHOUT_MODE) else re.search(r"<mode>(\w+)</mode>", text)
    # `bwv248.23-s` and `bwv248.23-2` are one chorale, as are a madrigal and its `_old` version.
    stem = chorale[1] if chorale else path.stem.removesuffix("_old")
    keys = [f"name {stem}"]
    title = re.search(r"<(?:movement-title|work-title)>([^<]+)<", text)
    if title and ".mxl" not in title[1] and (plain := _plain_title(title[1])):
        keys.append(f"title {plain}")
    return Header(
        Composition(
            name,
            "",
            repertoire,
            None,
            f"{metre[1]}/{metre[2]}" if metre else None,
            MODES.get(mode[1].lower()[:3]) if mode else None,
            voices,
        ),
        tuple(keys),
        # The tune may be in any voice.
        frozenset().union(*(list_passages(_steps(part)) for part in text.split("</part>"))),
    )


def _steps(part: str) -> list[int]:
    """Return the notes of a part of a MusicXML score, as steps of the scale."""
    pitches = re.findall(
        r"<step>([A-G])</step>(?:\s*<alter>[^<]*</alter>)?\s*<octave>(\d)</octave>", part
    )
    return ["CDEFGAB".index(step) + 7 * int(octave) for step, octave in pitches]


def read_music_xml(path: Path) -> str:
    """Read the score of a MusicXML file, compressed or not; "" if it is damaged."""
    content = path.read_bytes()
    if path.suffix == ".mxl":
        try:
            with zipfile.ZipFile(path) as archive:
                scores = [
                    entry
                    for entry in archive.namelist()
                    if entry.endswith(".xml") and not entry.startswith("META-INF")
                ]
                content = archive.read(scores[0]) if scores else b""
        except (zipfile.BadZipFile, OSError):
            return ""
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    return content.decode(encoding, errors="replace")
