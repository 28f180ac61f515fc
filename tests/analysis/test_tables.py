"""Tables are read as they were written; what is damaged is named in one line."""

import csv
import itertools
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crnn_jax.analysis.tables import (
    LATER_COLUMNS,
    PER_TAG_COLUMNS,
    mean_over_seeds,
    mean_tag_auc,
    read_per_tag,
    read_results,
)
from crnn_jax.errors import UserError
from crnn_jax.figures.draw import RESULT_COLUMNS, TAG_COLUMNS
from crnn_jax.study import schema
from crnn_jax.user_text import csv_text
from tests.tables import (
    ARCHITECTURES,
    RULES,
    TAGS,
    assert_one_line,
    make_results,
    make_scores,
    write_csv,
    write_sweep,
)

COMMITTED = Path(__file__).parents[2] / "results"


@pytest.fixture
def sweep(tmp_path):
    return write_sweep(tmp_path)


def read(path):
    """The columns that figures need, of either table."""
    if path.name == "results.csv":
        return read_results(path.parent, RESULT_COLUMNS)
    return read_per_tag(path.parent, TAG_COLUMNS)


# Reading


def test_rows_come_back_as_they_were_written(tmp_path):
    results = make_results()
    results.loc[0, ["test_auc", "train_s", "device_count"]] = None
    results.loc[0, "device"] = ""
    scores = make_scores(tags={'a "quoted", tag': "genre", "ambiance féerique": "", "NA": "nan"})
    scores.loc[0, "auc"] = None
    write_csv(tmp_path / "results.csv", results)
    write_csv(tmp_path / "per_tag.csv", scores)
    pd.testing.assert_frame_equal(read(tmp_path / "results.csv"), results, check_exact=True)
    pd.testing.assert_frame_equal(read(tmp_path / "per_tag.csv"), scores, check_exact=True)


@pytest.mark.parametrize("study", ["demo", "clips"])
@pytest.mark.parametrize(
    ("name", "read_table", "columns"),
    [
        ("results.csv", read_results, schema.RESULT_COLUMNS),
        ("per_tag.csv", read_per_tag, PER_TAG_COLUMNS),
    ],
)
def test_committed_tables_are_read_in_full(study, name, read_table, columns):
    table = read_table(COMMITTED / study)
    with (COMMITTED / study / name).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(table.columns) == columns
    # Those that were written by older versions lack some columns, and these are empty.
    assert set(columns) - set(rows[0]) <= LATER_COLUMNS
    assert list(rows[0]) == [column for column in columns if column in rows[0]]
    assert table[list(set(columns) - set(rows[0]))].isna().all(axis=None)
    assert len(table) == len(rows)
    for row, (_, values) in zip(rows, table.iterrows(), strict=True):
        for column, field in row.items():
            value = values[column]
            if isinstance(value, str):
                assert value == field
            elif field:
                assert value == float(field)
            else:
                assert pd.isna(value)


def test_whole_numbers_and_text_keep_their_types(sweep):
    results = read_results(sweep, RESULT_COLUMNS)
    assert [str(results[name].dtype) for name in ("target", "params", "seed")] == ["int64"] * 3
    assert results["device_count"].dtype == "Int64"
    assert all(isinstance(name, str) for name in results["arch"])


def test_text_that_a_spreadsheet_would_compute_comes_back(tmp_path):
    tags = ("=1+1", "+1", "-0.5", "@x", "\tx", "a\rb", "a\nb", "'=x", "'80s")
    axes = (1e-3, 1.0, None, None)
    rows = [("crnn", "uniform", 1000, 0, *axes, tag, tag, 1, 2, 0.5, None, None) for tag in tags]
    text = csv_text([PER_TAG_COLUMNS, *rows])
    (tmp_path / "per_tag.csv").write_text(text, encoding="utf-8", newline="")
    table = read_per_tag(tmp_path)
    assert table["tag"].tolist() == table["category"].tolist() == list(tags)


