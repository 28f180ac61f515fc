"""What the published collections share: finding their files where users unpacked them."""

import abc
import csv
import io
from collections.abc import Iterator, Sequence

import numpy as np
from etils import epath
from jaxtyping import Float

from crnn_jax.audio.decode import read_clip
from crnn_jax.config import DataConfig
from crnn_jax.data.builder import RecordsBuilder
from crnn_jax.data.collection import Track
from crnn_jax.errors import UserError

# If the folder is the right one, at least one of this many files exists.
LOOKED_FOR = 100


class PublishedCollection(RecordsBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Base of the builders of published collections.

    `Track.source` is the audio's path as in the collection's metadata, relative to
    ``config.manual_dir``.
    """

    @staticmethod
    @abc.abstractmethod
    def audio_names(source: str) -> Sequence[str]:
        """Return where the audio may be, relative to the collection's folder, best place first."""

    @classmethod
    def audio_path(cls, config: DataConfig, track: Track) -> epath.Path:
        """Return the path of a track's audio, or the first candidate if none exists."""
        root = collection_root(config)
        paths = [root / name for name in cls.audio_names(track.source)]
        return next((path for path in paths if path.exists()), paths[0])

    @classmethod
    def read_track(cls, config: DataConfig, track: Track) -> Float[np.ndarray, "samples"]:
        return read_clip(cls.audio_path(config, track), config.mel, track.position)

    def check_audio(self) -> None:
        tracks = [track for split in self._collection.splits.values() for track in split]
        some = tracks[:: max(1, len(tracks) // LOOKED_FOR)]
        if not any(self.audio_path(self.config, track).exists() for track in some):
            names = " or ".join(self.audio_names(some[0].source))
            raise UserError(
                f"{self.config.dataset}: no audio in {collection_root(self.config)}: {names} is "
                f"missing, as are {len(some) - 1} others; give another --manual-dir"
            )


def collection_root(config: DataConfig) -> epath.Path:
    """Return the collection's folder, ``config.manual_dir``.

    Raises
    ------
    UserError
        If none is given.
    """
    if config.manual_dir is None:
        raise UserError(
            f"{config.dataset}: --manual-dir is missing; give the folder of its audio and metadata"
        )
    return epath.Path(config.manual_dir)


def find_folder(config: DataConfig, folders: Sequence[str], file: str) -> epath.Path:
    """Return the first of some folders, relative to the collection's, that contains a file.

    Raises
    ------
    UserError
        If none does; the message names the file and all folders searched.
    """
    root = collection_root(config)
    if not root.is_dir():
        raise UserError("no such folder", field="manual_dir", value=root)
    for folder in folders:
        if (root / folder / file).exists():
            return root / folder
    places = " nor in ".join(str(root / folder) for folder in folders)
    raise UserError(
        f"{config.dataset}: {file} is not in {places}; put the collection's metadata there, or "
        f"give another --manual-dir"
    )


def read_text(path: epath.Path) -> str:
    """Read a metadata file.

    Raises
    ------
    UserError
        If it is missing, or not in UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; put the collection's metadata there") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not text in UTF-8; download it again") from error


def read_rows(path: epath.Path) -> Iterator[list[str]]:
    """Yield the rows of a tab-separated file, including its header.

    Raises
    ------
    UserError
        As for `read_text`, or if it is not a tab-separated file.
    """
    try:
        yield from csv.reader(io.StringIO(read_text(path), newline=""), delimiter="\t")
    except csv.Error as error:
        raise UserError(f"{path}: not a tab-separated file ({error}); download it again") from error
