"""Import the published CRNN (Keunwoo Choi's music-auto_tagging-keras, 2016) as a `crnn`.

Its author trained MusicTaggerCRNN (396,786 parameters) on the Million Song Dataset's 50 most
frequent Last.fm tags and reports an AUC of 0.8662. The weights are in Keras 1's HDF5 format, one
file for Theano and one for TensorFlow. The differences to this project's networks are options of
`ModelConfig` and `MelConfig`, in `MODEL` and `MEL`.

A file is read only by names and shapes: only arrays of numbers, only of the network's sizes, and
only those stored contiguously in the file itself, as Keras 1 wrote them. Nothing in it can name
code or another file, or take more memory than the network needs.
"""

import contextlib
import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import h5py
import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jaxtyping import Float, Float32, PyTree

from crnn_jax.config import MelConfig, ModelConfig
from crnn_jax.data.sets import msd
from crnn_jax.errors import UserError
from crnn_jax.models.crnn import PADDING
from crnn_jax.study import runs
from crnn_jax.study.schema import DataDescription, ImportedWeights, RunConfig
from crnn_jax.train.checkpoints import OrbaxCheckpoints

Backend = Literal["theano", "tensorflow"]

MODEL = ModelConfig(
    arch="crnn",
    widths=(64, 128, 128, 128, 32, 32),
    input_norm="frames",
    gru_reset="before",
    gru_gate="hard_sigmoid",
)
MEL = MelConfig(mel_exponent=2.0)
# The outputs are the columns of the Million Song Dataset's split, in their order.
TAG_NAMES, TAG_CATEGORIES = zip(*msd.TAGS, strict=True)
DATASET = "Million Song Dataset"

CONVOLUTIONS = 4
RECURRENT_LAYERS = 2
# Update gate, reset gate, candidate: Keras 1's names in the order of our columns.
GATES = ("z", "r", "h")


