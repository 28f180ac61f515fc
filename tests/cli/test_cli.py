"""The command line: what users may type, and the messages they get when it is wrong."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from crnn_jax.cli.experiment import read_experiment
from crnn_jax.config import DataConfig, MelConfig, SweepConfig
from crnn_jax.data.prepared import prepare
from tests.conftest import STUDY
from tests.data.conftest import write_tone

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"


def test_solve_prints_the_cells_of_all_architectures(command):
    code, out, _ = command("solve", "--json")
    cells = json.loads(out)
    assert code == 0
    # Four architectures, five sizes, two rules.
    assert len(cells) == 40
    assert set(cells[0]) == {"arch", "rule", "target", "s", "widths", "params", "relative_error"}
    assert max(abs(cell["relative_error"]) for cell in cells) <= 0.01
    code, out, _ = command("solve", "--arch", "crnn", "--rule", "sqrt")
    assert code == 0
    assert out.count("crnn") == 5
    assert "3,000,000" in out


def write_csv(path, *rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


# By the name of a run's folder: what its config.json says.
NO_CONFIGS = {
    "cut": b'{"arch": "crnn", "mod',
    "empty": b"",
    "bytes": b"\xff\xfe",
    "list": b"[]",
    "poor": b'{"data": {}}',
    "text": b'{"data": "x", "model": {}, "train": {}}',
    "foreign": b'{"data": {"mel": {"x": 1}, "tag_names": []}, "model": {}, "train": {}}',
    "fewer": b"""{"data": {"mel": {}, "tag_names": ["a"], "path": null}, "train": {},
        "model": {"arch": "crnn", "widths": [2, 2, 2, 2, 2, 2], "n_tags": 2}}""",
}


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["solve", "--target", "500"], "--target 500"),
        (["solve", "--target", "-3"], "--target -3"),
        (["solve", "--target", "many"], "--target"),
        (["solve", "--arch", "lstm"], "'lstm' for argument '--arch'"),
        (["solve", "--rule", "cubic"], "'cubic' for argument '--rule'"),
        (["solve", "--bogus"], "--bogus"),
        (["frobnicate"], "frobnicate"),
        (["prepare", "folder"], "--manual-dir"),
        (["prepare", "folder", "--manual-dir", "nowhere"], "nowhere"),
        (["prepare", "nowhere"], "nowhere"),
        (["train", "--arch", "crnn"], "--out"),
        (["train", "--dataset", "nowhere", "--out", "o"], "nowhere"),
        (["sweep", "nowhere.py", "--out", "o"], "nowhere.py"),
        (["sweep", "nowhere", "--out", "o"], "nowhere: no such experiment file"),
        (["sweep", ".", "--out", "o"], ".: no such experiment file"),
        (["sweep", "broken.py", "--out", "o"], "broken.py, line 1"),
        (["sweep", "empty.py", "--out", "o"], "empty.py"),
        (["sweep", "--archs", "crnn", "lstm", "--out", "o"], "lstm"),
        (["sweep", "--targets", "10", "--out", "o"], "--target 10"),
        (["sweep", "--archs", "--out", "o"], "one of archs, targets, rules, seeds is empty"),
        (["prepare", "synthetic", "--mel.hop-length", "0"], "--mel.hop-length 0"),
        (["prepare", "synthetic", "--mel.clip-seconds", "nan"], "--mel.clip-seconds nan"),
        (["prepare", "synthetic", "--mel.clip-seconds", "0.2"], "--mel.clip-seconds 0.2"),
        (["prepare", "synthetic", "--mel.sample-rate", "999"], "--mel.sample-rate 999"),
        (["prepare", "synthetic", "--n-examples", "24"], "--n-examples 24"),
        (["prepare", "synthetic", "--workers", "0"], "--workers 0"),
        (["prepare", "synthetic", "--max-rejected", "200%"], "--max-rejected 2"),
        (["train", "--epochs", "0", "--out", "o"], "--epochs 0"),
        (["train", "--batch-size", "-8", "--out", "o"], "--batch-size -8"),
        (["train", "--learning-rate", "inf", "--out", "o"], "--learning-rate inf"),
        (["train", "--read-workers", "-1", "--out", "o"], "--read-workers -1"),
        (["train", "--checkpoint-seconds", "nan", "--out", "o"], "--checkpoint-seconds nan"),
        (["train", "--seed", "-1", "--out", "o"], "--seeds -1"),
        (["train", "--seed", str(2**32), "--out", "o"], "--seeds 4294967296: give 0 to 4294967295"),
        (["train", "--num-processes", "0", "--out", "o"], "--num-processes 0"),
        (["prepare", "synthetic", "--music-seed", "-1"], "--music-seed -1"),
        (["solve", "--n-tags", "0"], "--n-tags 0"),
        (["benchmark", "--batch", "0"], "--batch 0"),
        (["sweep", "--data-dir", "gs://bucket/data", "--out", "o"], "--data-dir gs://bucket/data"),
        (["inspect", "gs://bucket/data/set"], "--dataset gs://bucket/data/set"),
        (["train", "--executor", "ray", "--distributed", "--out", "o"], "--executor ray"),
        (
            ["train", "--coordinator-address", "node0", "--process-id", "0", "--out", "o"],
            "--coordinator-address node0: no port",
        ),
        (["benchmark", "--clip-seconds", "0.1"], "--clip-seconds 0.1: the networks need 2 s"),
        (["embed", "run", "a.wav", "--out", ""], "--out : not a file name"),
        (["embed", "run", "a.wav", "--out", "."], "--out .: not a file name"),
        (["tag", "run", "a.wav", "--figure", "folder.png"], "--figure folder.png"),
        (["inspect", "set", "--out", "folder.png"], "--out folder.png"),
        (["import-keras", "w" * 300, "run"], "w" * 300),
        (["import-keras", "folder.png", "run"], "folder.png: no such file"),
        (["plot", "nothing://bucket/runs"], "nothing://: no file system for this address"),
        (["evaluate", "."], "config.json"),
        *((["evaluate", name], f"{name}/config.json: not a run's config") for name in NO_CONFIGS),
        (["plot", "."], "results.csv"),
    ],
)
def test_mistakes_get_one_line_and_code_two(command, tmp_path, arguments, names):
    (tmp_path / "broken.py").write_text("SWEEP = (\n")
    (tmp_path / "empty.py").write_text("x = 1\n")
    (tmp_path / "folder.png").mkdir()
    for name, text in NO_CONFIGS.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_bytes(text)
    before = sorted(tmp_path.iterdir())
    code, out, err = command(*arguments)
    assert code == 2
    assert err.startswith("crnn-jax: ")
    assert err.count("\n") == 1
    assert names in err
    assert "Traceback" not in err + out
    assert sorted(tmp_path.iterdir()) == before


@pytest.fixture
def as_study(small_sweep, small_set):
    """Flags that say what the finished sweep's study says."""
    train = STUDY.train
    return [
        *("--targets", str(STUDY.targets[0]), "--dataset", small_set.path),
        *("--epochs", str(train.epochs), "--batch-size", str(train.batch_size)),
        *("--clip-seconds", str(train.clip_seconds), "--out", str(small_sweep.out)),
    ]


