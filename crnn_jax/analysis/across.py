"""Several studies side by side: the same networks on two machines, two data sets, or before and
after a change.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from etils import epath

from crnn_jax.analysis.bootstrap import Resampled, resample
from crnn_jax.analysis.comparison import Difference, Tag, compare
from crnn_jax.analysis.predictions import NetworkKey, Study, identify_split, key_of, read_study
from crnn_jax.analysis.study import NetworkScore, score_network
from crnn_jax.analysis.words import list_networks
from crnn_jax.config import RESAMPLES, Architecture, Rule
from crnn_jax.errors import UserError
from crnn_jax.study.schema import Network, RunResult
from crnn_jax.user_text import list_some

# What two studies may train one network with differently.
TRAINED_WITH = {
    "learning_rate": "learning rate",
    "train_fraction": "part of the training split",
    "max_train_seconds": "time budget",
    "epochs": "number of epochs",
}


@dataclasses.dataclass(frozen=True)
class Match:
    """A network that several studies have.

    Attributes
    ----------
    arch, rule, target
        The network.
    scores
        Its scores in each study; None where it is not.
    differences
        Its AUC in each study minus that in the first one, over the tags that have an AUC in both;
        None where either lacks predictions, and for the first study.
    """

    arch: Architecture
    rule: Rule
    target: int
    scores: tuple[NetworkScore | None, ...]
    differences: tuple[Difference | None, ...]


@dataclasses.dataclass(frozen=True)
class Across:
    """Several studies side by side.

    Attributes
    ----------
    folders, datasets
        The studies, and their data sets.
    results
        All runs that stand for a network, of each study.
    matches
        Networks that the first study and another one have, by size.
    is_paired
        Of each study, whether its test split is the first one's: differences are then paired over
        its clips.
    n_resamples
        Resamples of every interval.
    notes
        What is not compared, and why.
    """

    folders: tuple[str, ...]
    datasets: tuple[str, ...]
    results: tuple[tuple[RunResult, ...], ...]
    matches: tuple[Match, ...]
    is_paired: tuple[bool, ...]
    n_resamples: int
    notes: tuple[str, ...]


def compare_studies(
    folders: Sequence[epath.PathLike], n_resamples: int = RESAMPLES, seed: int = 0
) -> Across:
    """Compare each network of the first study with the same one of the others.

    On one test split the differences are paired over its clips; between test splits the chances of
    both add. Single tags are compared if both studies have the same ones. A network stands for
    itself with its best learning rate and the largest part of the training split in each study,
    whether these are the same or not; the notes say where they differ.

    Parameters
    ----------
    folders
        The sweeps' folders, the one to compare with first.
    n_resamples, seed
        Number of resamples of seeds and test clips, and the seed of drawing them.

    Raises
    ------
    UserError
        If fewer than two folders are given, one has no finished run, or no network of the first
        study is in another.
    """
    if len(folders) < 2:
        raise UserError("give two sweeps' folders or more, the one to compare with first")
    studies = [read_study(epath.Path(folder)) for folder in folders]
    keys = [_index(study) for study in studies]
    common = [key for key in keys[0] if any(key in others for others in keys[1:])]
    if not common:
        raise UserError(
            f"{', '.join(map(str, folders))}: no network (architecture, rule and size) of the "
            f"first is in another; give studies that have some in common"
        )
    splits = [_split_of(study) for study in studies]
    resampled = _resample_all(studies, splits, n_resamples, seed)
    matches = []
    for key in sorted(common, key=lambda key: (key[2], key[1], key[0])):
        networks = [of_study.get(key) for of_study in keys]
        scores = [
            None if network is None else resampled[number].get(network)
            for number, network in enumerate(networks)
        ]
        matches.append(
            Match(
                *key,
                tuple(
                    None if network is None else score_network(study.networks[network], of_study)
                    for study, network, of_study in zip(studies, networks, scores, strict=True)
                ),
                (
                    None,
                    *(
                        _compare(networks[0], studies, scores, number)
                        for number in range(1, len(studies))
                    ),
                ),
            )
        )
    return Across(
        folders=tuple(map(str, folders)),
        datasets=tuple(study.first.dataset for study in studies),
        results=tuple(
            tuple(run.result for run in itertools.chain(*study.networks.values()))
            for study in studies
        ),
        matches=tuple(matches),
        is_paired=tuple(split is not None and split == splits[0] for split in splits),
        n_resamples=n_resamples,
        notes=tuple(_list_notes(folders, studies, keys)),
    )


def _index(study: Study) -> dict[NetworkKey, Network]:
    """Return a study's networks by what identifies them in any study.

    One that was trained on several parts of the training split is that on the largest one.
    """
    by_part = sorted(study.networks, key=lambda network: network.train_fraction or 0.0)
    return {key_of(network): network for network in by_part}


def _split_of(study: Study) -> str | None:
    """Return what distinguishes a study's test split; None without predictions."""
    return next(filter(None, map(identify_split, itertools.chain(*study.networks.values()))), None)


