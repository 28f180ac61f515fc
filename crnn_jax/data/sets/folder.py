"""The user's own music: a CSV next to audio files, or a tree of folders named after tags."""

import csv
import dataclasses
import hashlib
import io
import os
import posixpath
from collections.abc import Callable, Hashable
from pathlib import Path

import numpy as np
from etils import epath
from jaxtyping import Float

from crnn_jax.audio.decode import read_clip
from crnn_jax.audio.files import is_utf8
from crnn_jax.config import DataConfig
from crnn_jax.data.builder import RecordsBuilder
from crnn_jax.data.collection import SPLITS, Collection, Track, cut
from crnn_jax.errors import UserError
from crnn_jax.locks import on_disk

# Percentages of the splits if the CSV has none: train, valid, test.
HASHED_SHARES = (80, 10, 10)
AUDIO_SUFFIXES = frozenset(
    {".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au"}
)
# Bytes compared first in files of the same name and size: they differ for different music.
BEGINNING = 2**16
BLOCK = 2**20


class Folder(RecordsBuilder):
    """The user's own collection, given as ``--manual-dir``.

    Either a CSV file, or a folder with one, with the columns ``path`` (relative to the CSV's
    folder), ``tags`` (separated by ``|``) and optionally ``split`` (train, valid, test), ``track``
    (clips of one track go into the same split) and further columns, which are ignored. Or a tree
    ``tag/file``: a file that is in several tags' folders, with the same name and the same content,
    has all of these tags. Files that share only the name are different clips.

    Without a ``split`` column, a track's split comes from a hash of its name (in a tree: of the
    file's name without its folder), so it stays the same when files are added. A tag may name its
    category (``mood/happy``) for the per-tag figure. ``--clips-per-track`` cuts several clips out
    of each file, all on one side of the split.
    """

    name = "folder"

    @classmethod
    def collection(cls, config: DataConfig) -> Collection:
        if config.manual_dir is None:
            raise UserError("folder: --manual-dir is missing; give your collection's folder or CSV")
        root = epath.Path(config.manual_dir)
        if not root.exists():
            raise UserError("no such file or folder", field="manual_dir", value=root)
        _check_name(root.resolve())
        table = _find_csv(root)
        rows = _rows_of_tree(root) if table is None else _rows_of_csv(table)

        names = sorted({tag for row in rows for tag in row.tags})
        if not names:
            raise UserError(f"{table}: no row has a tag; fill in the column `tags`")
        columns = {tag: column for column, tag in enumerate(names)}
        splits: dict[str, list[Track]] = {split: [] for split in SPLITS}
        for row in rows:
            tags = tuple(sorted(columns[tag] for tag in row.tags))
            track = Track(row.path, os.fspath(row.file), tags, group=row.track)
            splits[row.split] += cut(track, config.clips_per_track)
        for split, tracks in splits.items():
            if not tracks:
                raise UserError(
                    f"{table or root}: the {split} split is empty; add files, or a `split` column "
                    f"with all of {', '.join(SPLITS)}"
                )
        categories = tuple(tag.split("/")[0] if "/" in tag else "tag" for tag in names)
        return Collection(tuple(names), categories, splits)

    @classmethod
    def variant(cls, config: DataConfig, collection: Collection) -> str:
        assert config.manual_dir is not None
        # A changed collection is a different set: results must not mix the two.
        content = [
            (split, track.track_id, [collection.tag_names[tag] for tag in track.tags])
            for split, tracks in collection.splits.items()
            for track in tracks
        ]
        digest = hashlib.sha256(repr(content).encode()).hexdigest()[:8]
        return f"{epath.Path(config.manual_dir).resolve().stem}-{digest}"

    @staticmethod
    def read_track(config: DataConfig, track: Track) -> Float[np.ndarray, "samples"]:
        return read_clip(track.source, config.mel, track.position)


@dataclasses.dataclass(frozen=True)
class _Row:
    """An audio file: its path in the collection, its tags, its split, and the track it is of."""

    path: str
    file: epath.Path
    tags: frozenset[str]
    split: str
    track: str = ""


def _find_csv(root: epath.Path) -> epath.Path | None:
    """Return the collection's CSV, or None for a tree."""
    if root.is_file():
        return root
    tables = sorted(path for path in root.iterdir() if path.suffix == ".csv" and path.is_file())
    if len(tables) > 1:
        names = ", ".join(path.name for path in tables)
        raise UserError(
            f"several CSV files ({names}); give the path of one", field="manual_dir", value=root
        )
    return tables[0] if tables else None


