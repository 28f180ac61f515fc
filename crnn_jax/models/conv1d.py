"""Conv1D: the paper's k1c2, convolutions along time only."""

import functools

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from crnn_jax.config import PAPER_FRAMES, ModelConfig
from crnn_jax.models.blocks import (
    BatchNorm,
    ConvolutionBlock,
    DenseBlock,
    Dropout,
    flatten,
    pad_to_whole_windows,
)

BASE_WIDTHS = (32, 32, 64, 64, 64, 64)
NEAR_OUTPUT = (False, False, False, False, True, True)
TIME_POOLS = (4, 5, 8, 8)
pad = functools.partial(pad_to_whole_windows, pools=TIME_POOLS[:3], unless=PAPER_FRAMES)


class Conv1D(nn.Module):
    """Four convolutions with 1×4 kernels in each mel band, then two fully-connected layers.

    The mel bands are never mixed before the first fully-connected layer. The last pooling spans
    all the time that is left (8 frames of a 1366-frame clip), so that the fully-connected layer
    fits a clip of any length. Clips are padded to whole windows of the poolings before it; those of
    the paper's length are not, as in the paper, whose poolings leave out the last 86 frames.
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
        for i, (width, pool) in enumerate(zip(config.widths[:4], TIME_POOLS, strict=True)):
            span = pool if i < 3 else x.shape[2]
            x = ConvolutionBlock(config, width, (1, 4), (1, span), axis_name)(x, train=train)
        x = flatten(x)
        for width in config.widths[4:]:
            x = DenseBlock(config, width, axis_name)(x, train=train)
        self.sow("intermediates", "features", x)
        x = Dropout(config.dropout_output, axis_name)(x, train=train)
        return nn.Dense(config.n_tags, name="output")(x.astype(jnp.float32))
