"""Preparation as a Beam pipeline: the same bytes as without it."""

from pathlib import Path

import pytest

from crnn_jax.config import DataConfig, MelConfig
from crnn_jax.datasets import prepare
from crnn_jax.errors import UserError
from tests.datasets.test_records import files_of

pytest.importorskip("apache_beam", reason="needs Apache Beam: pip install 'crnn_jax[beam]'")

from crnn_jax.datasets.beam_engine import beam_engine

# What Beam and what it imports say on their own account.
pytestmark = pytest.mark.filterwarnings("ignore:::apache_beam", "ignore::DeprecationWarning")

MEL = MelConfig(clip_seconds=4.0)
TWO_PROCESSES = ("direct_running_mode=multi_processing", "direct_num_workers=2")


@pytest.fixture
def config(tmp_path):
    return DataConfig(data_dir=str(tmp_path), n_examples=75, mel=MEL)


def test_several_processes_make_the_same_set(small_set, config):
    data = prepare(config, engine=beam_engine("DirectRunner", TWO_PROCESSES))
    assert files_of(data.path) == files_of(small_set.path)
    assert data.tag_counts == small_set.tag_counts


def test_what_is_finished_is_not_made_again(small_set, config):
    stopped = "one shard is enough"

    def stop(done, total):
        raise InterruptedError(stopped)

    with pytest.raises(InterruptedError, match=stopped):
        prepare(DataConfig(**{**vars(config), "workers": 1}), report=stop)
    (finished,) = Path(config.data_dir).glob("synthetic/*/*.preparing-*/*.array_record")
    made = finished.stat().st_mtime_ns
    data = prepare(config, engine=beam_engine("DirectRunner"))
    assert made in {path.stat().st_mtime_ns for path in Path(data.path).glob("*array_record*")}
    assert files_of(data.path) == files_of(small_set.path)


def test_runners_and_options_that_are_not_known():
    with pytest.raises(UserError, match="--runner AbacusRunner: .*AbacusRunner"):
        beam_engine("AbacusRunner")