def array_shapes(config: ModelConfig, frames: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a Keras 1 file's arrays by name, ``layer/array``.

    Parameters
    ----------
    config
        A `crnn` of any widths, with the published network's options.
    frames
        Frames of its input, before padding.
    """
    shapes: dict[str, tuple[int, ...]] = {}

    def norm(layer: str, features: int) -> None:
        # `running_std` holds a variance, despite its name.
        for array in ("gamma", "beta", "running_mean", "running_std"):
            shapes[f"{layer}/{layer}_{array}"] = (features,)

    norm("bn_0_freq", frames + sum(PADDING.of(frames)))
    inputs = 1
    for i, width in enumerate(config.widths[:CONVOLUTIONS], start=1):
        shapes[f"conv{i}/conv{i}_W"] = (width, inputs, 3, 3)
        shapes[f"conv{i}/conv{i}_b"] = (width,)
        norm(f"bn{i}", width)
        inputs = width
    for i, width in enumerate(config.widths[CONVOLUTIONS:], start=1):
        for gate in GATES:
            shapes[f"gru{i}/gru{i}_W_{gate}"] = (inputs, width)
            shapes[f"gru{i}/gru{i}_U_{gate}"] = (width, width)
            shapes[f"gru{i}/gru{i}_b_{gate}"] = (width,)
        inputs = width
    shapes["output/output_W"] = (inputs, config.n_tags)
    shapes["output/output_b"] = (config.n_tags,)
    return shapes


def read_arrays(
    path: Path, shapes: Mapping[str, tuple[int, ...]], backend: Backend | None = None
) -> tuple[dict[str, Float32[np.ndarray, "..."]], Backend]:
    """Read a Keras 1 weights file.

    Parameters
    ----------
    path
        The HDF5 file.
    shapes
        Arrays to read, as returned by `array_shapes`; anything else in the file is ignored.
    backend
        Backend with which the kernels were trained; None: determined by the arrays' names.
        TensorFlow's end in ``:0``, Theano's do not.

    Returns
    -------
    dict
        The arrays by their names in `shapes`.
    str
        The backend.

    Raises
    ------
    UserError
        If the file is missing, not HDF5 or damaged; lacks an array; holds one of another shape or
        kind (see `_find_array`), a value that is not finite or a negative variance; or does not
        show its backend.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; give a Keras 1 weights file (.h5)")
    arrays = {}
    backends = set()
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise UserError(
            f"{path}: not an HDF5 file, or a truncated one; download the weights again"
        ) from error
    with file:
        found = {}
        # All arrays are checked before one is read.
        for name, shape in shapes.items():
            with _naming(path, name):
                found[name], names_backend = _find_array(file, name, shape)
            backends.add(names_backend)
        for name, dataset in found.items():
            with _naming(path, name):
                arrays[name] = _read_array(dataset, name)
    if backend is None:
        if len(backends) > 1:
            raise UserError(
                f"{path}: some arrays have names of Theano and some of TensorFlow; "
                f"give --backend {' or '.join(get_args(Backend))}"
            )
        (backend,) = backends
    return arrays, backend


class _Unusable(Exception):
    """An array that cannot be used."""


@contextlib.contextmanager
def _naming(path: Path, name: str) -> Iterator[None]:
    """Raise what is wrong with an array as a `UserError`."""
    try:
        yield
    except _Unusable as error:
        raise UserError(f"{path}: {name} {error}; it is not the published CRNN") from error
    # The error that HDF5 raises for a damaged file depends on where the damage is.
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise UserError(
            f"{path}: {name} cannot be read, the file is damaged; download the weights again"
        ) from error


def _find_array(file: h5py.File, name: str, shape: tuple[int, ...]) -> tuple[h5py.Dataset, Backend]:
    """Find an array, without reading it, and the backend whose naming it follows.

    HDF5 follows links, reads arrays from other files, and inflates compressed chunks to any size.
    Keras 1 used none of these, so they are refused instead of being made safe.
    """
    layer, array = name.split("/")
    group = _member(file, layer)
    # A name that is not UTF-8 comes as bytes.
    members = (
        [name for name in group if isinstance(name, str)] if isinstance(group, h5py.Group) else []
    )
    # TensorFlow numbers its variables, and their names end in the number of an output.
    named = re.compile(rf"{re.escape(array)}(?P<tensorflow>(_\d+)?:0)?")
    found = [match for member in members if (match := named.fullmatch(member))]
    if not found:
        raise _Unusable("is missing")
    if len(found) > 1:
        raise _Unusable("occurs twice")
    dataset = _member(group, found[0].string)
    if not isinstance(dataset, h5py.Dataset):
        raise _Unusable("is not an array of real numbers")
    # Before its shape is read: a virtual data set's shape is looked up in other files.
    layout = dataset.id.get_create_plist()
    in_one_piece = layout.get_layout() in (h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT)
    if not in_one_piece or layout.get_external_count() or layout.get_nfilters():
        raise _Unusable("is not stored contiguously (external, virtual, chunked or filtered)")
    # A file of a few bytes can claim any size, of any type.
    if dataset.id.get_type().committed() or dataset.dtype.kind != "f":
        raise _Unusable("is not an array of real numbers")
    if dataset.shape != shape:
        raise _Unusable(f"has shape {_text(dataset.shape)}, not {_text(shape)}")
    return dataset, "tensorflow" if found[0]["tensorflow"] else "theano"


def _member(group: h5py.Group, name: str) -> h5py.HLObject | None:
    """Return the group's member of this name, without following links; None if there is none."""
    links, link = group.id.links, name.encode()
    if not links.exists(link):
        return None
    if links.get_info(link).type != h5py.h5l.TYPE_HARD:
        raise _Unusable("is a link, possibly to another file")
    return group[name]


def _read_array(dataset: h5py.Dataset, name: str) -> Float32[np.ndarray, "..."]:
    # Values that do not fit float32 become infinite and are found below.
    with np.errstate(all="ignore"):
        values = dataset[()].astype(np.float32)
    if not np.isfinite(values).all():
        raise _Unusable("holds NaN or infinite values")
    if name.endswith("running_std") and values.min() < 0:
        raise _Unusable("holds a negative variance")
    return values


def _text(shape: tuple[int, ...] | None) -> str:
    return "none" if shape is None else " × ".join(map(str, shape)) or "()"


def to_variables(
    arrays: Mapping[str, Float[np.ndarray, "..."]], backend: Backend
) -> dict[str, PyTree]:
    """Convert a Keras 1 file's arrays to the variables of our `crnn`. A pure function.

    Parameters
    ----------
    arrays
        As returned by `read_arrays`. Convolution kernels are (output maps, input maps, mel,
        frames) for both backends.
    backend
        Theano convolves: its kernels are flipped along mel and frames. TensorFlow and `jax.lax`,
        like all current libraries, correlate.

    Returns
    -------
    ``params`` and ``batch_stats``.
    """
    params: dict[str, Any] = {}
    batch_stats: dict[str, Any] = {}

    def array(layer: str, name: str) -> Float[np.ndarray, "..."]:
        return arrays[f"{layer}/{layer}_{name}"]

    def norm(layer: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        return (
            {"scale": array(layer, "gamma"), "offset": array(layer, "beta")},
            {"mean": array(layer, "running_mean"), "variance": array(layer, "running_std")},
        )

    params["input_norm"], batch_stats["input_norm"] = norm("bn_0_freq")
    for i in range(CONVOLUTIONS):
        kernel = array(f"conv{i + 1}", "W").transpose(2, 3, 1, 0)
        if backend == "theano":
            kernel = kernel[::-1, ::-1]
        norm_params, norm_stats = norm(f"bn{i + 1}")
        params[f"ConvolutionBlock_{i}"] = {
            "kernel": np.ascontiguousarray(kernel),
            "bias": array(f"conv{i + 1}", "b"),
            "norm": norm_params,
        }
        batch_stats[f"ConvolutionBlock_{i}"] = {"norm": norm_stats}
    for i in range(RECURRENT_LAYERS):
        params[f"GRU_{i}"] = {
            ours: np.concatenate([array(f"gru{i + 1}", f"{theirs}_{g}") for g in GATES], axis=-1)
            for ours, theirs in (("input_kernel", "W"), ("recurrent_kernel", "U"), ("bias", "b"))
        }
    params["output"] = {"kernel": array("output", "W"), "bias": array("output", "b")}
    return {"params": params, "batch_stats": batch_stats}


def import_keras(weights: Path, run: epath.Path, backend: Backend | None = None) -> RunConfig:
    """Make a run's folder from the published weights, like that of a run trained here.

    It has a configuration and a checkpoint, but no results: nothing was measured.

    Parameters
    ----------
    weights
        The published HDF5 file, for either backend.
    run
        The folder to be made.
    backend
        See `read_arrays`.

    Returns
    -------
    RunConfig
        The content of ``config.json``.

    Raises
    ------
    UserError
        As for `read_arrays`, or if the folder holds another run.
    """
    arrays, found_backend = read_arrays(weights, array_shapes(MODEL, MEL.frames), backend)
    variables = to_variables(arrays, found_backend)
    with weights.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    config = RunConfig(
        arch=MODEL.arch,
        target=None,
        rule=None,
        seed=None,
        params=sum(
            math.prod(array.shape) for name, array in arrays.items() if "_running_" not in name
        ),
        s=None,
        model=MODEL,
        train=None,
        data=DataDescription(
            name=DATASET,
            path=None,
            mel=MEL,
            tag_names=TAG_NAMES,
            tag_categories=TAG_CATEGORIES,
            n_examples=None,
        ),
        imported=ImportedWeights(file=weights.name, sha256=sha256, backend=found_backend),
    )
    runs.claim_folder(run, config)
    with OrbaxCheckpoints(run / "checkpoints") as checkpoints:
        checkpoints.save_best(jax.tree.map(jnp.asarray, variables))
    return config
