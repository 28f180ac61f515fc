"""What the builders share: from a list of tracks to a prepared TFDS data set.

A builder defines the tracks (`RecordsBuilder.collection`) and how one becomes a clip
(`RecordsBuilder.read_track`). The rest is shared and is here. A split is cut into shards of
consecutive tracks; each shard is made by one call of `make_shard`, in a process of its own, and is
either complete on disk or not there. So preparation uses all cores, needs memory for one clip per
process, and loses at most one shard per process when it is interrupted and started again; and the
finished set does not depend on how many processes made it or how often it was interrupted.
"""

import abc
import contextlib
import dataclasses
import hashlib
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from jaxtyping import Float
from tensorflow_datasets.core import dataset_builder

from crnn_jax.audio.files import AudioError
from crnn_jax.config import DataConfig, MelConfig
from crnn_jax.data.collection import TRACKS, Collection, Track, digest_of
from crnn_jax.data.description import (
    DESCRIPTION,
    FILE_FORMAT,
    REJECTED,
    features,
    is_whole,
    read_description,
)
from crnn_jax.data.engines.local import local_engine
from crnn_jax.data.shards import Engine, Rejected, ShardResult, ShardTask, result_path
from crnn_jax.errors import UserError
from crnn_jax.files import put_in_place, write_file
from crnn_jax.locks import lock, on_disk
from crnn_jax.user_text import csv_text

# Tracks per shard. A shard is what an interruption can lose and what a process takes at a time: 256
# clips are 67 MB and about ten seconds of decoding. Small collections are cut into about 32 shards,
# so that all cores have work until the end.
LARGEST_SHARD = 256
SMALLEST_SHARD = 8
SHARDS_OF_A_SMALL_SET = 32
# Subfolder of the staging folder that becomes the set's folder; the shards' results are next to it.
RECORDS = "records"


class _Info(tfds.core.DatasetInfo):
    """TFDS's description of a set, without looking it up in a bucket."""

    def initialize_from_bucket(self) -> None:
        # TFDS's version first makes a temporary folder, and leaves it there.
        pass


