"""MTG-Jamendo: whole songs under Creative Commons licences."""

from etils import epath

from crnn_jax.config import DataConfig
from crnn_jax.data.collection import Collection, Track, cut
from crnn_jax.data.published import PublishedCollection, find_folder, read_rows
from crnn_jax.errors import UserError

# Our splits and subsets → the words in the published files' names.
SPLIT_FILES = {"train": "train", "valid": "validation", "test": "test"}
SUBSET_FILES = {"mood": "moodtheme"}
# Prefixes of tags such as mood/theme---happy.
CATEGORIES = {"genre": "genre", "instrument": "instrument", "mood/theme": "mood"}
COLUMNS = ["TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS"]


class Jamendo(PublishedCollection):
    """MTG-Jamendo: songs that their authors tagged by genre, instrument, and mood or theme.

    D. Bogdanov, M. Won, P. Tovstogan, A. Porter, X. Serra, "The MTG-Jamendo Dataset for Automatic
    Music Tagging" (ICML 2019 workshop on machine learning for music discovery),
    https://github.com/MTG/mtg-jamendo-dataset. The audio is under Creative Commons licences, one
    per track (``audio_licenses.txt``); the metadata is under CC BY-NC-SA 4.0. 55,701 songs: 508 GB
    as published, 156 GB in low quality (``audio-low``). Songs with a tag: 54,380 in the subset of
    the 50 most frequent tags, 55,215 by genre, 25,135 by instrument, 18,486 by mood or theme.

    ``--jamendo-subset`` and ``--jamendo-split`` select the tags and one of the five splits, none of
    which has an artist in two parts. The centre 29.12 s of a song are used, and little more than
    these is decoded.

    ``--manual-dir`` contains the split's files (``autotagging_top50tags-train.tsv``,
    ``-validation``, ``-test``) in ``data/splits/split-0``, as in the published repository, in
    ``split-0``, or at its top level; and the audio as ``audio/15/215.mp3``, ``15/215.mp3``,
    ``audio-low/15/215.low.mp3`` or ``15/215.low.mp3``: the first of these that exists is used.
    """

    name = "jamendo"

    @classmethod
    def collection(cls, config: DataConfig) -> Collection:
        split = f"split-{config.jamendo_split}"
        stem = f"autotagging_{SUBSET_FILES.get(config.jamendo_subset, config.jamendo_subset)}"
        folders = (f"data/splits/{split}", split, "")
        folder = find_folder(config, folders, f"{stem}-train.tsv")
        rows = {
            name: read_split(folder / f"{stem}-{file}.tsv") for name, file in SPLIT_FILES.items()
        }
        names = sorted(
            {tag for split_rows in rows.values() for *_, tags in split_rows for tag in tags}
        )
        columns = {tag: column for column, tag in enumerate(names)}
        splits = {
            name: [
                clip
                for track_id, artist, path, tags in split_rows
                for clip in cut(
                    # As in the published splits, an artist is on one side.
                    Track(track_id, path, tuple(sorted(columns[tag] for tag in tags)), artist),
                    config.clips_per_track,
                )
            ]
            for name, split_rows in rows.items()
        }
        categories = tuple(CATEGORIES[tag.partition("---")[0]] for tag in names)
        return Collection(tuple(names), categories, splits)

    @classmethod
    def variant(cls, config: DataConfig, collection: Collection) -> str:
        each = config.clips_per_track
        clips = "" if each == 1 else f"-{each}-clips-per-track"
        return f"{config.jamendo_subset}-split{config.jamendo_split}{clips}"

    @staticmethod
    def audio_names(source: str) -> tuple[str, ...]:
        low = f"{source.removesuffix('.mp3')}.low.mp3"
        return (f"audio/{source}", source, f"audio-low/{low}", low)


def read_split(path: epath.Path) -> list[tuple[str, str, str, list[str]]]:
    """Read the name, artist, audio path and tags of each track of a split's file.

    Raises
    ------
    UserError
        If the file is missing or not as published.
    """
    rows = read_rows(path)
    header = next(rows, [])
    if header != COLUMNS:
        raise UserError(
            f"{path}, row 1: {' '.join(header)!r} in place of {' '.join(COLUMNS)!r}; "
            f"download it again"
        )
    tracks = []
    for line, row in enumerate(rows, start=2):
        tags = row[len(COLUMNS) - 1 :]
        if not tags or not all(tag.partition("---")[0] in CATEGORIES for tag in tags):
            raise UserError(
                f"{path}, row {line}: a tag is not one of {', '.join(CATEGORIES)} with a name "
                f"(such as genre---rock); download the file again"
            )
        tracks.append((row[0], row[1], row[3], tags))
    if not tracks:
        raise UserError(f"{path}: no rows; download it again")
    return tracks


BUILDER = Jamendo
