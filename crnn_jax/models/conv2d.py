"""Conv2D: the paper's k2c2, a fully convolutional network."""

from flax import linen as nn
from jaxtyping import Array, Float

from crnn_jax.config import PAPER_FRAMES, ModelConfig
from crnn_jax.models import Architecture
from crnn_jax.models.blocks import (
    ConvolutionBlock,
    FramePadding,
    classify,
    flatten,
    normalize_input,
)

MEL_POOLS = (2, 2, 2, 3, 4)
TIME_POOLS = (4, 4, 4, 5)
PADDING = FramePadding(TIME_POOLS, unless=PAPER_FRAMES)


class Conv2D(nn.Module):
    """Five 3×3 convolutions, each pooled over mel bands and time, until one value per map is left.

    The last pooling spans all remaining time (4 frames of a 1366-frame clip), so that the output
    layer fits a clip of any length. Clips are padded to whole windows of the poolings before it;
    those of the paper's length are not, as in the paper, whose poolings drop the last 86 frames.
    """

    config: ModelConfig
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, log_mel: Float[Array, "batch mel frames"], *, train: bool
    ) -> Float[Array, "batch tags"]:
        config, axis_name = self.config, self.axis_name
        x = normalize_input(self, log_mel, PADDING, train=train)
        pools = zip(config.widths, MEL_POOLS, (*TIME_POOLS, None), strict=True)
        for width, mel_pool, time_pool in pools:
            pool = (mel_pool, time_pool or x.shape[2])
            x = ConvolutionBlock(config, width, (3, 3), pool, axis_name)(x, train=train)
        return classify(self, flatten(x), train=train)


ARCHITECTURE = Architecture(
    Conv2D,
    base_widths=(64, 128, 128, 192, 256),
    near_output=(False, False, False, False, True),
    padding=PADDING,
)
