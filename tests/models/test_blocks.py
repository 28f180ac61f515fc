"""Blocks against their plain definitions, in float64 or written out in NumPy."""

import dataclasses
import os
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from crnn_jax.config import ModelConfig
from crnn_jax.models.blocks import GRU, BatchNorm, ConvolutionBlock, DenseBlock, Dropout, flatten

CONFIG = ModelConfig("crnn", (), dropout_pool=0.0)


def plain_convolution_block(variables, x, window, train):
    """Convolution with bias, batch norm, ELU, max-pooling, one after the other; what the batch
    norm is to remember beside it."""
    parameters, norm = variables["params"], variables["params"]["norm"]
    x = jnp.asarray(x, parameters["kernel"].dtype)
    y = lax.conv_general_dilated(
        x, parameters["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    y = y + parameters["bias"]
    running = variables["batch_stats"]["norm"]
    mean, variance = running["mean"], running["variance"]
    if train:
        mean, variance = y.mean((0, 1, 2)), y.var((0, 1, 2))
        old = CONFIG.norm_momentum
        running = {
            "mean": old * running["mean"] + (1 - old) * mean,
            "variance": old * running["variance"] + (1 - old) * variance,
        }
    y = norm["scale"] * (y - mean) / jnp.sqrt(variance + CONFIG.norm_epsilon) + norm["offset"]
    return nn.max_pool(nn.elu(y), window, window), running


def convolution_example(channels, features, taps, pool, size=(9, 14)):
    """Block, input, and variables with scales of either sign, and a running state of its own."""
    rng = np.random.default_rng(0)
    block = ConvolutionBlock(CONFIG, features, taps, pool, None)
    x = rng.normal(0.5, 1.0, size=(3, *size, channels)).astype(np.float32)
    shapes = jax.eval_shape(lambda: block.init(jax.random.key(0), x, train=False))
    variables = jax.tree.map(lambda a: rng.normal(size=a.shape).astype(np.float32), shapes)
    variables["params"]["norm"]["scale"] = np.linspace(-1.5, 2.0, features, dtype=np.float32)
    running = variables["batch_stats"]["norm"]
    running["variance"] = jnp.abs(running["variance"])
    return block, x, variables


def close(found, expected, tolerance=1e-5):
    """Whether each array of a tree is near the expected one, relative to its norm."""

    def near(a, b):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        # What should be nothing (the gradient to a bias before a norm) is nothing to rounding.
        return bool(np.linalg.norm(a - b) <= tolerance * max(np.linalg.norm(b), 1e-3))

    return jax.tree.map(near, found, expected)


def all_true(tree):
    return all(jax.tree.leaves(tree))


@pytest.mark.parametrize(
    ("channels", "features", "taps", "pool", "train"),
    [
        (1, 6, (3, 3), (2, 2), True),
        (4, 6, (3, 3), (3, 5), True),
        (3, 5, (1, 4), (1, 40), True),
        (4, 6, (3, 3), (3, 5), False),
    ],
)
def test_convolution_block_is_its_plain_definition(channels, features, taps, pool, train):
    block, x, variables = convolution_example(channels, features, taps, pool)
    window = (min(pool[0], x.shape[1]), min(pool[1], x.shape[2]))
    shape = (3, x.shape[1] // window[0], x.shape[2] // window[1], features)
    weights = np.random.default_rng(1).normal(size=shape)

    def fast(parameters, x):
        y, updated = block.apply(
            {**variables, "params": parameters}, x, train=train, mutable=["batch_stats"]
        )
        return (y * weights).sum(), (y, updated["batch_stats"]["norm"])

    def plain(parameters, x):
        tree = {**variables, "params": parameters}
        y, running = plain_convolution_block(tree, x, window, train)
        return (y * weights).sum(), (y, running)

    found = jax.jit(jax.value_and_grad(fast, (0, 1), has_aux=True))(variables["params"], x)
    with jax.enable_x64(True):
        parameters, x64 = jax.tree.map(
            lambda a: jnp.asarray(a, jnp.float64), (variables["params"], x)
        )
        expected = jax.jit(jax.value_and_grad(plain, (0, 1), has_aux=True))(parameters, x64)
    assert found[0][1][0].shape == shape
    assert all_true(close(found, expected)), close(found, expected)


def test_gradient_at_a_scale_of_zero():
    """With windows of one place, nothing hangs on the sign: the gradient there is well defined."""
    block, x, variables = convolution_example(2, 3, (3, 3), (1, 1), size=(4, 5))
    variables["params"]["norm"]["scale"] = np.array([0.0, -0.5, 0.5], np.float32)
    weights = np.random.default_rng(1).normal(size=(3, 4, 5, 3))

    def fast(parameters):
        tree = {**variables, "params": parameters}
        return (block.apply(tree, x, train=True, mutable=["batch_stats"])[0] * weights).sum()

    def plain(parameters):
        tree = {**variables, "params": parameters}
        return (plain_convolution_block(tree, x, (1, 1), True)[0] * weights).sum()

    found = jax.jit(jax.grad(fast))(variables["params"])
    with jax.enable_x64(True):
        parameters = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), variables["params"])
        expected = jax.jit(jax.grad(plain))(parameters)
    assert all_true(close(found, expected)), close(found, expected)


def test_a_pool_is_clipped_to_what_is_left():
    block, x = ConvolutionBlock(CONFIG, 2, (3, 3), (4, 4), None), jnp.ones((1, 2, 3, 1))
    y, _ = jax.eval_shape(lambda: block.init_with_output(jax.random.key(0), x, train=False))
    assert y.shape == (1, 1, 1, 2)


def test_batch_norm_of_an_axis():
    rng = np.random.default_rng(0)
    x = rng.normal(-30, 15, size=(5, 7, 11)).astype(np.float32)
    norm = BatchNorm(CONFIG, 1, None)
    variables = norm.init(jax.random.key(0), x, train=False)
    y, updated = norm.apply(variables, x, train=True, mutable=["batch_stats"])
    mean, variance = x.mean((0, 2)), x.var((0, 2))
    expected = (x - mean[:, None]) / np.sqrt(variance + CONFIG.norm_epsilon)[:, None]
    np.testing.assert_allclose(y, expected, atol=1e-5)
    np.testing.assert_allclose(updated["batch_stats"]["mean"], 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(updated["batch_stats"]["variance"], 0.9 + 0.1 * variance, rtol=1e-5)


def test_dense_block():
    """Training and prediction; a bias shows in the running mean and in prediction alone."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 4)).astype(np.float32)
    block = DenseBlock(CONFIG, 3, None)
    params = block.init(jax.random.key(0), x, train=True)["params"]
    params["dense"]["bias"] = jnp.asarray([0.5, -2.0, 30.0])
    stats = {
        "norm": {"mean": jnp.asarray([0.1, 0.2, 29.0]), "variance": jnp.asarray([2.0, 0.5, 3])}
    }
    z = np.asarray(x @ params["dense"]["kernel"] + params["dense"]["bias"])

    def expected(mean, variance):
        normed = (z - mean) / np.sqrt(variance + CONFIG.norm_epsilon)
        return np.where(normed > 0, normed, np.expm1(normed))

    variables = {"params": params, "batch_stats": stats}
    y, updated = block.apply(variables, x, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(y, expected(z.mean(0), z.var(0)), atol=1e-5)
    new = updated["batch_stats"]["norm"]
    np.testing.assert_allclose(
        new["mean"], 0.9 * stats["norm"]["mean"] + 0.1 * z.mean(0), rtol=1e-5
    )
    np.testing.assert_allclose(
        new["variance"], 0.9 * stats["norm"]["variance"] + 0.1 * z.var(0), rtol=1e-5
    )
    y = block.apply(variables, x, train=False)
    np.testing.assert_allclose(y, expected(*stats["norm"].values()), atol=1e-5)


@pytest.mark.parametrize(
    ("block", "shape"),
    [
        (DenseBlock(CONFIG, 3, None), (6, 4)),
        (ConvolutionBlock(CONFIG, 3, (3, 3), (2, 2), None), (3, 8, 8, 2)),
    ],
)
def test_a_bias_before_a_norm_has_no_gradient(block, shape):
    """Not even rounding errors: Adam divides them by their own size."""
    x = jax.random.normal(jax.random.key(0), shape)
    variables = jax.jit(partial(block.init, train=False))(jax.random.key(1), x)

    def loss(params):
        y, _ = block.apply({**variables, "params": params}, x, train=True, mutable=["batch_stats"])
        return jnp.square(y - 1).mean()

    gradients = jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(loss))(variables["params"]))
    assert len(gradients) == 4
    for path, gradient in gradients:
        name = jax.tree_util.keystr(path)
        assert bool(np.any(gradient)) == ("bias" not in name), name


@pytest.mark.parametrize("rate", [0.1, 0.3])
def test_dropout_drops_its_rate_and_keeps_the_mean(rate):
    x = jnp.ones((4, 50_000))
    y = Dropout(rate, None).apply({}, x, train=True, rngs={"dropout": jax.random.key(0)})
    assert set(np.unique(y)) == {np.float32(0.0), np.float32(1.0) / np.float32(1.0 - rate)}
    dropped = np.asarray(y == 0)
    # Four standard deviations of a binomial proportion.
    for share, n in ((dropped.mean(), dropped.size), *((d.mean(), d.size) for d in dropped)):
        assert abs(share - rate) < 4 * np.sqrt(rate * (1 - rate) / n)


def test_dropout_masks_are_independent():
    """No two examples, no two keys and no two neighbours drop together more often than chance."""
    rate, n = 0.3, 100_000
    x = jnp.ones((2, n))
    masks = np.concatenate(
        [
            Dropout(rate, None).apply({}, x, train=True, rngs={"dropout": jax.random.key(k)}) == 0
            for k in (0, 1)
        ]
    )
    pairs = [(a, b) for i, a in enumerate(masks) for b in masks[:i]]
    pairs += [(m[lag:], m[:-lag]) for m in masks for lag in (1, 2, 3, 64)]
    for a, b in pairs:
        assert abs((a & b).mean() - rate**2) < 4.5 * np.sqrt(rate**2 * (1 - rate**2) / n)


def test_dropout_rests_at_prediction():
    x = jnp.ones((2, 9))
    assert Dropout(0.5, None).apply({}, x, train=False) is x


SPLIT = """
import jax, jax.numpy as jnp, numpy as np, sys
from jax.sharding import PartitionSpec as P
from crnn_jax.config import ModelConfig
from crnn_jax.models.blocks import ConvolutionBlock
from crnn_jax.train.parallel import split_over

config = ModelConfig("crnn", ())
x = np.random.default_rng(0).normal(size=(8, 9, 12, 2)).astype(np.float32)


def block(axis_name):
    return ConvolutionBlock(config, 3, (3, 3), (3, 3), axis_name)


variables = jax.jit(lambda: block(None).init(jax.random.key(0), x, train=False))()


def step(axis_name):
    def outputs_and_statistics(variables, x):
        return block(axis_name).apply(
            variables, x, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(1)}
        )

    return outputs_and_statistics


mesh = jax.make_mesh((8,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
split = split_over(
    mesh, step("batch"), in_specs=(P(), P("batch")), out_specs=(P("batch"), P())
)
found, expected = split(variables, x), jax.jit(step(None))(variables, x)
np.testing.assert_array_equal(found[0] == 0, expected[0] == 0)
jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, expected)
"""


def test_one_device_and_eight_give_the_same():
    """Outputs, dropped places and running statistics do not depend on the split of the batch."""
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    subprocess.run([sys.executable, "-c", SPLIT], env=environment, check=True)


def gru_loop(parameters, x, reset, gate):
    """A gated recurrent unit, example by example and step by step."""
    gates = {
        "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
        "hard_sigmoid": lambda a: np.clip(0.2 * a + 0.5, 0, 1),
    }
    g = gates[gate]
    w, u, b = (np.asarray(parameters[k]) for k in ("input_kernel", "recurrent_kernel", "bias"))
    (wz, wr, wn), (uz, ur, un), (bz, br, bn) = (np.split(a, 3, axis=-1) for a in (w, u, b))
    states = np.zeros((*x.shape[:2], uz.shape[0]))
    for i, example in enumerate(x):
        h = np.zeros(uz.shape[0])
        for t, now in enumerate(example):
            z = g(now @ wz + h @ uz + bz)
            r = g(now @ wr + h @ ur + br)
            from_state = r * (h @ un) if reset == "after" else (r * h) @ un
            h = z * h + (1 - z) * np.tanh(now @ wn + from_state + bn)
            states[i, t] = h
    return states


@pytest.mark.parametrize("reset", ["after", "before"])
@pytest.mark.parametrize("gate", ["sigmoid", "hard_sigmoid"])
def test_gru(reset, gate):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 5, 3)).astype(np.float32)
    gru = GRU(dataclasses.replace(CONFIG, gru_reset=reset, gru_gate=gate), 4)
    parameters = gru.init(jax.random.key(0), x)["params"]
    parameters["bias"] = rng.normal(size=12).astype(np.float32)
    found = gru.apply({"params": parameters}, x)
    np.testing.assert_allclose(found, gru_loop(parameters, x, reset, gate), atol=1e-6)


def test_gru_gradient_against_finite_differences():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 4, 3)).astype(np.float32)
    gru = GRU(CONFIG, 2)
    parameters = gru.init(jax.random.key(0), x)["params"]

    def loss(parameters):
        return jnp.square(gru.apply({"params": parameters}, x)).sum()

    def loss_by_loop(parameters):
        return np.square(gru_loop(parameters, x, "after", "sigmoid")).sum()

    gradient = jax.grad(loss)(parameters)
    direction = jax.tree.map(lambda a: rng.normal(size=a.shape), parameters)
    ahead, behind = (
        loss_by_loop(
            jax.tree.map(lambda a, d, s=step: np.float64(a) + s * d, parameters, direction)
        )
        for step in (1e-5, -1e-5)
    )
    slope = sum(jax.tree.leaves(jax.tree.map(lambda g, d: (g * d).sum(), gradient, direction)))
    np.testing.assert_allclose(slope, (ahead - behind) / 2e-5, rtol=1e-4)


def test_flatten():
    assert flatten(jnp.zeros((2, 3, 4))).shape == (2, 12)
