"""The published CRNN: against Keras 1's arithmetic in plain NumPy, and its author's own scores."""

import dataclasses
import functools
import os
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import h5py
import jax
import numpy as np
import pytest
from etils import epath
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import convolve2d, correlate2d

from crnn_jax.errors import UserError
from crnn_jax.models import build
from crnn_jax.study import runs
from crnn_jax.study.evaluation import evaluate, load_network
from crnn_jax.tagging.keras_import import (
    MEL,
    MODEL,
    TAG_NAMES,
    array_shapes,
    import_keras,
    read_arrays,
    to_variables,
)
from crnn_jax.tagging.tagger import load_tagger, tag_files
from tests.conftest import SHARED

# Five steps of the published network, all of its widths different.
SMALL = dataclasses.replace(MODEL, widths=(3, 4, 5, 6, 4, 3), n_tags=7)
FRAMES = 5 * 96 - 2 * 37
SHAPES = array_shapes(SMALL, FRAMES)
# As its author prints them, in his order.
PUBLISHED_SCORES = {
    "cute": {
        **{"jazz": 0.444, "instrumental": 0.151, "folk": 0.103, "Hip-Hop": 0.103},
        **{"ambient": 0.077, "guitar": 0.068, "rock": 0.058, "acoustic": 0.054},
        **{"experimental": 0.051, "electronic": 0.042},
    },
    "actionable": {
        **{"jazz": 0.416, "instrumental": 0.181, "Hip-Hop": 0.085, "folk": 0.085, "rock": 0.081},
        **{"ambient": 0.068, "guitar": 0.062, "Progressive rock": 0.048, "experimental": 0.046},
        **{"acoustic": 0.046},
    },
}


