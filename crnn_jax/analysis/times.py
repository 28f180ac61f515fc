"""Training times of one machine that did nothing else, in place of those of a study's runs.

A study's runs are timed where they run: on a machine that others use as well, or on several
machines of a cluster. The speed of each network, measured alone on one of them, makes their times
comparable.
"""

import dataclasses
import io
import math
from collections.abc import Mapping

import pandas as pd
from etils import epath

from crnn_jax.analysis.predictions import Study, StudyRun
from crnn_jax.errors import UserError
from crnn_jax.study.schema import Network
from crnn_jax.user_text import list_some

COLUMNS = ("arch", "rule", "target", "samples_per_s")


def read_speeds(path: epath.Path) -> dict[tuple[str, str, int], float]:
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
    made_by = "experiments/training_time.py writes such a table"
    try:
        table = pd.read_csv(io.StringIO(path.read_text()))
        table = table[list(COLUMNS)].astype({"target": int, "samples_per_s": float})
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}; {made_by}") from error
    # Not a table, without these columns, or with other values.
    except (ValueError, KeyError) as error:
        raise UserError(
            f"{path}: not a table with numbers in the columns {', '.join(COLUMNS)}; {made_by}"
        ) from error
    if not table["samples_per_s"].between(0, math.inf, inclusive="neither").all():
        raise UserError(f"{path}: a speed (samples_per_s) is not above 0, or none; {made_by}")
    networks = list(COLUMNS[:-1])
    if (twice := table.duplicated(networks)).any():
        shown = " ".join(str(each) for each in table.loc[twice, networks].iloc[0])
        raise UserError(f"{path}: {shown} is there more than once; leave one row of each network")
    return {tuple(row[:-1]): row[-1] for row in table.itertuples(index=False, name=None)}


def replace_times(study: Study, path: epath.Path) -> Study:
    """Return a study whose runs take the time that they would take at the speeds of a table.

    Raises
    ------
    UserError
        If `read_speeds` does, or the table lacks a network of the study.
    """
    speeds = read_speeds(path)
    lacking = {
        f"{network.arch} {network.target:,} ({network.rule})"
        for network in study.parts
        if (network.arch, network.rule, network.target) not in speeds
    }
    if lacking:
        raise UserError(f"{path}: lacks {list_some(sorted(lacking), shown=6)}; time them as well")

    def replace(networks: Mapping[Network, list[StudyRun]]) -> dict[Network, list[StudyRun]]:
        return {
            network: [
                _train_at(run, speeds[network.arch, network.rule, network.target])
                for run in its_runs
            ]
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
