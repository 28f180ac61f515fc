"""The command line in processes of their own: to be killed, and to be several."""

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath

from crnn_jax.config import RuntimeConfig, SweepConfig, TrainConfig
from crnn_jax.train.checkpoints import load_variables

# What `Commands` starts, for one seed.
STUDY = SweepConfig(
    archs=("conv1d",),
    targets=(4_000,),
    train=TrainConfig(epochs=3, batch_size=8, clip_seconds=2.5),
    runtime=RuntimeConfig(checkpoint_seconds=0.0),
)
CELL = "conv1d-4000-uniform-seed0"
# What two runs of the same cell may differ in.
TIMES = {
    *("compile_s", "train_s", "eval_s", "input_wait_s", "checkpoint_s", "samples_per_s"),
    *("seconds_per_2500_samples", "peak_memory_bytes", "device_count"),
}


@dataclasses.dataclass(frozen=True)
class Commands:
    """Starts ``crnn-jax sweep`` with small networks.

    Attributes
    ----------
    dataset
        A prepared set.
    caches
        Where compiled steps are kept: the second process needs not compile.
    """

    dataset: str
    caches: Path

    def start(
        self,
        out: Path,
        *flags: object,
        seeds: int = 1,
        devices: int | None = 1,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[str]:
        """A sweep in a process group of its own; on one device, as the tests' own processes."""
        if devices is not None:
            flags = (*flags, "--devices", devices)
        environment = {**os.environ, "XDG_CACHE_HOME": str(self.caches), **(environment or {})}
        command = [
            *(sys.executable, "-m", "crnn_jax", "sweep", "--out", out, "--dataset"),
            *(self.dataset, "--archs", "conv1d", "--targets", 4000, "--epochs", 3),
            *("--batch-size", 8, "--clip-seconds", 2.5, "--checkpoint-seconds", 0),
            *("--seeds", *range(seeds), *flags),
        ]
        return subprocess.Popen(
            list(map(str, command)),
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    out, err = process.communicate(timeout=240)
    return process.returncode, out, err


def kill(process: subprocess.Popen[str]) -> None:
    """As a power cut would: the process and its children, at once."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until(condition: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    """Wait for something that a living process is to do."""
    while not condition():
        assert process.poll() is None, finish(process)
        time.sleep(0.01)


def snapshots(run: Path) -> list[int]:
    """Numbers of the finished snapshots."""
    names = (path.name for path in run.glob("checkpoints/*"))
    return sorted(int(name) for name in names if name.isdigit())


def history(run: Path) -> list[dict[str, Any]]:
    """The lines of ``metrics.jsonl``."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def numbers(run: Path) -> dict[str, Any]:
    """A result without its times."""
    result = json.loads((run / "result.json").read_text())
    return {key: value for key, value in result.items() if key not in TIMES}


def parameters(run: Path) -> Iterator[bytes]:
    """The bytes of a run's best parameters and statistics."""
    import jax

    for leaf in jax.tree.leaves(load_variables(epath.Path(run))):
        yield np.asarray(leaf).tobytes()
