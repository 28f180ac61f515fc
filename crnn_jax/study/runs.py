"""A run on disk: its name, its files, and how they are written and read back.

``result.json`` is there if and only if a run is done. Every file is complete or not there: it is
written under another name, brought to the disk, and then renamed. Of several processes that work on
one folder, one at a time holds a run, by a lock that ends with the process.
"""

import contextlib
import json
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from etils import epath

from crnn_jax.config import NOT_OF_NUMBERS
from crnn_jax.errors import UserError
from crnn_jax.files import write_file
from crnn_jax.locks import lock
from crnn_jax.user_text import csv_text

# Folder of a sweep's locks: beside the runs, whose folders hold results alone.
LOCKS = ".locks"
# Columns of results.csv; every one of them is a key of result.json.
RESULT_COLUMNS = (
    "arch",
    "rule",
    "target",
    "seed",
    "params",
    "s",
    "valid_auc",
    "test_auc",
    "test_ap",
    "epochs",
    "best_epoch",
    "ended_by",
    "compile_s",
    "train_s",
    "eval_s",
    "input_wait_s",
    "seconds_per_2500_samples",
    "samples_per_s",
    "flops_per_sample",
    "peak_memory_bytes",
    "n_train",
    "n_valid",
    "n_test",
    "n_tags",
    "n_tags_scored",
    "dataset",
    "device",
    "device_count",
)
# Columns of per_tag.csv: the run's, then the tag's.
RUN_COLUMNS = ("arch", "rule", "target", "seed")
TAG_COLUMNS = ("tag", "category", "popularity_rank", "n_test_positive", "auc", "ap")


def run_name(arch: str, target: int, rule: str, seed: int) -> str:
    """Folder name of a cell."""
    return f"{arch}-{target}-{rule}-seed{seed}"


def write_text(path: epath.Path, text: str) -> None:
    """Write a file so that it is either the old one or the new one, never a part."""
    write_file(path, text.encode())


@contextlib.contextmanager
def hold(run: epath.Path) -> Iterator[bool]:
    """Hold a run's folder for this process; False if another one holds it."""
    with lock(run.parent / LOCKS / run.name, wait=False) as held:
        if held and run.exists():
            # Of a process that was killed while it wrote.
            for leftover in run.glob(".*.tmp"):
                leftover.unlink()
        yield held


def write_json(path: epath.Path, values: Any) -> None:
    """Write JSON; see `write_text`.

    Raises
    ------
    ValueError
        If a number is not finite: JSON has no word for it.
    """
    write_text(path, json.dumps(values, indent=2, allow_nan=False) + "\n")


def write_failure(run: epath.Path, error: str, traceback: str) -> None:
    """Write ``failed.json``, into a folder that may not have been claimed yet."""
    run.mkdir(parents=True, exist_ok=True)
    write_json(run / "failed.json", {"error": error, "traceback": traceback})


def claim_folder(run: epath.Path, config: Mapping[str, Any]) -> None:
    """Make a run's folder for this configuration, or find it there with the same one.

    The place of the data set may differ, and then becomes what it is now.

    Raises
    ------
    UserError
        If it belongs to another configuration: it is left as it is.
    """
    path = run / "config.json"
    if not path.exists():
        run.mkdir(parents=True, exist_ok=True)
        write_json(path, config)
        return
    there = _read_json(path)
    if there is None:
        raise UserError(f"{path}: not whole; delete {run} and give the command again")
    here = json.loads(json.dumps(config))
    if (old := _identity(there, here)) != (new := _identity(here, here)):
        raise UserError(
            f"--out {run.parent}: {run.name} was made with another configuration "
            f"({_difference(old, new)}); give another folder"
        )
    if there != here:
        write_json(path, config)


def _identity(config: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """What of a configuration the numbers depend on.

    Older files do not say all that `now`, today's configuration, says: nothing differs there.
    """
    identity = {"numerics": 1, **config}
    for part in {"model", "train", "data"} & config.keys() & now.keys():
        complete = {**now[part], **config[part]}
        identity[part] = {k: v for k, v in complete.items() if k not in (*NOT_OF_NUMBERS, "path")}
    return identity


def _difference(there: Mapping[str, Any], here: Mapping[str, Any], prefix: str = "") -> str:
    """The first value that differs, in words."""
    for key in (*there, *here):
        old, new = there.get(key), here.get(key)
        if old != new:
            if isinstance(old, dict) and isinstance(new, dict):
                return _difference(old, new, f"{prefix}{key}.")
            return f"{prefix}{key} is {json.dumps(old)} there and {json.dumps(new)} here"
    return "keys in another order"


def read_config(run: epath.Path) -> dict[str, Any]:
    """A run's configuration.

    Raises
    ------
    UserError
        If the folder is not a run's.
    """
    path = run / "config.json"
    if not path.exists():
        raise UserError(f"{run}: not a run's folder (no config.json); give <out>/<cell>")
    return json.loads(path.read_text())


def read_result(run: epath.Path) -> dict[str, Any] | None:
    """A run's result, or None if there is none, or none that is whole."""
    path = run / "result.json"
    if not path.exists():
        return None
    if (result := _read_json(path)) is None:
        warnings.warn(f"{path}: not whole; the run is not counted as finished", stacklevel=2)
    return result


def _read_json(path: epath.Path) -> dict[str, Any] | None:
    """What a JSON file says; None if it is cut short or spoiled."""
    try:
        return json.loads(path.read_text())
    except ValueError:  # Not JSON, or not even text.
        return None


def read_results(out: epath.Path) -> list[dict[str, Any]]:
    """The results of all finished runs of a sweep, by name."""
    results = (read_result(path.parent) for path in sorted(out.glob("*/result.json")))
    return [result for result in results if result is not None]


def write_tables(out: epath.Path) -> None:
    """Rebuild ``results.csv`` and ``per_tag.csv`` from the ``result.json`` files alone.

    One process at a time reads and writes, so that the last one's tables have every result.
    """
    with lock(out / LOCKS / "tables", wait=True):
        results = read_results(out)
        write_text(out / "results.csv", _csv_text(RESULT_COLUMNS, results))
        tags = ({**result, **tag} for result in results for tag in result["per_tag"])
        write_text(out / "per_tag.csv", _csv_text((*RUN_COLUMNS, *TAG_COLUMNS), tags))


def _csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    # None is an empty cell, and so is what an older version did not write.
    return csv_text([columns, *([row.get(column) for column in columns] for row in rows)])
