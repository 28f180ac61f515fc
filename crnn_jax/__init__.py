"""A functional JAX/Flax laboratory for scaling studies of music taggers."""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "DataConfig",
    "MelConfig",
    "ModelConfig",
    "NetworkOptions",
    "Run",
    "RuntimeConfig",
    "SweepConfig",
    "TrainConfig",
    "UserError",
    "analyse",
    "build",
    "load_run",
    "open_set",
    "prepare",
    "read_results",
    "solve",
    "sweep",
    "train",
]
# Module of each name, imported on first access so that `import crnn_jax` is fast.
_HOMES = {
    "crnn_jax.analysis.study": ("analyse",),
    "crnn_jax.api": ("Run", "load_run", "read_results", "sweep", "train"),
    "crnn_jax.config": (
        "DataConfig",
        "MelConfig",
        "ModelConfig",
        "NetworkOptions",
        "RuntimeConfig",
        "SweepConfig",
        "TrainConfig",
    ),
    "crnn_jax.data.prepared": ("open_set", "prepare"),
    "crnn_jax.errors": ("UserError",),
    "crnn_jax.models": ("build",),
    "crnn_jax.models.budget": ("solve",),
}

if TYPE_CHECKING:
    from crnn_jax.analysis.study import analyse
    from crnn_jax.api import Run, load_run, read_results, sweep, train
    from crnn_jax.config import (
        DataConfig,
        MelConfig,
        ModelConfig,
        NetworkOptions,
        RuntimeConfig,
        SweepConfig,
        TrainConfig,
    )
    from crnn_jax.data.prepared import open_set, prepare
    from crnn_jax.errors import UserError
    from crnn_jax.models import build
    from crnn_jax.models.budget import solve


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module `crnn_jax` has no attribute `{name}`")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
