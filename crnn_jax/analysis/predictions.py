"""The finished runs of a study, and their outputs for the test split."""

import collections
import dataclasses
import hashlib
from collections.abc import Iterator

import numpy as np
import pandas as pd
from etils import epath

from crnn_jax.analysis.comparison import Tag
from crnn_jax.analysis.selection import (
    RUN_COLUMNS,
    select_largest_part,
    select_learning_rates,
    select_longest,
)
from crnn_jax.errors import UserError
from crnn_jax.study import runs
from crnn_jax.study.runs import Predictions
from crnn_jax.study.schema import Network, RunResult


@dataclasses.dataclass(frozen=True)
class StudyRun:
    """A finished run; `predictions` is None if they are missing, or of another test split."""

    name: str
    result: RunResult
    predictions: Predictions | None

    @property
    def network(self) -> Network:
        """What the run is a seed of."""
        result = self.result
        return Network(result.arch, result.rule, result.target, result.train_fraction)


@dataclasses.dataclass(frozen=True)
class Study:
    """The finished runs of a study, by network, and the tags of its test split.

    Attributes
    ----------
    networks
        Runs of each network, a seed each, with its best learning rate on the largest part of the
        training split, by size.
    parts
        The same on every part of the training split.
    tags
        The tags of the test split.
    notes
        What could not be used, a line each.
    """

    networks: dict[Network, list[StudyRun]]
    parts: dict[Network, list[StudyRun]]
    tags: tuple[Tag, ...]
    notes: tuple[str, ...]

    def predictions(self) -> dict[Network, list[Predictions]]:
        """Return the predictions of all networks that have any."""
        found = {
            network: [run.predictions for run in its_runs if run.predictions is not None]
            for network, its_runs in self.parts.items()
        }
        return {network: of_network for network, of_network in found.items() if of_network}


def read_study(folder: epath.Path) -> Study:
    """Read the runs that stand for each network of a study.

    Raises
    ------
    UserError
        If no run is finished, or the study is a cross-validation.
    """
    read = [
        (path.parent, result)
        for path in sorted(folder.glob("*/result.json"))
        if (result := runs.read_result(path.parent)) is not None
    ]
    if not read:
        raise UserError(f"{folder}: no finished run (*/result.json); give a sweep's folder")
    if any(result.fold is not None for _, result in read):
        raise UserError(
            f"{folder}: a cross-validation, whose runs have different test splits; see its "
            f"folds.csv, which scores them together"
        )
    columns = (*RUN_COLUMNS, "valid_auc", "params")
    table = pd.DataFrame(
        [[getattr(result, name) for name in columns] for _, result in read], columns=list(columns)
    )
    table["place"] = range(len(read))
    table["max_train_seconds"] = table["max_train_seconds"].astype(float)
    chosen = select_longest(select_learning_rates(table))
    largest = {read[place][0].name for place in select_largest_part(chosen)["place"]}
    all_runs = [
        StudyRun(path.name, result, runs.read_predictions(path))
        for path, result in (read[place] for place in chosen["place"])
    ]
    all_runs.sort(key=lambda run: (run.result.target, run.result.rule, run.result.arch))
    all_runs, notes = _keep_one_split(all_runs)
    parts = collections.defaultdict(list)
    for run in all_runs:
        parts[run.network].append(run)
    networks = {
        network: its_runs for network, its_runs in parts.items() if its_runs[0].name in largest
    }
    # Of the first run: all have the same data set, or their predictions were left out.
    tags = tuple(
        Tag(tag.tag, tag.category, tag.n_test_positive) for tag in all_runs[0].result.per_tag
    )
    return Study(networks, dict(parts), tags, (*_note_unfinished(folder), *notes))


def _note_unfinished(folder: epath.Path) -> Iterator[str]:
    begun = {path.parent.name for path in folder.glob("*/config.json")}
    finished = {path.parent.name for path in folder.glob("*/result.json")}
    failed = {path.parent.name for path in folder.glob("*/failed.json")} - finished
    if unfinished := sorted(begun - finished - failed):
        yield f"{_list(unfinished)}: not finished yet, so not in anything"
    if failed:
        yield f"{_list(sorted(failed))}: failed, so not in anything; see failed.json"


def _keep_one_split(all_runs: list[StudyRun]) -> tuple[list[StudyRun], list[str]]:
    """Drop the predictions of runs with another test split than most; return also what to say."""
    splits = {run.name: _digest(run.predictions) for run in all_runs if run.predictions is not None}
    notes = []
    if lacking := [run.name for run in all_runs if run.predictions is None]:
        notes.append(
            f"{_list(lacking)}: no predictions-test.npz, so not in intervals and comparisons; "
            f"train again to have them"
        )
    by_frequency = [digest for digest, _ in collections.Counter(splits.values()).most_common()]
    if len(by_frequency) > 1:
        odd = [name for name, digest in splits.items() if digest != by_frequency[0]]
        notes.append(
            f"{_list(odd)}: another test split than the others', so not in intervals and "
            f"comparisons"
        )
        all_runs = [
            dataclasses.replace(run, predictions=None) if run.name in odd else run
            for run in all_runs
        ]
    return all_runs, notes


def _digest(predictions: Predictions) -> str:
    parts = (predictions.targets.astype(np.uint8), predictions.groups.astype(np.int32))
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


def _list(names: list[str], shown: int = 3) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
