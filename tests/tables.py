"""Tables of a sweep, made up."""

import itertools

import numpy as np
import pandas as pd

ARCHITECTURES = ("conv1d", "conv2d", "crnn")
RULES = ("uniform", "sqrt")
TAGS = {
    "slow": "tempo",
    "piano": "instrument",
    "80s": "era",
    "sad": "mood",
    "rock": "genre",
    "violin": "instrument",
    "jazz": "genre",
    "drums": "instrument",
}


def make_results(
    targets=(100_000, 250_000), rules=RULES, seeds=(0, 1, 2), architectures=ARCHITECTURES
):
    """The columns of ``results.csv`` that figures need."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "arch": arch,
            "rule": rule,
            "target": target,
            "seed": seed,
            "learning_rate": 1e-3,
            "train_fraction": 1.0,
            "max_train_seconds": np.nan,
            "fold": pd.NA,
            "params": target + 37,
            "n_train": 640,
            "valid_auc": 0.8,
            "test_bce": 0.4,
            "test_auc": rng.uniform(0.7, 0.9),
            "seconds_per_2500_samples": target / 1e4 * rng.uniform(1, 2),
            "train_s": target / 1e2 * rng.uniform(1, 2),
            "device": "cpu",
            "device_count": 1,
        }
        for arch, rule, target, seed in itertools.product(architectures, rules, targets, seeds)
    ).astype({"device_count": "Int64", "fold": "Int64", "n_train": "Int64"})


def make_scores(
    targets=(100_000,),
    rules=("uniform",),
    seeds=(0, 1),
    architectures=ARCHITECTURES,
    tags=TAGS,
    without_auc=(),
):
    """The columns of ``per_tag.csv`` that figures need."""
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "arch": arch,
            "rule": rule,
            "target": target,
            "seed": seed,
            "learning_rate": 1e-3,
            "train_fraction": 1.0,
            "max_train_seconds": np.nan,
            "fold": pd.NA,
            "tag": tag,
            "category": category,
            "popularity_rank": rank,
            "auc": np.nan if tag in without_auc else rng.uniform(0.5, 1),
        }
        for arch, rule, target, seed in itertools.product(architectures, rules, targets, seeds)
        for rank, (tag, category) in enumerate(tags.items(), start=1)
    ).astype({"fold": "Int64"})


def write_csv(path, table, **replaced_in_first_row):
    """Write a table as a sweep does: missing values are empty fields, and there are columns that
    no figure needs."""
    table = table.astype(object).assign(dataset="synthetic")
    table.loc[0, list(replaced_in_first_row)] = list(replaced_in_first_row.values())
    table.to_csv(path, index=False)


def write_sweep(folder):
    """Both tables of a sweep of one size."""
    write_csv(folder / "results.csv", make_results(targets=(100_000,)))
    write_csv(folder / "per_tag.csv", make_scores())
    return folder


def assert_one_line(error, *parts):
    """A message that names all of `parts`."""
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert part in message
