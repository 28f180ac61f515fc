"""A study's page as a file: what is in it, and when there is none."""

import dataclasses
import html.parser
import itertools
import json
import re
import shutil
import subprocess
import sys

import pytest
from etils import epath

from crnn_jax.analysis.study import analyse
from crnn_jax.report.contents import AXES, LONGEST_CURVE, gather, list_lines
from crnn_jax.report.study_page import render
from crnn_jax.study import runs
from crnn_jax.study.schema import Cell
from tests.analysis.studies import GAINS, make_split, write_run, write_speeds, write_study
from tests.report.conftest import write_history

pytest.importorskip("altair", reason="needs the extra `report`")

ONE = Cell("crnn", 25_000, "uniform", 0)


@pytest.fixture
def out(tmp_path):
    return epath.Path(tmp_path / "study")


class Text(html.parser.HTMLParser):
    """The text of a page, and its script's contents."""

    def __init__(self, page):
        super().__init__()
        self.words, self.contents, self._inside = [], None, None
        self.feed(page.decode())

    def handle_starttag(self, tag, attrs):
        self._inside = dict(attrs).get("id") if tag == "script" else tag

    def handle_endtag(self, tag):
        self._inside = None

    def handle_data(self, data):
        if self._inside == "contents":
            self.contents = json.loads(data)
        elif self._inside not in (None, "style", "script"):
            self.words.append(data)


def read(command, out, *flags):
    code, said, err = command("report", out, *flags)
    assert (code, err) == (0, "")
    return Text(epath.Path(said.strip()).read_bytes())


def test_the_contents_are_the_analysis(study):
    analysis = analyse(study)
    tables = gather(study, analysis).tables
    assert tables["points"]["auc"] == pytest.approx(
        [row.auc for row in analysis.networks], rel=1e-4
    )
    assert tables["points"]["params"] == [row.params for row in analysis.networks]
    assert tables["points"]["low"] == pytest.approx(
        [row.auc_interval[0] for row in analysis.networks], rel=1e-4
    )
    of_tag = analysis.networks[3].tags[2]
    place = 3 * len(analysis.tags) + 2
    assert tables["tagScores"]["auc"][place] == pytest.approx(of_tag[0], rel=1e-4)
    assert tables["tagScores"]["high"][place] == pytest.approx(of_tag[1][1], rel=1e-4)
    # Against the results themselves.
    first = [
        runs.read_result(study / f"conv2d-25000-uniform-seed{seed}").per_tag[0].auc
        for seed in range(3)
    ]
    assert tables["tagScores"]["auc"][0] == pytest.approx(sum(first) / 3, abs=2e-4)


@pytest.mark.parametrize("n_with_laws", [0, 2, 6])
def test_charts_are_valid_vega_lite(n_with_laws):
    from crnn_jax.report.charts import draw_charts, make_charts

    lines = list_lines(itertools.product(("k2c1", "conv1d", "crnn"), ("uniform", "sqrt")))
    names = [line.name for line in lines[:n_with_laws]]
    laws = dict.fromkeys(AXES, names)
    charts = draw_charts(lines, with_laws=laws, has_curves=True)
    # Raises if the schema does not allow it.
    valid = {name: chart.to_dict(validate=True) for name, chart in charts.items()}
    assert valid == make_charts(lines, with_laws=laws, has_curves=True)
    assert len(valid) == 4 + 1 + 4
    # What a screen reader says of a chart.
    assert all(chart["description"] for chart in valid.values())


def test_a_page_of_a_hundred_cells_and_fifty_tags_is_below_three_megabytes(out, command):
    tags = {f"a tag with a long name {number}": f"category {number % 6}" for number in range(50)}
    split = make_split(60, tags=tags)
    for arch in ("k2c1", "conv1d", "conv2d", "crnn"):
        for size in range(25):
            cell = Cell(arch, 25_000 + 1000 * size, "uniform", 0)
            result = write_run(out, cell, 1.0, split, tags=tags)
            write_history(out / cell.name, result, n_epochs=1000)
    code, said, _ = command("report", out, "--resamples", 100)
    assert code == 0
    assert epath.Path(said.strip()).stat().length < 3e6


def test_a_long_curve_is_thinned_but_not_its_end(out):
    result = write_run(out, ONE, 1.0, make_split())
    write_history(out / ONE.name, result, n_epochs=1234)
    curves = gather(out, analyse(out)).tables["curves"]
    assert len(curves["epoch"]) <= LONGEST_CURVE + 1
    assert (curves["epoch"][0], curves["epoch"][-1]) == (1, 1234)
    assert curves["auc"][-1] == pytest.approx(result.valid_auc, rel=1e-4)


