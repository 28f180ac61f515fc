"""Convolution and pooling: the numbers of jax.lax, in values and gradients, however it is run."""

import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example as example_of
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax.sharding import AbstractDevice, AbstractMesh
from jax.sharding import PartitionSpec as P

from crnn_jax.ops import by_xla, convolution_max_pool
from crnn_jax.ops.cpu import layout
from crnn_jax.ops.cpu.minimal_filtering import make_transforms


def reference(x, kernel, window):
    """The same by jax.lax, in the type of its arguments."""
    y = lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    full = (1, *window, 1)
    maxima = lax.reduce_window(y, -np.inf, lax.max, full, full, "VALID")
    return maxima, y.mean((0, 1, 2)), y.var((0, 1, 2))


@functools.partial(jax.jit, static_argnums=(0, 3))
def value_and_gradients(function, x, kernel, window, cotangents):
    """Maxima, mean and variance, and the gradients of their weighted sum to x and kernel."""

    def weighted(x, kernel):
        values = tuple(function(x, kernel, window))
        return sum((v * c).sum() for v, c in zip(values, cotangents, strict=True)), values

    (_, values), gradients = jax.value_and_grad(weighted, (0, 1), has_aux=True)(x, kernel)
    return *values, *gradients


def in_float64(x, kernel, window, cotangents):
    with jax.enable_x64(True):
        arrays = (jnp.asarray(a, jnp.float64) for a in (x, kernel))
        cotangents = [jnp.asarray(c, jnp.float64) for c in cotangents]
        return value_and_gradients(reference, *arrays, window, cotangents)