def random_arrays(shapes=SHAPES, seed=0):
    """Arrays of such sizes that no layer saturates."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for name, shape in shapes.items():
        if name.endswith(("gamma", "running_std")):
            values = rng.uniform(0.5, 2.0, shape)
        else:
            fan_in = np.prod(shape[1:]) if len(shape) == 4 else shape[0]
            values = rng.normal(0.0, 1.0 / np.sqrt(fan_in), shape)
        arrays[name] = values.astype(np.float32)
    return arrays


def write(path, arrays, backend="theano"):
    """A file as Keras 1 saved it on either backend."""
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            # TensorFlow's names of the GRUs' arrays have no number in them.
            ending = "" if backend == "theano" else ":0" if "gru" in name else "_1:0"
            file[name + ending] = values
        file.create_group("elu_1").attrs["weight_names"] = np.zeros(0)
    return path


def keras_network(arrays, log_mel, backend):
    """Scores of one log-mel: Keras 1's layers one by one, in float64, with plain loops."""
    weights = {name.split("/")[1]: values.astype(np.float64) for name, values in arrays.items()}
    convolution = convolve2d if backend == "theano" else correlate2d

    def norm(x, layer, axis):
        gamma, beta, mean, variance = (
            np.expand_dims(
                weights[f"{layer}_{array}"], tuple(i for i in range(x.ndim) if i != axis)
            )
            for array in ("gamma", "beta", "running_mean", "running_std")
        )
        return gamma * (x - mean) / np.sqrt(variance + SMALL.norm_epsilon) + beta

    def hard_sigmoid(x):
        return np.clip(0.2 * x + 0.5, 0.0, 1.0)

    padded = np.pad(log_mel.astype(np.float64), ((0, 0), (37, 37)))
    maps = norm(padded, "bn_0_freq", 1)[None]
    for i, (mel_pool, time_pool) in enumerate(((2, 2), (3, 3), (4, 4), (4, 4)), start=1):
        kernels, bias = weights[f"conv{i}_W"], weights[f"conv{i}_b"]
        maps = np.stack(
            [
                sum(convolution(x, k, "same") for x, k in zip(maps, kernel, strict=True)) + b
                for kernel, b in zip(kernels, bias, strict=True)
            ]
        )
        maps = norm(maps, f"bn{i}", 0)
        maps = np.where(maps > 0, maps, np.expm1(np.minimum(maps, 0)))
        count, mel, frames = maps.shape
        shape = (count, mel // mel_pool, mel_pool, frames // time_pool, time_pool)
        maps = maps.reshape(shape).max(axis=(2, 4))
    steps = maps[:, 0].T
    for layer in ("gru1", "gru2"):
        w, u, b = (
            {gate: weights[f"{layer}_{kind}_{gate}"] for gate in "zrh"} for kind in ("W", "U", "b")
        )
        state, states = np.zeros(len(b["z"])), []
        for x in steps:
            update = hard_sigmoid(x @ w["z"] + b["z"] + state @ u["z"])
            reset = hard_sigmoid(x @ w["r"] + b["r"] + state @ u["r"])
            candidate = np.tanh(x @ w["h"] + b["h"] + (reset * state) @ u["h"])
            state = update * state + (1 - update) * candidate
            states.append(state)
        steps = np.stack(states)
    logits = steps[-1] @ weights["output_W"] + weights["output_b"]
    return 1 / (1 + np.exp(-logits))


our_network = jax.jit(functools.partial(build(SMALL).apply, train=False))


# --- the layout ---


@pytest.mark.parametrize("backend", ["theano", "tensorflow"])
def test_our_network_computes_what_keras_did(backend):
    arrays = random_arrays()
    log_mel = np.random.default_rng(1).normal(0.0, 1.0, (96, FRAMES)).astype(np.float32)
    expected = keras_network(arrays, log_mel, backend)
    (logits,) = our_network(to_variables(arrays, backend), log_mel[None])
    scores = jax.nn.sigmoid(logits)
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    # The comparison means something: the input matters, and so does the direction of the kernels.
    other = "tensorflow" if backend == "theano" else "theano"
    for wrong in (
        keras_network(arrays, 0 * log_mel, backend),
        keras_network(arrays, log_mel, other),
    ):
        assert np.abs(wrong - expected).max() > 1e-3


def test_variables_fit_the_module():
    arrays = random_arrays(array_shapes(MODEL, MEL.frames))
    variables = to_variables(arrays, "theano")
    log_mel = jax.ShapeDtypeStruct((1, MEL.n_mels, MEL.frames), "float32")
    expected = jax.eval_shape(
        lambda key, x: build(MODEL).init(key, x, train=False), jax.random.key(0), log_mel
    )
    assert jax.tree.map(np.shape, variables) == jax.tree.map(np.shape, expected)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == 396_786
    assert len(TAG_NAMES) == len(set(TAG_NAMES)) == MODEL.n_tags


def test_kernels_of_the_two_backends_are_flipped():
    arrays = random_arrays()
    theano = to_variables(arrays, "theano")
    flipped = {
        name: values[:, :, ::-1, ::-1] if values.ndim == 4 else values
        for name, values in arrays.items()
    }
    jax.tree.map(np.testing.assert_array_equal, theano, to_variables(flipped, "tensorflow"))


# --- reading ---


@pytest.mark.parametrize("backend", ["theano", "tensorflow"])
def test_file_tells_its_backend(tmp_path, backend):
    arrays = random_arrays()
    path = write(tmp_path / "weights.h5", arrays, backend)
    read, found = read_arrays(path, SHAPES)
    assert found == backend
    assert read.keys() == arrays.keys()
    for name, values in arrays.items():
        np.testing.assert_array_equal(read[name], values)
    assert read_arrays(path, SHAPES, "theano")[1] == "theano"


def test_names_of_both_backends_ask_for_the_flag(tmp_path):
    path = write(tmp_path / "weights.h5", random_arrays())
    with h5py.File(path, "a") as file:
        file.move("conv1/conv1_W", "conv1/conv1_W_1:0")
    with pytest.raises(UserError, match="--backend theano or tensorflow"):
        read_arrays(path, SHAPES)
    assert read_arrays(path, SHAPES, "tensorflow")[1] == "tensorflow"


def missing(group, name):
    del group[name]


def misshapen(group, name):
    values = group.pop(name)[()]
    group[name] = values[..., :-1]


def transposed(group, name):
    values = group.pop(name)[()]
    group[name] = values.T


def words(group, name):
    shape = group.pop(name).shape
    group.create_dataset(name, shape, h5py.string_dtype())


def integers(group, name):
    shape = group.pop(name).shape
    group.create_dataset(name, shape, "i4")


def folder(group, name):
    del group[name]
    group.create_group(name)


def gigantic(group, name):
    del group[name]
    group.create_dataset(name, (10**6, 10**6, 10**3), "f4")


def infinite(group, name):
    group[name][...] = np.inf


def too_large(group, name):
    shape = group.pop(name).shape
    group[name] = np.full(shape, 1e300)


def doubled(group, name):
    group[name + ":0"] = group[name][()]


def references(group, name):
    shape = group.pop(name).shape
    group.create_dataset(name, shape, h5py.ref_dtype)[...] = group.ref


def a_type(group, name):
    del group[name]
    group[name] = np.dtype("f4")


def of_committed_type(group, name):
    values = group.pop(name)[()]
    group.file["type"] = np.dtype("f4")
    group.create_dataset(name, dtype=group.file["type"], data=values)


# The rest holds the array's own numbers: HDF5 would read them, from elsewhere or at any size.


def moved_out(group, name):
    """Moves an array into another file, and gives that file's name."""
    other = f"{group.file.filename}.other"
    with h5py.File(other, "w") as file:
        file["values"] = group.pop(name)[()]
    return other


def soft_link(group, name):
    group.move(name, "elsewhere")
    group[name] = h5py.SoftLink("elsewhere")


def external_link(group, name):
    group[name] = h5py.ExternalLink(moved_out(group, name), "values")


def external_storage(group, name):
    values = group.pop(name)[()]
    other = Path(f"{group.file.filename}.raw")
    other.write_bytes(values.tobytes())
    place = [(str(other), 0, values.nbytes)]
    group.create_dataset(name, values.shape, values.dtype, external=place)


def virtual(group, name):
    shape = group[name].shape
    layout = h5py.VirtualLayout(shape, "f4")
    layout[...] = h5py.VirtualSource(moved_out(group, name), "values", shape)
    group.create_virtual_dataset(name, layout)


def compressed(group, name):
    values = group.pop(name)[()]
    group.create_dataset(name, data=values, compression="gzip", shuffle=True)


def of_a_plugins_filter(group, name):
    """HDF5 looks for the library of filter 32008; where there is none, it writes without it."""
    values = group.pop(name)[()]
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk(values.shape)
    plist.set_filter(32008, h5py.h5z.FLAG_OPTIONAL, ())
    space = h5py.h5s.create_simple(values.shape)
    dataset = h5py.h5d.create(group.id, name.encode(), h5py.h5t.IEEE_F32LE, space, plist)
    dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, values)


