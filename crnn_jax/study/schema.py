"""Content of a run's files: the only definition of ``config.json`` and ``result.json``.

Both are read and written through `RunConfig` and `RunResult`; the columns of the tables derive from
their fields. This module does not import JAX, so that reading results does not need it.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from crnn_jax.config import (
    NUMERICS,
    Architecture,
    MelConfig,
    ModelConfig,
    Rule,
    TrainConfig,
)
from crnn_jax.serialization import from_mapping

EndedBy = Literal["epochs", "patience", "time"]


class Network(NamedTuple):
    """What a learning rate is chosen for: an architecture at a size, on a part of the data."""

    arch: Architecture
    rule: Rule
    target: int
    train_fraction: float | None = None


@dataclasses.dataclass(frozen=True)
class Cell:
    """One network of a study's grid.

    Attributes
    ----------
    arch, target, rule, seed
        The network, and the seed of its training.
    learning_rate, train_fraction, max_train_seconds, fold
        Values of the axes that the grid has; None: as in the study's options.
    """

    arch: Architecture
    target: int
    rule: Rule
    seed: int
    learning_rate: float | None = None
    train_fraction: float | None = None
    max_train_seconds: float | None = None
    fold: int | None = None

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        parts = [f"{self.arch}-{self.target}-{self.rule}-seed{self.seed}"]
        if self.learning_rate is not None:
            parts.append(f"lr{self.learning_rate:.6g}")
        if self.train_fraction is not None:
            parts.append(f"data{self.train_fraction:.6g}")
        if self.max_train_seconds is not None:
            parts.append(f"{self.max_train_seconds:.6g}s")
        if self.fold is not None:
            parts.append(f"fold{self.fold}")
        return "-".join(parts)

    @property
    def network(self) -> Network:
        """What the cell is a seed of."""
        return Network(self.arch, self.rule, self.target, self.train_fraction)

    @property
    def columns(self) -> dict[str, Any]:
        """Values of `CELL_COLUMNS`."""
        return {name: getattr(self, name) for name in CELL_COLUMNS}

    def train_config(self, config: TrainConfig) -> TrainConfig:
        """Return how this cell is trained, given the study's options."""
        axes = ("learning_rate", "train_fraction", "max_train_seconds")
        own = {name: getattr(self, name) for name in axes if getattr(self, name) is not None}
        return dataclasses.replace(config, **own)


@dataclasses.dataclass(frozen=True)
class DataDescription:
    """The data that a run was trained on.

    Attributes
    ----------
    name
        Builder and variant, such as ``folder/clips-1a2b3c4d``.
    path
        The prepared set's folder; None for imported weights.
    tracks_digest
        Distinguishes lists of tracks.
    fold, folds
        In a cross-validation: which of how many parts is the test split.
    mel
        The log-mel.
    tag_names, tag_categories
        The network's outputs.
    n_examples
        Examples of each split; None for imported weights.
    """

    name: str
    path: str | None
    mel: MelConfig
    tag_names: tuple[str, ...]
    tag_categories: tuple[str, ...]
    n_examples: dict[str, int] | None
    tracks_digest: str | None = None
    fold: int | None = None
    folds: int | None = None


@dataclasses.dataclass(frozen=True)
class ImportedWeights:
    """The file from which weights were imported, its SHA-256, and the backend that wrote it."""

    file: str
    sha256: str
    backend: str


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Everything that a run's numbers depend on, and where its data is: ``config.json``.

    Attributes
    ----------
    arch, target, rule, seed
        The cell; for imported weights only `arch` is known.
    params
        Trainable parameters.
    s
        Width multiplier.
    model, train, data
        The network, how it is trained, and on what; `train` is None for imported weights.
    numerics
        See `crnn_jax.config.NUMERICS`.
    imported
        Origin of weights that were not trained here.
    """

    arch: Architecture
    target: int | None
    rule: Rule | None
    seed: int | None
    params: int
    s: float | None
    model: ModelConfig
    train: TrainConfig | None
    data: DataDescription
    numerics: int = NUMERICS
    imported: ImportedWeights | None = None

    @property
    def input_mel(self) -> MelConfig:
        """The log-mel of the network's input, with clips as long as those it was trained on."""
        seconds = (self.train.train_crop or self.train.clip_seconds) if self.train else None
        return dataclasses.replace(
            self.data.mel, clip_seconds=seconds or self.data.mel.clip_seconds
        )


@dataclasses.dataclass(frozen=True)
class TagResult:
    """One tag's scores on the test split; `auc` and `ap` are None where the split has one class.

    `popularity_rank` is 1 for the tag with the most positive training examples. `auc_unheard` is
    the AUC on the split ``unheard``, if the set has one.
    """

    tag: str
    category: str
    popularity_rank: int
    n_test_positive: int
    auc: float | None
    ap: float | None
    auc_unheard: float | None = None


# Metadata of a field of ``result.json`` that is not a column of ``results.csv``.
BESIDE_THE_TABLE = {"column": False}


