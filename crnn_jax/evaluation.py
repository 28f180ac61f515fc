"""A run read back: its network, and its scores on a split."""

import dataclasses
from typing import Any

from etils import epath
from jaxtyping import PyTree

from crnn_jax import parallel, runs
from crnn_jax.checkpoints import load_variables
from crnn_jax.config import MelConfig, ModelConfig, TrainConfig, from_mapping
from crnn_jax.datasets import open_set
from crnn_jax.errors import UserError
from crnn_jax.metrics import score_tags
from crnn_jax.training import evaluation_step, predict


@dataclasses.dataclass(frozen=True)
class TrainedNetwork:
    """A network and all that its use needs.

    Attributes
    ----------
    config
        Architecture and widths.
    mel
        The log-mel of its input.
    train
        How it was trained.
    tag_names
        Its outputs.
    dataset
        Folder of the set that it was trained on; None: imported weights.
    variables
        Parameters and running statistics of its best epoch.
    """

    config: ModelConfig
    mel: MelConfig
    train: TrainConfig
    tag_names: tuple[str, ...]
    dataset: str | None
    variables: PyTree


def load_run(run: epath.Path) -> TrainedNetwork:
    """Read a run's network from its folder.

    Raises
    ------
    UserError
        If the folder is not a run's, its configuration is damaged, or it has no checkpoint yet.
    """
    try:
        config = runs.read_config(run)
        data = config["data"]
        network = TrainedNetwork(
            config=from_mapping(ModelConfig, config["model"]),
            mel=from_mapping(MelConfig, data["mel"]),
            train=from_mapping(TrainConfig, config["train"]),
            tag_names=tuple(data["tag_names"]),
            dataset=data["path"],
            variables=None,
        )
        if len(network.tag_names) != network.config.n_tags:
            raise ValueError
    # What is no JSON, or JSON of another kind.
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(
            f"{run / 'config.json'}: not a run's configuration, or one that is cut short; give "
            f"another run, or delete {run} and train it again"
        ) from error
    return dataclasses.replace(network, variables=load_variables(run))


def evaluate_run(run: epath.Path, split: str, dataset: str | None) -> dict[str, Any]:
    """Score a run's network on a split of a prepared data set.

    On any number of devices: the batch size is made one that they divide. Scores do not depend on
    it.

    Parameters
    ----------
    run
        The run's folder.
    split
        Name of the split.
    dataset
        Folder of the prepared set; None: the one that the run was trained on.

    Raises
    ------
    UserError
        If the run cannot be read, the set has other tags or another log-mel than the network, or
        none is given for imported weights.
    """
    network = load_run(run)
    if dataset is None:
        dataset = network.dataset
    if dataset is None:
        raise UserError(f"{run}: imported weights have no data set of their own; give --dataset")
    data = open_set(dataset)
    if data.tag_names != network.tag_names or data.mel != network.mel:
        raise UserError(
            f"--dataset {data.path}: its tags or its log-mel are not those of {run}; "
            f"give the set that it was trained on"
        )
    mesh = parallel.batch_mesh()
    train = dataclasses.replace(
        network.train, batch_size=-(-network.train.batch_size // mesh.size) * mesh.size
    )
    evaluate = evaluation_step(network.config, mesh)
    variables = parallel.put_replicated(mesh, network.variables)
    logits, targets = predict(evaluate, variables, data, split, train, mesh)
    scores = score_tags(targets, logits)
    positives = targets.sum(axis=0)
    return {
        "split": split,
        "n_examples": len(targets),
        "auc": scores.macro_auc,
        "ap": scores.macro_average_precision,
        "n_tags_scored": scores.n_scored,
        "per_tag": [
            {
                "tag": tag,
                "auc": scores.auc[column],
                "ap": scores.average_precision[column],
                "n_positive": int(positives[column]),
            }
            for column, tag in enumerate(network.tag_names)
        ],
    }
