"""The result of convolution and pooling."""

from typing import NamedTuple

from jaxtyping import Array, Float


class Pooled(NamedTuple):
    """Maxima of a convolution's output in each window, and moments of the whole output.

    Attributes
    ----------
    maxima
        Maximum of each whole window.
    mean, variance
        Moments of each feature over batch, mel bands and frames (biased), in float32, including
        outputs that no window covers.
    """

    maxima: Float[Array, "batch pooled_mel pooled_frames features"]
    mean: Float[Array, " features"]
    variance: Float[Array, " features"]
