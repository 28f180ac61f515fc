"""Every frame of a clip counts, whatever the clip's length."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crnn_jax.config import ModelConfig
from crnn_jax.models import ARCHITECTURES, build
from crnn_jax.models.blocks import FramePadding


def kept_by_pooling(frames, pools):
    """Which of so many frames reach the end of successive poolings, windows clipped."""
    places = [{frame} for frame in range(frames)]
    for pool in pools:
        window = min(pool, len(places))
        whole = len(places) // window
        places = [set().union(*places[i * window : (i + 1) * window]) for i in range(whole)]
    return set().union(*places)


@given(st.integers(1, 3000), st.lists(st.integers(1, 8), max_size=4))
def test_padding_leaves_no_frame_out_and_is_the_least(frames, pools):
    before, after = FramePadding(pools).of(frames)
    padded = frames + before + after
    assert 0 <= after - before <= 1
    assert kept_by_pooling(padded, pools) == set(range(padded))
    if padded > frames:
        assert kept_by_pooling(padded - 1, pools) != set(range(padded - 1))


def test_padding_is_centred_and_the_papers_length_may_be_excepted():
    x = jnp.arange(1.0, 6.0).reshape(1, 1, 5)
    np.testing.assert_array_equal(FramePadding((4, 2)).pad(x)[0, 0], [0, 1, 2, 3, 4, 5, 0, 0])
    assert FramePadding((4, 2), unless=5).pad(x).shape == (1, 1, 5)
    # The paper's CRNN: 1366 frames between 37 and 37 zeros; a clip of 4 s: 2 and 2.
    assert FramePadding((2, 3, 4, 4)).of(1366) == (37, 37)
    assert FramePadding((2, 3, 4, 4)).of(188) == (2, 2)


@pytest.mark.parametrize("arch", ["conv1d", "conv2d", "crnn"])
def test_every_frame_reaches_the_output(arch):
    frames = 188
    widths = tuple(4 for _ in ARCHITECTURES[arch].base_widths)
    network = build(ModelConfig(arch, widths, n_tags=3, n_mels=96))
    rng = np.random.default_rng(0)
    log_mel = rng.normal(size=(96, frames)).astype(np.float32)
    key = jax.random.key(0, impl="rbg")
    variables = jax.jit(lambda: network.init(key, log_mel[None], train=False))()
    # A click in one frame, each clip's in another one.
    clicks = np.repeat(log_mel[None], frames + 1, axis=0)
    for frame in range(frames):
        clicks[frame, :, frame] = 100 * rng.normal(size=96)
    logits = jax.jit(lambda x: network.apply(variables, x, train=False))(clicks)
    changed = np.abs(logits[:-1] - logits[-1]).max(axis=1)
    assert np.flatnonzero(changed == 0).tolist() == []


@pytest.mark.parametrize(
    ("arch", "frames"),
    [
        ("conv1d", [341, 68, 8, 1]),
        ("conv2d", [341, 85, 21, 4, 1]),
        ("crnn", [720, 240, 60, 15]),
    ],
)
def test_at_the_papers_length_the_geometry_is_the_papers(arch, frames):
    network = build(ModelConfig(arch, tuple(2 for _ in ARCHITECTURES[arch].base_widths)))

    def outputs_of_blocks(log_mel):
        _, variables = network.init_with_output(
            jax.random.key(0), log_mel, train=False, capture_intermediates=True
        )
        return variables["intermediates"]

    outputs = jax.eval_shape(outputs_of_blocks, jnp.zeros((1, 96, 1366)))
    found = [outputs[f"ConvolutionBlock_{i}"]["__call__"][0].shape[2] for i in range(len(frames))]
    assert found == frames
