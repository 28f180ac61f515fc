"""How hard is a data set? A linear classifier on each clip's mean spectrum.

Each clip is described by the mean and the standard deviation over time of its mel bands (in dB),
and each tag has a logistic regression on these 192 numbers. What a network gains over this is what
it hears of rhythm, melody and form. Takes about a minute for 4,000 clips.

    python experiments/spectrum_baseline.py DATA/rendered/4000-clips-seed0-…/1.0.0
"""

import warnings

import numpy as np
import tyro
from jaxtyping import Float, Int
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from crnn_jax.cli.main import exit_after
from crnn_jax.data.prepared import PreparedSet, open_set
from crnn_jax.train.metrics import score_tags

# Strength of the regression's L2 penalty: a weaker one fits the noise of rare tags.
INVERSE_PENALTY = 0.1


def describe(
    data: PreparedSet, split: str
) -> tuple[Float[np.ndarray, "clips features"], Int[np.ndarray, "clips tags"]]:
    """Return the features and the tags of a split."""
    features, tags = [], []
    for example in data.source(split):
        log_mel = example["log_mel"].astype(np.float32)
        features.append(np.concatenate([log_mel.mean(axis=1), log_mel.std(axis=1)]))
        tags.append(np.array(example["tags"]))
    return np.stack(features), np.stack(tags)


def main(dataset: tyro.conf.Positional[str]) -> None:
    """Fit on the training split, and print the macro ROC-AUC of the others.

    Parameters
    ----------
    dataset
        Folder of a prepared data set.
    """
    data = open_set(dataset)
    features, tags = describe(data, "train")
    models: list[Pipeline | None] = []
    for column in tags.T:
        if not 0 < column.sum() < len(column):
            models.append(None)
            continue
        model = make_pipeline(StandardScaler(), LogisticRegression(C=INVERSE_PENALTY, max_iter=500))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            models.append(model.fit(features, column))
    for split in data.n_examples:
        if split == "train":
            continue
        features, tags = describe(data, split)
        scores = np.stack(
            [
                np.zeros(len(tags)) if model is None else model.decision_function(features)
                for model in models
            ],
            axis=1,
        )
        scored = score_tags(tags, scores)
        by_category: dict[str, list[float]] = {}
        for category, auc in zip(data.tag_categories, scored.auc, strict=True):
            if auc is not None:
                by_category.setdefault(category, []).append(auc)
        shown = ", ".join(f"{name} {np.mean(aucs):.3f}" for name, aucs in by_category.items())
        print(f"{split}: AUC {scored.macro_auc:.3f} ({shown})")


if __name__ == "__main__":
    exit_after(lambda: tyro.cli(main))