def test_flags_or_a_file_or_both(command, small_sweep, small_set, as_study, tmp_path):
    """A study is the same however it is said: its cells are found finished."""
    code, out, _ = command("sweep", *as_study)
    assert code == 0
    assert out.count("already finished") == 3
    figures = [line.strip() for line in out.splitlines() if line.strip().endswith(".png")]
    assert figures
    assert all(Path(figure).stat().st_size > 10_000 for figure in figures)

    (tmp_path / "study.py").write_text(
        "from crnn_jax.config import DataConfig, SweepConfig, TrainConfig\n"
        "SWEEP = SweepConfig(targets=(7,), train=TrainConfig(epochs=1, batch_size=8,\n"
        f"    clip_seconds=2.5), data=DataConfig(dataset={small_set.path!r}))\n"
    )
    code, out, _ = command("sweep", "study.py", "--targets", 4000, "--out", small_sweep.out)
    assert code == 0
    assert out.count("already finished") == 3


STUDY_OF_SEVEN = """
from pathlib import Path
from crnn_jax.config import SweepConfig
Path("executed").touch()
SWEEP = SweepConfig(targets=(7,))
"""


@pytest.mark.parametrize(
    ("arguments", "executed"),
    [
        (["study.py", "--out", "o"], True),
        (["--out", "o", "study.py"], True),
        (["--out", "o", "--seeds", "0", "1", "--", "study.py"], True),
        (["--out", "study.py"], False),
        (["--out=study.py"], False),
        (["--out", "o", "--manual-dir", "study.py"], False),
        (["--out", "study.py", "--epochs", "none"], False),
        (["study.py"], False),
        (["study.py", "--out", "o", "--bogus"], False),
    ],
)
def test_only_the_experiment_is_executed(command, tmp_path, arguments, executed):
    (tmp_path / "study.py").write_text(STUDY_OF_SEVEN)
    code, _, err = command("sweep", "--dataset", "nowhere", *arguments)
    assert (code, err.count("\n")) == (2, 1)
    assert (tmp_path / "executed").exists() == executed


