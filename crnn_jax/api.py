"""The Python interface of `crnn_jax`: studies, trained networks and data sets.

The command line calls these functions and prints what they return.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from etils import epath
from jaxtyping import Float, Float32

from crnn_jax.config import (
    Architecture,
    ClusterConfig,
    DataConfig,
    NetworkOptions,
    Rule,
    RuntimeConfig,
    SweepConfig,
    TrainConfig,
)
from crnn_jax.data.prepared import BUILDERS, PreparedSet, open_set, prepare
from crnn_jax.errors import UserError
from crnn_jax.locks import on_disk
from crnn_jax.models.budget import check_reachable
from crnn_jax.study import runs
from crnn_jax.study import sweep as study_sweep
from crnn_jax.study.evaluation import Evaluation, TrainedNetwork, evaluate, load_network
from crnn_jax.study.events import OnSweepEvent, ignore
from crnn_jax.study.grid import list_cells
from crnn_jax.study.manifest import Origin
from crnn_jax.study.schema import Cell, RunConfig, RunResult
from crnn_jax.study.trial import try_rates
from crnn_jax.trackers.subscription import only_installed
from crnn_jax.train.devices import find_devices, use_cores

if TYPE_CHECKING:
    import pandas as pd

    from crnn_jax.tagging.tagger import BadFile, TaggedFile, Tagger


class Run:
    """A trained network, read from its run's folder.

    Attributes
    ----------
    path
        The folder.
    config
        The network's configuration, and how it was trained.
    """

    def __init__(self, network: TrainedNetwork):
        self._network = network
        self.path = network.path
        self.config: RunConfig = network.config

    @property
    def tag_names(self) -> tuple[str, ...]:
        """The tags that the network scores, in the order of its outputs."""
        return self.config.data.tag_names

    @property
    def result(self) -> RunResult | None:
        """The run's measurements; None for imported weights and for an unfinished run."""
        return runs.read_result(self.path)

    def predict(
        self, log_mel: Float[np.ndarray, "clips mel frames"]
    ) -> Float32[np.ndarray, "clips tags"]:
        """Return scores of log-mels, each between 0 and 1 (sigmoid outputs).

        Parameters
        ----------
        log_mel
            In dB, as `crnn_jax.audio` computes them for ``config.data.mel``; at least 96 frames.
        """
        from crnn_jax.tagging.tagger import score_log_mels

        return score_log_mels(self.tagger, log_mel)

    def tag(
        self,
        files: Sequence[str | os.PathLike[str]],
        *,
        hop_seconds: float | None = None,
    ) -> "Iterator[TaggedFile | BadFile]":
        """Tag audio files of any length as they are read (`crnn_jax.tagging.tagger`).

        Parameters
        ----------
        files
            Audio files, or ``.npy`` files of a log-mel.
        hop_seconds
            Time between the starts of successive windows of a long file, in s; None: windows do
            not overlap.
        """
        from crnn_jax.tagging.tagger import tag_files

        return tag_files(self.tagger, files, hop_seconds=hop_seconds)

    def evaluate(self, split: str = "test", dataset: str | None = None) -> Evaluation:
        """Score the network on a split of a prepared set, by default the one it was trained on."""
        return evaluate(self._network, split, dataset)

    @functools.cached_property
    def tagger(self) -> "Tagger":
        """The network, replicated on all devices."""
        from crnn_jax.tagging.tagger import make_tagger

        return make_tagger(self._network)


@dataclasses.dataclass(frozen=True)
class SweepSummary:
    """Outcome of a sweep.

    Attributes
    ----------
    out
        The sweep's folder.
    cells, failed
        All cells of the study, and those that failed in this call (see their ``failed.json``).
    is_first
        Whether this is the first of several processes that train each cell together.
    """

    out: epath.Path
    cells: tuple[Cell, ...]
    failed: tuple[Cell, ...]
    is_first: bool = True

    def results(self) -> "pd.DataFrame":
        """Read the folder's results, one row per finished cell."""
        return read_results(self.out)


def load_run(path: str | os.PathLike[str]) -> Run:
    """Read a trained network from its run's folder.

    Raises
    ------
    UserError
        If the folder is not a run's folder, or has no checkpoint yet.
    """
    # Reading a checkpoint starts JAX.
    use_cores()
    find_devices()
    return Run(load_network(epath.Path(path)))


def read_results(folder: str | os.PathLike[str]) -> "pd.DataFrame":
    """Read a sweep's ``results.csv``, one row per finished cell.

    The columns are fields of `crnn_jax.study.schema.RunResult`; times are in s.
    """
    from crnn_jax.analysis.tables import read_results

    return read_results(epath.Path(folder))


