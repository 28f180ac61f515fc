"""The state that a training step changes."""

from collections.abc import Callable

import flax
import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array, Int, PyTree


@flax.struct.dataclass
class TrainState:
    """All that a training step changes.

    Attributes
    ----------
    step
        Steps done.
    params, batch_stats
        The network's trainable parameters and running statistics.
    opt_state
        The optimiser's state.
    key
        Random key, from which every step derives its own.
    """

    step: Int[Array, ""]
    params: PyTree
    batch_stats: PyTree
    opt_state: PyTree
    key: Array

    @property
    def variables(self) -> dict[str, PyTree]:
        """The variables for the network's `apply`."""
        return {"params": self.params, "batch_stats": self.batch_stats}


def initial_state(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    seed: int | Array,
    n_mels: int,
    frames: int,
    scale: Callable[[PyTree], PyTree] = lambda params: params,
) -> TrainState:
    """Return the state before the first step, determined by the seed.

    `scale` is applied to the initial parameters.
    """
    # XLA's own generator: the default one takes seconds to compile for a dozen initialisers. The
    # numbers are the same on every device of one kind, however many there are.
    init_key = jax.random.key(seed, impl="rbg")
    log_mel = jnp.zeros((1, n_mels, frames))
    variables = model.init(init_key, log_mel, train=False)
    params = scale(variables["params"])
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables["batch_stats"],
        opt_state=optimizer.init(params),
        key=jax.random.key_data(jax.random.key(seed)),
    )
