"""A sweep's folder, and its figures."""

import pytest

from crnn_jax.figures.draw import draw
from tests.tables import write_sweep


@pytest.fixture
def sweep(tmp_path):
    return write_sweep(tmp_path)


@pytest.fixture(scope="module")
def drawn_sweep(tmp_path_factory):
    """A sweep's folder and the figures in it, by name."""
    folder = write_sweep(tmp_path_factory.mktemp("sweep"))
    return folder, {path.name: path.read_bytes() for path in draw(folder)}
