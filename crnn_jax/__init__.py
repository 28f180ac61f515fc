"""A functional JAX/Flax laboratory for scaling studies of music taggers."""

__version__ = "0.1.0"
