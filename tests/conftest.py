"""What several rooms' tests share: where the optional real data is, and small prepared sets."""

from pathlib import Path

import pytest

from crnn_jax import parallel
from crnn_jax.config import DataConfig, MelConfig
from crnn_jax.datasets import PreparedSet, prepare



@pytest.fixture(scope="session", autouse=True)
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Steps that several tests need are compiled by the first of them."""
    parallel.keep_compiled(tmp_path_factory.mktemp("compiled"))


SHARED = Path(__file__).resolve().parents[1] / ".." / "shared"


@pytest.fixture(scope="session")
def real_clips() -> Path:
    """Folder of 123 clips of real music with ``tags.csv``, kept outside of the repository."""
    folder = SHARED / "clips"
    if not folder.exists():
        pytest.skip("needs the real clips in ../shared/clips")
    return folder.resolve()


@pytest.fixture(scope="session")
def small_set(tmp_path_factory: pytest.TempPathFactory) -> PreparedSet:
    """75 synthetic clips of 4 s: 48 for training, 9 for validation, 18 for the test."""
    config = DataConfig(
        data_dir=str(tmp_path_factory.mktemp("data")),
        n_examples=75,
        mel=MelConfig(clip_seconds=4.0),
        workers=2,
    )
    return prepare(config)
