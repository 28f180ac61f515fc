"""Finished studies on the disk, made up: predictions of known quality."""

import csv

import numpy as np
from etils import epath

from crnn_jax.config import MelConfig
from crnn_jax.study import runs
from crnn_jax.study.schema import Cell, RunResult, TagResult
from crnn_jax.train.metrics import measure_calibration, score_tags

TAGS = {"rock": "genre", "jazz": "genre", "sad": "mood", "piano": "instrument"}

# Signal of each architecture's scores, in standard deviations, against its size.
GAINS = {
    # Grows slowly, and is ahead at first.
    "crnn": lambda size: 1.2 + 0.1 * np.log2(size / 25_000),
    "conv2d": lambda size: 0.5 + 0.6 * np.log2(size / 25_000),
}


# Sizes of a study, and speeds in clips/s: CRNN is the slower one, and as fast in the runs.
SPEEDS = {"conv2d": 400.0, "crnn": 50.0}
TARGETS = (25_000, 50_000, 100_000, 200_000)


def make_split(n_clips=240, seed=0, tags=TAGS):
    """Targets of clips in groups of two."""
    rng = np.random.default_rng(seed)
    targets = (rng.random((n_clips, len(tags))) < 0.35).astype(np.uint8)
    return targets, np.arange(n_clips) // 2


def write_run(out, cell, gain, split, *, params=None, with_predictions=True, tags=TAGS, **changes):
    """Write a run whose tags' scores are `gain` standard deviations higher where a tag is present.

    Returns its result.
    """
    targets, groups = split
    name_seed = [ord(letter) for letter in cell.name]
    rng = np.random.default_rng(name_seed)
    # Half of the noise is the clips' own, the same for all networks.
    noise = np.random.default_rng(1).normal(size=targets.shape) + rng.normal(size=targets.shape)
    logits = (gain * targets + noise / np.sqrt(2)).astype(np.float32)
    scores = score_tags(targets, logits)
    calibration = measure_calibration(targets, logits)
    values = {
        **cell.columns,
        "params": params or cell.target + 5,
        "s": 0.5,
        "valid_auc": scores.macro_auc,
        "test_auc": scores.macro_auc,
        "test_ap": scores.macro_average_precision,
        "epochs": 10,
        "best_epoch": 8,
        "ended_by": "epochs",
        "compile_s": 1.0,
        "train_s": cell.target / 1000,
        "eval_s": 1.0,
        "input_wait_s": 0.0,
        "seconds_per_2500_samples": 25.0,
        "samples_per_s": 100.0,
        "flops_per_sample": 1e4 * cell.target,
        "peak_memory_bytes": 10**6,
        "n_train": 1000,
        "n_valid": 100,
        "n_test": len(targets),
        "n_tags": len(tags),
        "n_tags_scored": scores.n_scored,
        "dataset": "synthetic/made-up",
        "device": "cpu",
        "device_count": 1,
        "learning_rate": cell.learning_rate or 1e-3,
        "train_fraction": cell.train_fraction or 1.0,
        "max_train_seconds": cell.max_train_seconds,
        "fold": cell.fold,
        "test_bce": calibration.cross_entropy,
        "test_calibration_error": calibration.error,
        "test_auc_unheard": None,
        "shared_s": 0.0,
        "checkpoint_s": 0.0,
        "widths": (4, 4),
        "mel": MelConfig(),
        "per_tag": tuple(
            TagResult(tag, category, rank, int(targets[:, rank - 1].sum()), auc, ap)
            for rank, ((tag, category), auc, ap) in enumerate(
                zip(tags.items(), scores.auc, scores.average_precision, strict=True), start=1
            )
        ),
        "versions": {},
        "git_commit": None,
    }
    result = RunResult(**{**values, **changes})
    run = epath.Path(out) / cell.name
    run.mkdir(parents=True, exist_ok=True)
    runs.write_result(run, result)
    if with_predictions:
        runs.write_predictions(run, "test", runs.Predictions(logits, targets, groups))
    return result


def write_study(out, gains, targets=TARGETS, seeds=(0, 1, 2), tags=TAGS, **options):
    """Write a study; `gains` gives for each architecture a function of the size."""
    split = make_split(tags=tags)
    results = {}
    for arch, gain in gains.items():
        for target in targets:
            for seed in seeds:
                cell = Cell(arch, target, "uniform", seed)
                results[cell] = write_run(out, cell, gain(target), split, tags=tags, **options)
    return results


def write_speeds(path, archs=tuple(SPEEDS), targets=TARGETS, **changes):
    """Write a table of speeds, as measured alone."""
    rows = [
        {
            "arch": arch, "target": target, "rule": "uniform", "batch": 8,
            "samples_per_s": SPEEDS[arch], **changes,
        }
        for arch in archs
        for target in targets
    ]  # fmt: skip
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return path