def of_large_chunks(group, name):
    values = group.pop(name)[()]
    most = (None,) * values.ndim
    group.create_dataset(name, data=values, maxshape=most, chunks=(64,) * values.ndim)


LINK = "is a link, possibly to another file"
NOT_PLAIN = "is not stored contiguously (external, virtual, chunked or filtered)"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (missing, "is missing"),
        (misshapen, "has shape 5 × 4 × 3 × 2, not 5 × 4 × 3 × 3"),
        (transposed, "has shape 3 × 3 × 4 × 5, not 5 × 4 × 3 × 3"),
        (words, "is not an array of real numbers"),
        (integers, "is not an array of real numbers"),
        (folder, "is not an array of real numbers"),
        (gigantic, "has shape 1000000 × 1000000 × 1000, not 5 × 4 × 3 × 3"),
        (infinite, "holds NaN or infinite values"),
        (too_large, "holds NaN or infinite values"),
        (doubled, "occurs twice"),
        (references, "is not an array of real numbers"),
        (a_type, "is not an array of real numbers"),
        (of_committed_type, "is not an array of real numbers"),
        (soft_link, LINK),
        (external_link, LINK),
        (external_storage, NOT_PLAIN),
        (virtual, NOT_PLAIN),
        (compressed, NOT_PLAIN),
        (of_a_plugins_filter, NOT_PLAIN),
        (of_large_chunks, NOT_PLAIN),
    ],
)
def test_unfit_array_is_named(tmp_path, damage, said):
    path = write(tmp_path / "weights.h5", random_arrays())
    with h5py.File(path, "a") as file:
        damage(file["conv3"], "conv3_W")
    with pytest.raises(UserError) as caught:
        read_arrays(path, SHAPES)
    assert str(caught.value).startswith(f"{path}: conv3/conv3_W {said};")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["soft", "external"])