class RecordsBuilder(dataset_builder.FileReaderBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Base of the builders.

    A subclass has a docstring that states the source of the set, its licence, its size and the
    expected layout, and a class attribute `name`.

    Parameters
    ----------
    config
        Location of the collection, destination of the prepared set, and its log-mel.
    engine
        Makes the shards; None: processes on this machine.
    report
        Called with the number of tracks done so far and in total, whenever a shard is finished.
    """

    VERSION = tfds.core.Version("1.0.0")
    # Nothing is downloaded. (To look for checksums, TFDS 4.9.10 needs a package that it does not
    # declare: importlib_resources.)
    url_infos = None

    def __init__(
        self,
        config: DataConfig,
        *,
        engine: Engine | None = None,
        report: Callable[[int, int], None] | None = None,
    ):
        self.config = config
        self.engine = engine or local_engine(config.workers)
        self.report = report or (lambda done, total: None)
        self._collection: Collection = self.collection(config)
        self.tracks_digest = digest_of(self._collection)
        variant = self.variant(config, self._collection)
        super().__init__(
            data_dir=config.data_dir,
            config=tfds.core.BuilderConfig(
                name=variant + _mel_suffix(config.mel), version=self.VERSION
            ),
            file_format=FILE_FORMAT,
        )

    def _build_data_dir(self, given_data_dir: str | None) -> tuple[str, str]:
        # Right after this, TFDS reads the folder.
        root, folder = super()._build_data_dir(given_data_dir)
        if is_whole(epath.Path(folder)):
            read_description(epath.Path(folder))
        return root, folder

    @classmethod
    @abc.abstractmethod
    def collection(cls, config: DataConfig) -> Collection:
        """Return tags and tracks, from the metadata alone.

        Raises
        ------
        UserError
            If a file of the expected layout is missing or invalid.
        """

    @classmethod
    @abc.abstractmethod
    def variant(cls, config: DataConfig, collection: Collection) -> str:
        """Return the folder name of this variant of the set; no two variants may share one."""

    @staticmethod
    @abc.abstractmethod
    def read_track(config: DataConfig, track: Track) -> Float[np.ndarray, "samples"]:
        """Read the clip of one track.

        Raises
        ------
        crnn_jax.audio.files.AudioError
            If it cannot be used.
        """

    def check_audio(self) -> None:
        """Raise a UserError if no audio is where it should be; called before the first shard."""

    def _metadata(self) -> dict[str, Any]:
        """Return what is stored about the set, besides what the shards say."""
        return {
            "tag_names": self._collection.tag_names,
            "tag_categories": self._collection.tag_categories,
            "mel": dataclasses.asdict(self.config.mel),
            "tracks_digest": self.tracks_digest,
        }

    def _info(self) -> tfds.core.DatasetInfo:
        return _Info(
            builder=self,
            description=self.__doc__,
            features=features(self.config.mel, len(self._collection.tag_names)),
            metadata=tfds.core.MetadataDict(self._metadata()),
            disable_shuffling=True,
        )

    def shard_tasks(self, folder: epath.Path) -> list[ShardTask]:
        """Return the shards to be made in `folder`, in the order of the set."""
        tasks = []
        for split, tracks in self._collection.splits.items():
            length = min(max(len(tracks) // SHARDS_OF_A_SMALL_SET, SMALLEST_SHARD), LARGEST_SHARD)
            for number, start in enumerate(range(0, len(tracks), length)):
                tasks.append(
                    ShardTask(
                        read=_Reader(type(self), self.config),
                        mel=self.config.mel,
                        n_tags=len(self._collection.tag_names),
                        split=split,
                        tracks=tuple(tracks[start : start + length]),
                        path=os.fspath(folder / f"{split}-{number:05d}.array_record"),
                    )
                )
        return tasks

    def download_and_prepare(self, **_: Any) -> None:
        """Make the set, or resume making it.

        This replaces TFDS's method, which starts over after an interruption. Everything is written
        to a subfolder of a staging folder, which is renamed at the end; until then, preparation can
        be resumed from it.

        Raises
        ------
        UserError
            If no audio is where it should be, or too many of the files cannot be used.
        """
        with _alone(self.data_path):
            if not is_whole(self.data_path):
                if self.data_path.exists() and on_disk(self.data_path):
                    raise UserError(f"{self.data_path}: not a complete data set; delete it")
                self._download_and_prepare(None)
            # Left over by an attempt that was killed at the very end.
            if (staging := self._staging_folder()).exists():
                staging.rmtree()

    def _download_and_prepare(self, dl_manager: None, download_config: None = None) -> None:
        self.check_audio()
        records = self._staging_folder() / RECORDS
        records.mkdir(parents=True, exist_ok=True)
        tasks = self.shard_tasks(records)
        results = self._make(tasks)
        self._finish(records, [results[task.path] for task in tasks])
        _move(records, self.data_path)

    def _make(self, tasks: Sequence[ShardTask]) -> dict[str, ShardResult]:
        """Make the missing shards; return the result of every shard by its path."""
        n_tracks = {task.path: len(task.tracks) for task in tasks}
        results: dict[str, ShardResult] = {}
        done = 0
        for result in self.engine(tasks):
            results[result.path] = result
            done += n_tracks[result.path]
            self.report(done, sum(n_tracks.values()))
        return results

    def _finish(self, records: epath.Path, in_order: Sequence[ShardResult]) -> None:
        """Give the shards their final names, and write the set's description next to them."""
        rejected = [row for result in in_order for row in result.rejected]
        write_rejected(records / REJECTED, rejected)
        if (groups := list_groups(self._collection)) is not None:
            (records / TRACKS).write_bytes(groups)
        n_tracks = sum(map(len, self._collection.splits.values()))
        _check_rejected(rejected, n_tracks, self.config, records)

        split_infos, tag_counts = [], {}
        for split in self._collection.splits:
            shards = [r for r in in_order if r.split == split and r.n_examples]
            if not shards:
                raise UserError(
                    f"{self.config.dataset}: all files of the {split} split were rejected; "
                    f"see {records / 'rejected.csv'}"
                )
            template = self._get_filename_template(split)
            for number, shard in enumerate(shards):
                made = epath.Path(shard.path)
                name = template.sharded_filepath(shard_index=number, num_shards=len(shards)).name
                # If missing, it got its final name before an earlier attempt was interrupted.
                if made.exists():
                    made.replace(records / name)
                elif not (records / name).exists():
                    result_path(made).unlink()
                    raise UserError(
                        f"{made}: made before, but missing now; give the same command again to "
                        f"make it again"
                    )
            split_infos.append(
                tfds.core.SplitInfo(
                    name=split,
                    shard_lengths=[shard.n_examples for shard in shards],
                    num_bytes=sum(shard.n_bytes for shard in shards),
                    filename_template=template,
                )
            )
            tag_counts[split] = np.sum([shard.tag_counts for shard in shards], axis=0).tolist()
        for shard in in_order:
            # Only shards whose files were all rejected still have this name.
            epath.Path(shard.path).unlink(missing_ok=True)
        self.info.metadata["tag_counts"] = tag_counts
        self.info.metadata["n_rejected"] = len(rejected)
        self.info.set_splits(tfds.core.splits.SplitDict(split_infos))
        self.info.write_to_directory(records)

    def update_groups(self) -> None:
        """Write ``tracks.csv`` of a set that was made before it had one, or other groups."""
        if not on_disk(self.data_path):
            return
        path = self.data_path / TRACKS
        content = list_groups(self._collection)
        if content is not None and (not path.exists() or path.read_bytes() != content):
            write_file(path, content)

    def _staging_folder(self) -> epath.Path:
        """Return the folder in which the shards of exactly this set are kept until all are made."""
        return self.data_path.with_name(f"{self.data_path.name}.preparing-{self.tracks_digest}")


@dataclasses.dataclass(frozen=True)
class _Reader:
    """`RecordsBuilder.read_track` of a builder's class, in a form that can be sent to a process."""

    builder: type[RecordsBuilder]
    config: DataConfig

    def __call__(self, track: Track) -> Float[np.ndarray, "samples"]:
        try:
            return self.builder.read_track(self.config, track)
        except AudioError as error:
            root = self.config.manual_dir
            if error.reason == "missing" and root is not None and not epath.Path(root).exists():
                raise UserError(
                    "no longer exists, or is not on this machine; mount it and give the same "
                    "command again to resume",
                    field="manual_dir",
                    value=root,
                ) from error
            raise


def lock_of(folder: epath.Path) -> epath.Path:
    """Return the file that is locked by the process that makes a set's folder."""
    return folder.with_name(f".{folder.name}.lock")


@contextlib.contextmanager
def _alone(folder: epath.Path) -> Iterator[None]:
    """Allow one process at a time to make a set's folder; the others wait."""
    path = lock_of(folder)
    with lock(path, wait=False) as held:
        if held:
            yield
            return
    warnings.warn(f"{folder}: another process is preparing this set; waiting for it", stacklevel=2)
    with lock(path, wait=True):
        yield


def _move(records: epath.Path, folder: epath.Path) -> None:
    """Move a finished set into place: atomically on a disk; in a store, its description last."""
    if on_disk(folder):
        put_in_place(records, folder)
        return
    folder.mkdir(parents=True, exist_ok=True)
    for file in sorted(records.iterdir(), key=lambda file: (file.name == DESCRIPTION, file.name)):
        file.replace(folder / file.name)


def _mel_suffix(mel: MelConfig) -> str:
    """Return a suffix that identifies a log-mel other than the paper's."""
    if mel == MelConfig():
        return ""
    # As floats: 4 s and 4.0 s are the same length.
    numbers = [float(value) for value in dataclasses.astuple(mel)]
    digest = hashlib.sha256(repr(numbers).encode()).hexdigest()
    return f"-{mel.clip_seconds:g}s-{digest[:6]}"


def _check_rejected(
    rejected: Sequence[Rejected], n_tracks: int, config: DataConfig, records: epath.Path
) -> None:
    share = len(rejected) / n_tracks
    if share > config.max_rejected:
        raise UserError(
            f"{config.dataset}: {len(rejected)} of {n_tracks} files ({share:.1%}) cannot be used, "
            f"more than --max-rejected {100 * config.max_rejected:g}%; they are listed in "
            f"{records / 'rejected.csv'}. Finished shards are kept: fix the files, or give the "
            f"command again with a higher --max-rejected"
        )


def list_groups(collection: Collection) -> bytes | None:
    """Return ``tracks.csv``: a row per clip, with the group that must be on one side of a split.

    None if every clip is on its own: then there is no such file.
    """
    tracks = [(split, track) for split, of_split in collection.splits.items() for track in of_split]
    if not any(track.group for _, track in tracks):
        return None
    rows = ((split, track.track_id, track.group) for split, track in tracks)
    text = csv_text([("split", "track_id", "group"), *rows])
    return text.encode("utf-8", "backslashreplace")


def write_rejected(path: epath.Path, rejected: Iterable[Rejected]) -> None:
    """Write ``rejected.csv``: one row per file that was left out."""
    columns = [field.name for field in dataclasses.fields(Rejected)]
    text = csv_text([columns, *map(dataclasses.astuple, rejected)])
    # A file's name may be bytes that are not text.
    path.write_bytes(text.encode("utf-8", "backslashreplace"))