def test_an_experiments_help_shows_what_it_says(command, tmp_path):
    (tmp_path / "study.py").write_text(STUDY_OF_SEVEN)
    for arguments in (["study.py", "--help"], ["--help", "study.py"]):
        code, out, _ = command("sweep", *arguments)
        assert code == 0
        assert "parameters. (default: 7)" in " ".join(out.split())
    code, out, _ = command("sweep", "--help")
    assert code == 0
    assert "parameters. (default: 7)" not in " ".join(out.split())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\nnothing_of_this_name\n", ", line 2: NameError: name 'nothing_of_this_name' is not def"),
        ("import nothing_of_this_name", ", line 1: ModuleNotFoundError: No module named 'nothing_"),
        ("def f():\n  raise ValueError('two\\nlines')\n\nf()", ", line 2: ValueError: two lines;"),
        ("import sys\nsys.exit(0)", ", line 2: SystemExit: 0;"),
        ("x = (", ", line 1: SyntaxError: '(' was never closed;"),
        ("x = 1\0", ": SyntaxError: source code string cannot contain null bytes;"),
        (
            "from crnn_jax.config import *\nTrainConfig(epochs=0)",
            ", line 2: epochs 0: give a num",
        ),
        (
            "from crnn_jax.config import *\nSWEEP = SweepConfig(targets=7)",
            ": SWEEP.targets = 7 is not",
        ),
        (
            "from crnn_jax.config import *\nSWEEP = SweepConfig(archs=('lstm',))",
            ": SWEEP.archs = (",
        ),
        (
            "from crnn_jax.config import *\nSWEEP = SweepConfig(train=TrainConfig(epochs=1.5))",
            ": SWEEP.train.epochs = 1.5 is not int;",
        ),
    ],
)
def test_what_is_wrong_with_an_experiment_is_told_in_a_line(command, tmp_path, text, said):
    (tmp_path / "study.py").write_text(text)
    code, out, err = command("sweep", "study.py", "--out", "o")
    assert (code, out) == (2, "")
    assert err.startswith(f"crnn-jax: study.py{said}")
    assert err.endswith("; correct the file\n")
    assert err.count("\n") == 1


def test_our_own_experiments_are_of_the_right_types():
    studies = [path for path in EXPERIMENTS.glob("*.py") if "SWEEP = " in path.read_text()]
    assert len(studies) == 6
    for path in studies:
        assert isinstance(read_experiment(str(path)), SweepConfig)


def test_an_experiment_is_read_as_it_is_and_leaves_nothing_behind(tmp_path, monkeypatch):
    # As it is for a user, whatever these tests run under.
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    experiment = tmp_path / "mine.py"
    for target in (20_000, 30_000):
        experiment.write_text(
            f"from crnn_jax.config import SweepConfig\nSWEEP = SweepConfig(targets=({target},))\n"
        )
        # Python takes a compiled copy for that of a file of the same size and time.
        os.utime(experiment, (0, 0))
        assert read_experiment(str(experiment)).targets == (target,)
    assert list(tmp_path.iterdir()) == [experiment]