def test_a_layer_elsewhere_is_refused(tmp_path, kind):
    path = write(tmp_path / "weights.h5", random_arrays())
    shutil.copy(path, tmp_path / "other.h5")
    with h5py.File(path, "a") as file:
        file.move("bn1", "elsewhere")
        links = {"soft": h5py.SoftLink("/elsewhere"), "external": None}
        file["bn1"] = links[kind] or h5py.ExternalLink(str(tmp_path / "other.h5"), "/bn1")
    with pytest.raises(UserError, match=f"bn1/bn1_gamma {LINK}"):
        read_arrays(path, SHAPES)


def test_a_small_file_is_not_inflated(tmp_path):
    """Compressed, 256 MB are 256 kB: a chunk larger than its array, or one that inflates to more.

    Measured in a process of its own, whose peak is of nothing else.
    """
    zeros = zlib.compressobj()
    stream = b"".join([zeros.compress(bytes(2**20)) for _ in range(256)] + [zeros.flush()])
    for name, chunk in (("chunk", 2**26), ("stream", 64)):
        arrays = random_arrays()
        with h5py.File(write(tmp_path / f"{name}.h5", arrays), "a") as file:
            del file["output/output_b"]
            dataset = file["output"].create_dataset(
                "output_b", (7,), "f4", maxshape=(None,), chunks=(chunk,), compression="gzip"
            )
            dataset.id.write_direct_chunk((0,), stream)
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from crnn_jax.errors import UserError\n"
        "from crnn_jax.tagging.keras_import import read_arrays\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before, shapes = peak(), eval(sys.argv[1])\n"
        "for path in sys.argv[2:]:\n"
        "    try: read_arrays(Path(path), shapes)\n"
        "    except UserError as error: print(error)\n"
        "print(peak() - before)\n"
    )
    paths = [tmp_path / "chunk.h5", tmp_path / "stream.h5"]
    command = [sys.executable, "-c", code, repr(SHAPES), *map(str, paths)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    *said, kilobytes = answer.stdout.splitlines()
    ending = f": output/output_b {NOT_PLAIN}; it is not the published CRNN"
    assert said == [f"{path}{ending}" for path in paths]
    assert int(kilobytes) < 64 * 1024


def test_negative_variance_is_refused(tmp_path):
    arrays = random_arrays()
    arrays["bn2/bn2_running_std"][1] = -1e-3
    with pytest.raises(UserError, match="bn2/bn2_running_std holds a negative variance"):
        read_arrays(write(tmp_path / "weights.h5", arrays), SHAPES)


def test_missing_layer_is_named(tmp_path):
    path = write(tmp_path / "weights.h5", random_arrays())
    with h5py.File(path, "a") as file:
        del file["gru2"]
    with pytest.raises(UserError, match="gru2/gru2_W_z is missing"):
        read_arrays(path, SHAPES)


@pytest.mark.parametrize("content", [b"", b"not HDF5\n" * 100, b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"])
def test_foreign_file_is_refused(tmp_path, content):
    path = tmp_path / "weights.h5"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_arrays(path, SHAPES)
    assert str(caught.value).startswith(f"{path}: not an HDF5 file")


def test_missing_file_is_refused(tmp_path):
    for path in (tmp_path / "weights.h5", tmp_path):
        with pytest.raises(UserError, match="no such file"):
            read_arrays(path, SHAPES)


@pytest.fixture(scope="module")
def whole_file(tmp_path_factory):
    return write(tmp_path_factory.mktemp("whole") / "weights.h5", random_arrays()).read_bytes()


@given(data=st.data())
@settings(deadline=None, max_examples=60, derandomize=True)
def test_damaged_file_is_refused_in_a_line_or_read(tmp_path_factory, whole_file, data):
    path = tmp_path_factory.mktemp("damaged") / "weights.h5"
    content = bytearray(whole_file[: data.draw(st.integers(0, len(whole_file)))])
    if data.draw(st.booleans()):
        content = bytearray(whole_file)
        places = st.integers(0, len(whole_file) - 1)
        for place, value in data.draw(st.dictionaries(places, st.integers(0, 255))).items():
            content[place] = value
    path.write_bytes(content)
    try:
        arrays, _ = read_arrays(path, SHAPES)
        assert {name: values.shape for name, values in arrays.items()} == SHAPES
        return
    except UserError as error:
        said = str(error)
    assert said.startswith(f"{path}: ")
    assert "\n" not in said


# --- the run ---


def test_run_is_like_any_other(tmp_path):
    arrays = random_arrays(array_shapes(MODEL, MEL.frames))
    weights = write(tmp_path / "weights.h5", arrays, "tensorflow")
    run = epath.Path(tmp_path / "published")
    config = import_keras(weights, run)
    assert runs.read_config(run) == config
    assert config.params == 396_786
    assert config.imported.backend == "tensorflow"
    assert not (run / "result.json").exists()

    network = load_network(run)
    assert network.config.model == MODEL
    assert network.config.input_mel == MEL
    assert network.config.data.tag_names == TAG_NAMES
    with pytest.raises(UserError, match="give a dataset"):
        evaluate(network, "test", None)
    expected = to_variables(arrays, "tensorflow")
    jax.tree.map(np.testing.assert_array_equal, network.variables, expected)

    # Once more is no harm; other weights would be.
    import_keras(weights, run)
    other = write(tmp_path / "other.h5", random_arrays(array_shapes(MODEL, MEL.frames), seed=1))
    with pytest.raises(UserError, match="made with another configuration"):
        import_keras(other, run)
    jax.tree.map(np.testing.assert_array_equal, load_network(run).variables, expected)


def test_unfit_weights_leave_no_run(tmp_path):
    weights = write(tmp_path / "weights.h5", random_arrays())
    with pytest.raises(UserError, match="bn_0_freq/bn_0_freq_gamma has shape 480"):
        import_keras(weights, epath.Path(tmp_path / "published"))
    assert not (tmp_path / "published").exists()


# --- the published weights ---


@pytest.fixture(scope="module")
def published() -> Path:
    """Folder of the published weights, and of two log-mels whose scores their author published."""
    folder = Path(os.environ.get("CRNN_JAX_KERAS_WEIGHTS", SHARED / "pretrained"))
    if not folder.is_dir():
        pytest.skip(
            "needs the published weights: name their folder in CRNN_JAX_KERAS_WEIGHTS, "
            "or put it at ../shared/pretrained"
        )
    return folder.resolve()


@pytest.mark.parametrize("backend", ["theano", "tensorflow"])
def test_published_scores(published, backend, tmp_path):
    weights = published / f"music_tagger_crnn_weights_{backend}.h5"
    run = epath.Path(tmp_path / "run")
    assert import_keras(weights, run).imported.backend == backend
    files = [published / f"bensound-{clip}.npy" for clip in PUBLISHED_SCORES]
    tagged = tag_files(load_tagger(run), files)
    for file, expected in zip(tagged, PUBLISHED_SCORES.values(), strict=True):
        assert [TAG_NAMES[tag] for tag in file.best(len(expected))] == list(expected)
        # Half of the last decimal that was published, and float32's own error.
        for tag, score in expected.items():
            assert abs(file.mean_scores[TAG_NAMES.index(tag)] - score) < 0.0005 + 5e-6


def test_published_weights_of_the_two_backends_are_one_network(published):
    shapes = array_shapes(MODEL, MEL.frames)
    theano, tensorflow = (
        to_variables(*read_arrays(published / f"music_tagger_crnn_weights_{name}.h5", shapes))
        for name in ("theano", "tensorflow")
    )
    jax.tree.map(np.testing.assert_array_equal, theano, tensorflow)