def train(
    arch: Architecture,
    target: int,
    *,
    out: str | os.PathLike[str],
    data: DataConfig | PreparedSet = DataConfig(),
    rule: Rule = "uniform",
    seed: int = 0,
    network: NetworkOptions = NetworkOptions(),
    train: TrainConfig = TrainConfig(),
    runtime: RuntimeConfig = RuntimeConfig(),
    on_event: OnSweepEvent = ignore,
) -> Run:
    """Train one network of a given size, or resume its training, and read it back.

    Parameters
    ----------
    arch, target, rule
        Architecture, trainable parameters, and how the widths are scaled.
    out
        Parent of the run's folder; a finished run is read, not trained again.
    data
        A data set, prepared if it does not exist yet.
    seed
        Seed of parameters, dropout and the order of the examples.
    network, train, runtime
        Options of the network, of training, and of the execution; no number depends on the last,
        beyond rounding.
    on_event
        Called with each `crnn_jax.study.events.SweepEvent`.

    Raises
    ------
    UserError
        As in `sweep`, or if the run failed; ``failed.json`` then gives the reason.
    """
    config = SweepConfig(
        archs=(arch,),
        targets=(target,),
        rules=(rule,),
        seeds=(seed,),
        data=data if isinstance(data, DataConfig) else DataConfig(),
        network=network,
        train=train,
        runtime=runtime,
    )
    prepared = data if isinstance(data, PreparedSet) else None
    summary = sweep(config, out, data=prepared, on_event=on_event)
    (cell,) = summary.cells
    if summary.failed:
        raise UserError(f"{summary.out / cell.name}: training failed; see failed.json there")
    return load_run(summary.out / cell.name)


def sweep(
    config: SweepConfig,
    out: str | os.PathLike[str],
    *,
    data: PreparedSet | None = None,
    cluster: ClusterConfig = ClusterConfig(),
    on_event: OnSweepEvent = ignore,
    on_prepare: Callable[[int, int], None] | None = None,
    origin: Origin = Origin(),
) -> SweepSummary:
    """Train every cell of a study that has no result yet, and write the tables.

    Parameters
    ----------
    config
        The study.
    out
        Folder of the results: a run per cell, ``results.csv`` and ``per_tag.csv``.
    data
        The data set; None: ``config.data``, prepared if it does not exist yet.
    cluster
        Where the cells are trained.
    on_event
        Called with each `crnn_jax.study.events.SweepEvent`, in the first of several processes that
        train each cell together: it reports for all.
    on_prepare
        Called with the numbers of tracks prepared so far and in total.
    origin
        The command and the question behind the study, for its ``study.json`` and its report.

    Raises
    ------
    UserError
        If anything in the configuration or the data is wrong, before any cell is trained.
    """
    if cluster.executor == "ray":
        import jax

        # This process only distributes cells: the GPUs are for the tasks.
        jax.config.update("jax_platforms", "cpu")
    else:
        use_cores(config.runtime.devices)
    is_first = _join_processes(cluster)
    if is_first:
        trackers = only_installed(config.runtime.tracker)
        config = dataclasses.replace(
            config, runtime=dataclasses.replace(config.runtime, tracker=trackers)
        )
    cells = list_cells(config)
    if data is None:
        check_local(config.data)
        if config.data.dataset in BUILDERS:
            # A size that cannot be reached is reported before any music is decoded.
            for cell in cells:
                check_reachable(cell.arch, cell.rule, cell.target, n_mels=config.data.mel.n_mels)
        if cluster.several_processes:
            # They would overwrite each other's data set: it must be prepared beforehand.
            data = open_set(config.data.dataset)
        else:
            data = prepare(config.data, report=on_prepare)
    execute: study_sweep.Executor = study_sweep.run_here
    if cluster.executor == "ray":
        from crnn_jax.study.executors.ray import on_ray

        execute = on_ray(cluster)
    else:
        # Before any cell: platforms that are not here are the study's error, not a run's.
        find_devices()
    folder = epath.Path(out)
    report = on_event if is_first else ignore
    run_study = functools.partial(
        study_sweep.sweep,
        on_event=report,
        execute=execute,
        writes_tables=is_first,
    )
    if config.trial_epochs is not None:
        cells = try_rates(config, data, folder, run_study, report, origin)
    failed = run_study(config, data, folder, cells=cells, origin=origin)
    return SweepSummary(folder, tuple(cells), tuple(failed), is_first)


def check_local(config: DataConfig) -> None:
    """Reject a data set that is not on a local disk, before preparing what could not be read."""
    name = "data_dir" if config.dataset in BUILDERS else "dataset"
    value = getattr(config, name)
    if not on_disk(value):
        raise UserError(
            "records are read from a local disk only; prepare the set there, or copy its folder "
            "there and give the copy as the dataset",
            field=name,
            value=value,
        )


def _join_processes(cluster: ClusterConfig) -> bool:
    """Join the other processes, if any, and return whether this one is the first."""
    if not cluster.several_processes:
        return True
    import jax

    from crnn_jax.train.parallel import join_processes

    join_processes(cluster)
    return jax.process_index() == 0