def test_a_long_argument_is_told_whole(command):
    name = "a" * 300
    for arguments in (["solve", "--target", name], ["sweep", "--out", "o", f"--{name}"]):
        code, _, err = command(*arguments)
        assert (code, name in err, err.count("\n")) == (2, True, 1)


def test_another_studys_folder_is_left_alone(command, as_study):
    code, _, err = command("sweep", *as_study, "--learning-rate", "0.5")
    assert code == 2
    assert "train.learning_rate" in err
    assert "--out" in err


def test_evaluate_finds_the_scores_again(command, small_sweep):
    for name, result in small_sweep.log.finished.items():
        code, out, _ = command("evaluate", small_sweep.out / name, "--json")
        assert code == 0
        scores = json.loads(out)
        assert scores["auc"] == result.test_auc
        assert scores["ap"] == result.test_ap
        assert [row["auc"] for row in scores["per_tag"]] == [tag.auc for tag in result.per_tag]
    code, out, _ = command("evaluate", small_sweep.out / name, "--split", "valid")
    assert code == 0
    assert f"AUC {result.valid_auc:.4f}" in out
    code, _, err = command("evaluate", small_sweep.out / name, "--split", "dev")
    assert code == 2
    assert "train, valid, test" in err


# What rich would take for markup or an emoji, a terminal for control codes, a line for two.
ODD_TAGS = ("[/rock]", "[bold]", ":guitar:", "a\nb", "\x1b[31mred", "x" * 300, "日本語", "$\\frac$")
AS_SHOWN = {"a\nb": "a\\nb", "\x1b[31mred": "\\x1b[31mred"}


@pytest.fixture
def odd_run(small_sweep, small_set, tmp_path):
    """A run's folder whose name and tags are odd, and its data set's."""
    data = Path(shutil.copytree(small_set.path, tmp_path / "[odd] set" / "1.0.0"))
    run = small_sweep.out / "conv1d-4000-uniform-seed0"
    odd = Path(shutil.copytree(run, tmp_path / "[/bold]run"))
    metadata = json.loads((data / "metadata.json").read_text())
    metadata["tag_names"][: len(ODD_TAGS)] = ODD_TAGS
    metadata["tag_categories"][0] = "[/genre]"
    (data / "metadata.json").write_text(json.dumps(metadata))
    config = json.loads((odd / "config.json").read_text())
    config["data"] |= {"tag_names": metadata["tag_names"], "path": str(data)}
    (odd / "config.json").write_text(json.dumps(config))
    return odd, data


def rows_of(out):
    """The cells of a printed table, row by row."""
    lines = [line for line in out.splitlines() if line[:1] in tuple("│┃")]
    return [[cell.strip() for cell in line.replace("┃", "│").split("│")[1:-1]] for line in lines]


def test_tags_are_printed_as_they_are(command, odd_run, small_sweep, tmp_path):
    run, data = odd_run
    shown = [AS_SHOWN.get(tag, tag) for tag in ODD_TAGS]
    result = small_sweep.log.finished["conv1d-4000-uniform-seed0"]
    expected = ["–" if tag.auc is None else f"{tag.auc:.3f}" for tag in result.per_tag]

    code, out, err = command("evaluate", run)
    assert (code, err) == (0, "")
    _, *rows = rows_of(out)
    assert [row[0] for row in rows[: len(shown)]] == shown
    assert [row[1] for row in rows] == expected
    assert f"{run}, test: AUC" in out

    code, out, err = command("inspect", data, "--out", tmp_path / "page.png")
    assert code == 0
    assert f"\n{data}: 96 × 188 log-mels" in out
    _, *rows, _ = rows_of(out)
    assert [row[0] for row in rows[: len(shown)]] == shown
    assert rows[0][1] == "[/genre]"

    write_tone(tmp_path / "[b]tone.mp3")
    for flags in ((), ("--per-window",)):
        code, out, err = command("tag", run, "[b]tone.mp3", "gone[/b]\n.mp3", "--top", 99, *flags)
        assert code == 1
        assert err == "crnn-jax: gone[/b]\\n.mp3: no such file\n"
        assert out.startswith("[b]tone.mp3")
        cells = {cell for row in rows_of(out) for cell in row}
        assert cells >= set(shown)
        # A score for each tag, however many columns there are.
        assert len([cell for row in rows_of(out)[1:2] for cell in row if "0." in cell]) == (
            len(expected) + 1 if flags else 1
        )


