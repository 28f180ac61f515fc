"""Training times of one machine that did nothing else, in place of those of a study's runs.

A study's runs are timed where they run: on a machine that others use as well, or on several
machines of a cluster. The speed of each network, measured alone on one of them, makes their times
comparable.
"""

import dataclasses
from collections.abc import Mapping

from etils import epath

from crnn_jax.analysis.predictions import NetworkKey, Study, StudyRun, key_of
from crnn_jax.analysis.tables import read_table
from crnn_jax.analysis.words import list_networks
from crnn_jax.errors import UserError
from crnn_jax.study.schema import Network

COLUMNS = ("arch", "rule", "target", "samples_per_s")


def read_speeds(path: epath.Path) -> dict[NetworkKey, float]:
    """Read the training speed of each architecture, rule and size, in clips/s.

    Parameters
    ----------
    path
        A CSV with the columns ``arch``, ``rule``, ``target`` and ``samples_per_s``, such as
        ``experiments/training_time.py`` writes.

    Raises
    ------
    UserError
        If the file is not such a table, or has a network twice.
    """
    table = read_table(path, COLUMNS, "`python experiments/training_time.py --out NEW`")
    if not (table["samples_per_s"] > 0).all():
        raise UserError(
            f"{path}: a network's samples_per_s is 0 or missing; delete its row and time it again"
        )
    networks = list(COLUMNS[:-1])
    if (twice := table[table.duplicated(networks)][networks]).size:
        first = list_networks(twice[:1].itertuples(index=False, name=None))
        raise UserError(f"{path}: {first} is there more than once; leave one row of each network")
    return {key_of(row): row.samples_per_s for row in table.itertuples()}


def replace_times(study: Study, path: epath.Path) -> Study:
    """Return a study whose runs take the time that they would take at the speeds of a table.

    Raises
    ------
    UserError
        If `read_speeds` does, or the table lacks a network of the study.
    """
    speeds = read_speeds(path)
    if lacking := set(map(key_of, study.parts)) - set(speeds):
        raise UserError(f"{path}: lacks {list_networks(lacking)}; time them as well")

    def replace(networks: Mapping[Network, list[StudyRun]]) -> dict[Network, list[StudyRun]]:
        return {
            network: [_train_at(run, speeds[key_of(network)]) for run in its_runs]
            for network, its_runs in networks.items()
        }

    return dataclasses.replace(
        study,
        networks=replace(study.networks),
        parts=replace(study.parts),
        notes=(
            *study.notes,
            f"training times are those at the speeds of {path}, not the runs' own",
        ),
    )


def _train_at(run: StudyRun, samples_per_s: float) -> StudyRun:
    result = run.result
    n_samples = result.samples_per_s * result.train_s
    result = dataclasses.replace(
        result, samples_per_s=samples_per_s, train_s=n_samples / samples_per_s
    )
    return dataclasses.replace(run, result=result)
