"""What the tests of rendering need: music21's corpus, and the programs that play it."""

import shutil
from pathlib import Path

import pytest

from crnn_jax.data.rendering.corpus import Composition, corpus_folder, list_compositions
from crnn_jax.data.rendering.player import FONT_FOLDERS, FONT_PACKAGES, PROGRAMS


@pytest.fixture(scope="session")
def corpus() -> tuple[Composition, ...]:
    """Every composition that can be used."""
    pytest.importorskip("music21", reason="needs the extra `rendered`")
    return list_compositions(corpus_folder())


@pytest.fixture
def player() -> None:
    """Skip a test where FluidSynth, abc2midi or a sound-font is not installed."""
    missing = {package for program, package in PROGRAMS.items() if shutil.which(program) is None}
    for name, package in FONT_PACKAGES.items():
        if not any((Path(folder) / name).exists() for folder in FONT_FOLDERS):
            missing.add(package)
    if missing:
        pytest.skip(f"needs `apt-get install {' '.join(sorted(missing))}`")