def test_a_split_without_a_scorable_tag(command, odd_run, tmp_path):
    """Every clip has every tag: no tag has a negative example."""
    run, data = odd_run
    splits = ("train", "valid", "test")
    tags = sorted(json.loads((data / "metadata.json").read_text())["tag_names"])
    for number, split in enumerate(splits):
        write_tone(tmp_path / "music" / f"{split}.mp3", 300.0 + 100 * number, seconds=4.0)
    rows = [(f"{split}.mp3", "|".join(tags), split) for split in splits]
    write_csv(tmp_path / "music" / "tags.csv", ("path", "tags", "split"), *rows)
    config = DataConfig("folder", "data", str(tmp_path / "music"), mel=MelConfig(clip_seconds=4.0))
    every = prepare(config)
    stored = json.loads((run / "config.json").read_text())
    stored["data"]["tag_names"] = every.tag_names
    (run / "config.json").write_text(json.dumps(stored))

    code, out, err = command("evaluate", run, "--dataset", every.path, "--split", "valid")
    assert (code, err) == (0, "")
    assert f"{run}, no tag has both positive and negative examples in the valid split" in out
    assert {tuple(row[1:]) for row in rows_of(out)[1:]} == {("–", "–", "1")}
    code, out, _ = command("evaluate", run, "--dataset", every.path, "--split", "valid", "--json")
    scores = json.loads(out)
    assert (code, scores["auc"], scores["ap"], scores["n_tags_scored"]) == (0, None, None, 0)
    assert {row["auc"] for row in scores["per_tag"]} == {None}


def test_a_figure_of_odd_tags(command, odd_run, tmp_path):
    """Without a warning (they are errors here), and as XML that can be read again."""
    run, _ = odd_run
    write_tone(tmp_path / "$\\frac$.mp3")
    code, _, err = command("tag", run, "$\\frac$.mp3", "--top", 99, "--figure", "odd.svg")
    assert (code, err) == (0, "")
    ElementTree.parse(tmp_path / "odd.svg")


def test_evaluation_on_devices_that_do_not_divide_the_batch_size(odd_run, small_sweep):
    """A run of batch size 8 on three devices; the output is ASCII, as in some clusters' logs."""
    run, _ = odd_run
    environment = {
        **os.environ,
        "XLA_FLAGS": "--xla_force_host_platform_device_count=3",
        "PYTHONIOENCODING": "ascii",
    }
    command = [sys.executable, "-m", "crnn_jax", "evaluate", run]
    answer = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert "\\u65e5\\u672c\\u8a9e" in answer.stdout
    result = small_sweep.log.finished["conv1d-4000-uniform-seed0"]
    assert f"AUC {result.test_auc:.4f}, AP {result.test_ap:.4f}" in answer.stdout
    positives = re.findall(r"(\d+) \|$", answer.stdout, re.MULTILINE)
    assert list(map(int, positives)) == [tag.n_test_positive for tag in result.per_tag]


def test_train_is_a_sweep_of_one(command, small_set):
    code, out, _ = command(
        *("train", "--arch", "conv1d", "--target", 4000, "--seed", 3, "--out", "runs"),
        *("--dataset", small_set.path, "--epochs", 1, "--batch-size", 8, "--clip-seconds", 2.5),
    )
    assert code == 0
    run = Path("runs") / "conv1d-4000-uniform-seed3"
    assert {path.name for path in run.iterdir()} == {
        "checkpoints",
        "config.json",
        "metrics.jsonl",
        "predictions-test.npz",
        "result.json",
    }
    assert f"{run.name}: test AUC" in out
    assert len(Path("runs/results.csv").read_text().splitlines()) == 2


