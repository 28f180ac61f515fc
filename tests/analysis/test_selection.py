"""Which runs stand for a network: chosen on the validation split, whatever the test split says."""

import itertools

import numpy as np
import pandas as pd
import pytest

from crnn_jax.analysis.selection import (
    has_several,
    learning_rate_interval,
    select_learning_rates,
    select_longest,
    select_runs,
)

RATES = (1e-4, 1e-3, 1e-2)


def table(rates=RATES, fractions=(1.0,), budgets=(np.nan,), seeds=(0, 1), best=1e-3):
    rows = [
        {
            **{"arch": "crnn", "rule": "uniform", "target": target, "seed": seed},
            **{"learning_rate": rate, "train_fraction": fraction, "max_train_seconds": budget},
            **{"fold": pd.NA, "params": target + 1},
            "valid_auc": 0.8 - 0.02 * abs(np.log10(rate / best)) + 0.001 * seed,
            # The other way round.
            "test_auc": 0.7 + 0.02 * abs(np.log10(rate / best)),
        }
        for target, rate, fraction, budget, seed in itertools.product(
            (1_000, 2_000), rates, fractions, budgets, seeds
        )
    ]
    return pd.DataFrame(rows).astype({"fold": "Int64"})


@pytest.mark.parametrize("best", RATES)
def test_the_best_rate_is_that_of_the_validation_split(best):
    chosen = select_learning_rates(table(best=best))
    assert set(chosen["learning_rate"]) == {best}
    assert len(chosen) == 4


def test_a_rate_of_which_a_seed_diverged_is_not_chosen():
    results = table()
    lost = (
        (results["learning_rate"] == 1e-3) & (results["seed"] == 1) & (results["target"] == 1_000)
    )
    chosen = select_learning_rates(results[~lost])
    assert set(chosen[chosen["target"] == 1_000]["learning_rate"]) <= {1e-4, 1e-2}
    assert set(chosen[chosen["target"] == 2_000]["learning_rate"]) == {1e-3}


def test_of_equals_the_lowest():
    results = table().assign(valid_auc=0.5)
    assert set(select_learning_rates(results)["learning_rate"]) == {1e-4}


def test_the_largest_part_of_the_data_stands_for_a_network():
    results = table(fractions=(0.1, 1.0))
    assert set(select_runs(results)["train_fraction"]) == {1.0}
    assert has_several(results, "train_fraction")
    assert has_several(results, "learning_rate")
    assert not has_several(table(rates=(1e-3,)), "learning_rate")


def test_budgets_are_kept_until_the_longest_is_asked_for():
    results = select_runs(table(budgets=(60.0, 600.0)))
    assert set(results["max_train_seconds"]) == {60.0, 600.0}
    assert set(select_longest(results)["max_train_seconds"]) == {600.0}


def test_tables_of_older_versions_keep_all_rows():
    results = table(rates=(1e-3,)).assign(learning_rate=np.nan, train_fraction=np.nan)
    assert len(select_longest(select_runs(results))) == len(results)


def test_the_interval_leaves_out_what_is_not_chosen():
    """A rate of which a seed diverged is not drawn as the best one either."""
    results = table()
    lost = (results["learning_rate"] == 1e-3) & (results["seed"] == 1)
    interval = learning_rate_interval(results[~lost], 0.0)
    assert set(interval["best"]) <= {1e-4, 1e-2}


def test_the_interval_of_good_rates():
    interval = learning_rate_interval(table(), 0.025)
    assert interval["best"].tolist() == [1e-3, 1e-3]
    assert interval["lowest"].tolist() == [1e-4, 1e-4]
    assert interval["highest"].tolist() == [1e-2, 1e-2]
    assert not interval["at_edge"].any()
    narrow = learning_rate_interval(table(best=1e-4), 0.01)
    assert narrow["lowest"].tolist() == narrow["highest"].tolist() == [1e-4, 1e-4]
    assert narrow["at_edge"].all()