def test_any_architecture_may_be_in_a_table(sweep):
    write_csv(sweep / "results.csv", make_results(targets=(100_000,)), arch="mynet")
    assert read_results(sweep, RESULT_COLUMNS)["arch"].unique().tolist() == [
        *("mynet", "conv1d", "conv2d", "crnn")
    ]


def test_a_byte_order_mark_is_no_part_of_the_first_column(sweep):
    path = sweep / "results.csv"
    table = read(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    pd.testing.assert_frame_equal(read(path), table)


def test_blank_lines_are_passed_over_and_counted(sweep):
    path = sweep / "results.csv"
    table = read(path)
    header, first, *rest = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([header, first, "", *rest, "", ""]), encoding="utf-8")
    pd.testing.assert_frame_equal(read(path), table)
    damaged = rest[0].replace(",100000,", ",many,")
    path.write_text("\n".join([header, first, "", damaged]), encoding="utf-8")
    with pytest.raises(UserError, match="row 4: target 'many'"):
        read(path)


# Means


def test_means_and_ranges_over_seeds():
    results = make_results()
    results.loc[0, "test_auc"] = None
    results.loc[1, "train_s"] = 0.0
    means = mean_over_seeds(results, "train_s")
    assert len(means) == 12
    for arch, rule, target in itertools.product(ARCHITECTURES, RULES, (100_000, 250_000)):
        (mean,) = means[
            (means["arch"] == arch) & (means["rule"] == rule) & (means["target"] == target)
        ].itertuples()
        seeds = [
            row
            for row in results.itertuples()
            if (row.arch, row.rule, row.target) == (arch, rule, target)
            and not math.isnan(row.test_auc)
            and row.train_s > 0
        ]
        aucs = [row.test_auc for row in seeds]
        assert mean.n_seeds == len(seeds)
        np.testing.assert_allclose(mean.train_s, np.mean([row.train_s for row in seeds]))
        np.testing.assert_allclose(mean.test_auc, np.mean(aucs))
        assert (mean.lowest_auc, mean.highest_auc) == (min(aucs), max(aucs))


def test_a_tag_that_one_architecture_has_no_auc_for_has_no_mean_there():
    scores = make_scores()
    gone = (scores["arch"] == "crnn") & (scores["tag"] == "sad")
    # One seed of two is enough for a mean.
    scores.loc[gone | (scores.index == 0), "auc"] = None
    means = mean_tag_auc(scores)
    assert means.index.tolist() == list(TAGS)
    assert means.isna().sum().to_dict() == {"conv1d": 0, "conv2d": 0, "crnn": 1}
    assert math.isnan(means.loc["sad", "crnn"])
    (only,) = scores[(scores["arch"] == "conv1d") & (scores["tag"] == "slow")]["auc"].dropna()
    assert means.loc["slow", "conv1d"] == only


# Damage


@pytest.mark.parametrize("name", ["results.csv", "per_tag.csv"])
def test_a_missing_file_is_named_with_the_command_that_writes_it(sweep, name):
    (sweep / name).unlink()
    with pytest.raises(UserError) as error:
        read(sweep / name)
    assert_one_line(error, str(sweep / name), f"`crnn-jax sweep … --out {sweep}` writes it")


@pytest.mark.parametrize("name", ["results.csv", "per_tag.csv"])
@pytest.mark.parametrize("rows_kept", [0, 1])
def test_an_empty_file_is_named(sweep, name, rows_kept):
    path = sweep / name
    header = path.read_text(encoding="utf-8").splitlines(keepends=True)[:rows_kept]
    path.write_text("".join(header), encoding="utf-8")
    with pytest.raises(UserError) as error:
        read(path)
    assert_one_line(error, str(path), "holds no rows", "crnn-jax sweep")


def test_missing_columns_are_named(sweep):
    path = sweep / "results.csv"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("test_auc", "auc").replace("train_s", "t"), encoding="utf-8")
    with pytest.raises(UserError) as error:
        read(path)
    assert_one_line(error, str(path), "lacks the column test_auc, train_s", "crnn-jax sweep")


