"""A run on disk: its files, and how they are written and read back.

``result.json`` exists if and only if a run is done. Every file is complete or absent
(`crnn_jax.files`). When several processes work on one folder, one at a time holds a run, by a lock
that is released when the process ends.
"""

import contextlib
import dataclasses
import io
import json
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from etils import epath
from jaxtyping import Float, Int

from crnn_jax.config import NetworkOptions, TrainConfig
from crnn_jax.errors import ARRAY_ERRORS, UserError
from crnn_jax.files import write_file
from crnn_jax.locks import lock
from crnn_jax.study.schema import (
    AXIS_COLUMNS,
    CELL_COLUMNS,
    RESULT_COLUMNS,
    TAG_COLUMNS,
    RunConfig,
    RunResult,
    config_from_mapping,
    config_to_mapping,
    result_from_mapping,
)
from crnn_jax.user_text import csv_text


class Predictions(NamedTuple):
    """Outputs of a network for a split, and what they should be.

    `groups` numbers the recording or composition that each example is part of; None in files of an
    older version.
    """

    logits: Float[np.ndarray, "examples tags"]
    targets: Int[np.ndarray, "examples tags"]
    groups: Int[np.ndarray, "examples"] | None


# Columns of ``folds.csv``: a network, and the scores of all folds' predictions together.
FOLDS_COLUMNS = (
    *(*CELL_COLUMNS, *AXIS_COLUMNS[:-1], "folds"),
    *("n_test", "n_tags_scored", "test_auc", "test_ap", "test_bce", "test_calibration_error"),
)
# Folder of a sweep's locks: next to the runs, whose folders contain only results.
LOCKS = ".locks"
# Folder of a study's short runs, a sweep of its own (`crnn_jax.study.trial`).
TRIAL = "trial"


@contextlib.contextmanager
def hold(run: epath.Path) -> Iterator[bool]:
    """Hold a run's folder for this process; yield False if another one holds it."""
    with lock(run.parent / LOCKS / run.name, wait=False) as held:
        if held and run.exists():
            # Left by a process that was killed while writing.
            for leftover in run.glob(".*.tmp"):
                leftover.unlink()
        yield held


def _write_json(path: epath.Path, values: Mapping[str, Any]) -> None:
    """Write JSON; a number that is not finite raises ValueError, since JSON cannot represent it."""
    write_file(path, (json.dumps(values, indent=2, allow_nan=False) + "\n").encode())


def write_result(run: epath.Path, result: RunResult) -> None:
    """Write ``result.json``: the run is done."""
    _write_json(run / "result.json", dataclasses.asdict(result))


def write_predictions(run: epath.Path, split: str, predictions: Predictions) -> None:
    """Write ``predictions-<split>.npz``: logits (float16), targets, groups, in stored order."""
    assert predictions.groups is not None, "only files of an older version have none"
    content = io.BytesIO()
    largest = np.finfo(np.float16).max
    np.savez_compressed(
        content,
        logits=np.clip(predictions.logits, -largest, largest).astype(np.float16),
        targets=predictions.targets.astype(np.uint8),
        groups=predictions.groups.astype(np.int32),
    )
    write_file(run / f"predictions-{split}.npz", content.getvalue())


def read_predictions(run: epath.Path, split: str = "test") -> Predictions | None:
    """Read a run's outputs for a split; None if they are missing or damaged."""
    path = run / f"predictions-{split}.npz"
    if not path.exists():
        return None
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            logits, targets = arrays["logits"].astype(np.float32), arrays["targets"]
            if not np.isfinite(logits).all():
                raise ValueError("not finite")
            return Predictions(logits, targets, arrays.get("groups"))
    except (*ARRAY_ERRORS, KeyError, zipfile.BadZipFile):
        warnings.warn(f"{path}: damaged; the run's predictions are not used", stacklevel=2)
        return None


def write_failure(run: epath.Path, error: str, traceback: str) -> None:
    """Write ``failed.json``, into a folder that may not have been claimed yet."""
    run.mkdir(parents=True, exist_ok=True)
    _write_json(run / "failed.json", {"error": error, "traceback": traceback})


def claim_folder(run: epath.Path, config: RunConfig) -> None:
    """Create a run's folder for this configuration, or accept one that has the same.

    The path of the data set may differ; it is then updated.

    Raises
    ------
    UserError
        If it belongs to another configuration; it is then left unchanged.
    """
    path, here = run / "config.json", config_to_mapping(config)
    if not path.exists():
        run.mkdir(parents=True, exist_ok=True)
        _write_json(path, here)
        return
    there = _read_json(path)
    if there is None:
        raise UserError(f"{path}: damaged; delete {run} and give the command again")
    if difference := _difference(_identity(there, here), _identity(here, here)):
        raise UserError(
            f"{run.name} was made with another configuration ({difference}); give another folder",
            field="out",
            value=run.parent,
        )
    if there != here:
        _write_json(path, here)


