"""Files that are whole or not there."""

import os
import resource
import signal
from pathlib import Path

import pytest
from etils import epath

from crnn_jax.files import put_in_place, write_file


def test_a_file_is_the_old_one_or_the_new_one(tmp_path):
    path = epath.Path(tmp_path / "a.txt")
    write_file(path, b"old")
    assert path.read_bytes() == b"old"
    write_file(path, b"new" * 99_999)
    assert path.read_bytes() == b"new" * 99_999
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_a_file_that_cannot_be_written_is_the_old_one(tmp_path):
    """As on a disk that is full: the system refuses what goes beyond a limit."""
    path = epath.Path(tmp_path / "a.txt")
    write_file(path, b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_file(path, bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_bytes_names_and_folders_reach_the_disk_in_this_order(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(descriptor):
        fsync(descriptor)
        events.append(Path(f"/proc/self/fd/{descriptor}").readlink())

    def noted_replace(made, path):
        replace(made, path)
        events.append((Path(made), Path(path)))

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    made, path = tmp_path / "made", tmp_path / "whole"
    made.mkdir()
    (made / "b").write_bytes(b"b")
    (made / "a").write_bytes(b"a")
    put_in_place(epath.Path(made), epath.Path(path))
    assert events == [made / "a", made / "b", made, (made, path), tmp_path]
    events.clear()
    write_file(epath.Path(tmp_path / "c"), b"c")
    (written, (source, target), folder) = events
    assert written == source
    assert (target, folder) == (tmp_path / "c", tmp_path)


def test_into_a_bucket(bucket):
    folder = epath.Path(f"az://{bucket.name}")
    write_file(folder / "a.txt", b"old")
    write_file(folder / "a.txt", b"new")
    assert [(file.name, file.read_bytes()) for file in bucket.iterdir()] == [("a.txt", b"new")]
