"""Preparation: the same set however it was made, and every file accounted for."""

import csv
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
from etils import epath

from crnn_jax.config import DataConfig, MelConfig
from crnn_jax.data.builder import RECORDS, lock_of, write_rejected
from crnn_jax.data.prepared import BUILDERS, open_set, prepare
from crnn_jax.data.shards import Rejected, finished_shard, make_shard
from crnn_jax.errors import UserError
from crnn_jax.locks import lock

MEL = MelConfig(clip_seconds=4.0)
RATE = 12_000


def files_of(folder):
    return {
        path.name: path.read_bytes()
        for path in sorted(Path(folder).iterdir())
        if "array_record" in path.name
    }


def names_in(folder):
    return {path.name for path in Path(folder).iterdir()}


def test_the_number_of_processes_does_not_show(small_set, tmp_path):
    config = DataConfig(data_dir=str(tmp_path), n_examples=75, mel=MEL, workers=1)
    alone = prepare(config)
    assert files_of(alone.path) == files_of(small_set.path)
    assert alone.tag_counts == small_set.tag_counts


def test_what_is_stored_is_what_was_counted(small_set):
    for split, n_examples in small_set.n_examples.items():
        examples = list(small_set.source(split))
        assert len(examples) == n_examples
        counts = np.sum([example["tags"] for example in examples], axis=0)
        assert tuple(counts) == small_set.tag_counts[split]
        assert {example["log_mel"].dtype for example in examples} == {np.dtype("float16")}
        assert {example["log_mel"].shape for example in examples} == {(96, MEL.frames)}
    ids = [e["track_id"] for split in small_set.n_examples for e in small_set.source(split)]
    assert len(set(ids)) == 75


def test_a_prepared_set_is_not_made_again(small_set):
    config = DataConfig(data_dir=str(Path(small_set.path).parents[2]), n_examples=75, mel=MEL)
    before = {path: path.stat().st_mtime_ns for path in Path(small_set.path).iterdir()}
    assert prepare(config) == small_set
    assert {path: path.stat().st_mtime_ns for path in Path(small_set.path).iterdir()} == before


