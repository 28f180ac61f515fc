"""Preparation as a Beam pipeline: the same bytes as without it."""

import importlib.util
from pathlib import Path

import pytest

from crnn_jax.config import DataConfig, MelConfig
from crnn_jax.data.engines.beam import beam_engine
from crnn_jax.data.prepared import prepare
from crnn_jax.errors import UserError
from tests.data.test_builder import files_of

INSTALLED = importlib.util.find_spec("apache_beam") is not None
needs_beam = pytest.mark.skipif(
    not INSTALLED, reason="needs Apache Beam: pip install 'crnn_jax[beam]'"
)
MEL = MelConfig(clip_seconds=4.0)
TWO_PROCESSES = ("direct_running_mode=multi_processing", "direct_num_workers=2")


@pytest.fixture
def config(tmp_path):
    return DataConfig(data_dir=str(tmp_path), n_examples=75, mel=MEL)


@pytest.mark.cluster
@needs_beam
def test_several_processes_make_the_same_set(small_set, config):
    data = prepare(config, engine=beam_engine("DirectRunner", TWO_PROCESSES))
    assert files_of(data.path) == files_of(small_set.path)
    assert data.tag_counts == small_set.tag_counts


@pytest.mark.cluster
@needs_beam
def test_a_portable_runner_makes_the_same_set(small_set, config):
    """A job server, as that of a cluster is, whose workers are processes that we start."""
    from apache_beam.runners.portability.local_job_service import LocalJobServicer

    server = LocalJobServicer()
    endpoint = f"job_endpoint=localhost:{server.start_grpc_server(0)}"
    engine = beam_engine("PortableRunner", (endpoint, "environment_type=LOOPBACK"))
    data = prepare(config, engine=engine)
    server.stop()
    assert files_of(data.path) == files_of(small_set.path)


@pytest.mark.cluster
@needs_beam
def test_what_is_finished_is_not_made_again(small_set, config):
    stopped = "one shard is enough"

    def stop(done, total):
        raise InterruptedError(stopped)

    with pytest.raises(InterruptedError, match=stopped):
        prepare(DataConfig(**{**vars(config), "workers": 1}), report=stop)
    (finished,) = Path(config.data_dir).glob("synthetic/*/*.preparing-*/records/*.array_record")
    made = finished.stat().st_mtime_ns
    data = prepare(config, engine=beam_engine("DirectRunner"))
    assert made in {path.stat().st_mtime_ns for path in Path(data.path).glob("*array_record*")}
    assert files_of(data.path) == files_of(small_set.path)


@pytest.mark.cluster
@needs_beam
def test_workers_elsewhere_are_noticed(config, monkeypatch):
    """As if the workers' data folder were another machine's."""
    monkeypatch.setattr("crnn_jax.data.engines.beam.make_shard", lambda task: None)
    with pytest.raises(UserError, match=r"train-00000.array_record does not exist.*--data-dir"):
        prepare(config, engine=beam_engine("DirectRunner"))


@pytest.mark.cluster
@needs_beam
def test_runners_and_options_that_are_not_known():
    with pytest.raises(UserError, match="runner AbacusRunner: .*AbacusRunner"):
        beam_engine("AbacusRunner")


@pytest.mark.cluster
@needs_beam
def test_a_value_that_an_option_cannot_have():
    with pytest.raises(UserError, match="runner_options: .*direct_num_workers.*'two'"):
        beam_engine("DirectRunner", ("direct_num_workers=two",))


@pytest.mark.skipif(INSTALLED, reason="Apache Beam is installed")
def test_without_beam():
    with pytest.raises(UserError, match=r"engine beam: .*pip install 'crnn_jax\[beam\]'"):
        beam_engine("DirectRunner")
