"""MagnaTagATune: clips of Magnatune's music, tagged by players of a game."""

import re
from collections.abc import Sequence

import numpy as np
from etils import epath
from jaxtyping import UInt8

from crnn_jax.config import DataConfig
from crnn_jax.data.collection import Collection, Track
from crnn_jax.data.published import PublishedCollection, find_folder, read_rows
from crnn_jax.errors import UserError

TABLE = "annotations_final.csv"
N_TAGS = 50
# The usual split, by the first character of the path: 12 folders, 1, and 3.
SPLIT_OF_FOLDER = (
    dict.fromkeys("0123456789ab", "train") | {"c": "valid"} | dict.fromkeys("def", "test")
)

# K. Choi's list, https://github.com/keunwoochoi/magnatagatune-list: the first tag of each line
# replaces the others. ("female vocal" is missing in its first version, but not in use.)
SYNONYMS = (
    ("beat", "beats"),
    ("chant", "chanting"),
    ("choir", "choral"),
    ("classical", "clasical", "classic"),
    ("drum", "drums"),
    ("electro", "electronic", "electronica", "electric"),
    ("fast", "fast beat", "quick"),
    (
        *("female", "female singer", "female singing", "female vocals", "female vocal"),
        *("female voice", "woman", "woman singing", "women"),
    ),
    ("flute", "flutes"),
    ("guitar", "guitars"),
    ("hard", "hard rock"),
    ("harpsichord", "harpsicord"),
    ("heavy", "heavy metal", "metal"),
    ("horn", "horns"),
    ("india", "indian"),
    ("jazz", "jazzy"),
    (
        *("male", "male singer", "male vocal", "male vocals", "male voice"),
        *("man", "man singing", "men"),
    ),
    ("no beat", "no drums"),
    (
        *("no singer", "no singing", "no vocal", "no vocals", "no voice", "no voices"),
        "instrumental",
    ),
    ("opera", "operatic"),
    ("orchestra", "orchestral"),
    ("quiet", "silence"),
    ("singer", "singing"),
    ("space", "spacey"),
    ("string", "strings"),
    ("synth", "synthesizer"),
    ("violin", "violins"),
    ("vocal", "vocals", "voice", "voices"),
    ("strange", "weird"),
)

# Categories of the tags; tags about tempo, loudness and the like, or about an absence, are "other".
TAGS_OF_CATEGORY = {
    "genre": """
        ambient|arabic|baroque|blues|celtic|clasical|classic|classical|country|dance|disco|eastern|
        electro|electronic|electronica|folk|funk|funky|hard rock|heavy metal|hip hop|house|india|
        indian|industrial|irish|jazz|jazzy|jungle|medieval|metal|middle eastern|modern|new age|
        opera|operatic|oriental|pop|punk|rap|reggae|rock|soft rock|spanish|techno|trance|tribal|
        world
    """,
    "mood": """
        airy|calm|dark|deep|eerie|happy|hard|heavy|light|mellow|sad|scary|soft|space|spacey|strange|
        upbeat|weird
    """,
    "instrument": """
        acoustic|acoustic guitar|banjo|bass|bells|bongos|cello|chimes|clarinet|classical guitar|
        drum|drums|electric|electric guitar|fiddle|flute|flutes|guitar|guitars|harp|harpsichord|
        harpsicord|horn|horns|instrumental|keyboard|lute|oboe|orchestra|orchestral|organ|percussion|
        piano|piano solo|plucking|sax|sitar|string|strings|synth|synthesizer|trumpet|viola|violin|
        violins|wind|woodwind
    """,
    "vocal": """
        chant|chanting|choir|choral|chorus|duet|english|female|female opera|female singer|
        female singing|female vocal|female vocals|female voice|foreign|girl|male|male opera|
        male singer|male vocal|male vocals|male voice|man|man singing|men|monks|singer|singing|
        soprano|talking|vocal|vocals|voice|voices|woman|woman singing|women
    """,
}
CATEGORY_OF_TAG = {
    tag.strip(): category for category, tags in TAGS_OF_CATEGORY.items() for tag in tags.split("|")
}