def test_a_failed_cell_is_exit_code_one(command, small_set, tmp_path):
    run = tmp_path / "runs" / "conv1d-4000-uniform-seed3"
    run.mkdir(parents=True)
    (run / "checkpoints").write_text("")
    code, out, _ = command(
        *("train", "--arch", "conv1d", "--target", 4000, "--seed", 3, "--out", "runs"),
        *("--dataset", small_set.path, "--epochs", 1, "--batch-size", 8, "--clip-seconds", 2.5),
    )
    assert code == 1
    assert "1 of 1 cells failed" in out
    assert (run / "failed.json").exists()


def test_shards_that_hold_nothing_are_told(command, small_set, tmp_path):
    damaged = Path(shutil.copytree(small_set.path, tmp_path / "data" / "1.0.0"))
    for shard in damaged.glob("*-train.array_record*"):
        shard.write_bytes(b"")
    code, _, err = command(
        *("train", "--arch", "conv1d", "--target", 4000, "--out", "runs", "--dataset", damaged),
        *("--epochs", 1, "--batch-size", 8, "--clip-seconds", 2.5),
    )
    assert code == 2
    assert re.fullmatch(rf"crnn-jax: {damaged}/\S+: cannot be read .*\n", err)
    # The corrected command has nothing to remove first.
    assert not list(Path("runs").glob("*/failed.json"))


@pytest.mark.parametrize("name", ["features.json", "dataset_info.json", "metadata.json"])
def test_a_damaged_set_is_told(command, small_set, tmp_path, name):
    damaged = Path(shutil.copytree(small_set.path, tmp_path / "1.0.0"))
    (damaged / name).write_text((damaged / name).read_text()[:100])
    code, _, err = command("inspect", damaged)
    assert code == 2
    assert err.startswith(f"crnn-jax: {damaged / name}: incomplete")
    assert err.count("\n") == 1


def test_a_full_disk_while_preparing(tmp_path):
    """No file may be as large as a shard: what a full disk says, in another word."""
    script = Path(sys.executable).parent / "crnn-jax"
    limited = ["bash", "-c", 'ulimit -f 64; exec "$@"', "-", script, "prepare", "synthetic"]
    flags = ["--n-examples", "25", "--mel.clip-seconds", "1", "--workers", "1"]
    answer = subprocess.run(
        [*limited, *flags], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 2, answer.stderr
    assert "preparing" in answer.stderr
    assert "File too large; finished results are kept" in answer.stderr
    assert answer.stderr.count("\n") == 1
    assert not list(tmp_path.rglob("*.tmp"))


def test_the_preparation_is_reported_before_the_training(command):
    data = ("--n-examples", 75, "--mel.clip-seconds", 4, "--workers", 1)
    cell = ("--arch", "conv1d", "--target", 4000, "--epochs", 1, "--batch-size", 8)
    code, out, err = command("train", "--out", "runs", *cell, *data)
    assert code == 0, err
    assert "75/75" in out[out.index("Preparing synthetic") : out.index("[1/1]")]


def test_a_reader_that_has_seen_enough():
    """As with `| head`: no traceback."""
    script = Path(sys.executable).with_name("crnn-jax")
    with subprocess.Popen(
        [script, "solve", "--target", "100000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    # rich ends with 1 where it writes itself.
    assert process.returncode in (1, 128 + signal.SIGPIPE)


def test_the_console_script_answers_for_help():
    script = Path(sys.executable).parent / "crnn-jax"
    answer = subprocess.run([script, "--help"], capture_output=True, text=True, check=True)
    for verb in ("solve", "prepare", "train", "sweep", "evaluate", "plot"):
        assert verb in answer.stdout


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['crnn-jax', 'solve', '--help']\n"
        "from crnn_jax.cli import main as cli\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'jax', 'numpy', 'tensorflow_datasets', 'grain'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.stdout.splitlines()[-1] == "[]"
