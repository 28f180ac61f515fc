"""The finished runs of a study, and their outputs for the test split."""

import collections
import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from etils import epath

from crnn_jax.analysis.comparison import Tag
from crnn_jax.analysis.selection import RUN_COLUMNS, select_learning_rates, select_longest
from crnn_jax.config import FEWEST_POSITIVES, Architecture, Rule
from crnn_jax.errors import UserError
from crnn_jax.study import runs
from crnn_jax.study.runs import Predictions
from crnn_jax.study.schema import Network, RunResult
from crnn_jax.user_text import list_some

if TYPE_CHECKING:
    from crnn_jax.analysis.study import NetworkScore

# A network of any study: the part of the data that it is trained on is left out.
NetworkKey = tuple[Architecture, Rule, int]

# With fewer groups of test clips, resampling them says nothing about others.
FEWEST_GROUPS = 10


def key_of(network: "Network | NetworkScore") -> NetworkKey:
    """Return what identifies a network in any study."""
    return network.arch, network.rule, network.target


@dataclasses.dataclass(frozen=True)
class StudyRun:
    """A finished run; `predictions` is None if they are missing."""

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

    All are of one test split.

    Attributes
    ----------
    networks
        Runs of each network, a seed each, with its best learning rate, the study's largest part of
        the training split and its longest time budget, by size.
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

    @property
    def first(self) -> RunResult:
        """A run's result, for what is the same in all of them."""
        return next(iter(self.networks.values()))[0].result

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
    read = runs.read_results(folder)
    if not read:
        raise UserError(f"{folder}: no finished run (*/result.json); give a sweep's folder")
    if any(result.fold is not None for result in read.values()):
        raise UserError(
            f"{folder}: a cross-validation, whose runs have different test splits; see its "
            f"folds.csv, which scores them together"
        )
    chosen, incomplete = _choose(read)
    all_runs = [StudyRun(name, read[name], runs.read_predictions(folder / name)) for name in chosen]
    all_runs.sort(key=lambda run: (run.result.target, run.result.rule, run.result.arch))
    all_runs, notes = _keep_one_split(all_runs)
    parts = collections.defaultdict(list)
    for run in all_runs:
        parts[run.network].append(run)
    networks = {
        network: its_runs
        for network, its_runs in parts.items()
        if not any(run.name in incomplete for run in its_runs)
    }
    if not networks:
        # Those of the largest part are of another test split than most.
        networks = dict(parts)
    return Study(
        networks,
        dict(parts),
        _list_tags(all_runs),
        (*_note_unfinished(folder), *notes),
    )


def _choose(read: Mapping[str, RunResult]) -> tuple[list[str], set[str]]:
    """Return the runs of the best learning rates, and which of them are not on all that others are.

    The latter are on a smaller part of the training split than the study's largest one, or have a
    shorter time budget than its longest one.
    """
    columns = (*RUN_COLUMNS, "valid_auc", "params")
    table = pd.DataFrame(
        [[getattr(result, name) for name in columns] for result in read.values()],
        columns=list(columns),
    )
    numbers = ("learning_rate", "train_fraction", "max_train_seconds")
    table = table.astype(dict.fromkeys(numbers, float))
    table["name"] = list(read)
    chosen = select_longest(select_learning_rates(table))
    budget = chosen["max_train_seconds"].fillna(np.inf)
    whole = (chosen["train_fraction"] == chosen["train_fraction"].max()) & (budget == budget.max())
    return chosen["name"].tolist(), set(chosen[~whole]["name"])


def _keep_one_split(all_runs: list[StudyRun]) -> tuple[list[StudyRun], list[str]]:
    """Drop runs with another test split than most; return the others, and what to say."""
    notes = []
    if lacking := [run.name for run in all_runs if run.predictions is None]:
        notes.append(
            f"{list_some(lacking)}: no predictions-test.npz, so not in intervals, comparisons and "
            f"fronts; train again to have them"
        )
    splits = {run.name: identify_split(run) for run in all_runs}
    counts = collections.Counter(split for split in splits.values() if split is not None)
    if len(counts) > 1:
        ((most, _),) = counts.most_common(1)
        odd = [name for name, split in splits.items() if split not in (most, None)]
        notes.append(f"{list_some(odd)}: another test split than most, so not in anything")
        all_runs = [run for run in all_runs if run.name not in odd]
    return _share_groups(all_runs, notes), notes


def identify_split(run: StudyRun) -> str | None:
    """Return what distinguishes the tags and the targets of a run's test split."""
    if run.predictions is None:
        return None
    names = "\n".join(tag.tag for tag in run.result.per_tag)
    targets = run.predictions.targets.astype(np.uint8)
    return hashlib.sha256(names.encode() + targets.tobytes()).hexdigest()


def _share_groups(all_runs: list[StudyRun], notes: list[str]) -> list[StudyRun]:
    """Give all runs the groups of the test clips that one of them has, if these are enough."""
    known = [run.predictions for run in all_runs if run.predictions is not None]
    if not known:
        return all_runs
    groups = next((each.groups for each in known if each.groups is not None), None)
    if groups is None:
        notes.append(
            "no run says which test clips are of one recording or composition (an older version "
            "wrote them), so each clip counts as independent"
        )
        groups = np.arange(len(known[0].targets))
    enough = len(np.unique(groups)) >= FEWEST_GROUPS
    if not enough:
        notes.append(
            f"the test clips are of fewer than {FEWEST_GROUPS} recordings or compositions, so "
            f"there are no intervals and comparisons"
        )
    return [
        dataclasses.replace(
            run,
            predictions=run.predictions._replace(groups=groups)
            if run.predictions is not None and enough
            else None,
        )
        for run in all_runs
    ]


def _list_tags(all_runs: Sequence[StudyRun]) -> tuple[Tag, ...]:
    predictions = next((run.predictions for run in all_runs if run.predictions is not None), None)
    tags = []
    for column, tag in enumerate(all_runs[0].result.per_tag):
        is_rare = False
        if predictions is not None and predictions.groups is not None:
            has_tag = predictions.targets[:, column] > 0
            is_rare = any(
                len(np.unique(predictions.groups[clips])) < FEWEST_POSITIVES
                for clips in (has_tag, ~has_tag)
            )
        tags.append(Tag(tag.tag, tag.category, tag.n_test_positive, tag.popularity_rank, is_rare))
    return tuple(tags)


def _note_unfinished(folder: epath.Path) -> Iterator[str]:
    begun = {path.parent.name for path in folder.glob("*/config.json")}
    finished = {path.parent.name for path in folder.glob("*/result.json")}
    failed = {path.parent.name for path in folder.glob("*/failed.json")} - finished
    if unfinished := sorted(begun - finished - failed):
        yield f"{list_some(unfinished)}: not finished yet, so not in anything"
    if failed:
        yield f"{list_some(sorted(failed))}: failed, so not in anything; see failed.json"