def example(shape, features, taps, window, seed=0):
    """Input, kernel, and weights that let maxima, mean and variance matter about equally."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape).astype(np.float32)
    kernel = rng.normal(size=(*taps, shape[-1], features)).astype(np.float32)
    windows = (shape[0], shape[1] // window[0], shape[2] // window[1])
    scale = np.sqrt(np.prod(windows))
    cotangents = [
        rng.normal(size=(*windows, features)).astype(np.float32),
        scale * rng.normal(size=features).astype(np.float32),
        scale * rng.normal(size=features).astype(np.float32),
    ]
    return x, kernel, window, cotangents


def assert_close(found, expected, tolerance=1e-5):
    for a, b in zip(found, expected, strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        assert a.shape == b.shape
        assert np.linalg.norm(a - b) <= tolerance * np.linalg.norm(b)


# The kinds of layer in the three networks, in small: one channel or several, each kind of tile,
# windows that fill the output or leave some of it.
LAYERS = {
    "conv1d first": ((2, 3, 26, 1), 5, (1, 4), (1, 4)),
    "conv1d second": ((2, 3, 23, 5), 4, (1, 4), (1, 5)),
    "conv2d first": ((2, 8, 13, 1), 5, (3, 3), (2, 4)),
    "conv2d fourth": ((2, 8, 11, 5), 4, (3, 3), (3, 5)),
    "crnn second": ((2, 9, 12, 5), 7, (3, 3), (3, 3)),
    "crnn third": ((2, 8, 12, 5), 7, (3, 3), (4, 4)),
    "one place": ((2, 1, 1, 5), 3, (3, 3), (1, 1)),
    "two tiles a window": ((2, 9, 25, 3), 4, (3, 3), (4, 8)),
}


@pytest.mark.parametrize("layer", LAYERS)
def test_equals_lax_in_float64(layer):
    arguments = example(*LAYERS[layer])
    assert_close(value_and_gradients(convolution_max_pool, *arguments), in_float64(*arguments))


def test_equals_lax_in_float32():
    arguments = example(*LAYERS["crnn second"])
    assert_close(
        value_and_gradients(convolution_max_pool, *arguments),
        value_and_gradients(reference, *arguments),
    )


@settings(max_examples=2, deadline=None)
@example_of(batch=1, mel=2, frames=9, channels=2, taps=(2, 5), pool=(2, 5), seed=0)
@given(
    batch=st.integers(1, 3),
    mel=st.integers(1, 11),
    frames=st.integers(1, 23),
    channels=st.integers(1, 3),
    taps=st.sampled_from([(3, 3), (1, 4), (2, 5)]),
    pool=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    seed=st.integers(0, 99),
)
def test_any_size(batch, mel, frames, channels, taps, pool, seed):
    window = (min(pool[0], mel), min(pool[1], frames))
    arguments = example((batch, mel, frames, channels), 2, taps, window, seed)
    # A kernel gradient of few terms may all but cancel: rounding is then relative to its terms.
    found = value_and_gradients(convolution_max_pool, *arguments)
    for a, b in zip(found, in_float64(*arguments), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_many_strips(monkeypatch):
    """Strips of one row of tiles or of some rows give the same as one of all images."""
    arguments = example((4, 18, 33, 4), 5, (3, 3), (3, 3))
    expected = in_float64(*arguments)
    for strip_bytes in (0, 30_000):
        monkeypatch.setattr(layout, "STRIP_BYTES", strip_bytes)
        # A fresh function each time, so that nothing compiled before is used again.
        function = functools.partial(convolution_max_pool)
        assert_close(value_and_gradients(function, *arguments), expected)


@pytest.mark.parametrize("operation", [convolution_max_pool, by_xla])
# The last leaves a row and frames over.
@pytest.mark.parametrize("window", [(2, 3), (4, 8), (3, 7)])
def test_of_equal_maxima_the_first_gets_the_gradient(operation, window):
    # One tap that copies the input: the output then holds the ties of the input.
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, size=(2, 8, 24, 1)).astype(np.float32)
    kernel = np.zeros((3, 3, 1, 2), np.float32)
    kernel[1, 1] = 1.0
    _, _, _, cotangents = example(x.shape, 2, (3, 3), window)
    cotangents = [cotangents[0], np.zeros(2, np.float32), np.zeros(2, np.float32)]
    found = value_and_gradients(operation, x, kernel, window, cotangents)
    expected = value_and_gradients(reference, x, kernel, window, cotangents)
    assert_close([found[0], *found[3:]], [expected[0], *expected[3:]], 1e-6)


@pytest.mark.parametrize("operation", [convolution_max_pool, by_xla])
def test_where_nothing_sounds_the_first_of_a_window_gets_the_gradient(operation):
    x = np.zeros((1, 6, 9, 3), np.float32)
    kernel = np.ones((3, 3, 3, 2), np.float32)
    cotangents = [np.ones((1, 2, 3, 2), np.float32), np.zeros(2), np.zeros(2)]
    found = value_and_gradients(operation, x, kernel, (3, 3), cotangents)
    expected = value_and_gradients(reference, x, kernel, (3, 3), cotangents)
    np.testing.assert_allclose(found[3], expected[3], atol=1e-5)


def test_moments_of_a_small_deviation_from_a_large_mean():
    x, kernel, window, cotangents = example((2, 8, 64, 3), 4, (3, 3), (2, 4))
    x = 1000 + 0.1 * x
    kernel = np.zeros_like(kernel)
    kernel[1, 1] = 1.0
    _, _, variance, *_ = value_and_gradients(convolution_max_pool, x, kernel, window, cotangents)
    _, _, expected, *_ = in_float64(x, kernel, window, cotangents)
    np.testing.assert_allclose(variance, expected, rtol=1e-2)


def test_bfloat16():
    x, kernel, window, cotangents = example((2, 9, 12, 5), 7, (3, 3), (3, 3))
    low = jnp.asarray(x, jnp.bfloat16), jnp.asarray(kernel, jnp.bfloat16)
    found = value_and_gradients(convolution_max_pool, *low, window, cotangents)
    assert found[0].dtype == found[3].dtype == found[4].dtype == jnp.bfloat16
    assert found[1].dtype == found[2].dtype == jnp.float32
    expected = in_float64(*(np.asarray(a, np.float32) for a in low), window, cotangents)
    assert_close(found, expected, 1e-2)


def test_not_compiled():
    x, kernel, window, _ = example((2, 9, 12, 2), 3, (3, 3), (3, 3))
    with jax.disable_jit():
        found = convolution_max_pool(jnp.asarray(x), jnp.asarray(kernel), window)
    for a, b in zip(found, reference(x, kernel, window), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_vmap_over_kernels_and_over_both():
    examples = [example((2, 9, 12, 2), 3, (3, 3), (3, 3), seed) for seed in range(3)]
    window, cotangents = examples[0][2:]
    x, kernels = (np.stack([e[i] for e in examples]) for i in (0, 1))

    def both(x, kernel):
        return value_and_gradients(convolution_max_pool, x, kernel, window, cotangents)

    mapped = jax.vmap(both)(x, kernels)
    kernels_only = jax.vmap(both, (None, 0))(x[0], kernels)
    for i in range(3):
        assert_close([m[i] for m in mapped], in_float64(x[i], kernels[i], window, cotangents))
        assert_close([m[i] for m in kernels_only], in_float64(x[0], kernels[i], window, cotangents))


@pytest.mark.parametrize("layer", ["conv1d second", "conv2d fourth", "two tiles a window"])
def test_the_operations_of_other_devices_equal_lax_in_float64(layer):
    """Traced as for a GPU, computed by this CPU."""
    x, kernel, window, cotangents = example(*LAYERS[layer])
    gpu = AbstractMesh((1,), ("batch",), abstract_device=AbstractDevice("NVIDIA H100", 132, "gpu"))

    def traced_for_gpu(x, kernel):
        return value_and_gradients(convolution_max_pool, x, kernel, window, cotangents)

    mapped = jax.shard_map(traced_for_gpu, mesh=gpu, in_specs=P(), out_specs=P(), check_vma=False)
    exported = jax.export.export(jax.jit(mapped), platforms=["cpu"])(x, kernel)
    for operation in ("reduce_window", "select_and_scatter", "while"):
        assert operation not in exported.mlir_module()
    assert_close(exported.call(x, kernel), in_float64(x, kernel, window, cotangents))


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_other_platforms_get_the_plain_operations(platform):
    def gradients(x, kernel):
        total = lambda x, kernel: convolution_max_pool(x, kernel, (2, 4))[0].sum()  # noqa: E731
        return jax.grad(total, (0, 1))(x, kernel)

    x, kernel, *_ = example((2, 8, 12, 3), 4, (3, 3), (2, 4))
    lowered = jax.export.export(jax.jit(gradients), platforms=[platform])(x, kernel)
    assert "convolution" in lowered.mlir_module()
    for operation in ("reduce_window", "select_and_scatter", "while"):
        assert operation not in lowered.mlir_module()


SHARDED = """
import jax, numpy as np, sys
from jax import lax
from jax.sharding import PartitionSpec as P
from crnn_jax.ops import by_xla, convolution_max_pool

