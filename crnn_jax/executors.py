"""Cells as tasks of a Ray cluster (docs.ray.io): one task a cell.

A task whose worker is lost is given to another one, which goes on with the snapshots that it finds.
All machines of the cluster see the sweep's folder and the data under the same paths.
"""

import json
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from crnn_jax import runs
from crnn_jax.budget import Budget
from crnn_jax.config import ClusterConfig
from crnn_jax.errors import UserError
from crnn_jax.sweep import Cell, Executor, Job, Outcome, Watcher, attempt

# Times that a cell is given to another worker. Machines that are taken away at any time (spot,
# preemptible) may do so often in a long run, and none of it is lost.
WORKERS_LOST = 20


class _Unwatched:
    """A watcher on a machine where nobody watches."""

    def cell_started(self, cell: Cell, budget: Budget) -> None: ...
    def cell_progress(self, cell: Cell, fraction: float, message: str) -> None: ...
    def cell_finished(self, cell: Cell, result: dict[str, Any]) -> None: ...
    def cell_skipped(self, cell: Cell) -> None: ...
    def cell_failed(self, cell: Cell, error: str) -> None: ...
    def cell_left(self, cell: Cell) -> None: ...


def run_remotely(job: Job, folder: str, compiled: str | None) -> Outcome:
    """Run a job in a Ray worker.

    Parameters
    ----------
    job
        What is run.
    folder
        Working folder of the command: what its relative paths start from.
    compiled
        Where compiled steps are kept, if they are.
    """
    from crnn_jax.parallel import keep_compiled

    os.chdir(folder)
    if compiled is not None:
        keep_compiled(compiled)
    return attempt(job, _Unwatched())


def on_ray(cluster: ClusterConfig) -> Executor:
    """Connect to a Ray cluster, or start one on this machine, and run jobs there.

    Raises
    ------
    UserError
        If Ray is not installed, there is no cluster at the address, or the resources are not
        JSON.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise UserError("--executor ray: not installed; `pip install 'crnn_jax[ray]'`") from error
    import jax

    try:
        wanted = dict(json.loads(cluster.resources))
    except (ValueError, TypeError) as error:
        raise UserError(
            f"--resources {cluster.resources}: not a JSON object; give such as '{{\"GPU\": 1}}'"
        ) from error
    try:
        with warnings.catch_warnings():
            # JAX warns of forks; those of Ray become other programs at once.
            warnings.filterwarnings("ignore", r"os\.fork\(\) was called")
            ray.init(
                address=cluster.address,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except ConnectionError as error:
        raise UserError(f"--address {cluster.address}: no Ray cluster there") from error
    task = ray.remote(run_remotely).options(
        num_cpus=wanted.pop("CPU", 1),
        num_gpus=wanted.pop("GPU", 0),
        resources=wanted,
        max_retries=WORKERS_LOST,
    )
    compiled = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]

    def execute(jobs: Sequence[Job], watcher: Watcher) -> Iterator[tuple[Job, Outcome]]:
        running = {task.remote(job, str(Path.cwd()), compiled): job for job in jobs}
        while running:
            (ended, *_), _ = ray.wait(list(running))
            job = running.pop(ended)
            try:
                outcome = ray.get(ended)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error
            except ray.exceptions.RayError as error:
                message = f"{type(error).__name__}: {error}".partition("\n")[0]
                runs.write_failure(job.run, message, str(error))
                outcome = Outcome("failed", error=message)
            yield job, outcome

    return execute
