"""Random parts of clips in training, and the mean over all parts in evaluation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, logit

from crnn_jax.config import MelConfig, ModelConfig, TrainConfig
from crnn_jax.data.batches import count_crop
from crnn_jax.errors import UserError
from crnn_jax.models import build
from crnn_jax.train.devices import AXIS
from crnn_jax.train.steps import crop_randomly, eval_step

CONFIG = ModelConfig("conv1d", (2, 2, 2, 2, 3, 3), n_tags=3)


@pytest.fixture(scope="module")
def variables():
    return build(CONFIG).init(jax.random.key(1), jnp.zeros((1, 96, 100)), train=False)


def clips(n, frames):
    return np.random.default_rng(0).normal(-40, 10, (n, 96, frames)).astype(np.float32)


def test_a_crop_is_a_part_of_its_clip():
    log_mel = clips(32, 130)
    cut = np.asarray(crop_randomly(jnp.asarray(log_mel), 100, jax.random.key(0), None))
    starts = []
    for clip, part in zip(log_mel, cut, strict=True):
        found = [s for s in range(31) if np.array_equal(clip[:, s : s + 100], part)]
        assert len(found) == 1
        starts += found
    # From the first possible one to the last, and different ones.
    assert min(starts) < 5
    assert max(starts) > 25
    assert len(set(starts)) > 10
    other = np.asarray(crop_randomly(jnp.asarray(log_mel), 100, jax.random.key(1), None))
    assert not np.array_equal(cut, other)


def test_crops_do_not_depend_on_the_devices():
    log_mel = jnp.asarray(clips(8, 130))
    key = jax.random.key(0)
    alone = crop_randomly(log_mel, 100, key, None)
    # An axis of four, as of four devices with two rows each.
    split = jax.vmap(lambda x: crop_randomly(x, 100, key, AXIS), axis_name=AXIS)
    np.testing.assert_array_equal(split(log_mel.reshape(4, 2, 96, 130)).reshape(alone.shape), alone)


@pytest.mark.parametrize("frames", [100, 150, 200, 230, 299])
def test_outputs_are_the_mean_over_parts_that_cover_the_clip(variables, frames):
    log_mel = clips(4, frames)
    n_windows = -(-frames // 100)
    starts = np.round(np.linspace(0, frames - 100, n_windows)).astype(int)
    covered = {frame for start in starts for frame in range(start, start + 100)}
    assert covered == set(range(frames))
    each = [
        expit(np.asarray(eval_step(variables, log_mel[:, :, s : s + 100], model=build(CONFIG))))
        for s in starts
    ]
    logits = eval_step(variables, jnp.asarray(log_mel), model=build(CONFIG), crop=100)
    np.testing.assert_allclose(logits, logit(np.mean(each, axis=0)), rtol=2e-4, atol=2e-5)


def test_no_crop_is_the_whole_clip(variables):
    log_mel = jnp.asarray(clips(2, 150))
    whole = eval_step(variables, log_mel, model=build(CONFIG))
    np.testing.assert_array_equal(
        eval_step(variables, log_mel, model=build(CONFIG), crop=150), whole
    )


@pytest.mark.parametrize("seconds", [0.5, 12.5])
def test_a_crop_has_to_fit(seconds):
    mel = MelConfig(clip_seconds=12.0)
    with pytest.raises(UserError, match=f"train_crop {seconds:g}: the examples last 12 s"):
        count_crop(mel, TrainConfig(train_crop=seconds))
    assert count_crop(mel, TrainConfig(train_crop=12.0)) == mel.frames
    assert count_crop(mel, TrainConfig(train_crop=4.0, clip_seconds=8.0)) == 188