def test_killed_and_started_again(small_set, tmp_path):
    command = [sys.executable, "-m", "crnn_jax", "prepare", "synthetic", "--data-dir"]
    command += [str(tmp_path), "--n-examples", "75", "--mel.clip-seconds", "4", "--workers", "2"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    finished: list[Path] = []
    while len(finished) < 2 and process.poll() is None:
        time.sleep(0.01)
        finished = list(tmp_path.glob("synthetic/*/*.preparing-*/*.json"))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert finished, "the preparation was over before it could be killed"
    made_before = {path.name: path.stat().st_mtime_ns for path in finished}

    config = DataConfig(data_dir=str(tmp_path), n_examples=75, mel=MEL, workers=1)
    builder = BUILDERS["synthetic"](config)
    staging = finished[0].parent
    for task in builder.shard_tasks(staging / RECORDS):
        make_shard(task)
    for name, made in made_before.items():
        assert (staging / name).stat().st_mtime_ns == made, "a finished shard was made again"
    path = prepare(config).path
    assert files_of(path) == files_of(small_set.path)
    assert names_in(path) == names_in(small_set.path)
    assert not staging.exists()


@pytest.mark.parametrize("renamed", [1, 100])
def test_interrupted_at_the_very_end(small_set, tmp_path, renamed):
    """When the shards get their final names: after some, or after all and what is beside them."""
    config = DataConfig(data_dir=str(tmp_path), n_examples=75, mel=MEL, workers=1)
    builder = BUILDERS["synthetic"](config)
    staging = builder._staging_folder()
    records = staging / RECORDS
    records.mkdir(parents=True)
    results = [make_shard(task) for task in builder.shard_tasks(records)]
    if renamed < len(results):
        of_split = [result for result in results if result.split == "train"]
        name = f"synthetic-train.array_record-00000-of-{len(of_split):05d}"
        (records / "train-00000.array_record").rename(records / name)
    else:
        builder._finish(records, results)
    made = {path.stat().st_mtime_ns for path in Path(records).glob("*array_record*")}
    assert len(made) == len(results)
    path = Path(prepare(config).path)
    assert files_of(path) == files_of(small_set.path)
    assert {file.stat().st_mtime_ns for file in path.glob("*array_record*")} == made
    assert names_in(path) == names_in(small_set.path)
    assert not staging.exists()


def test_a_shards_result_that_is_cut(tmp_path):
    """As an older version could leave it: the shard is made again."""
    config = DataConfig(data_dir=str(tmp_path), n_examples=25, mel=MEL, workers=1)
    builder = BUILDERS["synthetic"](config)
    records = builder._staging_folder() / RECORDS
    records.mkdir(parents=True)
    task = builder.shard_tasks(records)[0]
    made = make_shard(task)
    path = records.parent / "train-00000.json"
    whole = path.read_bytes()
    for content in (whole[:length] for length in range(0, len(whole), 7)):
        path.write_bytes(content)
        assert finished_shard(epath.Path(task.path)) is None
    for content in (b"null", b"[]", b"{}", b'{"tag_counts": 3}', b"\xff"):
        path.write_bytes(content)
        assert finished_shard(epath.Path(task.path)) is None
    assert make_shard(task) == made == finished_shard(epath.Path(task.path))
    assert path.read_bytes() == whole


def test_a_shard_that_is_gone_is_made_again(small_set, tmp_path):
    config = DataConfig(data_dir=str(tmp_path), n_examples=75, mel=MEL, workers=1)
    builder = BUILDERS["synthetic"](config)
    records = builder._staging_folder() / RECORDS
    records.mkdir(parents=True)
    for task in builder.shard_tasks(records):
        make_shard(task)
    (records / "valid-00001.array_record").unlink()
    with pytest.raises(UserError, match=r"valid-00001.array_record: made before.*again"):
        prepare(config)
    assert files_of(prepare(config).path) == files_of(small_set.path)


def test_nothing_is_left_in_the_temporary_folder(small_set, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    config = DataConfig(data_dir=str(Path(small_set.path).parents[2]), n_examples=75, mel=MEL)
    assert prepare(config) == small_set
    BUILDERS["synthetic"](dataclasses.replace(config, data_dir=str(tmp_path / "data")))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"path\na.wav\n", b"\xff", b"reason\n" + b"a" * 200_000])
def test_a_list_of_rejected_files_that_is_none(collection, tmp_path, content):
    config = DataConfig("folder", str(tmp_path / "data"), str(collection), 0.2, 1, mel=MEL)
    data = prepare(config)
    assert set(data.rejected_by_reason().values()) == {1}
    (Path(data.path) / "rejected.csv").write_bytes(content)
    if not content:
        assert data.rejected_by_reason() == {}
        return
    with pytest.raises(UserError, match=r"rejected\.csv: not a CSV"):
        data.rejected_by_reason()


def test_what_has_a_name_is_on_the_disk(small_set, tmp_path, monkeypatch):
    """In the order in which the system is asked, of a whole preparation."""
    synced: dict[int, tuple[int, int]] = {}
    renamed: list[Path] = []
    fsync, replace = os.fsync, os.replace

    def state(status):
        return status.st_size, status.st_mtime_ns

    def noted_fsync(descriptor):
        fsync(descriptor)
        status = os.fstat(descriptor)
        synced[status.st_ino] = state(status)

    def is_synced(path):
        return synced.get(path.stat().st_ino) == state(path.stat())

    def checked_replace(made, path):
        made, path = Path(made), Path(path)
        assert is_synced(made), f"{path} gets its name before its content is on the disk"
        assert all(map(is_synced, made.rglob("*"))), f"{path} holds what is not on the disk"
        if path.suffix == ".json":
            assert is_synced(path.parent / RECORDS), f"{path} comes before its shard's name"
        replace(made, path)
        renamed.append(path)
        synced.pop(path.parent.stat().st_ino, None)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", checked_replace)
    config = DataConfig(data_dir=str(tmp_path), n_examples=75, mel=MEL, workers=1)
    path = Path(prepare(config).path)
    n_shards = len(files_of(path))
    assert files_of(path) == files_of(small_set.path)
    assert renamed[-1] == path
    assert path.parent.stat().st_ino in synced, "the set's own name is not on the disk"
    # A shard and its result, the shard's final name, and the set.
    assert len(renamed) == 3 * n_shards + 1


