"""Which runs of a study stand for an architecture at a size.

A study may have several learning rates, parts of the training split, time budgets and folds. What
is compared is chosen on the validation split, never on the test split.
"""

import math
from collections.abc import Sequence

import pandas as pd

from crnn_jax.study.schema import AXIS_COLUMNS, CELL_COLUMNS

# A run, in any table of a study.
RUN_COLUMNS = (*CELL_COLUMNS, *AXIS_COLUMNS)
# Runs that differ only in their seed, fold and learning rate, or only in seed and fold.
OF_A_CHOICE = ("arch", "rule", "target", "train_fraction", "max_train_seconds")
OF_A_RATE = (*OF_A_CHOICE, "learning_rate")


def has_several(results: pd.DataFrame, axis: str) -> bool:
    """Return whether a network was trained with several values of an axis."""
    others = [name for name in OF_A_RATE if name != axis]
    return bool((results.groupby(others, dropna=False)[axis].nunique() > 1).any())


def select_learning_rates(results: pd.DataFrame) -> pd.DataFrame:
    """Keep for each architecture, rule and size the runs of its best learning rate.

    The best one has the highest validation AUC, averaged over seeds and folds; of equals, the
    lowest. A learning rate that has fewer runs than another (of which some diverged, or are not
    done yet) is not chosen. Different parts of the training split and time budgets are chosen for
    separately.
    """
    each = _mean_of_rates(results, OF_A_CHOICE).sort_values(
        ["valid_auc", "learning_rate"], ascending=[False, True]
    )
    best = each.drop_duplicates(list(OF_A_CHOICE))[list(OF_A_RATE)]
    return results.merge(best)


def _mean_of_rates(results: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Average the validation AUC over the runs of each learning rate.

    Learning rates that have fewer runs than another with the same `keys` are left out.
    """
    means = results.groupby([*keys, "learning_rate"], dropna=False, as_index=False).agg(
        valid_auc=("valid_auc", "mean"), params=("params", "first"), n_runs=("seed", "size")
    )
    most = means.groupby(list(keys), dropna=False)["n_runs"].transform("max")
    return means[means["n_runs"] == most]


def select_runs(results: pd.DataFrame) -> pd.DataFrame:
    """Keep the runs that stand for each architecture, rule and size.

    These are the runs of the best learning rate among those with the largest part of the training
    split. Time budgets are all kept, see `select_longest`.
    """
    return select_learning_rates(select_largest_part(results))


def select_largest_part(results: pd.DataFrame) -> pd.DataFrame:
    """Keep the runs on the largest part of the training split of each network."""
    return _largest(results, "train_fraction")


def select_longest(results: pd.DataFrame) -> pd.DataFrame:
    """Keep the runs with the longest time budget of each architecture, rule and size."""
    return _largest(results, "max_train_seconds")


def _largest(results: pd.DataFrame, axis: str) -> pd.DataFrame:
    """Keep the runs with the largest value of an axis; no value is beyond all others."""
    values = results[axis].fillna(math.inf)
    groups = values.groupby([results[name] for name in ("arch", "rule", "target")])
    return results[values == groups.transform("max")]


def learning_rate_interval(results: pd.DataFrame, tolerance: float) -> pd.DataFrame:
    """Return the best learning rate of each network, and those that are nearly as good.

    Parameters
    ----------
    results
        Rows of ``results.csv``.
    tolerance
        Learning rates whose validation AUC, averaged over seeds, is at most this much below the
        best one are nearly as good.

    Returns
    -------
    pandas.DataFrame
        A row for each architecture, rule and size: ``params``, the ``best`` learning rate, the
        ``lowest`` and ``highest`` that are nearly as good, and its ``valid_auc``. ``at_edge`` tells
        whether the best is the first or last that was tried: a better one may be beyond.
    """
    keys = ["arch", "rule", "target"]
    rows = []
    for values, curve in _mean_of_rates(results, keys).groupby(keys):
        top = curve.loc[curve["valid_auc"].idxmax()]
        near = curve[curve["valid_auc"] >= top["valid_auc"] - tolerance]["learning_rate"]
        edges = (curve["learning_rate"].min(), curve["learning_rate"].max())
        rows.append(
            {
                **dict(zip(keys, values, strict=True)),
                "params": top["params"],
                "best": top["learning_rate"],
                "lowest": near.min(),
                "highest": near.max(),
                "valid_auc": top["valid_auc"],
                "at_edge": top["learning_rate"] in edges,
            }
        )
    return pd.DataFrame(rows)
