"""Configurations: plain values that go to JSON and back."""

import json

from hypothesis import given
from hypothesis import strategies as st

from crnn_jax.config import (
    DataConfig,
    MelConfig,
    ModelConfig,
    SweepConfig,
    TrainConfig,
)
from crnn_jax.serialization import from_mapping, to_json

positive = st.floats(0.01, 100)
configs = st.one_of(
    st.builds(MelConfig, clip_seconds=positive, n_fft=st.integers(16, 4096)),
    st.builds(
        ModelConfig,
        arch=st.sampled_from(["conv1d", "conv2d", "crnn"]),
        widths=st.lists(st.integers(1, 999), min_size=5, max_size=6).map(tuple),
    ),
    st.builds(TrainConfig, max_train_seconds=st.none() | positive),
    st.builds(DataConfig, mel=st.builds(MelConfig, top_db=positive)),
    st.builds(
        SweepConfig,
        targets=st.lists(st.integers(1, 10**7), max_size=4).map(tuple),
        extra_cells=st.lists(
            st.tuples(st.just("crnn"), st.integers(1, 9), st.just("sqrt"), st.integers(0, 3)),
            max_size=2,
        ).map(tuple),
    ),
)


@given(configs)
def test_json_and_back(config):
    assert from_mapping(type(config), json.loads(to_json(config))) == config
    assert hash(config) == hash(from_mapping(type(config), json.loads(to_json(config))))


def test_the_papers_clip():
    mel = MelConfig()
    assert mel.clip_samples == 349_440
    assert mel.frames == 1366
