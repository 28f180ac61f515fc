"""Which room may import which: a room imports only from rooms below it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import crnn_jax

PACKAGE = Path(crnn_jax.__file__).parent
# From the bottom up; rooms of one row do not import each other. A file beside the rooms, such as
# config.py, is a room of its own.
ROWS = (
    ("errors", "signals", "serialization", "user_text"),
    ("locks", "registry"),
    ("files", "config"),
    ("audio", "ops"),
    ("models",),
    ("data",),
    ("train",),
    ("trackers",),
    ("study",),
    ("analysis",),
    ("tagging", "bench"),
    ("figures",),
    ("report",),
    ("api",),
    ("cli",),
    ("__main__",),
)
HEIGHT = {room: height for height, row in enumerate(ROWS) for room in row}
# What reads results does not need what makes them.
WITHOUT_JAX = ("analysis", "figures", "report", "study.schema", "study.status")


def imported_modules(path):
    """Names of this package's modules that a file imports, at its top or in a function."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            # `from crnn_jax.train import parallel` may name a module or what is in one.
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name for name in names if name.startswith("crnn_jax.")}


def files():
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def room_of(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def test_every_room_has_its_row():
    assert {room_of(path) for path in files()} == set(HEIGHT)


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_from_rooms_below(path):
    own = room_of(path)
    for name in imported_modules(path):
        room = name.split(".")[1]
        # The package itself, for its docstring and version.
        if room in HEIGHT and room != own:
            assert HEIGHT[room] < HEIGHT[own], f"{own} imports {name}"


@pytest.mark.parametrize("package", WITHOUT_JAX)
def test_readers_of_results_do_without_jax(package):
    folder = PACKAGE.joinpath(*package.split("."))
    stems = [path.stem for path in folder.glob("*.py") if path.stem != "__init__"]
    modules = [f"crnn_jax.{package}.{stem}" for stem in stems] or [f"crnn_jax.{package}"]
    code = (
        f"import sys, {', '.join(modules)}\n"
        f"print(*{{name.split('.')[0] for name in sys.modules}} & {{'jax', 'flax', 'optax'}})"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (answer.stdout, answer.stderr) == ("\n", "")
