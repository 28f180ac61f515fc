"""What convolution and pooling give."""

from typing import NamedTuple

from jaxtyping import Array, Float


class Pooled(NamedTuple):
    """Maxima of a convolution's output in each window, and its moments over all of it.

    Attributes
    ----------
    maxima
        Of each whole window.
    mean, variance
        Of each feature over batch, mel bands and frames (biased), float32, what no window covers
        included.
    """

    maxima: Float[Array, "batch pooled_mel pooled_frames features"]
    mean: Float[Array, " features"]
    variance: Float[Array, " features"]
