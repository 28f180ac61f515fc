"""The command line's cache of compiled steps."""

import os
from pathlib import Path


def keep_compiled() -> None:
    """Keep compiled steps in the user's cache folder (``XDG_CACHE_HOME``, else ``~/.cache``)."""
    from crnn_jax.train import parallel

    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    parallel.keep_compiled(Path(caches) / "crnn_jax" / "compiled")