def test_only_laws_that_the_scores_determine_are_drawn(study):
    analysis = analyse(study)
    of_auc = {
        (law.arch, law.cost): law.law.identified
        for law in analysis.laws
        if law.score == "1 - test_auc"
    }
    # The study has laws of both kinds.
    assert set(of_auc.values()) == {True, False}
    contents = gather(study, analysis)
    archs = [line.arch for line in contents.lines]
    laws = contents.tables["laws"]
    drawn = {(archs[line], axis) for line, axis in zip(laws["line"], laws["axis"], strict=True)}
    assert drawn == {key for key, identified in of_auc.items() if identified}
    # The points of the others are joined.
    charts = Text(render(contents, "")).contents["charts"]
    for (arch, cost), identified in of_auc.items():
        filters = re.findall(r"indexof\((\[.*?\])", str(charts[f"auc-{cost}"]["layer"]))
        joined = [name for each in filters for name in json.loads(each)]
        name = contents.lines[archs.index(arch)].name
        assert (name in joined) == (not identified)


def test_times_that_were_measured_alone(study, command, tmp_path):
    speeds = write_speeds(tmp_path / "speeds.csv")
    page = read(command, study, "--times", speeds, "--out", tmp_path / "page.html")
    times = [row.train_s for row in analyse(study, times=speeds).networks]
    assert page.contents["tables"]["points"]["train_s"] == pytest.approx(times, rel=1e-3)
    # The dots of the seeds are where their mean is.
    dots = page.contents["tables"]["runs"]
    for network, seconds in enumerate(times):
        of_seeds = [
            each
            for number, each in zip(dots["network"], dots["train_s"], strict=True)
            if number == network
        ]
        assert len(of_seeds) == 3
        assert sum(of_seeds) / 3 == pytest.approx(seconds, rel=1e-3)
    assert times != [row.train_s for row in analyse(study).networks]
    assert any(f"those at the speeds of {speeds}" in word for word in page.words)
    # What was measured then.
    own = [row.train_s for row in runs.read_results(study).values()]
    assert max(page.contents["tables"]["curves"]["seconds"]) == pytest.approx(max(own), rel=1e-3)


def test_without_predictions_there_are_no_intervals(out, command):
    write_study(out, GAINS, seeds=(0,), with_predictions=False)
    page = read(command, out)
    assert set(page.contents["tables"]["points"]["low"]) == {None}
    assert page.contents["tables"]["tagScores"]["auc"]
    assert any("no predictions-test.npz" in word for word in page.words)
    assert any(word.startswith("the best of all is") for word in page.words)


def test_results_of_an_older_version_and_damaged_histories_are_shown(out, command):
    write_study(out, GAINS, seeds=(0,))
    for number, path in enumerate(sorted(out.glob("*/result.json"))):
        values = json.loads(path.read_text())
        for name in ("test_bce", "learning_rate", "fold", "test_auc_unheard", "shared_s"):
            del values[name]
        path.write_text(json.dumps(values))
        (path.parent / "metrics.jsonl").write_text(
            ("", "{", "[]\n", '{"epoch": "x"}\n')[number % 4]
        )
    page = read(command, out)
    assert page.contents["tables"]["curves"]["run"] == []
    assert any("metrics.jsonl are not in this folder" in word for word in page.words)


def test_failed_and_unfinished_cells_are_told(out, command):
    write_study(out, GAINS, targets=(25_000,), seeds=(0,))
    runs.write_failure(out / "crnn-9-uniform-seed0", "diverged at step 3", "Traceback")
    (out / "conv1d-9-uniform-seed0").mkdir()
    (out / "conv1d-9-uniform-seed0" / "config.json").write_text("{}")
    page = read(command, out)
    assert "diverged at step 3" in page.words
    assert "1 cells are not finished yet" in page.words


def test_the_verdict_names_the_best_of_all_beside_the_best_of_each_rule(out, command):
    write_study(out, GAINS, targets=(25_000,), seeds=(0,))
    write_run(out, Cell("conv2d", 25_000, "sqrt", 0), 3.0, make_split())
    words = read(command, out).words
    best = runs.read_result(out / "conv2d-25000-sqrt-seed0").test_auc
    (first,) = (word for word in words if word.startswith("the best of all"))
    assert first.startswith("the best of all is conv2d (√s) of 25,005 parameters: AUC ")
    assert float(first.split("AUC ")[1][:5]) == pytest.approx(best, abs=1e-3)
    assert any(word.startswith("at 25,000 parameters crnn leads conv2d by") for word in words)


