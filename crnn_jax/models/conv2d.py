"""Conv2D: the paper's k2c2, a fully convolutional network."""

import functools

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from crnn_jax.config import PAPER_FRAMES, ModelConfig
from crnn_jax.models.blocks import (
    BatchNorm,
    ConvolutionBlock,
    Dropout,
    flatten,
    pad_to_whole_windows,
)

BASE_WIDTHS = (64, 128, 128, 192, 256)
NEAR_OUTPUT = (False, False, False, False, True)
POOLS = ((2, 4), (2, 4), (2, 4), (3, 5), (4, 4))
TIME_POOLS = tuple(time for _, time in POOLS)
pad = functools.partial(pad_to_whole_windows, pools=TIME_POOLS[:4], unless=PAPER_FRAMES)


class Conv2D(nn.Module):
    """Five 3×3 convolutions, each pooled over mel bands and time, until one value a map is left.

    The last pooling spans all the time that is left (4 frames of a 1366-frame clip), so that the
    output layer fits a clip of any length. Clips are padded to whole windows of the poolings before
    it; those of the paper's length are not, as in the paper, whose poolings leave out the last 86
    frames.
    """

    config: ModelConfig
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, log_mel: Float[Array, "batch mel frames"], *, train: bool
    ) -> Float[Array, "batch tags"]:
        config, axis_name = self.config, self.axis_name
        x = BatchNorm(config, 1, axis_name, name="input_norm")(log_mel, train=train)
        x = pad(x)
        x = x[..., None].astype(config.precision)
        for i, (width, (mel_pool, time_pool)) in enumerate(zip(config.widths, POOLS, strict=True)):
            pool = (mel_pool, time_pool if i < 4 else x.shape[2])
            x = ConvolutionBlock(config, width, (3, 3), pool, axis_name)(x, train=train)
        x = flatten(x)
        self.sow("intermediates", "features", x)
        x = Dropout(config.dropout_output, axis_name)(x, train=train)
        return nn.Dense(config.n_tags, name="output")(x.astype(jnp.float32))
