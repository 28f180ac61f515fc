"""Files of a run: whole or not there, and never another run's."""

import csv
import json
from pathlib import Path

import pytest
from etils import epath

from crnn_jax import runs
from crnn_jax.errors import UserError
from crnn_jax.plots import TagScore, read_rows


@pytest.fixture
def out(tmp_path):
    return epath.Path(tmp_path)


def a_result(**changes):
    result = dict.fromkeys(runs.RESULT_COLUMNS, 1)
    result["per_tag"] = [dict.fromkeys(runs.TAG_COLUMNS, 2), {**dict.fromkeys(runs.TAG_COLUMNS)}]
    return {**result, **changes}


def test_a_file_is_replaced_in_one_step(out):
    path = out / "a.json"
    runs.write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        runs.write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in out.iterdir()] == ["a.json"]


def test_tables_are_those_of_the_results(out):
    for name, arch in (("b", "crnn"), ("a", "conv1d")):
        (out / name).mkdir()
        runs.write_json(out / name / "result.json", a_result(arch=arch, ended_by=None))
    (out / "unfinished").mkdir()
    runs.write_tables(out)
    with (out / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == runs.RESULT_COLUMNS
    assert [(row["arch"], row["ended_by"]) for row in rows] == [("conv1d", ""), ("crnn", "")]
    with (out / "per_tag.csv").open() as file:
        tags = list(csv.DictReader(file))
    assert tuple(tags[0]) == runs.RUN_COLUMNS + runs.TAG_COLUMNS
    assert [(row["arch"], row["auc"]) for row in tags] == [
        ("conv1d", "2"),
        ("conv1d", ""),
        ("crnn", "2"),
        ("crnn", ""),
    ]


def test_a_tag_is_no_formula_in_a_table_and_keeps_its_name(out):
    tags = ("=cmd|' /C calc'!A0", "+1", "-0.5", "@x", "\tx", "\rx", "a\rb", "'=x", "'80s")
    rows = [{**dict.fromkeys(runs.TAG_COLUMNS, 1), "tag": tag, "category": tag} for tag in tags]
    result = a_result(arch="crnn", rule="uniform", dataset="=evil", s=-0.5, per_tag=rows)
    (out / "a").mkdir()
    runs.write_json(out / "a" / "result.json", result)
    runs.write_tables(out)
    with Path(out, "results.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    # A number stays one; text is not computed.
    assert (row["s"], row["dataset"]) == ("-0.5", "'=evil")
    with Path(out, "per_tag.csv").open(newline="", encoding="utf-8") as file:
        stored = [row["tag"] for row in csv.DictReader(file)]
    assert len(stored) == len(tags)
    assert not any(tag.startswith(tuple("=+-@\t\r")) for tag in stored)
    assert [score.tag for score in read_rows(out / "per_tag.csv", TagScore)] == list(tags)
    assert [score.category for score in read_rows(out / "per_tag.csv", TagScore)] == list(tags)


def test_a_folder_is_claimed_by_one_configuration(out):
    run = out / "cell"
    runs.claim_folder(run, {"model": {"widths": (1, 2)}, "seed": 0})
    runs.claim_folder(run, {"model": {"widths": (1, 2)}, "seed": 0})
    before = (run / "config.json").read_text()
    with pytest.raises(UserError, match=r"model.widths is \[1, 2\] there and \[1, 3\] here"):
        runs.claim_folder(run, {"model": {"widths": (1, 3)}, "seed": 0})
    assert (run / "config.json").read_text() == before


def test_a_folder_that_is_no_runs(out):
    with pytest.raises(UserError, match="not a run's folder"):
        runs.read_config(out)


def test_a_run_is_identified_by_what_its_numbers_depend_on(out):
    run = out / "cell"

    def config(train=None, data=None, **rest):
        return {
            "numerics": 2,
            "seed": 0,
            "train": {"epochs": 3, **(train or {})},
            "data": {"name": "folder/x", "tracks_digest": "abc", **(data or {})},
            **rest,
        }

    runs.claim_folder(run, config(data={"path": "/a"}))
    # Elsewhere by now: that is noted. What older versions wrote beside it does not matter.
    runs.claim_folder(run, config(train={"read_threads": 9}, data={"path": "/b"}))
    assert runs.read_config(run)["data"]["path"] == "/b"
    for other, message in (
        (config(train={"epochs": 4}), "train.epochs is 3 there and 4 here"),
        (config(data={"tracks_digest": "xyz"}), 'data.tracks_digest is "abc" there'),
        (config(numerics=3), "numerics is 2 there and 3 here"),
    ):
        with pytest.raises(UserError, match=message):
            runs.claim_folder(run, other)


def test_folders_of_older_versions(out):
    """They say less, and were computed by other rules."""
    run = out / "cell"
    new = {"numerics": 1, "train": {"epochs": 3, "matmul_precision": "float32"}}
    run.mkdir()
    runs.write_json(run / "config.json", {"train": {"epochs": 3, "read_threads": 2}})
    runs.claim_folder(run, new)
    with pytest.raises(UserError, match="numerics is 1 there and 2 here"):
        runs.claim_folder(run, {**new, "numerics": 2})


def test_a_result_of_an_older_version_leaves_cells_empty(out):
    (out / "a").mkdir()
    old = a_result(arch="crnn")
    del old["peak_memory_bytes"], old["per_tag"][0]["ap"]
    runs.write_json(out / "a" / "result.json", old)
    runs.write_tables(out)
    with (out / "results.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["arch"], row["peak_memory_bytes"]) == ("crnn", "")