def _rows_of_csv(table: epath.Path) -> list[_Row]:
    try:
        reader = csv.DictReader(io.StringIO(table.read_text(encoding="utf-8-sig"), newline=""))
        rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{table}: not a CSV in UTF-8 ({error}); save it as one") from error
    for column in ("path", "tags"):
        if column not in (reader.fieldnames or ()):
            raise UserError(
                f"{table}: no column `{column}` in its first line; "
                f"it must have `path` and `tags`, and may have `split` and `track`"
            )
    if not rows:
        raise UserError(f"{table}: no rows; give a line for each audio file")

    seen: dict[str, int] = {}
    found = []
    for line, row in enumerate(rows, start=2):
        path, tags = row["path"], row["tags"]
        if not path or tags is None:
            raise UserError(f"{table}, row {line}: `path` or `tags` is missing; fill them in")
        # Otherwise a file spelt in two ways could be in both the training and the test split.
        place = posixpath.normpath(path)
        if place in seen:
            raise UserError(f"{table}, row {line}: {path} is in row {seen[place]} already")
        seen[place] = line
        split = row.get("split") or hashed_split(row.get("track") or path)
        if split not in SPLITS:
            raise UserError(
                f"{table}, row {line}: split `{split}` is not one of {', '.join(SPLITS)}"
            )
        names = frozenset(tag.strip() for tag in tags.split("|")) - {""}
        found.append(_Row(path, table.parent / path, names, split, row.get("track") or ""))
    return found


def _rows_of_tree(root: epath.Path) -> list[_Row]:
    files_of: dict[str, list[epath.Path]] = {}
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        _check_name(folder)
        for file in sorted(folder.iterdir()):
            if file.suffix.lower() in AUDIO_SUFFIXES:
                files_of.setdefault(file.name, []).append(file)
    if not files_of:
        raise UserError(
            "neither a CSV file nor audio in folders named after tags; "
            "see the README on bringing your own data",
            field="manual_dir",
            value=root,
        )
    rows = []
    for name, files in sorted(files_of.items()):
        clips = _by_content(files)
        for same in clips:
            path = name if len(clips) == 1 else f"{same[0].parent.name}/{name}"
            tags = frozenset(file.parent.name for file in same)
            # By the name alone, so that adding a file does not move another to a different split.
            track = "" if len(clips) == 1 else name
            rows.append(_Row(path, same[0], tags, hashed_split(name), track))
    return rows


def _check_name(folder: epath.Path) -> None:
    """Refuse a name that is not UTF-8: it cannot name a set or tag, nor can its files be opened."""
    if not is_utf8(os.fspath(folder)):
        raise UserError(f"--manual-dir: {os.fspath(folder)!a} is not a name in UTF-8; rename it")


def _by_content(files: list[epath.Path]) -> list[list[epath.Path]]:
    """Group files with the same bytes, in their order, without reading every file completely."""
    groups = [files]
    # Each looks more closely at the files that the previous one could not distinguish.
    for look in (_size, _beginning, _digest):
        groups = [part for group in groups for part in _divided(group, look)]
    return sorted(groups)


def _divided(
    files: list[epath.Path], look: Callable[[epath.Path], Hashable]
) -> list[list[epath.Path]]:
    if len(files) == 1 or len({_seen(file, _place) for file in files}) == 1:
        return [files]
    parts: dict[Hashable, list[epath.Path]] = {}
    for file in files:
        parts.setdefault(_seen(file, look), []).append(file)
    return list(parts.values())


def _seen(file: epath.Path, look: Callable[[epath.Path], Hashable]) -> Hashable:
    try:
        return look(file)
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        # Unlike any other. It is rejected as a clip, with its reason.
        return file


def _place(file: epath.Path) -> Hashable:
    """Return a value that all links to one file share."""
    if not on_disk(file):
        return file
    status = Path(file).stat()
    return status.st_dev, status.st_ino


def _size(file: epath.Path) -> int:
    # epath's `stat` looks up the owner's name, which may not exist here.
    return Path(file).stat().st_size if on_disk(file) else file.stat().length


def _beginning(file: epath.Path) -> bytes:
    with file.open("rb") as content:
        return content.read(BEGINNING)


def _digest(file: epath.Path) -> bytes:
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while block := content.read(BLOCK):
            digest.update(block)
    return digest.digest()


def hashed_split(track: str) -> str:
    """Return the split of a track, from its name alone."""
    # A file name is hashed as the bytes stored on the disk, in any encoding.
    name = track.encode(errors="surrogateescape")
    percent = int.from_bytes(hashlib.sha256(name).digest()[:8], "big") % 100
    train, valid, _ = HASHED_SHARES
    if percent < train:
        return "train"
    return "valid" if percent < train + valid else "test"


BUILDER = Folder
