"""Cells as tasks of a Ray cluster (docs.ray.io): one task a cell.

A task whose worker is lost is given to another one, which goes on with the snapshots that it finds.
All machines of the cluster see the sweep's folder and the data under the same paths.
"""

import json
import logging
import os
import time
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
# How long a cell's lock may outlive the machine that had it, in s: on a shared disk, until the
# server counts that machine as gone (90 s is usual).
LOCK_LEFT_S = 180


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
    deadline = time.monotonic() + LOCK_LEFT_S
    while (outcome := attempt(job, _Unwatched())).kind == "held" and time.monotonic() < deadline:
        time.sleep(1)
    return outcome


def _resources_of(text: str) -> dict[str, float]:
    """What a task asks for, from its JSON."""
    mend = 'give such as \'{"CPU": 2, "GPU": 1}\''
    try:
        wanted = dict(json.loads(text))
    except (ValueError, TypeError) as error:
        raise UserError(f"--resources {text}: not a JSON object; {mend}") from error
    for name, amount in wanted.items():
        if isinstance(amount, bool) or not isinstance(amount, int | float) or amount < 0:
            raise UserError(f"--resources {text}: {name} is not a number of 0 or more; {mend}")
        if name in ("cpu", "gpu", "memory", "object_store_memory"):
            raise UserError(f"--resources {text}: `{name}` is no name of a resource; {mend}")
    return wanted


def on_ray(cluster: ClusterConfig) -> Executor:
    """Connect to a Ray cluster, or start one on this machine, and run jobs there.

    Raises
    ------
    UserError
        If Ray is not installed, there is no cluster at the address, or the resources are not
        a JSON object of numbers.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise UserError("--executor ray: not installed; `pip install 'crnn_jax[ray]'`") from error
    import jax

    wanted = _resources_of(cluster.resources)
    try:
        with warnings.catch_warnings():
            # JAX warns of forks; those of Ray become other programs at once.
            warnings.filterwarnings("ignore", r"os\.fork\(\) was called")
            ray.init(
                address=cluster.address or "local",
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except (ConnectionError, ValueError) as error:
        words = str(error).partition("\n")[0]
        raise UserError(
            f"--address {cluster.address}: no Ray cluster there ({words}); give HOST:PORT"
        ) from error
    there = ray.cluster_resources()
    for name, amount in wanted.items():
        if amount > there.get(name, 0):
            warnings.warn(
                f"--resources: a cell asks for {amount:g} {name}, the cluster has "
                f"{there.get(name, 0):g}; the cells wait until a machine with them joins",
                stacklevel=2,
            )
    task = ray.remote(
        num_cpus=wanted.pop("CPU", 1),
        num_gpus=wanted.pop("GPU", 0),
        resources=wanted,
        max_retries=WORKERS_LOST,
        # A process a cell: JAX keeps a GPU's memory as long as its process lives.
        max_calls=1,
    )(run_remotely)
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
                # The cell may have ended well, and its machine been lost after that.
                if (result := runs.read_result(job.run)) is not None:
                    outcome = Outcome("finished", result)
                else:
                    message = f"{type(error).__name__}: {error}".partition("\n")[0]
                    runs.write_failure(job.run, message, str(error))
                    outcome = Outcome("failed", error=message)
            yield job, outcome

    return execute