class MagnaTagATune(PublishedCollection):
    """MagnaTagATune: 25,863 clips of 29 s, with tags that players of the game TagATune agreed on.

    E. Law, K. West, M. Mandel, M. Bay, J. S. Downie, "Evaluation of algorithms using games: the
    case of music tagging" (ISMIR 2009). From the Music Informatics Research Group of City,
    University of London, http://mirg.city.ac.uk/codeapps/the-magnatagatune-dataset: three parts of
    a ZIP file, 3 GB, mono MP3 at 16 kHz and 32 kbit/s. CC BY-NC-SA 3.0.

    The 50 most frequent of 188 tags are used, with ties in the table's order; with
    ``--merge-synonyms`` they are counted after synonymous tags are merged. The split is by folder:
    0 to b for training, c for validation, d to f for test. All clips are kept, including those that
    have none of the 50 tags (some authors leave these out). Clips 35644, 55753 and 57881 are empty
    files and are rejected.

    ``--manual-dir`` is the folder with ``annotations_final.csv`` and the folders ``0`` to ``f``;
    the latter may also be in a folder ``mp3``.
    """

    name = "magnatagatune"

    @classmethod
    def collection(cls, config: DataConfig) -> Collection:
        path = find_folder(config, ("",), TABLE) / TABLE
        clip_ids, names, targets, audio = read_table(path)
        if config.merge_synonyms:
            names, targets = merge_synonyms(names, targets)
        # Stable, so that ties keep the table's order.
        chosen = np.argsort(-targets.sum(axis=0, dtype=int), kind="stable")[:N_TAGS]
        targets = targets[:, chosen]
        tag_names = tuple(names[column] for column in chosen)

        splits: dict[str, list[Track]] = {"train": [], "valid": [], "test": []}
        for clip_id, source, row in zip(clip_ids, audio, targets, strict=True):
            split = SPLIT_OF_FOLDER[source[0]]
            # The clips of a song are named after it and their place in it, `song-30-59.mp3`.
            song = re.sub(r"-\d+-\d+\.mp3$", "", source)
            tags = tuple(np.flatnonzero(row).tolist())
            splits[split].append(Track(clip_id, source, tags, group=song))
        for split, tracks in splits.items():
            if not tracks:
                raise UserError(f"{path}: no clip of the {split} split; download it again")
        categories = tuple(CATEGORY_OF_TAG.get(tag, "other") for tag in tag_names)
        return Collection(tag_names, categories, splits)

    @classmethod
    def variant(cls, config: DataConfig, collection: Collection) -> str:
        return f"top{N_TAGS}tags-merged" if config.merge_synonyms else f"top{N_TAGS}tags"

    @staticmethod
    def audio_names(source: str) -> tuple[str, str]:
        return (source, f"mp3/{source}")


def read_table(
    path: epath.Path,
) -> tuple[list[str], list[str], UInt8[np.ndarray, "clips tags"], list[str]]:
    """Read clip ids, tag names, tags and audio paths from ``annotations_final.csv``.

    Raises
    ------
    UserError
        If the file is missing or not as published.
    """
    rows = read_rows(path)
    header = next(rows, [])
    if len(header) < 3 or header[0] != "clip_id" or header[-1] != "mp3_path":
        raise UserError(
            f"{path}, row 1: not the columns clip_id, the tags, mp3_path, separated by tabs; "
            f"download it again"
        )
    clip_ids, targets, audio = [], [], []
    for line, row in enumerate(rows, start=2):
        values = row[1:-1]
        if len(row) != len(header) or not set(values) <= {"0", "1"}:
            raise UserError(
                f"{path}, row {line}: expected {len(header) - 2} values of 0 or 1; "
                f"download it again"
            )
        if row[-1][:1] not in SPLIT_OF_FOLDER:
            raise UserError(
                f"{path}, row {line}: {row[-1]} is not in a folder 0 to f; download it again"
            )
        clip_ids.append(row[0])
        # Converted to save memory: the strings of all rows are 300 MB.
        targets.append(np.array(values) == "1")
        audio.append(row[-1])
    if not clip_ids:
        raise UserError(f"{path}: no rows; download it again")
    return clip_ids, header[1:-1], np.array(targets, np.uint8), audio


def merge_synonyms(
    names: Sequence[str], targets: UInt8[np.ndarray, "clips tags"]
) -> tuple[list[str], UInt8[np.ndarray, "clips merged"]]:
    """Merge `SYNONYMS` into one tag: a clip has it if it has any of them."""
    stands_for = {synonym: tags[0] for tags in SYNONYMS for synonym in tags}
    merged = list(dict.fromkeys(stands_for.get(name, name) for name in names))
    columns = {name: column for column, name in enumerate(merged)}
    result = np.zeros((len(targets), len(merged)), np.uint8)
    for name, values in zip(names, targets.T, strict=True):
        result[:, columns[stands_for.get(name, name)]] |= values
    return merged, result


BUILDER = MagnaTagATune
