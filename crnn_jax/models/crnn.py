"""CRNN: convolutions summarise short segments, two GRUs model their order."""

from flax import linen as nn
from jaxtyping import Array, Float

from crnn_jax.config import ModelConfig
from crnn_jax.models import Architecture
from crnn_jax.models.blocks import (
    GRU,
    ConvolutionBlock,
    FramePadding,
    classify,
    normalize_input,
)

MEL_POOLS = (2, 3, 4, 4)
TIME_POOLS = (2, 3, 4, 4)
PADDING = FramePadding(TIME_POOLS)


class CRNN(nn.Module):
    """Four 3×3 convolutions, pooled to 15 steps, then two GRUs, whose last state is used.

    Clips are padded to whole steps of 96 frames: 1366 frames, with 37 on either side, to 1440.
    """

    config: ModelConfig
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, log_mel: Float[Array, "batch mel frames"], *, train: bool
    ) -> Float[Array, "batch tags"]:
        config, axis_name = self.config, self.axis_name
        x = normalize_input(self, log_mel, PADDING, train=train)
        pools = zip(MEL_POOLS, TIME_POOLS, strict=True)
        for width, pool in zip(config.widths[:4], pools, strict=True):
            x = ConvolutionBlock(config, width, (3, 3), pool, axis_name)(x, train=train)
        # (batch, mel, steps, maps) → (batch, steps, maps × mel): 96 mel bands are pooled to one.
        x = x.transpose(0, 2, 3, 1)
        x = x.reshape(*x.shape[:2], -1)
        for width in config.widths[4:]:
            x = GRU(config, width)(x)
        return classify(self, x[:, -1], train=train)


ARCHITECTURE = Architecture(
    CRNN,
    base_widths=(64, 128, 128, 128, 64, 64),
    near_output=(False, False, False, False, True, True),
    padding=PADDING,
)
