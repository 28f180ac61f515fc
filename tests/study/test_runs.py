"""Files of a run: whole or not there, and never another run's."""

import csv
import dataclasses
import json
from pathlib import Path

import pytest
from etils import epath

from crnn_jax.analysis.tables import PER_TAG_COLUMNS, read_per_tag
from crnn_jax.config import MelConfig, ModelConfig, TrainConfig
from crnn_jax.errors import UserError
from crnn_jax.study import runs, schema
from crnn_jax.study.schema import (
    DataDescription,
    ImportedWeights,
    RunConfig,
    RunResult,
    TagResult,
)


@pytest.fixture
def out(tmp_path):
    return epath.Path(tmp_path)


TAG = TagResult("piano", "instrument", 1, 2, 0.75, 0.5)
MODEL = ModelConfig("conv1d", (2, 3, 3, 2, 4, 5), n_tags=2)


def make_result(**changes):
    values = dict.fromkeys(schema.RESULT_COLUMNS, 1)
    values |= {"arch": "crnn", "rule": "uniform", "dataset": "synthetic", "device": "cpu"}
    values |= {"widths": (1, 2), "mel": MelConfig(), "versions": {}, "git_commit": None}
    values |= {"checkpoint_s": 0.0, "shared_s": 0.0, "ended_by": "epochs", "fold": None}
    values["per_tag"] = (TAG, dataclasses.replace(TAG, auc=None, ap=None))
    return RunResult(**{**values, **changes})


def make_config(*, model=MODEL, epochs=3, tracks_digest="abc", path="/a", **changes):
    values = {
        **{"arch": "conv1d", "target": 99, "rule": "uniform", "seed": 0, "params": 99, "s": 0.5},
        "model": model,
        "train": TrainConfig(epochs=epochs),
        "data": DataDescription(
            name="folder/x",
            path=path,
            mel=MelConfig(),
            tag_names=("piano", "calm"),
            tag_categories=("instrument", "mood"),
            n_examples={"train": 8, "valid": 4, "test": 4},
            tracks_digest=tracks_digest,
        ),
    }
    return RunConfig(**{**values, **changes})


def write(folder, result):
    folder.mkdir()
    runs.write_result(folder, result)


def test_a_result_that_json_has_no_word_for_is_not_written(out):
    runs.write_result(out, make_result())
    before = (out / "result.json").read_text()
    with pytest.raises(ValueError, match="not JSON compliant"):
        runs.write_result(out, make_result(test_auc=float("nan")))
    assert (out / "result.json").read_text() == before
    assert [p.name for p in out.iterdir()] == ["result.json"]


def test_configurations_and_results_are_read_as_they_were_written(out):
    for config in (make_config(), make_config(train=None, imported=ImportedWeights("f", "0", "x"))):
        run = out / str(config.imported is None)
        runs.claim_folder(run, config)
        assert runs.read_config(run) == config
        runs.write_result(run, make_result())
        assert runs.read_result(run) == make_result()
    assert "imported" not in json.loads((out / "True" / "config.json").read_text())


