"""k2c1: the fourth network of the paper, a 2-D kernel over all bands, then 1-D kernels."""

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

TIME_POOLS = (4, 4, 4, 5)
PADDING = FramePadding(TIME_POOLS, unless=PAPER_FRAMES)


class K2C1(nn.Module):
    """A first convolution whose kernels cover all mel bands, 96×4, then four of 1×4 along time.

    Choi et al. (2017), section 2: each convolution is pooled along time, and two fully-connected
    layers follow. A kernel that covers all bands has one output along them: the bands act as the
    channels of a convolution along time, and are computed as such. The pooling windows along time
    and the padding are those of Conv2D; the widths at s = 1 grow as Conv1D's do (the paper prints
    only networks of given sizes).
    """

    config: ModelConfig
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, log_mel: Float[Array, "batch mel frames"], *, train: bool
    ) -> Float[Array, "batch tags"]:
        config, axis_name = self.config, self.axis_name
        x = normalize_input(self, log_mel, PADDING, train=train)
        # (batch, mel, frames, 1) → (batch, 1, frames, mel)
        x = x.transpose(0, 3, 2, 1)
        for width, pool in zip(config.widths[:5], (*TIME_POOLS, None), strict=True):
            span = pool or x.shape[2]
            x = ConvolutionBlock(config, width, (1, 4), (1, span), axis_name)(x, train=train)
        x = flatten(x)
        for width in config.widths[5:]:
            x = DenseBlock(config, width, axis_name)(x, train=train)
        return classify(self, x, train=train)


ARCHITECTURE = Architecture(
    K2C1,
    base_widths=(64, 64, 128, 128, 128, 128, 128),
    near_output=(False, False, False, False, False, True, True),
    padding=PADDING,
)
