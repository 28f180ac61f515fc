"""What the tests of the collections share: real MP3 files, made in no time."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from crnn_jax.config import MelConfig
from tests.conftest import SHARED

RATE = 16_000


@pytest.fixture
def short_mel() -> MelConfig:
    return MelConfig(clip_seconds=3.0)


def write_tone(path: Path, frequency: float = 440.0, seconds: float = 3.2) -> None:
    """Write a tone (Hz, s) as MP3."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time_s = np.arange(int(seconds * RATE)) / RATE
    tone = 0.3 * np.sin(2 * np.pi * frequency * time_s)
    soundfile.write(path, tone, RATE, format="MP3", subtype="MPEG_LAYER_III")


@pytest.fixture
def real_formats() -> Path:
    """Folder of the first lines of the published metadata, kept outside of the repository."""
    folder = SHARED / "formats"
    if not folder.exists():
        pytest.skip("needs the first lines of the real metadata in ../shared/formats")
    return folder.resolve()