def test_several_at_once(small_set, tmp_path):
    """Two commands, while the set is held: both wait, then one makes it and both have it."""
    command = [sys.executable, "-m", "crnn_jax", "prepare", "synthetic", "--data-dir"]
    command += [str(tmp_path), "--n-examples", "75", "--mel.clip-seconds", "4", "--workers", "1"]
    config = DataConfig(data_dir=str(tmp_path), n_examples=75, mel=MEL)
    folder = BUILDERS["synthetic"](config).data_path
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with lock(lock_of(folder), wait=False) as held:
        assert held
        both = [subprocess.Popen(command, **pipes) for _ in range(2)]
        for process in both:
            said = process.stderr.readline()
            assert (
                said
                == f"crnn-jax: {folder}: another process is preparing this set; waiting for it\n"
            )
    outputs = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert {out.splitlines()[-1].partition(":")[0] for out, _ in outputs} == {str(folder)}
    assert files_of(folder) == files_of(small_set.path)


def tone(path, seconds=4.5, frequency=440.0):
    time_s = np.arange(int(seconds * RATE)) / RATE
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * frequency * time_s), RATE)


@pytest.fixture
def collection(tmp_path):
    """Twenty tones, and four files that cannot be used."""
    folder = tmp_path / "music"
    folder.mkdir()
    rows = []
    for number in range(20):
        tone(folder / f"{number}.wav", frequency=200.0 + 50 * number)
        split = ("train", "valid", "test", "train")[number % 4]
        rows.append((f"{number}.wav", "low" if number < 10 else "high|any", split))
    (folder / "empty.mp3").write_bytes(b"")
    (folder / "text.wav").write_text("no sound at all")
    soundfile.write(folder / "none.wav", np.zeros(0), RATE)
    for name in ("empty.mp3", "text.wav", "none.wav", "missing.ogg"):
        rows.append((name, "low", "train"))
    with (folder / "tags.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "tags", "split"), *rows])
    return folder


def test_unusable_files_are_listed_and_left_out(collection, tmp_path):
    config = DataConfig("folder", str(tmp_path / "data"), str(collection), 0.2, 1, mel=MEL)
    data = prepare(config)
    assert data.n_rejected == 4
    assert data.n_examples == {"train": 10, "valid": 5, "test": 5}
    with (Path(data.path) / "rejected.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {Path(row["path"]).name for row in rows} == {
        "empty.mp3",
        "text.wav",
        "none.wav",
        "missing.ogg",
    }
    assert all(row["reason"] and row["message"] and row["split"] == "train" for row in rows)


def test_no_row_of_the_list_of_files_is_a_formula(small_set, tmp_path):
    path = "=1+1.wav"
    not_utf_8 = b"\xff.wav".decode("utf-8", "surrogateescape")
    rejected = [
        Rejected("train", path, path, "missing", f"{path}: no such file"),
        Rejected("train", "a\rb", not_utf_8, "missing", "-0.5"),
        Rejected("test", "x", "x", "empty file", "x"),
    ]
    write_rejected(epath.Path(tmp_path / "rejected.csv"), rejected)
    with (tmp_path / "rejected.csv").open(newline="", encoding="utf-8") as file:
        first, second, third = csv.DictReader(file)
    assert {first["track_id"], first["path"]} == {f"'{path}"}
    assert first["message"] == f"'{path}: no such file"
    assert (second["track_id"], second["message"]) == ("a\rb", "'-0.5")
    assert second["path"] == "\\udcff.wav"
    assert third == dataclasses.asdict(rejected[2])
    there = dataclasses.replace(small_set, path=str(tmp_path))
    assert there.rejected_by_reason() == {"missing": 2, "empty file": 1}


def test_too_many_unusable_files_stop_at_the_end_and_lose_nothing(collection, tmp_path):
    config = DataConfig("folder", str(tmp_path / "data"), str(collection), 0.1, 1, mel=MEL)
    with pytest.raises(UserError, match=r"4 of 24 files.*--max-rejected") as error:
        prepare(config)
    listing = next((tmp_path / "data").glob("folder/*/*.preparing-*/records/rejected.csv"))
    assert str(listing) in str(error.value)
    assert len(listing.read_text().splitlines()) == 5
    shards = list(listing.parent.glob("*.array_record"))
    made = {path: path.stat().st_mtime_ns for path in shards}
    data = prepare(DataConfig("folder", str(tmp_path / "data"), str(collection), 0.5, 1, mel=MEL))
    moved = {path.stat().st_mtime_ns for path in Path(data.path).glob("*array_record*")}
    assert moved <= set(made.values()), "what was prepared was not kept"


def test_a_mended_file_is_used(collection, tmp_path):
    config = DataConfig("folder", str(tmp_path / "data"), str(collection), 0.0, 1, mel=MEL)
    with pytest.raises(UserError, match="4 of 24 files"):
        prepare(config)
    for name in ("empty.mp3", "text.wav", "none.wav", "missing.ogg"):
        shutil.copy(collection / "3.wav", collection / name)
    assert prepare(config).n_examples == {"train": 14, "valid": 5, "test": 5}


def test_a_collection_that_is_gone_is_not_missing_files(collection, tmp_path):
    config = DataConfig("folder", str(tmp_path / "data"), str(collection), 1.0, 1, mel=MEL)
    builder = BUILDERS["folder"](config)
    collection.rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"manual_dir .*music: no longer exists"):
        builder.download_and_prepare()