def test_runs_of_other_learning_rates_are_in_the_table_alone(out, command):
    write_study(out, GAINS, targets=(25_000, 50_000), seeds=(0,))
    worse = dataclasses.replace(ONE, learning_rate=1e-5)
    write_run(out, worse, 0.1, make_split())
    page = read(command, out)
    assert worse.name not in page.contents["tables"]["runs"]["name"]
    assert worse.name in page.words


def test_a_run_that_the_analysis_leaves_out_is_not_drawn(out, command):
    """One whose test split is another than most."""
    write_study(out, GAINS, targets=(25_000,), seeds=(0, 1))
    odd = dataclasses.replace(ONE, seed=2)
    write_run(out, odd, 1.0, make_split(seed=9))
    page = read(command, out)
    assert len(page.contents["tables"]["runs"]["name"]) == 4
    assert odd.name not in page.contents["tables"]["runs"]["name"]
    assert odd.name in page.words


def test_a_page_that_was_there_is_replaced_whole_or_stays(out, command):
    write_study(out, GAINS, targets=(25_000,), seeds=(0,))
    read(command, out)
    before = (out / "report.html").read_bytes()
    (out / "crnn-25000-uniform-seed0" / "result.json").write_text("{")
    (out / "conv2d-25000-uniform-seed0" / "result.json").unlink()
    with pytest.warns(UserWarning, match="damaged"):
        code, _, err = command("report", out)
    assert (code, err.count("\n")) == (2, 1)
    assert "no finished run" in err
    assert (out / "report.html").read_bytes() == before
    assert not list(out.glob(".report*"))


@pytest.mark.parametrize("make", ["nothing", "empty", "other", "file"])
def test_what_is_no_study_is_told_in_a_line(out, command, make):
    out.parent.mkdir(exist_ok=True)
    if make == "file":
        out.write_text("hello")
    elif make != "nothing":
        out.mkdir()
    if make == "other":
        (out / "mlruns").mkdir()
        (out / "mlruns" / "meta.yaml").write_text("a: 1")
    code, said, err = command("report", out)
    assert (code, said, err.count("\n")) == (2, "", 1)
    assert str(out) in err
    assert not out.exists() or not list(out.glob("report.html"))


def test_a_folder_that_cannot_be_written_is_told_in_a_line(out, command, tmp_path):
    write_study(out, GAINS, targets=(25_000,), seeds=(0,))
    # Root may write anywhere: a folder that is a file is what stops everyone.
    (tmp_path / "file").write_text("")
    for unwritable in (
        tmp_path / "file" / "report.html",
        tmp_path / "nowhere" / "a.html",
        tmp_path,
    ):
        code, _, err = command("report", out, "--out", unwritable)
        assert (code, err.count("\n")) == (2, 1)
        assert err.startswith(f"crnn-jax: --out {unwritable}: ")
    page = read(command, out, "--out", tmp_path / "elsewhere.html")
    assert page.contents["target"] == 25_000
    assert not (out / "report.html").exists()


def test_without_altair_the_line_says_what_to_install(out, command, monkeypatch):
    write_study(out, GAINS, targets=(25_000,), seeds=(0,))
    monkeypatch.setitem(sys.modules, "altair", None)
    code, _, err = command("report", out)
    assert code == 2
    assert err == "crnn-jax: a report needs altair; `pip install 'crnn_jax[report]'`\n"


def test_a_sweep_ends_with_its_page(small_set, command, tmp_path):
    flags = (
        *("--archs", "conv1d", "--targets", 4000, "--dataset", small_set.path, "--epochs", 1),
        *("--batch-size", 8, "--clip-seconds", 2.5, "--out", tmp_path / "swept"),
    )
    code, said, _ = command("sweep", *flags)
    assert code == 0
    assert said.endswith(f"Report: {tmp_path}/swept/report.html\n")
    page = Text((tmp_path / "swept" / "report.html").read_bytes())
    assert any(word.startswith("crnn-jax sweep --archs conv1d") for word in page.words)
    shutil.rmtree(tmp_path / "swept" / "figures")


def test_a_page_is_written_without_jax(study, tmp_path):
    out = tmp_path / "r.html"
    code = (
        "import sys\nfrom crnn_jax.cli.main import main\n"
        f"sys.argv = ['crnn-jax', 'report', {str(study)!r}, '--out', {str(out)!r}]\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "print(*{name.split('.')[0] for name in sys.modules} & {'jax', 'flax', 'optax'})"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.stdout == f"{out}\n\n", answer.stderr
