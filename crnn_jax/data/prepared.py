"""The data sets: one builder per file, and `BUILDERS`, the registry of their names.

`prepare` makes a set if it does not exist yet; `open_set` opens a prepared one.
"""

import collections
import csv
import dataclasses
import functools
import io
import os
import resource
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from etils import epath
from jaxtyping import Int

from crnn_jax.config import DataConfig, MelConfig
from crnn_jax.data.collection import TRACKS
from crnn_jax.data.records import Records
from crnn_jax.errors import UserError
from crnn_jax.registry import Registry
from crnn_jax.user_text import csv_field

if TYPE_CHECKING:
    from crnn_jax.data.builder import RecordsBuilder
    from crnn_jax.data.shards import Engine

T = TypeVar("T")

BUILDERS: "Registry[type[RecordsBuilder]]" = Registry(
    "data set", field="dataset", package="data.sets", attribute="BUILDER"
)

# Files that a process may have open in addition to the shards: libraries, pipes, a snapshot that is
# being written.
OTHER_FILES = 256


@dataclasses.dataclass(frozen=True)
class PreparedSet:
    """A data set on disk, ready to be read.

    Attributes
    ----------
    path
        Its folder.
    name
        Names of the builder and the variant, such as ``folder/clips-1a2b3c4d``.
    tag_names, tag_categories
        Names and categories of the targets' columns.
    mel
        Front end of the stored log-mels.
    n_examples
        Number of examples in each split.
    tag_counts
        Number of positive examples of each tag in each split.
    n_rejected
        Number of files that could not be used; ``rejected.csv`` in the folder lists them.
    tracks_digest
        Distinguishes sets made from different lists of tracks.
    """

    path: str
    name: str
    tag_names: tuple[str, ...]
    tag_categories: tuple[str, ...]
    mel: MelConfig
    n_examples: dict[str, int]
    tag_counts: dict[str, tuple[int, ...]]
    n_rejected: int
    tracks_digest: str | None

    def source(self, split: str) -> Records:
        """Open a split: ``log_mel`` (mel × frames, float16 dB), ``tags``, ``track_id``.

        Every call returns the same object: a shard's file is opened once, and closed when neither
        this set nor its source is referenced any more.

        Raises
        ------
        UserError
            If there is no such split, the set is not on a local disk (ArrayRecord only reads local
            files), or it has more shards than the process may have open files.
        """
        if split not in self._sources:
            self._sources[split] = self._open(split)
        return self._sources[split]

    @functools.cached_property
    def _sources(self) -> dict[str, Records]:
        return {}

    def keep(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what the first call with this key made, as long as this set is referenced."""
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def release(self) -> None:
        """Forget what `keep` keeps; what is in use stays until it is no longer."""
        self._kept.clear()

    @functools.cached_property
    def _kept(self) -> dict[Hashable, Any]:
        return {}

    def __getstate__(self) -> dict[str, Any]:
        # Another process opens its own sources, and reads its own clips.
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def _open(self, split: str) -> Records:
        import tensorflow_datasets as tfds

        if "://" in self.path:
            raise UserError(
                f"{self.path}: not on a local disk; copy the folder to one and give the copy"
            )
        if split not in self.n_examples:
            raise UserError(f"split `{split}`: {self.path} has {', '.join(self.n_examples)}")
        builder = tfds.builder_from_directory(self.path)
        shards = builder.info.splits[split].file_instructions
        n_shards = len(shards) + sum(len(source.shards) for source in self._sources.values())
        _allow_open_files(n_shards, self.path)
        as_bytes = tfds.core.decode.DeserializeMethod.RAW_BYTES
        return Records(
            builder.as_data_source(split, deserialize_method=as_bytes),
            [os.fspath(shard.filename) for shard in shards],
            [shard.examples_in_shard for shard in shards],
            (self.mel.n_mels, self.mel.frames),
            len(self.tag_names),
        )

    def read_groups(self, split: str) -> Int[np.ndarray, "examples"]:
        """Return a number for each example of a split, the same for those of one group.

        A group is what was kept on one side of the split: a recording, a composition. Its clips
        resemble each other, so that a split has fewer independent examples than clips.
        """
        if split not in self._groups:
            self._groups[split] = self._read_groups(split)
        return self._groups[split]

    # Kept, whatever is released: reading them takes as long as reading all clips.
    @functools.cached_property
    def _groups(self) -> dict[str, Int[np.ndarray, "examples"]]:
        return {}

    def _read_groups(self, split: str) -> Int[np.ndarray, "examples"]:
        if not (epath.Path(self.path) / TRACKS).exists():
            return np.arange(self.n_examples[split])
        source = self.source(split)
        track_ids = [source[place]["track_id"] for place in range(len(source))]
        return np.unique(self.name_groups(track_ids), return_inverse=True)[1]

    def name_groups(self, track_ids: Sequence[bytes]) -> list[str]:
        """Return the name of each example's group; one without a group is one of its own."""
        path = epath.Path(self.path) / TRACKS
        rows = read_columns(path, "track_id", "group") if path.exists() else []
        groups = {row[0]: row[1] for row in rows}
        names = [track_id.decode(errors="backslashreplace") for track_id in track_ids]
        return [groups.get(name) or name for name in names]

    def rejected_by_reason(self) -> dict[str, int]:
        """Count the files that could not be used by reason, the most frequent reason first."""
        rows = read_columns(epath.Path(self.path) / "rejected.csv", "reason")
        return dict(collections.Counter(reason for (reason,) in rows).most_common())


def read_columns(path: epath.Path, *columns: str) -> list[tuple[str, ...]]:
    """Read columns of a CSV file in a set's folder.

    Raises
    ------
    UserError
        If it is not a CSV file, or lacks a column.
    """
    try:
        rows = csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8"), newline=""))
        return [tuple(csv_field(row[column]) for column in columns) for row in rows]
    except (UnicodeDecodeError, csv.Error, KeyError) as error:
        names = " and ".join(f"`{column}`" for column in columns)
        raise UserError(
            f"{path}: not a CSV with the column{'s' * (len(columns) > 1)} {names}; prepare the set "
            f"again"
        ) from error


def _allow_open_files(n_shards: int, path: str) -> None:
    """Allow this process to have all shards of a set open.

    Raises
    ------
    UserError
        If the system's limit for the process is too low.
    """
    needed = n_shards + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise UserError(
            f"{path}: reading its {n_shards} shards takes up to {needed} open files, and this "
            f"process may have {hard}; allow more (`ulimit -n {needed}`)"
        )
    # Not to the hard limit: if that is a billion, programs that loop over all descriptors stall.
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def open_set(path: str | os.PathLike) -> PreparedSet:
    """Open a prepared data set.

    Raises
    ------
    UserError
        If the folder is not a data set that this project prepared.
    """
    from crnn_jax.data.description import is_whole, read_description

    folder = epath.Path(path)
    if not is_whole(folder):
        raise UserError(
            f"neither a prepared set's folder nor one of {', '.join(BUILDERS)}",
            field="dataset",
            value=path,
        )
    return PreparedSet(path=os.fspath(folder), **read_description(folder))


def prepare(
    config: DataConfig,
    *,
    engine: "Engine | None" = None,
    report: "Callable[[int, int], None] | None" = None,
) -> PreparedSet:
    """Open a data set; make it first if it does not exist yet.

    Parameters
    ----------
    config
        The data set, its source and its destination.
    engine
        Makes the shards; None: processes on this machine.
    report
        Called with the number of tracks done so far and in total, whenever a shard is finished.

    Raises
    ------
    UserError
        If the name is unknown, the collection is not as expected, or too many of its files cannot
        be used.
    """
    if config.dataset not in BUILDERS:
        return open_set(config.dataset)
    from crnn_jax.data.description import is_whole

    builder = BUILDERS[config.dataset](config, engine=engine, report=report)
    if not is_whole(builder.data_path):
        builder.download_and_prepare()
    data = open_set(builder.data_path)
    if data.tracks_digest != builder.tracks_digest:
        raise UserError(
            f"{data.path}: made from another list of tracks than the current one; delete it, or "
            f"give another --data-dir"
        )
    builder.update_groups()
    return data
