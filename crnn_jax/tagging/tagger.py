"""Apply a trained network to any audio file: its tags, and the features before the output layer.

Files are cut into windows of the length that the network was trained on. A pool of threads decodes
while the device computes; a window is dropped as soon as its scores are known, so memory does not
grow with the length of a file.
"""

import dataclasses
import functools
import io
import itertools
import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import joblib
import numpy as np
from etils import epath
from flax import linen as nn
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Float32, PyTree

from crnn_jax.audio.files import AudioError
from crnn_jax.config import SHORTEST_FRAMES, MelConfig, ModelConfig
from crnn_jax.errors import UserError
from crnn_jax.files import write_file
from crnn_jax.models import build, matmul_precision
from crnn_jax.study.evaluation import TrainedNetwork, load_network
from crnn_jax.tagging.windows import Window, file_windows
from crnn_jax.train import parallel
from crnn_jax.train.devices import AXIS, batch_mesh

# Windows per step and device. An accelerator needs several to be busy. On a CPU two steps run
# concurrently, and one window each is faster than more.
CPU_WINDOWS = 1
ACCELERATOR_WINDOWS = 16


@dataclasses.dataclass(frozen=True)
class TaggedFile:
    """A network's outputs for a file.

    Attributes
    ----------
    path
        The file.
    start_s
        Where the windows begin, in s (see `Window`).
    scores
        Sigmoid outputs of each window.
    features
        Last hidden state before the output layer, of each window.
    """

    path: str
    start_s: Float[np.ndarray, "windows"]
    scores: Float32[np.ndarray, "windows tags"]
    features: Float32[np.ndarray, "windows features"]

    @functools.cached_property
    def mean_scores(self) -> Float32[np.ndarray, "tags"]:
        """Scores of the file: the mean over its windows."""
        return self.scores.mean(axis=0)

    @functools.cached_property
    def mean_features(self) -> Float32[np.ndarray, "features"]:
        """Features of the file: the mean over its windows."""
        return self.features.mean(axis=0)

    def best(self, top: int) -> list[int]:
        """Return the columns of the `top` highest mean scores, best first."""
        return np.argsort(-self.mean_scores, kind="stable")[:top].tolist()


@dataclasses.dataclass(frozen=True)
class BadFile:
    """A file that cannot be used, and the reason in one line that names the file."""

    path: str
    message: str


@dataclasses.dataclass(frozen=True)
class Tagger:
    """A network ready for use.

    Attributes
    ----------
    network
        The network.
    mesh
        The devices.
    step
        The jitted step: (variables, log_mel) → scores, features.
    variables
        Parameters and running statistics, on the devices.
    windows_per_device
        Windows per step on one device.
    """

    network: TrainedNetwork
    mesh: Mesh
    step: Callable[[PyTree, Array], tuple[Array, Array]]
    variables: PyTree
    windows_per_device: int

    @property
    def mel(self) -> MelConfig:
        """The network's front end, with clips of the length it was trained on."""
        return self.network.config.input_mel

    @property
    def tag_names(self) -> tuple[str, ...]:
        """The names of the network's outputs."""
        return self.network.config.data.tag_names


def load_tagger(run: epath.Path) -> Tagger:
    """Read a run's network and prepare it for use (see `load_network`)."""
    return make_tagger(load_network(run))


def make_tagger(network: TrainedNetwork) -> Tagger:
    """Prepare a network for use, on all devices."""
    mesh = batch_mesh()
    variables = parallel.put_replicated(mesh, network.variables)
    platform = mesh.devices.flat[0].platform
    return Tagger(
        network=network,
        mesh=mesh,
        step=tagging_step(network.config.model, mesh),
        variables=variables,
        windows_per_device=CPU_WINDOWS if platform == "cpu" else ACCELERATOR_WINDOWS,
    )


def tagging_step(config: ModelConfig, mesh: Mesh) -> Any:
    """Return the jitted step: scores and features of a batch, on all devices of the mesh."""
    model = build(config, AXIS)

    def step(
        variables: PyTree, log_mel: Float[Array, "batch mel frames"]
    ) -> tuple[Float[Array, "batch tags"], Float[Array, "batch features"]]:
        with matmul_precision(model):
            logits, sown = model.apply(variables, log_mel, train=False, mutable=["intermediates"])
        (features,) = sown["intermediates"]["features"]
        return nn.sigmoid(logits), features

    batch = P(AXIS)
    return parallel.split_over(mesh, step, in_specs=(P(), batch), out_specs=batch)