def test_tables_are_those_of_the_results(out):
    for name, arch in (("b", "crnn"), ("a", "conv1d")):
        write(out / name, make_result(arch=arch, s=None))
    (out / "unfinished").mkdir()
    runs.write_tables(out)
    with (out / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == schema.RESULT_COLUMNS
    assert [(row["arch"], row["s"]) for row in rows] == [("conv1d", ""), ("crnn", "")]
    with (out / "per_tag.csv").open() as file:
        tags = list(csv.DictReader(file))
    assert tuple(tags[0]) == PER_TAG_COLUMNS
    assert [(row["arch"], row["auc"]) for row in tags] == [
        ("conv1d", "0.75"),
        ("conv1d", ""),
        ("crnn", "0.75"),
        ("crnn", ""),
    ]


def test_a_tag_is_no_formula_in_a_table_and_keeps_its_name(out):
    tags = ("=cmd|' /C calc'!A0", "+1", "-0.5", "@x", "\tx", "\rx", "a\rb", "'=x", "'80s")
    rows = tuple(dataclasses.replace(TAG, tag=tag, category=tag) for tag in tags)
    write(out / "a", make_result(dataset="=evil", s=-0.5, per_tag=rows))
    runs.write_tables(out)
    with Path(out, "results.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    # A number stays one; text is not computed.
    assert (row["s"], row["dataset"]) == ("-0.5", "'=evil")
    with Path(out, "per_tag.csv").open(newline="", encoding="utf-8") as file:
        stored = [row["tag"] for row in csv.DictReader(file)]
    assert len(stored) == len(tags)
    assert not any(tag.startswith(tuple("=+-@\t\r")) for tag in stored)
    table = read_per_tag(out)
    assert table["tag"].tolist() == table["category"].tolist() == list(tags)


def test_a_folder_is_claimed_by_one_configuration(out):
    run = out / "cell"
    runs.claim_folder(run, make_config())
    runs.claim_folder(run, make_config())
    before = (run / "config.json").read_text()
    other = dataclasses.replace(MODEL, widths=(1, 3))
    with pytest.raises(UserError, match=r"model.widths is \[2, 3, 3, 2, 4, 5\] there and \[1, 3\]"):
        runs.claim_folder(run, make_config(model=other))
    assert (run / "config.json").read_text() == before


def test_a_folder_that_is_no_runs(out):
    with pytest.raises(UserError, match="not a run's folder"):
        runs.read_config(out)
    (out / "config.json").write_text('{"se')
    with pytest.raises(UserError, match="config.json: not a run's configuration"):
        runs.read_config(out)


def test_a_run_is_identified_by_what_its_numbers_depend_on(out):
    run = out / "cell"
    runs.claim_folder(run, make_config())
    # Elsewhere by now: that is noted.
    runs.claim_folder(run, make_config(path="/b"))
    assert runs.read_config(run).data.path == "/b"
    for other, message in (
        (make_config(epochs=4), "train.epochs is 3 there and 4 here"),
        (make_config(tracks_digest="xyz"), 'data.tracks_digest is "abc" there'),
        (make_config(numerics=4), "numerics is 3 there and 4 here"),
    ):
        with pytest.raises(UserError, match=message):
            runs.claim_folder(run, other)


def test_folders_of_older_versions(out):
    """They say less, say what does not matter, and were computed by other rules."""
    run = out / "cell"
    runs.claim_folder(run, make_config(numerics=1))
    old = json.loads((run / "config.json").read_text())
    old["train"] |= {"read_threads": 2, "precision": "float32"}
    del old["numerics"], old["model"]["matmul_precision"], old["data"]["tracks_digest"]
    (run / "config.json").write_text(json.dumps(old))
    assert runs.read_config(run) == make_config(numerics=1, tracks_digest=None)
    runs.claim_folder(run, make_config(numerics=1))
    with pytest.raises(UserError, match="numerics is 1 there and 3 here"):
        runs.claim_folder(run, make_config())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": "cosine"}, 'train.schedule is "constant" there and "cosine" here'),
        ({"parametrization": "mup"}, 'train.parametrization is "standard" there'),
        ({"train_crop": 3.0}, "train.train_crop is null there and 3.0 here"),
        ({"train_fraction": 0.5}, "train.train_fraction is 1.0 there and 0.5 here"),
    ],
)
def test_what_an_older_version_could_not_do_it_has_not_done(out, changes, message):
    """Its folder is not that of a study that uses what came later."""
    run = out / "cell"
    runs.claim_folder(run, make_config())
    old = json.loads((run / "config.json").read_text())
    for name in changes:
        del old["train"][name]
    (run / "config.json").write_text(json.dumps(old))
    runs.claim_folder(run, make_config())
    (run / "config.json").write_text(json.dumps(old))
    with pytest.raises(UserError, match=message):
        runs.claim_folder(run, make_config(train=TrainConfig(epochs=3, **changes)))


def test_results_of_an_older_version_know_how_they_were_trained(out):
    write(out / "a", make_result())
    runs.claim_folder(out / "a", make_config(train=TrainConfig(learning_rate=0.25)))
    stored = json.loads((out / "a" / "result.json").read_text())
    for name in ("learning_rate", "max_train_seconds"):
        del stored[name]
    (out / "a" / "result.json").write_text(json.dumps(stored))
    result = runs.read_result(out / "a")
    assert (result.learning_rate, result.max_train_seconds) == (0.25, None)


def test_a_result_of_an_older_version_leaves_cells_empty(out):
    write(out / "a", make_result())
    old = json.loads((out / "a" / "result.json").read_text())
    del old["peak_memory_bytes"], old["per_tag"][0]["ap"]
    (out / "a" / "result.json").write_text(json.dumps(old))
    runs.write_tables(out)
    with (out / "results.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["arch"], row["peak_memory_bytes"]) == ("crnn", "")
