"""Collections and prepared sets that are not on a local disk."""

import shutil

import pytest

from crnn_jax.config import DataConfig
from crnn_jax.data.prepared import open_set, prepare
from crnn_jax.errors import UserError
from tests.data.conftest import write_tone
from tests.data.test_builder import files_of
from tests.data.test_msd import SIZES, write_split


def test_from_a_bucket_into_a_bucket(bucket, tmp_path, short_mel):
    url = f"az://{bucket.name}"
    for split, n_tracks in SIZES.items():
        names, _ = write_split(bucket / "msd", split, n_tracks)
        for number, name in enumerate(names):
            write_tone(bucket / "msd" / name.replace(".npy", ".clip.mp3"), 200.0 + 60 * number)
    # One of the test split.
    (bucket / "msd" / names[0].replace(".npy", ".clip.mp3")).unlink()

    config = DataConfig("msd", f"{url}/data", f"{url}/msd", 0.1, 1, mel=short_mel)
    data = prepare(config)
    assert data.path.startswith(f"{url}/data/msd/")
    assert data.n_examples == {**SIZES, "test": SIZES["test"] - 1}
    assert data.rejected_by_reason() == {"missing": 1}
    assert prepare(config) == data

    with pytest.raises(UserError, match="not on a local disk") as error:
        data.source("train")
    assert data.path in str(error.value)
    copied = shutil.copytree(bucket / data.path.removeprefix(f"{url}/"), tmp_path / "copied")
    assert len(list(open_set(copied).source("train"))) == SIZES["train"]
    local = prepare(
        DataConfig("msd", str(tmp_path / "data"), str(bucket / "msd"), 0.1, 1, mel=short_mel)
    )
    assert files_of(local.path) == files_of(copied)
    assert not list(bucket.rglob("*.tmp"))