@dataclasses.dataclass(frozen=True)
class RunResult:
    """Measurements of a finished run: ``result.json``.

    The fields are the columns of ``results.csv`` in their order, except those marked
    `BESIDE_THE_TABLE`. Times are wall time in s.

    Attributes
    ----------
    arch, rule, target, seed
        The cell.
    params, s
        Trainable parameters and width multiplier.
    valid_auc, test_auc, test_ap
        Macro ROC-AUC and average precision of the best epoch's parameters.
    test_bce, test_calibration_error
        Binary cross-entropy in nats, and expected calibration error.
    test_auc_unheard
        Macro ROC-AUC on the split ``unheard``; None if the set has none.
    learning_rate, train_fraction, max_train_seconds, fold
        Largest learning rate, part of the training split, limit of the training time in s, and part
        of the cross-validation.
    epochs, best_epoch, ended_by
        Epochs trained, the best one (from 1), and what ended the training.
    compile_s, train_s, eval_s, input_wait_s, checkpoint_s
        Compilation; training steps, including waiting for input; evaluation; the part of `train_s`
        in which the devices waited for input; writing snapshots.
    seconds_per_2500_samples, samples_per_s
        Training speed; the first is the paper's unit.
    flops_per_sample
        Floating-point operations of a training step, per sample.
    peak_memory_bytes
        Peak memory of a training step on one device, as planned by XLA.
    n_train, n_valid, n_test, n_tags, n_tags_scored
        Examples and tags; tags that have both classes in the test split.
    dataset, device, device_count
        Name of the data set; processor or accelerator, and how many devices.
    shared_s
        Part of `train_s` that this run shares with the one that it branched off.
    widths, mel, per_tag
        Widths of the network, log-mel of its input, and scores of each tag.
    versions, git_commit
        Versions of the packages and commit of the code that computed the result.
    """

    arch: Architecture
    rule: Rule
    target: int
    seed: int
    params: int
    s: float
    valid_auc: float
    test_auc: float
    test_ap: float
    epochs: int
    best_epoch: int
    ended_by: EndedBy
    compile_s: float
    train_s: float
    eval_s: float
    input_wait_s: float
    seconds_per_2500_samples: float
    samples_per_s: float
    flops_per_sample: float
    peak_memory_bytes: int
    n_train: int
    n_valid: int
    n_test: int
    n_tags: int
    n_tags_scored: int
    dataset: str
    device: str
    device_count: int
    learning_rate: float
    train_fraction: float
    max_train_seconds: float | None
    fold: int | None
    test_bce: float
    test_calibration_error: float
    test_auc_unheard: float | None
    shared_s: float = dataclasses.field(metadata=BESIDE_THE_TABLE)
    checkpoint_s: float = dataclasses.field(metadata=BESIDE_THE_TABLE)
    widths: tuple[int, ...] = dataclasses.field(metadata=BESIDE_THE_TABLE)
    mel: MelConfig = dataclasses.field(metadata=BESIDE_THE_TABLE)
    per_tag: tuple[TagResult, ...] = dataclasses.field(metadata=BESIDE_THE_TABLE)
    versions: dict[str, str] = dataclasses.field(metadata=BESIDE_THE_TABLE)
    git_commit: str | None = dataclasses.field(metadata=BESIDE_THE_TABLE)


# Columns of results.csv; those of per_tag.csv are the cell's, then the tag's.
RESULT_COLUMNS = tuple(
    field.name for field in dataclasses.fields(RunResult) if field.metadata.get("column", True)
)
CELL_COLUMNS = ("arch", "rule", "target", "seed")
# Axes that a table of an older version lacks, as does a run of a study without them.
AXIS_COLUMNS = ("learning_rate", "train_fraction", "max_train_seconds", "fold")
TAG_COLUMNS = tuple(field.name for field in dataclasses.fields(TagResult))


def config_to_mapping(config: RunConfig) -> dict[str, Any]:
    """Return the content of ``config.json`` as JSON values."""
    values = json.loads(json.dumps(dataclasses.asdict(config)))
    if config.imported is None:
        del values["imported"]
    return values


def config_from_mapping(values: Mapping[str, Any]) -> RunConfig:
    """Build a run's configuration from parsed JSON, of this or an older version.

    Older versions also recorded settings that no number depends on, and the network's precision as
    part of `train`.
    """
    known = {"numerics": 1, **values}
    for part, of in (("train", TrainConfig), ("model", ModelConfig), ("data", DataDescription)):
        names = {field.name for field in dataclasses.fields(of)}
        known[part] = {k: v for k, v in (values[part] or {}).items() if k in names} or None
    return from_mapping(RunConfig, known)


def result_from_mapping(values: Mapping[str, Any]) -> RunResult:
    """Build a run's result from parsed JSON; what an older version did not write is None."""
    missing = dict.fromkeys((field.name for field in dataclasses.fields(RunResult)), None)
    # Which were the defaults, and only possibilities, of these.
    missing |= {"train_fraction": 1.0, "shared_s": 0.0}
    tags = [{**dict.fromkeys(TAG_COLUMNS), **tag} for tag in values["per_tag"]]
    return from_mapping(RunResult, {**missing, **values, "per_tag": tags})
