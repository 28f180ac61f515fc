"""The training step as GPUs and TPUs are given it: lowered for them, which needs none of them."""

import functools
import re
from collections import Counter

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import AbstractDevice, AbstractMesh
from jax.sharding import PartitionSpec as P

from crnn_jax.config import ModelConfig
from crnn_jax.models import build
from crnn_jax.train import parallel
from crnn_jax.train.devices import AXIS
from crnn_jax.train.state import initial_state
from crnn_jax.train.steps import train_step

# The operations are those of every width.
WIDTHS = {"conv1d": (4, 4, 6, 6, 5, 5), "conv2d": (4, 5, 5, 6, 7), "crnn": (4, 5, 5, 5, 3, 3)}
CONVOLUTIONS = {"conv1d": 4, "conv2d": 5, "crnn": 4}
# Of the input, of each convolution, and of the dense layers.
NORMS = {"conv1d": 7, "conv2d": 6, "crnn": 5}
BATCH = {
    "log_mel": jax.ShapeDtypeStruct((16, 96, 1366), jnp.float16),
    "tags": jax.ShapeDtypeStruct((16, 50), jnp.uint8),
}
EIGHT_GPUS = AbstractMesh((8,), (AXIS,), abstract_device=AbstractDevice("NVIDIA H100", 132, "gpu"))


@functools.cache
def traced(arch, precision, matmul_precision="float32"):
    config = ModelConfig(arch, WIDTHS[arch], precision=precision, matmul_precision=matmul_precision)
    optimizer, model = optax.adam(1e-3), build(config, AXIS)
    state = jax.eval_shape(lambda: initial_state(build(config), optimizer, 0, 96, 1366))
    step = parallel.split_over(
        EIGHT_GPUS,
        functools.partial(train_step, model=model, optimizer=optimizer, axis_name=AXIS),
        in_specs=(P(), P(AXIS)),
        out_specs=(P(), P()),
        donate_argnums=0,
    )
    return step.trace(state, BATCH)


@functools.cache
def lowered(platform, *traced_as):
    return traced(*traced_as).lower(lowering_platforms=(platform,)).as_text()


def products(text):
    """The lines of convolutions and matrix products."""
    return re.findall(r"stablehlo\.(?:convolution|dot_general)\b.*", text)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("arch", WIDTHS)
def test_nothing_of_the_cpu_is_left(arch, precision, platform):
    text = lowered(platform, arch, precision)
    operations = Counter(re.findall(r"stablehlo\.(\w+)", text))
    # Forward, to the kernel, to the input.
    assert operations["convolution"] == 3 * CONVOLUTIONS[arch]
    # Pooling is a reduction, and its gradient a comparison.
    assert operations["reduce_window"] == operations["select_and_scatter"] == 0
    # No strips, and no loop over the 15 steps of the two GRUs.
    assert operations["while"] == 0
    # No branches of two platforms joined, in which one fills with zeros what the other keeps; and
    # no place of a maximum, which a CPU keeps in a byte: only the tags are bytes.
    assert operations["case"] == operations["if"] == 0
    assert set(re.findall(r"tensor<(\S+)xui8>", text)) == {"16x50", "2x50"}
    # Eight devices: each has its two clips, and they average what they have.
    assert operations["all_reduce"] > 0
    # One message for the statistics of each batch norm, and one for their gradient, which nothing
    # before the input's norm needs.
    assert operations["all_gather"] == NORMS[arch]
    assert operations["reduce_scatter"] == NORMS[arch] - 1
    assert "tensor<2x96x1366xf16>" in text
    # The convolutions' own arithmetic.
    kind = {"float32": "xf32>", "bfloat16": "xbf16>"}[precision]
    assert all(line.endswith(kind) for line in products(text) if "convolution" in line)


@pytest.mark.parametrize("arch", WIDTHS)
def test_matmul_precision_reaches_every_product(arch):
    """Gradients included. DEFAULT is TF32 on an NVIDIA GPU, HIGHEST is float32."""
    highest = products(lowered("cuda", arch, "float32"))
    default = products(lowered("cuda", arch, "float32", "bfloat16"))
    assert len(highest) == len(default) > 3 * CONVOLUTIONS[arch]
    for lines, word in ((default, "DEFAULT"), (highest, "HIGHEST")):
        for line in lines:
            (operands,) = re.findall(r"precision(?:_config)? = \[(.*?)\]", line)
            assert re.findall(r"[A-Z]{4,}", operands) == [word, word]