def tag_files(
    tagger: Tagger,
    paths: Sequence[str | os.PathLike[str]],
    *,
    hop_seconds: float | None = None,
    threads: int | None = None,
) -> Iterator[TaggedFile | BadFile]:
    """Tag files while they are being read.

    Parameters
    ----------
    tagger
        See `load_tagger`.
    paths
        Files (see `file_windows`).
    hop_seconds
        Distance from the start of a long file's window to the start of the next, in s; None:
        windows do not overlap.
    threads
        Number of threads that read and decode; None: one per core.

    Yields
    ------
    One result per file, in the order of `paths`, as soon as it is known.

    Raises
    ------
    UserError
        If the hop is less than a sample. An unusable file raises nothing: it yields a `BadFile`.
    """
    mel = tagger.mel
    hop = mel.clip_seconds if hop_seconds is None else hop_seconds
    if not 1 / mel.sample_rate <= hop < math.inf:
        raise UserError(
            "windows must be at least a sample apart", field="hop_seconds", value=f"{hop:g}"
        )
    names = [os.fspath(path) for path in paths]
    readers = [file_windows(name, mel, hop) for name in names]
    rows: list[list[_Row]] = [[] for _ in names]
    known: dict[int, TaggedFile | BadFile] = {}
    following = 0
    for number, item in _scored(tagger, _read_ahead(readers, threads or joblib.cpu_count())):
        if isinstance(item, _Row):
            rows[number].append(item)
        elif isinstance(item, AudioError):
            known[number] = BadFile(names[number], str(item))
        else:
            starts, scores, features = map(np.array, zip(*rows[number], strict=True))
            known[number] = TaggedFile(names[number], starts, scores, features)
        while following in known:
            yield known.pop(following)
            following += 1


def score_log_mels(
    tagger: Tagger, log_mel: Float[np.ndarray, "clips mel frames"]
) -> Float32[np.ndarray, "clips tags"]:
    """Return the scores of log-mels in dB, all of the same length.

    Raises
    ------
    UserError
        If they do not have the network's number of mel bands, or have too few frames.
    """
    n_mels = tagger.mel.n_mels
    if log_mel.ndim != 3 or log_mel.shape[1] != n_mels or log_mel.shape[2] < SHORTEST_FRAMES:
        raise UserError(
            f"give (clips, {n_mels}, {SHORTEST_FRAMES} frames or more)",
            field="log_mel",
            value=log_mel.shape,
        )
    size = tagger.windows_per_device * tagger.mesh.size
    scores = [np.zeros((0, len(tagger.tag_names)), np.float32)]
    for start in range(0, len(log_mel), size):
        rows = np.asarray(log_mel[start : start + size], np.float32)
        batch = parallel.put_batch(tagger.mesh, parallel.pad_rows(rows, size))
        scores.append(np.asarray(tagger.step(tagger.variables, batch)[0])[: len(rows)])
    return np.concatenate(scores)


class _Row(NamedTuple):
    """The network's outputs for a window."""

    start_s: float
    scores: Float32[np.ndarray, "tags"]
    features: Float32[np.ndarray, "features"]


# A file's number, and one of: a window of it (later: the window's scores), its error, or None at
# its end.
_Read = tuple[int, Window | AudioError | None]
_Scored = tuple[int, _Row | AudioError | None]


def _read_ahead(readers: Sequence[Iterator[Window]], threads: int) -> Iterator[_Read]:
    """Read several files concurrently, each no more than one window ahead."""
    waiting = iter(enumerate(readers))
    with ThreadPoolExecutor(threads) as pool:
        reading = deque(
            (number, reader, pool.submit(next, reader, None))
            for number, reader in itertools.islice(waiting, 2 * threads)
        )
        while reading:
            number, reader, future = reading.popleft()
            try:
                window = future.result()
            except AudioError as error:
                yield number, error
                window = None
            else:
                yield number, window
            follower = [(number, reader)] if window else itertools.islice(waiting, 1)
            for number, reader in follower:
                reading.append((number, reader, pool.submit(next, reader, None)))


def _scored(tagger: Tagger, read: Iterator[_Read]) -> Iterator[_Scored]:
    """Replace the windows by their scores; everything else passes through, in the same order."""
    devices = tagger.mesh.size
    # All batches have the size of the first, so that the step is compiled once. It is small if
    # there are only a few windows.
    size = None
    under_way: deque[tuple[list[_Read], tuple[Array, Array] | None]] = deque()
    for group in _groups(read, tagger.windows_per_device * devices):
        windows = [item.log_mel for _, item in group if isinstance(item, Window)]
        size = size or -(-len(windows) // devices) * devices
        outputs = None
        if windows:
            batch = parallel.put_batch(tagger.mesh, parallel.pad_rows(np.stack(windows), size))
            outputs = tagger.step(tagger.variables, batch)
        under_way.append((group, outputs))
        # Wait for the previous batch, not this one: the next is read while the device computes.
        if len(under_way) > 1:
            yield from _settled(*under_way.popleft())
    for group, outputs in under_way:
        yield from _settled(group, outputs)


def _groups(read: Iterator[_Read], windows: int) -> Iterator[list[_Read]]:
    """Cut the stream into groups of `windows` windows."""
    group: list[_Read] = []
    missing = windows
    for number, item in read:
        group.append((number, item))
        missing -= isinstance(item, Window)
        if not missing:
            yield group
            group, missing = [], windows
    if group:
        yield group


def _settled(group: list[_Read], outputs: tuple[Array, Array] | None) -> Iterator[_Scored]:
    scores, features = map(np.asarray, outputs) if outputs else ((), ())
    rows = iter(zip(scores, features, strict=True))
    for number, item in group:
        yield number, _Row(item.start_s, *next(rows)) if isinstance(item, Window) else item


# Saved results


def write_features(files: Sequence[TaggedFile], path: epath.Path) -> None:
    """Write the files' mean features as a NumPy archive.

    Its arrays are ``paths`` (files) and ``features`` (files, features), float32.
    """
    content = io.BytesIO()
    np.savez(
        content,
        paths=np.array([file.path for file in files]),
        features=np.stack([file.mean_features for file in files]),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, content.getvalue())
