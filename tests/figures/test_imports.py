"""Tables are read and figures are drawn without JAX."""

import importlib
import pkgutil
import subprocess
import sys

import pytest


@pytest.mark.parametrize("package", ["crnn_jax.analysis", "crnn_jax.figures"])
def test_no_module_imports_jax(package):
    folder = importlib.import_module(package).__path__
    modules = [f"{package}.{module.name}" for module in pkgutil.iter_modules(folder)]
    assert modules
    program = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
        "heavy = {'jax', 'flax', 'grain', 'orbax', 'tensorflow_datasets', 'matplotlib.pyplot'}\n"
        "sys.exit(str(heavy & sys.modules.keys()) if heavy & sys.modules.keys() else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *modules], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