@pytest.mark.parametrize(
    ("column", "value", "complaint"),
    [
        ("target", "many", "target 'many' is not a whole number above 0"),
        ("target", "1e5", "target '1e5' is not a whole number above 0"),
        ("seed", "-1", "seed '-1' is not a whole number of at least 0"),
        ("params", "", "params '' is not a whole number above 0"),
        ("params", "0", "params '0' is not a whole number above 0"),
        ("test_auc", "0,81", "test_auc '0,81' is not a number of at least 0"),
        ("test_auc", "nan", "test_auc 'nan' is not a number of at least 0"),
        ("train_s", "inf", "train_s 'inf' is not a number of at least 0"),
        ("train_s", "-3", "train_s '-3' is not a number of at least 0"),
        ("train_s", "1e999", "train_s '1e999' is not a number of at least 0"),
        ("device_count", "two", "device_count 'two' is not a whole number of at least 0"),
        ("device_count", "9" * 20, "is not a whole number of at least 0"),
        ("arch", "", "arch '' is not a name"),
        ("rule", "", "rule '' is not one of uniform, sqrt"),
        ("rule", "cube", "rule 'cube' is not one of uniform, sqrt"),
    ],
)
def test_a_damaged_value_is_named_with_its_row(sweep, column, value, complaint):
    path = sweep / "results.csv"
    write_csv(path, make_results(targets=(100_000,)), **{column: value})
    with pytest.raises(UserError) as error:
        read(path)
    command = f"`crnn-jax sweep … --out {sweep}` writes it again"
    assert_one_line(error, f"{path}: row 2: {column} {value!r}", f"{complaint}; {command}")


def test_the_row_of_the_first_damaged_value_is_named(sweep):
    path = sweep / "results.csv"
    results = make_results(targets=(100_000,)).astype(object)
    results.loc[[3, 5], "test_auc"] = "high"
    write_csv(path, results)
    with pytest.raises(UserError, match="row 5: test_auc 'high'"):
        read(path)


def test_a_line_cut_short_is_named(sweep):
    path = sweep / "per_tag.csv"
    text = path.read_text(encoding="utf-8")
    path.write_text(text[: text.rindex(",uniform,")], encoding="utf-8")
    with pytest.raises(UserError) as error:
        read(path)
    n_lines = len(text.splitlines())
    assert_one_line(error, f"{path}: row {n_lines}: ends before the column rule")


@pytest.mark.parametrize("row", [2, 4])
def test_a_line_with_too_many_fields_is_named(sweep, row):
    path = sweep / "per_tag.csv"
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[row - 1] += ",1"
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(UserError) as error:
        read(path)
    assert_one_line(error, str(path), f" {row}", "crnn-jax sweep")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"arch,rule\n" + b'"' + b"a" * 200_000])
def test_a_file_that_is_no_csv_is_named(sweep, content):
    (sweep / "per_tag.csv").write_bytes(content)
    with pytest.raises(UserError) as error:
        read(sweep / "per_tag.csv")
    assert_one_line(error, str(sweep / "per_tag.csv"), "crnn-jax sweep")


@given(text=st.text(alphabet='arch,"\n\r\x00 1', max_size=60))
def test_whatever_follows_the_header_is_read_or_refused_in_one_line(tmp_path_factory, text):
    folder = tmp_path_factory.mktemp("any")
    (folder / "results.csv").write_text(f"arch,seed\n{text}", encoding="utf-8", newline="")
    try:
        table, message = read_results(folder, ("arch", "seed")), None
    except UserError as error:
        table, message = None, str(error)
    if table is None:
        assert message.startswith(f"{folder / 'results.csv'}: ")
        assert "\n" not in message
    else:
        assert (table["arch"] != "").all()
        assert (table["seed"] >= 0).all()
