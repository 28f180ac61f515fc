"""Reading back a run's network, and scoring it on a split."""

import dataclasses
from pathlib import Path

from etils import epath
from jaxtyping import PyTree

from crnn_jax.config import RuntimeConfig, TrainConfig
from crnn_jax.data.batches import count_crop
from crnn_jax.data.collection import SPLITS
from crnn_jax.data.folds import make_fold
from crnn_jax.data.prepared import open_set
from crnn_jax.errors import UserError
from crnn_jax.locks import on_disk
from crnn_jax.study import runs
from crnn_jax.study.schema import RunConfig
from crnn_jax.train import parallel
from crnn_jax.train.checkpoints import load_variables
from crnn_jax.train.compile import evaluation_step
from crnn_jax.train.devices import batch_mesh
from crnn_jax.train.feed import Feed
from crnn_jax.train.metrics import score_tags
from crnn_jax.train.predict import predict


@dataclasses.dataclass(frozen=True)
class TrainedNetwork:
    """A network and everything needed to use it.

    Attributes
    ----------
    path
        The run's folder.
    config
        The network's configuration, and how it was trained.
    variables
        Parameters and running statistics of its best epoch.
    """

    path: epath.Path
    config: RunConfig
    variables: PyTree


@dataclasses.dataclass(frozen=True)
class TagEvaluation:
    """One tag's scores; None where the split has one class only."""

    tag: str
    auc: float | None
    ap: float | None
    n_positive: int


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Scores of a network on a split.

    Attributes
    ----------
    split, n_examples
        The split, and its size.
    auc, ap
        Macro ROC-AUC and average precision; None if no tag has both classes in the split.
    n_tags_scored
        Number of tags that have both.
    per_tag
        In the order of the network's outputs.
    """

    split: str
    n_examples: int
    auc: float | None
    ap: float | None
    n_tags_scored: int
    per_tag: tuple[TagEvaluation, ...]


def load_network(run: epath.Path) -> TrainedNetwork:
    """Read a run's network from its folder.

    Raises
    ------
    UserError
        If the folder is not a run's folder, or has no checkpoint yet.
    """
    return TrainedNetwork(run, runs.read_config(run), load_variables(run))


def evaluate(network: TrainedNetwork, split: str, dataset: str | None) -> Evaluation:
    """Score a run's network on a split of a prepared data set.

    The batch size is rounded up to a multiple of the number of devices; scores do not depend on it.

    Parameters
    ----------
    network
        The run's network.
    split
        Name of the split.
    dataset
        Folder of the prepared set; None: the one that the run was trained on.

    Raises
    ------
    UserError
        If the set's tags or log-mel differ from the network's, if no set is given for imported
        weights, or if the set is no longer where it was.
    """
    config, run = network.config, network.path
    path = dataset or config.data.path
    if path is None:
        raise UserError(f"{run}: imported weights have no data set of their own; give a dataset")
    if dataset is None and on_disk(path) and not Path(path).exists():
        raise UserError(f"{run}: its data set is no longer in {path}; give the dataset")
    data = open_set(path)
    if data.tag_names != config.data.tag_names or data.mel != config.data.mel:
        raise UserError(
            f"its tags or its log-mel differ from those of {run}; give the set it was trained on",
            field="dataset",
            value=data.path,
        )
    if (
        config.data.folds is not None
        and config.data.fold is not None
        and split in SPLITS
        and data.tracks_digest == config.data.tracks_digest
    ):
        # Another set is scored as it is.
        data = make_fold(data, config.data.fold, config.data.folds)
    mesh = batch_mesh()
    train = config.train or TrainConfig()
    batch_size = -(-train.batch_size // mesh.size) * mesh.size
    logits, targets = predict(
        evaluation_step(config.model, mesh, count_crop(data.mel, train)),
        parallel.put_replicated(mesh, network.variables),
        # Clips that are read once are not kept.
        Feed(
            data,
            dataclasses.replace(train, batch_size=batch_size),
            mesh,
            RuntimeConfig(resident="no"),
        ),
        split,
    )
    scores = score_tags(targets, logits)
    positives = targets.sum(axis=0)
    return Evaluation(
        split=split,
        n_examples=len(targets),
        auc=scores.macro_auc,
        ap=scores.macro_average_precision,
        n_tags_scored=scores.n_scored,
        per_tag=tuple(
            TagEvaluation(
                tag=tag,
                auc=scores.auc[column],
                ap=scores.average_precision[column],
                n_positive=int(positives[column]),
            )
            for column, tag in enumerate(config.data.tag_names)
        ),
    )
