"""The three networks, and the one registry that names them."""

import contextlib
import dataclasses
from collections.abc import Callable
from types import ModuleType

import jax
from flax import linen as nn
from jaxtyping import Array

from crnn_jax.config import Architecture, ModelConfig
from crnn_jax.models import conv1d, conv2d, crnn


@dataclasses.dataclass(frozen=True)
class ArchitectureSpec:
    """An architecture as the budget solver sees it.

    Attributes
    ----------
    module
        The Linen module: ``module(config, axis_name)``.
    base_widths
        Widths of its layers at width multiplier 1.
    near_output
        Which of them scale with √s under the ``sqrt`` rule.
    pad
        How its input is padded.
    """

    module: type[nn.Module]
    base_widths: tuple[int, ...]
    near_output: tuple[bool, ...]
    pad: Callable[[Array], Array]

    def padding(self, n_mels: int, frames: int) -> tuple[int, int]:
        """Frames that are added before and after so many."""
        padded = jax.eval_shape(self.pad, jax.ShapeDtypeStruct((1, n_mels, frames), "float32"))
        added = padded.shape[2] - frames
        return added // 2, added - added // 2


def _spec(room: ModuleType, module: type[nn.Module]) -> ArchitectureSpec:
    return ArchitectureSpec(module, room.BASE_WIDTHS, room.NEAR_OUTPUT, room.pad)


ARCHITECTURES: dict[Architecture, ArchitectureSpec] = {
    "conv1d": _spec(conv1d, conv1d.Conv1D),
    "conv2d": _spec(conv2d, conv2d.Conv2D),
    "crnn": _spec(crnn, crnn.CRNN),
}


def matmul_precision(network: nn.Module) -> contextlib.AbstractContextManager:
    """How exactly a network's products are computed, where its steps are traced within.

    JAX reads this while it traces, and keeps it in the program: gradients need it too.
    """
    config: ModelConfig = network.config  # type: ignore[attr-defined]
    return jax.default_matmul_precision(config.matmul_precision)


def build(config: ModelConfig, axis_name: str | None = None) -> nn.Module:
    """The network of a configuration: a stateless module with pure ``init`` and ``apply``.

    Parameters
    ----------
    config
        Architecture and widths.
    axis_name
        Mesh axis over which the batch is split, or None.
    """
    return ARCHITECTURES[config.arch].module(config, axis_name)