def test_a_decoder_that_is_killed(collection, tmp_path, capfd):
    """As the system does when memory runs out."""
    config = DataConfig("folder", str(tmp_path / "data"), str(collection), 1.0, 2, mel=MEL)
    (collection / "0.wav").unlink()
    os.mkfifo(collection / "0.wav")  # Whoever opens it waits.
    preparing = threading.Thread(target=lambda: outcomes.append(attempt()))
    outcomes: list[str] = []

    def attempt():
        try:
            prepare(config)
        except UserError as error:
            return str(error)
        return "prepared"

    preparing.start()
    decoders: list[psutil.Process] = []
    while not decoders and preparing.is_alive():
        time.sleep(0.05)
        decoders = [p for p in psutil.Process().children() if "spawn_main" in str(p.cmdline())]
    for decoder in decoders:
        decoder.kill()
    preparing.join()
    assert outcomes == [
        "prepare: a decoding process was killed, most likely for lack of memory; give the same "
        "command again with fewer --workers to resume"
    ]


def test_a_folder_that_is_no_prepared_set(tmp_path):
    with pytest.raises(UserError, match="neither a prepared set"):
        open_set(tmp_path)


def test_readers_share_a_set(small_set):
    """Two processes read the same records at once."""
    code = (
        "import sys, hashlib; from crnn_jax.data.prepared import open_set\n"
        "data = open_set(sys.argv[1]); digest = hashlib.sha256()\n"
        "for example in data.source('train'): digest.update(example['log_mel'].tobytes())\n"
        "print(digest.hexdigest())"
    )
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", code, small_set.path],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )
        for _ in range(2)
    ]
    digests = {reader.communicate()[0] for reader in readers}
    assert len(digests) == 1
    assert len(digests.pop().strip()) == 64
