"""The networks: every module here is an architecture, except `blocks` and `budget`.

A new architecture is one new file that defines an `Architecture` named ``ARCHITECTURE``; the budget
solver, sweeps, figures and the benchmark find it by the file's name.
"""

import contextlib
import dataclasses

import jax
from flax import linen as nn

from crnn_jax.config import NOT_ARCHITECTURES, ModelConfig
from crnn_jax.models.blocks import FramePadding
from crnn_jax.registry import Registry


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A kind of network, whose size is set by the widths of its layers.

    Attributes
    ----------
    module
        The Linen module: ``module(config, axis_name)``, called with log-mels of shape (batch, mel,
        frames), at least 96 frames, and `train`. It sows its last hidden layer as ``features`` in
        ``intermediates``, and returns logits of shape (batch, tags).
    base_widths
        Widths of its layers at width multiplier 1.
    near_output
        Which layers scale with √s under the ``sqrt`` rule.
    padding
        How it pads its input.
    """

    module: type[nn.Module]
    base_widths: tuple[int, ...]
    near_output: tuple[bool, ...]
    padding: FramePadding


ARCHITECTURES: Registry[Architecture] = Registry(
    "architecture",
    field="arch",
    package="models",
    attribute="ARCHITECTURE",
    without=NOT_ARCHITECTURES,
)


def matmul_precision(network: nn.Module) -> contextlib.AbstractContextManager:
    """Return a context manager that sets the precision of a network's matrix products.

    JAX reads it while tracing and stores it in the program: trace the gradients within it, too.
    """
    config: ModelConfig = network.config  # type: ignore[attr-defined]
    return jax.default_matmul_precision(config.matmul_precision)


def build(config: ModelConfig, axis_name: str | None = None) -> nn.Module:
    """Build the network of a configuration: a stateless module with pure ``init`` and ``apply``.

    Parameters
    ----------
    config
        Architecture, widths and options.
    axis_name
        Mesh axis over which the batch is split, or None.

    Examples
    --------
    >>> network = build(ModelConfig("conv2d", (8, 8, 8, 8, 8), n_tags=3))
    >>> log_mel = jax.numpy.zeros((2, 96, 188))
    >>> variables = network.init(jax.random.key(0), log_mel, train=False)
    >>> network.apply(variables, log_mel, train=False).shape
    (2, 3)
    """
    return ARCHITECTURES[config.arch].module(config, axis_name)
