"""Read the description in a prepared set's folder without trusting it.

TFDS imports the classes that a set's ``features.json`` names, and derives the names of the record
files from ``dataset_info.json``. So before TFDS sees them, both must be what this project writes:
opening a set can neither run code nor lead to files elsewhere.
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn, TypeVar

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from google.protobuf import json_format
from google.protobuf.message import Message
from tensorflow_datasets.core import naming
from tensorflow_datasets.core.proto import dataset_info_pb2, feature_pb2

from crnn_jax.config import MelConfig
from crnn_jax.data.collection import SPLITS, UNHEARD
from crnn_jax.errors import UserError
from crnn_jax.serialization import from_mapping

# File names of TFDS.
DESCRIPTION = "dataset_info.json"
METADATA = "metadata.json"
FEATURES = "features.json"
# File names of this project.
REJECTED = "rejected.csv"
FILE_FORMAT = "array_record"
# The fields that TFDS writes for our sets. Some of the others that it reads lead to code.
INFO_FIELDS = frozenset(
    {
        *("name", "config_name", "version", "description", "module_name"),
        *("file_format", "disable_shuffling", "splits"),
    }
)
SPLIT_FIELDS = frozenset({"name", "shard_lengths", "num_bytes", "filepath_template"})

MessageT = TypeVar("MessageT", bound=Message)


def features(mel: MelConfig, n_tags: int) -> tfds.features.FeaturesDict:
    """Return the features that are stored for each clip.

    float16 stores a log-mel in dB to within 0.03 dB, at half the size.
    """
    shape = (mel.n_mels, mel.frames)
    return tfds.features.FeaturesDict(
        {
            "log_mel": tfds.features.Tensor(shape=shape, dtype=np.float16, encoding="bytes"),
            "tags": tfds.features.Tensor(shape=(n_tags,), dtype=np.uint8, encoding="bytes"),
            "track_id": tfds.features.Text(),
        }
    )


def is_whole(folder: epath.Path) -> bool:
    """Return whether a folder holds a finished set: its description is written last."""
    return (folder / DESCRIPTION).exists()


def read_description(folder: epath.Path) -> dict[str, Any]:
    """Read the fields of a `crnn_jax.data.prepared.PreparedSet`, except its path.

    Raises
    ------
    UserError
        If a file of the folder is missing, incomplete, or not as this project writes it.
    """
    info = _read_message(folder / DESCRIPTION, dataset_info_pb2.DatasetInfo())
    _check_info(folder / DESCRIPTION, info)
    n_examples = {split.name: sum(split.shard_lengths) for split in info.splits}
    described = _read_metadata(folder / METADATA, n_examples)

    stored = _read_message(folder / FEATURES, feature_pb2.Feature())
    try:
        expected = features(described["mel"], len(described["tag_names"])).to_proto()
    except (ValueError, OverflowError):
        _refuse(folder / METADATA, "`mel` does not describe a log-mel")
    if stored != expected:
        _refuse(folder / FEATURES, "not the log-mels, tags and ids that this project stores")

    there = {path.name for path in folder.iterdir()}
    for name in (*_record_files(info, folder), REJECTED):
        if name not in there:
            _refuse(folder / name, "missing")
    return {"name": f"{info.name}/{info.config_name}", "n_examples": n_examples, **described}


def _refuse(path: epath.Path, what: str) -> NoReturn:
    raise UserError(
        f"{path}: {what}; give a set that this project prepared, or delete its folder and "
        f"prepare it again"
    )


def _read_text(path: epath.Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        _refuse(path, "missing")
    except (UnicodeDecodeError, IsADirectoryError):
        _refuse(path, "not a text file")


def _read_message(path: epath.Path, message: MessageT) -> MessageT:
    try:
        return json_format.Parse(_read_text(path), message)
    except (json_format.ParseError, RecursionError):
        _refuse(path, "incomplete, or not as this project writes it")


def _check_info(path: epath.Path, info: dataset_info_pb2.DatasetInfo) -> None:
    """Refuse a description that leads to code, to files elsewhere, or to no examples."""
    fields = {field.name for field, _ in info.ListFields()}
    if unknown := sorted(fields - INFO_FIELDS):
        _refuse(path, f"has unknown fields ({', '.join(unknown)})")
    if not re.fullmatch(r"[a-z]\w*", info.name, re.ASCII) or not info.config_name:
        _refuse(path, "has no valid name")
    if not re.fullmatch(r"\d+\.\d+\.\d+", info.version, re.ASCII):
        _refuse(path, "has no valid version")
    if info.file_format != FILE_FORMAT:
        _refuse(path, f"its records are not in the format {FILE_FORMAT}")
    names = tuple(split.name for split in info.splits)
    if names not in (SPLITS, (*SPLITS, UNHEARD)):
        _refuse(path, f"does not have the splits {', '.join(SPLITS)}")
    for split in info.splits:
        fields = {field.name for field, _ in split.ListFields()}
        if fields - SPLIT_FIELDS or split.filepath_template != naming.DEFAULT_FILENAME_TEMPLATE:
            _refuse(path, f"its {split.name} split has unexpected files")
        if not split.shard_lengths or min(split.shard_lengths) < 1:
            _refuse(path, f"its {split.name} split has no examples")


def _record_files(info: dataset_info_pb2.DatasetInfo, folder: epath.Path) -> list[str]:
    names = []
    for split in info.splits:
        template = naming.ShardedFileTemplate(
            data_dir=folder,
            dataset_name=info.name,
            split=split.name,
            filetype_suffix=info.file_format,
        )
        names += template.sharded_filenames(len(split.shard_lengths))
    return names


def _read_metadata(path: epath.Path, n_examples: Mapping[str, int]) -> dict[str, Any]:
    try:
        metadata = json.loads(_read_text(path))
    except (ValueError, RecursionError):
        _refuse(path, "incomplete")
    if not isinstance(metadata, dict):
        _refuse(path, "does not describe a set with log-mels and tags")

    names = _list_of(str, metadata.get("tag_names"))
    if not names:
        _refuse(path, "`tag_names` is not a list of names")
    categories = _list_of(str, metadata.get("tag_categories"))
    if len(categories) != len(names):
        _refuse(path, "`tag_categories` does not match the tags")
    counts = metadata.get("tag_counts")
    if not isinstance(counts, dict) or counts.keys() != n_examples.keys():
        _refuse(path, "`tag_counts` does not match the splits")
    for split in counts:
        of_split = _list_of(int, counts[split])
        if (
            len(of_split) != len(names)
            or not 0 <= min(of_split) <= max(of_split) <= n_examples[split]
        ):
            _refuse(path, f"`tag_counts` of {split} does not match the tags")
    n_rejected = metadata.get("n_rejected")
    if type(n_rejected) is not int or n_rejected < 0:
        _refuse(path, "`n_rejected` is not a number of files")
    digest = metadata.get("tracks_digest")
    if not isinstance(digest, str | None):
        _refuse(path, "`tracks_digest` is not a string")
    return {
        "tag_names": tuple(names),
        "tag_categories": tuple(categories),
        "mel": _mel_of(path, metadata.get("mel")),
        "tag_counts": {split: tuple(of_split) for split, of_split in counts.items()},
        "n_rejected": n_rejected,
        "tracks_digest": digest,
    }


def _list_of(kind: type, values: Any) -> list[Any]:
    """Return the values if all are of a type, otherwise an empty list."""
    fits = isinstance(values, list) and all(type(value) is kind for value in values)
    return values if fits else []


def _mel_of(path: epath.Path, values: Any) -> MelConfig:
    kinds = {field.name: field.type for field in dataclasses.fields(MelConfig)}
    if (
        not isinstance(values, dict)
        or values.keys() != kinds.keys()
        # JSON need not distinguish 4 from 4.0.
        or not all(type(value) in (int, kinds[name]) for name, value in values.items())
    ):
        _refuse(path, "`mel` does not describe a log-mel")
    try:
        return from_mapping(MelConfig, values)
    except UserError:
        _refuse(path, "`mel` does not describe a log-mel")
