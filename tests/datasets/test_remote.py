"""Collections and prepared sets that are not on a local disk."""

import os
import shutil
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from crnn_jax.config import DataConfig
from crnn_jax.datasets import open_set, prepare
from crnn_jax.errors import UserError
from tests.datasets.conftest import write_tone
from tests.datasets.test_msd import SIZES, write_split
from tests.datasets.test_records import files_of


@pytest.fixture
def bucket(tmp_path):
    """A folder that is reached by ``az://…`` alone, on the way by which epath reaches a bucket."""

    class Bucket(LocalFileSystem):
        protocol = "az"

        @classmethod
        def _strip_protocol(cls, path):
            name = os.fspath(path)
            if name.startswith("az://"):
                name = str(tmp_path / "bucket" / name.removeprefix("az://"))
            return LocalFileSystem._strip_protocol(name)

    (tmp_path / "bucket").mkdir()
    fsspec.register_implementation("az", Bucket, clobber=True)
    return tmp_path / "bucket"


def test_from_a_bucket_into_a_bucket(bucket, tmp_path, short_mel):
    for split, n_tracks in SIZES.items():
        names, _ = write_split(bucket / "msd", split, n_tracks)
        for number, name in enumerate(names):
            write_tone(bucket / "msd" / name.replace(".npy", ".clip.mp3"), 200.0 + 60 * number)
    # One of the test split.
    (bucket / "msd" / names[0].replace(".npy", ".clip.mp3")).unlink()

    config = DataConfig("msd", "az://data", "az://msd", 0.1, 1, mel=short_mel)
    data = prepare(config)
    assert data.path.startswith("az://data/msd/")
    assert data.n_examples == {**SIZES, "test": SIZES["test"] - 1}
    assert data.rejected_by_reason() == {"missing": 1}
    assert prepare(config) == data

    with pytest.raises(UserError, match="not on a local disk") as error:
        data.source("train")
    assert data.path in str(error.value)
    copied = shutil.copytree(bucket / data.path.removeprefix("az://"), tmp_path / "copied")
    assert len(list(open_set(copied).source("train"))) == SIZES["train"]
    local = prepare(
        DataConfig("msd", str(tmp_path / "data"), str(bucket / "msd"), 0.1, 1, mel=short_mel)
    )
    assert files_of(local.path) == files_of(copied)
    assert not list(Path(bucket).rglob("*.tmp"))
