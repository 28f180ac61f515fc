"""Cells as tasks of a Ray cluster (docs.ray.io): one task per cell.

A task whose worker is lost is given to another one, which resumes from the snapshots that it finds.
All machines of the cluster must see the sweep's folder and the data under the same paths.
"""

import dataclasses
import json
import logging
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from crnn_jax.config import ClusterConfig
from crnn_jax.errors import UserError
from crnn_jax.study import runs
from crnn_jax.study.events import OnSweepEvent, ignore
from crnn_jax.study.run import Job, Outcome, attempt
from crnn_jax.study.sweep import Executor

# Times that a cell is given to another worker. Spot (preemptible) machines may be lost often during
# a long run, without losing the run.
WORKERS_LOST = 20
# Ray's names for the accelerators that JAX can use.
ACCELERATORS = ("GPU", "TPU")
# Variable that limits JAX to a fraction of a GPU's memory (it preallocates 0.75 otherwise), and its
# old name; JAX rejects both together.
MEMORY_FRACTION = ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION")
# JAX's share of a task's part of a GPU; the rest is for CUDA's own state in each process.
JAX_PART = 0.9
# How long a cell's lock may outlive the machine that held it, in s: on a shared disk, until the
# server considers that machine gone (90 s is usual).
LOCK_LEFT_S = 180


def run_remotely(job: Job, folder: str, compiled: str | None) -> Outcome:
    """Run a job in a Ray worker.

    Parameters
    ----------
    job
        The job.
    folder
        Working folder of the command, which its relative paths refer to.
    compiled
        Folder of the cache of compiled steps, if there is one.
    """
    import ray

    from crnn_jax.train.devices import use_cores
    from crnn_jax.train.parallel import keep_compiled

    os.chdir(folder)
    requested = ray.get_runtime_context().get_assigned_resources().get("CPU", 1)
    use_cores(job.runtime.devices, cores=max(1, int(requested)))
    if compiled is not None:
        keep_compiled(compiled)
    deadline = time.monotonic() + LOCK_LEFT_S
    while (outcome := attempt(job, ignore)).kind == "held" and time.monotonic() < deadline:
        time.sleep(1)
    return outcome


def _resources_of(text: str) -> dict[str, float]:
    """Parse the resources that a task requests, given as JSON."""
    fix = 'give for example \'{"CPU": 2, "GPU": 1}\''
    try:
        wanted = dict(json.loads(text))
    except (ValueError, TypeError) as error:
        raise UserError(f"not a JSON object; {fix}", field="resources", value=text) from error
    for name, amount in wanted.items():
        is_number = isinstance(amount, int | float) and not isinstance(amount, bool)
        if not (is_number and 0 <= amount < math.inf):
            raise UserError(
                f"{name} is not a number of at least 0; {fix}", field="resources", value=text
            )
        if name in ACCELERATORS and amount > 1 and amount % 1:
            raise UserError(
                f"more than one {name}, but not a whole number; {fix}",
                field="resources",
                value=text,
            )
        if amount != round(amount, 4):
            raise UserError(
                f"{name} has more than four decimals; {fix}", field="resources", value=text
            )
        if name in ("cpu", "gpu", "memory", "object_store_memory"):
            raise UserError(
                f"`{name}` is not a resource name; {fix}", field="resources", value=text
            )
    return wanted


def task_environment(
    wanted: Mapping[str, float], there: Mapping[str, float], environment: Mapping[str, str]
) -> dict[str, str]:
    """Return variables that limit JAX in a task to the resources that the task requests.

    Ray exposes to a task the GPUs that it requests, but all of them to one that requests none; and
    JAX preallocates three quarters of a GPU's memory, whatever part of it the task requests.

    Parameters
    ----------
    wanted, there
        Resources of a task and of the whole cluster.
    environment
        The command's environment variables. Those that are set there apply to the tasks, too.
    """
    gpus = wanted.get("GPU", 0)
    names: tuple[str, ...]
    if 0 < gpus < 1:
        names, value = MEMORY_FRACTION, f"{JAX_PART * gpus:g}"
    elif gpus or wanted.get("TPU") or not any(there.get(name) for name in ACCELERATORS):
        return {}
    else:
        names, value = ("JAX_PLATFORMS",), "cpu"
    chosen = {name: environment[name] for name in names if name in environment}
    return chosen or {names[0]: value}


def as_task(
    function: Callable[..., Any],
    wanted: Mapping[str, float],
    there: Mapping[str, float],
    environment: Mapping[str, str],
) -> Any:
    """Return a function as a Ray task (see `task_environment`)."""
    import ray

    variables = task_environment(wanted, there, environment)
    return ray.remote(
        num_cpus=wanted.get("CPU", 1),
        num_gpus=wanted.get("GPU", 0),
        resources={name: wanted[name] for name in wanted if name not in ("CPU", "GPU")},
        runtime_env={"env_vars": variables} if variables else {},
        max_retries=WORKERS_LOST,
        # One process per cell: JAX keeps a GPU's memory as long as its process lives.
        max_calls=1,
    )(function)


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
        raise UserError(
            "not installed; `pip install 'crnn_jax[ray]'`", field="executor", value="ray"
        ) from error
    import jax

    wanted = _resources_of(cluster.resources)
    try:
        with warnings.catch_warnings():
            # JAX warns of forks; Ray's immediately execute another program.
            warnings.filterwarnings("ignore", r"os\.fork\(\) was called")
            ray.init(
                address=cluster.address or "local",
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except (ConnectionError, ValueError, ray.exceptions.AuthenticationError) as error:
        words = str(error).partition("\n")[0].partition(". ")[0]
        raise UserError(
            f"no Ray cluster there ({words}); give HOST:PORT, and for a cluster with a token set "
            f"RAY_AUTH_MODE=token and put the token in ~/.ray/auth_token",
            field="address",
            value=cluster.address,
        ) from error
    there = ray.cluster_resources()
    for name, amount in wanted.items():
        if amount > there.get(name, 0):
            warnings.warn(
                f"--resources: a cell requests {amount:g} {name}, but the cluster has "
                f"{there.get(name, 0):g}; the cells wait until a machine with them joins",
                stacklevel=2,
            )
    if not any(name in wanted for name in ACCELERATORS):
        for name in ACCELERATORS:
            if there.get(name):
                warnings.warn(
                    f"--resources: a cell requests no {name}, although the cluster has "
                    f"{there[name]:g}, and is trained on a CPU; "
                    f'give --resources \'{{"CPU": 1, "{name}": 1}}\'',
                    stacklevel=2,
                )
    task = as_task(run_remotely, wanted, there, os.environ)
    compiled = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]

    def execute(jobs: Sequence[Job], on_event: OnSweepEvent) -> Iterator[tuple[Job, Outcome]]:
        # Whether a longer budget's run is there to branch off would depend on the cluster.
        running = {}
        for job in jobs:
            alone = dataclasses.replace(job, trunk=None, branches=())
            running[task.remote(alone, str(Path.cwd()), compiled)] = job
        while running:
            (ended, *_), _ = ray.wait(list(running))
            job = running.pop(ended)
            try:
                outcome = ray.get(ended)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error
            except ray.exceptions.RayError as error:
                # The cell may have finished before its machine was lost.
                if (result := runs.read_result(job.run)) is not None:
                    outcome = Outcome("finished", result)
                else:
                    message = f"{type(error).__name__}: {error}".partition("\n")[0]
                    runs.write_failure(job.run, message, str(error))
                    outcome = Outcome("failed", error=message)
            yield job, outcome

    return execute