def _resample_all(
    studies: Sequence[Study], splits: Sequence[str | None], n_resamples: int, seed: int
) -> list[Mapping[Network, Resampled]]:
    """Score the networks of each study on resamples; those of one test split on the same ones."""
    found: list[dict[Network, Resampled]] = [{} for _ in studies]
    for split in dict.fromkeys(splits):
        together = {
            (number, network): predictions
            for number, study in enumerate(studies)
            if splits[number] == split
            for network, predictions in study.predictions().items()
        }
        if not together:
            continue
        # Studies may know more or less of which clips belong together, such as those of an older
        # version: the fewer groups, the wider the intervals.
        known = [of[0].groups for of in together.values() if of[0].groups is not None]
        groups = min(known, key=lambda groups: len(np.unique(groups)))
        # Another seed for another split, whose chances are its own.
        own = seed + 1000 * splits.index(split)
        for (number, network), scores in resample(together, groups, n_resamples, own).items():
            found[number][network] = scores
    return list(found)


def _compare(
    network: Network | None,
    studies: Sequence[Study],
    scores: Sequence[Resampled | None],
    number: int,
) -> Difference | None:
    """Compare a network of a study with that of the first one."""
    first, other = scores[0], scores[number]
    if network is None or first is None or other is None:
        return None
    tags, others = studies[0].tags, studies[number].tags
    if [tag.name for tag in tags] == [tag.name for tag in others]:
        # Rare in either, it is not decided.
        both = [
            dataclasses.replace(
                tag,
                n_positive=min(tag.n_positive, other_tag.n_positive),
                is_rare=tag.is_rare or other_tag.is_rare,
            )
            for tag, other_tag in zip(tags, others, strict=True)
        ]
        return compare(network, network, (other, first), both)
    # The means alone, each over its study's tags.
    means = (_average_tags(other), _average_tags(first))
    return dataclasses.replace(
        compare(network, network, means, [Tag("mean", "", 0)]), categories={}, tags=()
    )


def _average_tags(scores: Resampled) -> Resampled:
    """Return scores with the mean over all tags in place of a tag."""
    return dataclasses.replace(
        scores,
        auc_of_seeds=scores.macro_auc_of_seeds[:, None],
        resampled_auc=scores.resampled_macro_auc[:, None],
    )


def _values(study: Study, network: Network, name: str) -> set:
    """Return the values of a field that the runs of a network have."""
    return {getattr(run.result, name) for run in study.networks[network]}


def _scored_tags(study: Study) -> set[str]:
    """Return the tags of the test split that have both classes."""
    return {tag.tag for tag in study.first.per_tag if tag.auc is not None}


def _list_notes(
    folders: Sequence[epath.PathLike],
    studies: Sequence[Study],
    keys: Sequence[Mapping[NetworkKey, Network]],
) -> Iterator[str]:
    for folder, study in zip(folders, studies, strict=True):
        yield from (f"{folder}: {note}" for note in study.notes)
    for folder, study, of_study in zip(folders[1:], studies[1:], keys[1:], strict=True):
        if [tag.name for tag in study.tags] != [tag.name for tag in studies[0].tags]:
            yield f"{folder}: other tags than {folders[0]}, so that only the means are compared"
        elif odd := _scored_tags(studies[0]) ^ _scored_tags(study):
            yield (
                f"{folder}: {list_some(sorted(odd), shown=6)} cannot be scored in it or in "
                f"{folders[0]}, whose clips are of one class only; an AUC is over its own study's "
                f"tags, a difference over those of both"
            )
        for name, what in TRAINED_WITH.items():
            differ = [
                key
                for key in keys[0].keys() & of_study.keys()
                if _values(studies[0], keys[0][key], name) != _values(study, of_study[key], name)
            ]
            if differ:
                yield f"{folder}: another {what} than {folders[0]} for {list_networks(differ)}"
        for name, lacking in (
            (folder, keys[0].keys() - of_study.keys()),
            (folders[0], of_study.keys() - keys[0].keys()),
        ):
            if lacking:
                yield f"{name}: lacks {list_networks(lacking)}"
