"""k2c1 against the paper's words: a kernel over all mel bands, then kernels along time."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from crnn_jax.config import ModelConfig
from crnn_jax.models import build
from crnn_jax.models.budget import count_parameters

CONFIG = ModelConfig("k2c1", (4, 5, 6, 5, 4, 7, 6), n_tags=3, dropout_pool=0.0, dropout_output=0.0)
FRAMES = 320


def plain(variables, log_mel):
    """Prediction, layer by layer: the first convolution is two-dimensional, VALID along mel."""
    params, stats = variables["params"], variables["batch_stats"]

    def norm(x, layer):
        p, s = layer
        return p["scale"] * (x - s["mean"]) / jnp.sqrt(s["variance"] + 1e-3) + p["offset"]

    x = norm(log_mel.swapaxes(1, 2), (params["input_norm"], stats["input_norm"])).swapaxes(1, 2)
    x = x[..., None]
    for i, pool in enumerate((4, 4, 4, 5, None)):
        block = params[f"ConvolutionBlock_{i}"]
        # (1, frames, bands, features) → (bands, frames, 1, features) of the first one.
        kernel = block["kernel"].transpose(2, 1, 0, 3) if i == 0 else block["kernel"]
        x = lax.conv_general_dilated(
            x,
            kernel,
            (1, 1),
            # SAME along time for four taps: one before, two after.
            ((0, 0), (1, 2)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        assert x.shape[1] == 1
        x = norm(x + block["bias"], (block["norm"], stats[f"ConvolutionBlock_{i}"]["norm"]))
        window = (1, pool or x.shape[2])
        x = nn.max_pool(nn.elu(x), window, window)
    x = x.reshape(len(x), -1)
    for i in range(2):
        block = params[f"DenseBlock_{i}"]
        x = x @ block["dense"]["kernel"] + block["dense"]["bias"]
        x = nn.elu(norm(x, (block["norm"], stats[f"DenseBlock_{i}"]["norm"])))
    return x @ params["output"]["kernel"] + params["output"]["bias"]


def test_prediction_is_that_of_the_layers_one_by_one():
    rng = np.random.default_rng(0)
    network = build(CONFIG)
    log_mel = rng.normal(-30, 15, size=(2, 96, FRAMES)).astype(np.float32)
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), log_mel, train=False))
    variables = jax.tree.map(
        lambda leaf: (
            rng.uniform(0.2, 0.6, leaf.shape).astype(np.float32) * rng.choice([-1, 1], leaf.shape)
        ),
        shapes,
    )
    for layer in jax.tree.leaves(variables["batch_stats"], is_leaf=lambda x: "mean" in x):
        layer["variance"] = np.abs(layer["variance"])
    variables["batch_stats"]["input_norm"] = {
        "mean": np.full(96, -30, np.float32),
        "variance": np.full(96, 225, np.float32),
    }
    found = jax.jit(lambda x: network.apply(variables, x, train=False))(log_mel)
    np.testing.assert_allclose(found, jax.jit(plain)(variables, log_mel), rtol=1e-4, atol=1e-4)


def test_count_by_hand():
    widths = CONFIG.widths
    first = 96 * 4 * widths[0] + widths[0] + 2 * widths[0]
    along_time = sum(4 * a * b + b + 2 * b for a, b in itertools.pairwise(widths[:5]))
    dense = sum(a * b + b + 2 * b for a, b in itertools.pairwise(widths[4:]))
    output = widths[-1] * 3 + 3
    assert count_parameters(CONFIG) == 2 * 96 + first + along_time + dense + output
