"""CRNN: convolutions summarise short stretches, two GRUs read their order."""

import functools

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from crnn_jax.config import ModelConfig
from crnn_jax.models.blocks import (
    GRU,
    BatchNorm,
    ConvolutionBlock,
    Dropout,
    pad_to_whole_windows,
)

BASE_WIDTHS = (64, 128, 128, 128, 64, 64)
NEAR_OUTPUT = (False, False, False, False, True, True)
POOLS = ((2, 2), (3, 3), (4, 4), (4, 4))
TIME_POOLS = tuple(time for _, time in POOLS)
pad = functools.partial(pad_to_whole_windows, pools=TIME_POOLS)


class CRNN(nn.Module):
    """Four 3×3 convolutions down to 15 steps, then two GRUs, of which the last state is read.

    Clips are padded to whole steps of 96 frames: 1366 frames, by 37 on either side, to 1440.
    """

    config: ModelConfig
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, log_mel: Float[Array, "batch mel frames"], *, train: bool
    ) -> Float[Array, "batch tags"]:
        config, axis_name = self.config, self.axis_name
        if config.input_norm == "mel":
            x = BatchNorm(config, 1, axis_name, name="input_norm")(log_mel, train=train)
            x = pad(x)
        else:
            x = pad(log_mel)
            x = BatchNorm(config, 2, axis_name, name="input_norm")(x, train=train)
        x = x[..., None].astype(config.precision)
        for width, pool in zip(config.widths[:4], POOLS, strict=True):
            x = ConvolutionBlock(config, width, (3, 3), pool, axis_name)(x, train=train)
        # (batch, mel, steps, maps) → (batch, steps, maps × mel): one mel band is left of 96.
        x = x.transpose(0, 2, 3, 1)
        x = x.reshape(*x.shape[:2], -1)
        for width in config.widths[4:]:
            x = GRU(config, width)(x)
        x = x[:, -1]
        self.sow("intermediates", "features", x)
        x = Dropout(config.dropout_output, axis_name)(x, train=train)
        return nn.Dense(config.n_tags, name="output")(x.astype(jnp.float32))
