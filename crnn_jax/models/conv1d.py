"""Conv1D: the paper's k1c2, convolutions along time only."""

from flax import linen as nn
from jaxtyping import Array, Float

from crnn_jax.config import PAPER_FRAMES, ModelConfig
from crnn_jax.models import Architecture
from crnn_jax.models.blocks import (
    ConvolutionBlock,
    DenseBlock,
    FramePadding,
    classify,
    flatten,
    normalize_input,
)

TIME_POOLS = (4, 5, 8)
PADDING = FramePadding(TIME_POOLS, unless=PAPER_FRAMES)


class Conv1D(nn.Module):
    """Four convolutions with 1×4 kernels in each mel band, then two fully-connected layers.

    The mel bands are not mixed before the first fully-connected layer. The last pooling spans all
    remaining time (8 frames of a 1366-frame clip), so that the fully-connected layer fits a clip of
    any length. Clips are padded to whole windows of the poolings before it; those of the paper's
    length are not, as in the paper, whose poolings drop the last 86 frames.
    """

    config: ModelConfig
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, log_mel: Float[Array, "batch mel frames"], *, train: bool
    ) -> Float[Array, "batch tags"]:
        config, axis_name = self.config, self.axis_name
        x = normalize_input(self, log_mel, PADDING, train=train)
        for width, pool in zip(config.widths[:4], (*TIME_POOLS, None), strict=True):
            span = pool or x.shape[2]
            x = ConvolutionBlock(config, width, (1, 4), (1, span), axis_name)(x, train=train)
        x = flatten(x)
        for width in config.widths[4:]:
            x = DenseBlock(config, width, axis_name)(x, train=train)
        return classify(self, x, train=train)


ARCHITECTURE = Architecture(
    Conv1D,
    base_widths=(32, 32, 64, 64, 64, 64),
    near_output=(False, False, False, False, True, True),
    padding=PADDING,
)
