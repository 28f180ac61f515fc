"""The page of one run: a real one, and what is left of it when files are missing."""

import json
import re
import shutil

import numpy as np
import pytest
import scipy.special
from etils import epath

from crnn_jax.data.prepared import open_set
from crnn_jax.errors import UserError
from crnn_jax.report.run_contents import (
    draw_log_mel,
    find_examples,
    gather_run,
    tabulate_predictions,
)
from crnn_jax.report.run_page import write_run_report
from crnn_jax.study import runs
from crnn_jax.study.runs import Predictions
from tests.report.conftest import DESKTOP, PHONE

pytest.importorskip("altair", reason="needs the extra `report`")

NAME = "crnn-4000-uniform-seed0"


@pytest.fixture
def run(small_sweep, tmp_path):
    """A finished run, to be spoiled."""
    shutil.copytree(small_sweep.out / NAME, tmp_path / NAME)
    return epath.Path(tmp_path / NAME)


def area(table, tag):
    """The area below a tag's curve."""
    of_tag = [place for place, each in enumerate(table["tag"]) if each == tag]
    x, y = (np.array([table[name][place] for place in of_tag]) for name in "xy")
    return np.trapezoid(y, x), (x[0], y[0]), (x[-1], y[-1])


def test_the_curves_areas_are_the_scores():
    rng = np.random.default_rng(0)
    targets = (rng.random((2000, 3)) < [0.1, 0.5, 0.0]).astype(np.uint8)
    logits = rng.normal(size=targets.shape) + [1.0, 2.0, 1.0] * targets
    tables = tabulate_predictions(Predictions(logits, targets, None))
    from sklearn.metrics import average_precision_score, roc_auc_score

    for tag in range(2):
        found, first, last = area(tables["roc"], tag)
        # Thinned, of thousands of points.
        expected = roc_auc_score(targets[:, tag], logits[:, tag])
        assert found == pytest.approx(expected, abs=0.005)
        assert (first, last) == ((0, 0), (1, 1))
        found, first, _ = area(tables["precision"], tag)
        assert found == pytest.approx(
            average_precision_score(targets[:, tag], logits[:, tag]), abs=0.02
        )
        assert first[0] == 0
    # One class only: no curve.
    assert set(tables["roc"]["tag"]) == {0, 1}


def test_calibration_counts_every_output_once():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (5000, 4))
    targets = (rng.random(logits.shape) < scipy.special.expit(logits)).astype(np.uint8)
    table = tabulate_predictions(Predictions(logits, targets, None))["calibration"]
    assert sum(table["outputs"]) == logits.size
    # A calibrated network, by construction.
    np.testing.assert_allclose(table["predicted"], table["observed"], atol=0.03)
    right = np.dot(table["observed"], table["outputs"])
    assert right == pytest.approx(targets.sum(), rel=1e-4)


def test_clips_are_those_of_the_highest_and_lowest_scores(small_set, small_sweep):
    result = runs.read_result(small_sweep.out / NAME)
    targets = np.stack(
        [example["tags"] for example in map(small_set.source("test").__getitem__, range(18))]
    )
    logits = np.zeros(targets.shape, np.float32)
    has, lacks = np.argwhere(targets > 0), np.argwhere(targets == 0)
    right, missed, wrong = has[3], has[-1], lacks[5]
    logits[tuple(right)], logits[tuple(missed)], logits[tuple(wrong)] = 5.0, -6.0, 7.0
    groups = np.arange(len(targets))
    examples = list(find_examples(small_set, Predictions(logits, targets, groups), result))
    for kind, (clip, tag), score in (
        ("right", right, 5),
        ("wrong", wrong, 7),
        ("missed", missed, -6),
    ):
        first = next(example for example in examples if example.kind == kind)
        source = small_set.source("test")[int(clip)]
        assert first.track_id == source["track_id"].decode()
        assert first.tag == small_set.tag_names[tag]
        assert first.score == pytest.approx(scipy.special.expit(score))
        assert first.image == draw_log_mel(source["log_mel"])
        assert first.image.startswith(b"\x89PNG")
    of_kind = [example for example in examples if example.kind == "wrong"]
    assert len({example.track_id for example in of_kind}) == len(of_kind) == 4
    # As many clips of other tags, such as those of a set that was made again.
    for other in (
        Predictions(logits[1:], targets[1:], None),
        Predictions(logits, 1 - targets, groups),
    ):
        with pytest.raises(UserError, match="another data set"):
            list(find_examples(small_set, other, result))


