"""µP: initial values and learning rates that let a small network's learning rate fit a wide one.

G. Yang et al., *Tensor Programs V: tuning large neural networks via zero-shot hyperparameter
transfer* (2021), tables 3 and 8, for Adam. The base shapes are those of width multiplier 1, where
both parametrisations are the same network. With m = fan-in over the base shapes' fan-in:

========================  ===================  =================
parameters                initial values       learning rate
========================  ===================  =================
hidden kernels            as usual             × 1/m
output kernel             × 1/√m               × 1/m
all others                as usual             × 1
========================  ===================  =================

Usual initial values have a variance in proportion to 1/fan-in. The output kernel's row is that of
an output multiplier of 1/m: Adam's steps do not depend on the scale of the gradients.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from crnn_jax.config import ModelConfig
from crnn_jax.models import ARCHITECTURES, build

# Name of every network's last layer (`crnn_jax.models.blocks.classify`).
OUTPUT = "output"


def base_config(config: ModelConfig) -> ModelConfig:
    """Return the configuration of the same network at width multiplier 1."""
    return dataclasses.replace(config, widths=ARCHITECTURES[config.arch].base_widths)


def relative_widths(config: ModelConfig, frames: int) -> PyTree:
    """Return for each parameter m, its fan-in over that of the base shapes.

    A parameter without a fan-in, or whose fan-in does not depend on the widths, has m = 1.
    """
    shapes, base = (_shapes(of, frames) for of in (config, base_config(config)))

    def compare(here: jax.ShapeDtypeStruct, there: jax.ShapeDtypeStruct) -> float:
        if len(here.shape) < 2:
            return 1.0
        return math.prod(here.shape[:-1]) / math.prod(there.shape[:-1])

    return jax.tree.map(compare, shapes, base)


def learning_rates(config: ModelConfig, frames: int) -> PyTree:
    """Return the multiplier of the learning rate of each parameter."""
    return jax.tree.map(lambda m: 1 / m, relative_widths(config, frames))


def scale_initial(params: PyTree, config: ModelConfig, frames: int) -> PyTree:
    """Return the initial parameters of µP from the usual ones."""
    m = relative_widths(config, frames)[OUTPUT]["kernel"]
    output = {**params[OUTPUT], "kernel": params[OUTPUT]["kernel"] / math.sqrt(m)}
    return {**params, OUTPUT: output}


def _shapes(config: ModelConfig, frames: int) -> PyTree:
    log_mel = jax.ShapeDtypeStruct((1, config.n_mels, frames), jnp.float32)
    model = build(config)
    variables = jax.eval_shape(
        lambda key, x: model.init(key, x, train=False), jax.random.key(0), log_mel
    )
    return variables["params"]
