"""What experiment trackers are told of a cell: its place, its settings and its final scores."""

import dataclasses
import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from etils import epath

from crnn_jax.locks import on_disk
from crnn_jax.study import runs
from crnn_jax.study.schema import RunResult
from crnn_jax.trackers.subscription import TrackedRun

if TYPE_CHECKING:
    from crnn_jax.study.run import Job

# Fields of a result that a study's tables of hyperparameters have.
FINAL_SCORES = ("test_auc", "test_ap", "test_bce", "valid_auc", "train_s")


def describe_run(job: "Job") -> TrackedRun:
    """Describe a cell's run; settings that are None are left out."""
    settings = {
        **job.cell.columns,
        "params": job.budget.params,
        "fold": job.cell.fold,
        "dataset": job.data.name,
        **dataclasses.asdict(job.train),
    }
    return TrackedRun(
        folder=job.run,
        project=name_project(job.out),
        name=job.cell.name,
        batch_size=job.train.batch_size,
        settings={name: value for name, value in settings.items() if value is not None},
    )


def name_project(out: epath.Path) -> str:
    """Return the name of a study's project: that of its folder, and a digest of the whole path.

    Trackers keep all projects of a user by name, and other folders may have the same one.
    """
    path = Path(out).absolute() if on_disk(out) else out
    parent, name = path.parent.name, path.name
    readable = f"{parent}-{name}" if name == runs.TRIAL else name
    digest = hashlib.sha256(os.fspath(path).encode()).hexdigest()[:6]
    return "-".join([*re.findall(r"[A-Za-z0-9_.]+", readable), digest])


def final_scores(result: RunResult) -> dict[str, float]:
    """Return the scores that a run is compared by, and its training time in s."""
    return {name: getattr(result, name) for name in FINAL_SCORES}
