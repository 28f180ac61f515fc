"""The optimiser."""

import optax

from crnn_jax.config import TrainConfig


def make_optimizer(config: TrainConfig) -> optax.GradientTransformation:
    """Return Adam (Kingma & Ba 2015) with a constant learning rate, as in the paper."""
    return optax.adam(config.learning_rate)