def test_a_log_mel_has_its_low_bands_below_and_is_as_wide_as_a_screen_at_most(tmp_path):
    import matplotlib.image

    log_mel = np.zeros((96, 1366), np.float16)
    log_mel[:10] = 40
    (tmp_path / "a.png").write_bytes(draw_log_mel(log_mel))
    pixels = matplotlib.image.imread(tmp_path / "a.png")
    assert pixels.shape[:2] == (96, 455)
    brightness = pixels[..., :3].sum(axis=(1, 2))
    assert brightness[-10:].min() > 10 * brightness[:-10].max()


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_it_opens_offline_and_a_tag_can_be_chosen(browser, run, size):
    page = write_run_report(run)
    browser.open(page, size)
    assert [url for url in browser.requests() if not url.startswith("data:image/png")] == [
        page.resolve().as_uri()
    ]
    assert browser.said() == []
    assert browser.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert browser.evaluate("[...document.querySelectorAll('.chart svg')].length") == 5
    assert browser.evaluate("[...document.images].every((image) => image.naturalWidth > 0)")
    assert browser.evaluate("document.images.length") == 12
    result = runs.read_result(run)
    tag = next(tag for tag in reversed(result.per_tag) if tag.auc is not None)
    place = result.per_tag.index(tag)
    browser.find(f'tr[data-tag="{place}"] button').click()
    browser.wait_until(
        "document.getElementById('chosen').textContent.startsWith(arguments[0])", tag.tag
    )
    shown = re.findall(r"[\d.]+\d", browser.find("#chosen").text.removeprefix(tag.tag))
    assert [float(number) for number in shown[:2]] == pytest.approx([tag.auc, tag.ap], abs=1e-4)
    strong = (
        "[...document.querySelectorAll('#roc .mark-line path')]"
        ".filter((path) => path.getAttribute('stroke-width') === '2.6')"
        ".map((path) => path.__data__.datum.tag)"
    )
    browser.wait_until(f"({strong}).join() === '{place}'")


def test_what_is_missing_is_told(run, command):
    config = json.loads((run / "config.json").read_text())
    path = config["data"]["path"]
    config["data"]["path"] = "/nowhere"
    (run / "config.json").write_text(json.dumps(config))
    assert open_set(path)
    contents = gather_run(run)
    assert contents.tables["roc"]["tag"]
    assert contents.examples == ()
    assert any("no clips: dataset /nowhere" in note for note in contents.notes)
    (run / "predictions-test.npz").unlink()
    (run / "metrics.jsonl").unlink()
    notes = " ".join(gather_run(run).notes)
    assert "no metrics.jsonl" in notes
    assert "no predictions-test.npz" in notes
    code, said, err = command("report", run)
    assert (code, err) == (0, "")
    assert epath.Path(said.strip()).read_text().count("<section><h2>") == 2
    # A run that was copied without its configuration, such as those of published results.
    (run / "config.json").unlink()
    assert command("report", run)[0] == 0


def test_an_unfinished_run_is_told(run, command):
    (run / "result.json").unlink()
    code, _, err = command("report", run)
    assert (code, err.count("\n")) == (2, 1)
    assert "not finished" in err


def test_of_imported_weights_nothing_is_recorded(run, command):
    """They have no result either, and are not to be trained again."""
    config = json.loads((run / "config.json").read_text())
    config |= {"train": None, "imported": {"file": "a.h5", "sha256": "0" * 64, "backend": "theano"}}
    (run / "config.json").write_text(json.dumps(config))
    (run / "result.json").unlink()
    code, _, err = command("report", run)
    assert (code, err.count("\n")) == (2, 1)
    assert f"crnn-jax evaluate {run} --dataset DIR" in err


def test_a_run_takes_no_table_of_speeds(run, command):
    code, said, err = command("report", run, "--times", "speeds.csv")
    assert (code, said) == (2, "")
    assert err.startswith("crnn-jax: --times speeds.csv: ")
    assert err.count("\n") == 1
    assert not (run / "report.html").exists()