arrays = np.load(sys.argv[1])
mesh = jax.make_mesh((2,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))


def gradients(x, kernel):
    def total(x, kernel):
        maxima, mean, variance = convolution_max_pool(x, kernel, (3, 3))
        whole = lax.pmean(mean, "batch")
        variance = lax.pmean(variance + (mean - whole) ** 2, "batch")
        return lax.psum((maxima**2).sum(), "batch") + (whole * variance).sum()

    return jax.grad(total, (0, 1))(x, kernel)


sharded = jax.shard_map(
    gradients, mesh=mesh, in_specs=(P("batch"), P()), out_specs=(P("batch"), P())
)
x, kernel = jax.jit(sharded)(arrays["x"], arrays["kernel"])
np.savez(sys.argv[2], x=x, kernel=kernel)
"""


def test_shard_map_over_two_devices(tmp_path):
    """The checked kind of shard_map: what varies over devices is tracked through the operation."""
    x, kernel, *_ = example((4, 9, 12, 2), 3, (3, 3), (3, 3))
    np.savez(tmp_path / "in.npz", x=x, kernel=kernel)
    subprocess.run(
        [sys.executable, "-c", SHARDED, tmp_path / "in.npz", tmp_path / "out.npz"],
        env={**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"},
        check=True,
    )
    found = np.load(tmp_path / "out.npz")

    def total(x, kernel):
        maxima, mean, variance = reference(x, kernel, (3, 3))
        return (maxima**2).sum() + (mean * variance).sum()

    expected = jax.grad(total, (0, 1))(x, kernel)
    for a, b in zip((found["x"], found["kernel"]), expected, strict=True):
        assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b)


@pytest.mark.parametrize(("outputs", "taps"), [(1, 1), (1, 3), (2, 3), (3, 3), (4, 3), (5, 4)])
def test_minimal_filtering_is_a_filter(outputs, taps):
    rng = np.random.default_rng(0)
    signal, kernel = rng.normal(size=outputs + taps - 1), rng.normal(size=taps)
    filtering = make_transforms(outputs, taps)
    found = filtering.tile @ ((filtering.kernel @ kernel) * (filtering.patch @ signal))
    np.testing.assert_allclose(found, np.correlate(signal, kernel), rtol=1e-10, atol=1e-12)