def _identity(config: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a configuration that the numbers depend on.

    Older files lack some fields of `now`, the current configuration: then the default was meant,
    or, where there is none, whatever is there now. They have others that no longer exist.
    """
    identity = {"numerics": 1, **config}
    for part, known in now.items():
        if isinstance(known, dict) and isinstance(config.get(part), dict):
            complete = {
                **known,
                **_defaults(part),
                **{k: v for k, v in config[part].items() if k in known},
            }
            identity[part] = {k: v for k, v in complete.items() if k != "path"}
    return identity


def _defaults(part: str) -> dict[str, Any]:
    """Return what a field meant of a part of the configuration when it did not exist yet."""
    kind = {"train": TrainConfig, "model": NetworkOptions}.get(part)
    return json.loads(json.dumps(dataclasses.asdict(kind()))) if kind else {}


def _difference(there: Mapping[str, Any], here: Mapping[str, Any], prefix: str = "") -> str:
    """Describe the first value that differs; "" if none does."""
    for key in (*there, *here):
        old, new = there.get(key), here.get(key)
        if old != new:
            if isinstance(old, dict) and isinstance(new, dict):
                return _difference(old, new, f"{prefix}{key}.")
            return f"{prefix}{key} is {json.dumps(old)} there and {json.dumps(new)} here"
    return ""


def read_config(run: epath.Path) -> RunConfig:
    """Read a run's configuration.

    Raises
    ------
    UserError
        If the folder is not a run's folder, or its configuration is damaged.
    """
    path = run / "config.json"
    if not path.exists():
        raise UserError(f"{run}: not a run's folder (no config.json); give <out>/<cell>")
    try:
        config = config_from_mapping(json.loads(path.read_text()))
        if len(config.data.tag_names) != config.model.n_tags:
            raise ValueError
    # Not JSON, or JSON of another form.
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: not a run's configuration, or a truncated one; give another run, or delete "
            f"{run} and train it again"
        ) from error
    return config


def read_result(run: epath.Path) -> RunResult | None:
    """Read a run's result; None if it is missing or damaged."""
    path = run / "result.json"
    if not path.exists():
        return None
    try:
        result = result_from_mapping(json.loads(path.read_text()))
    # Not JSON, or JSON of another form.
    except (ValueError, LookupError, TypeError, AttributeError):
        warnings.warn(f"{path}: damaged; the run does not count as finished", stacklevel=2)
        return None
    if result.learning_rate is None and (run / "config.json").exists():
        # Of an older version, which wrote them into the configuration only.
        train = read_config(run).train
        if train is not None:
            result = dataclasses.replace(
                result,
                learning_rate=train.learning_rate,
                max_train_seconds=train.max_train_seconds,
            )
    return result


def _read_json(path: epath.Path) -> dict[str, Any] | None:
    """Read a JSON file; None if it is truncated or otherwise damaged."""
    try:
        return json.loads(path.read_text())
    except ValueError:  # Not JSON, or not even text.
        return None


def read_results(out: epath.Path) -> dict[str, RunResult]:
    """Read the results of all finished runs of a sweep, by name."""
    return {
        path.parent.name: result
        for path in sorted(out.glob("*/result.json"))
        if (result := read_result(path.parent)) is not None
    }


def write_tables(out: epath.Path, *, folds: bool = True) -> None:
    """Rebuild ``results.csv`` and ``per_tag.csv`` from the runs' files alone.

    With `folds`, also ``folds.csv``, if there is a cross-validation; that takes longer.

    One process at a time reads and writes, so that the last one's tables have every result.
    """
    with lock(out / LOCKS / "tables", wait=True):
        results = list(read_results(out).values())
        rows = (_row(result, RESULT_COLUMNS) for result in results)
        write_file(out / "results.csv", _csv(RESULT_COLUMNS, rows))
        rows = (
            _row(result, (*CELL_COLUMNS, *AXIS_COLUMNS)) + _row(tag, TAG_COLUMNS)
            for result in results
            for tag in result.per_tag
        )
        columns = (*CELL_COLUMNS, *AXIS_COLUMNS, *TAG_COLUMNS)
        write_file(out / "per_tag.csv", _csv(columns, rows))
        if folds and any(result.fold is not None for result in results):
            write_file(out / "folds.csv", _csv(FOLDS_COLUMNS, _score_folds(out)))


def _score_folds(out: epath.Path) -> Iterator[list[Any]]:
    """Score the predictions of all folds of a network together: every clip is in one of them."""
    from crnn_jax.train.metrics import measure_calibration, score_tags

    networks: dict[tuple, list[epath.Path]] = {}
    for path in sorted(out.glob("*/result.json")):
        config = read_config(path.parent)
        if config.data.fold is not None and config.train is not None:
            key = _row(config, CELL_COLUMNS) + _row(config.train, AXIS_COLUMNS[:-1])
            networks.setdefault((*key, config.data.folds), []).append(path.parent)
    for network, its_runs in networks.items():
        if len(its_runs) < network[-1]:
            continue
        # One network's at a time: a large set has many.
        folds = [found for run in its_runs if (found := read_predictions(run)) is not None]
        if len(folds) < network[-1]:
            continue
        logits, targets = (
            np.concatenate([getattr(predictions, name) for predictions in folds])
            for name in ("logits", "targets")
        )
        scores, calibration = score_tags(targets, logits), measure_calibration(targets, logits)
        yield [
            *network,
            *(len(targets), scores.n_scored, scores.macro_auc, scores.macro_average_precision),
            *(calibration.cross_entropy, calibration.error),
        ]


def _row(record: object, columns: Sequence[str]) -> list[Any]:
    return [getattr(record, column) for column in columns]


def _csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    return csv_text([columns, *rows]).encode()
