"""Benchmark of a training step: how long it takes, where its time goes, and how that compares.

Every candidate (the JAX network; with ``--against torch`` its PyTorch twin in both memory layouts)
runs in a process of its own, with its own threads and memory, and the candidates take turns,
A B A B, so that fluctuations of the machine affect all of them alike. The median over all turns is
compared.

The twin runs on the device that JAX chooses: the CPU, or one GPU. All processes share the GPU's
memory, of which JAX would preallocate three quarters; in these processes it allocates what it needs
(``XLA_PYTHON_CLIENT_PREALLOCATE=false``). Both multiply float32 in full precision: no TF32.
"""

import contextlib
import dataclasses
import importlib.util
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import joblib

from crnn_jax.config import BenchmarkConfig, MelConfig
from crnn_jax.errors import UserError
from crnn_jax.models import ARCHITECTURES
from crnn_jax.models.budget import solve
from crnn_jax.study.provenance import processor_model

Candidate = Literal["jax", "torch contiguous", "torch channels_last"]
TORCH: tuple[Candidate, ...] = ("torch contiguous", "torch channels_last")


@dataclasses.dataclass(frozen=True)
class Timing:
    """Wall times of one operation, in s per step."""

    median: float
    fastest: float
    slowest: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Timing":
        """Summarise single measurements."""
        return cls(statistics.median(seconds), min(seconds), max(seconds))


class Contestant:
    """A candidate's process (`crnn_jax.bench.worker`); requests and answers are lines of JSON.

    Attributes
    ----------
    devices
        What its library can compute on.
    """

    def __init__(self, candidate: Candidate, environment: Mapping[str, str]):
        self._process = subprocess.Popen(
            # PyTorch warns at every start of the copy that SAME padding with four taps costs it.
            [
                *(sys.executable, "-W", "ignore::UserWarning", "-m", "crnn_jax.bench.worker"),
                candidate,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
        )
        self.devices = self._answer()

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request and wait for its answer. The first one is the network to build.

        Raises
        ------
        UserError
            If the worker reports one.
        RuntimeError
            If the process has ended; its own message is on standard error.
        """
        assert self._process.stdin is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the benchmark's process ended with exit code {self.close()}")
        answer = json.loads(line)
        if "user_error" in answer:
            problem, field, value = answer["user_error"]
            raise UserError(problem, field=field, value=value)
        return answer

    def close(self) -> int:
        """End the process and return its exit code."""
        self._process.communicate()
        return self._process.returncode


def twin_device(platform: str, count: int, torch_has_gpu: bool) -> Literal["cpu", "cuda"]:
    """Return PyTorch's name for the device that JAX runs on.

    Parameters
    ----------
    platform, count
        Kind and number of JAX's default devices.
    torch_has_gpu
        Whether PyTorch can compute on a GPU.

    Raises
    ------
    UserError
        If PyTorch cannot run there, or would use one of several GPUs.
    """
    on_cpu = "set JAX_PLATFORMS=cpu to compare both on the CPU"
    if platform == "cpu":
        return "cpu"
    if platform not in ("gpu", "cuda", "rocm"):
        raise UserError(
            f"JAX runs on {platform}, which PyTorch cannot use; {on_cpu}",
            field="against",
            value="torch",
        )
    if not torch_has_gpu:
        raise UserError(
            f"JAX runs on a GPU, which the installed PyTorch cannot use; install one that can "
            f"(pytorch.org), or {on_cpu}",
            field="against",
            value="torch",
        )
    if count > 1:
        raise UserError(
            f"JAX runs on {count} GPUs, the PyTorch twin on one; "
            f"set CUDA_VISIBLE_DEVICES=0 to run both on one",
            field="against",
            value="torch",
        )
    return "cuda"


def benchmark(config: BenchmarkConfig) -> dict[str, Any]:
    """Time one network.

    Returns
    -------
    dict
        ``arch``, ``target``, ``rule``, ``params``, ``batch``, ``precision``, ``frames``,
        ``device``, ``device_count``; ``compile_s`` (initial parameters and both steps, without
        cached compilations);
        ``step_s`` and ``forward_s`` (median of a training step and of a prediction, in s) with
        ``_fastest`` and ``_slowest``; ``samples_per_s``, ``seconds_per_2500_samples``;
        ``input_wait_s`` (waiting for a batch, per step, while training from disk);
        ``flops_per_sample``, ``gflops`` (achieved rate in GFLOP/s) and ``matmul_gflops`` (of a
        large float32 matrix product in the same process, on one device); ``peak_memory_bytes``.
        With ``against``, for the faster layout: ``torch_step_s`` with ``_fastest`` and
        ``_slowest``, ``torch_forward_s``, ``torch_layout`` (of the step),
        ``torch_peak_memory_bytes``, ``step_ratio`` and ``forward_ratio`` (PyTorch's time over
        ours).

        On a CPU, peak memory is that of the process, libraries included, while steps run (on Linux;
        elsewhere it includes compilation). On another device it is what the library has allocated
        of the device's memory: JAX's value includes the trials of compilation (JAX cannot reset
        it), PyTorch's excludes those of its first step. None: the device does not report it.

    Raises
    ------
    UserError
        If the target cannot be reached; if the batch is not divisible by the number of devices or
        does not fit into their memory; or if PyTorch is requested and is not installed or cannot
        run where JAX does.
    """
    budget = solve(config.arch, config.rule, config.target)
    frames = dataclasses.replace(MelConfig(), clip_seconds=config.clip_seconds).frames
    setup: dict[str, Any] = {
        "arch": config.arch,
        "widths": budget.widths,
        "batch": config.batch,
        "frames": frames,
        "padding": ARCHITECTURES[config.arch].padding.of(frames),
        "precision": config.precision,
        "devices": config.devices,
    }
    # Read when JAX starts, before it is asked to build anything.
    environment = {} if config.devices is None else {"JAX_NUM_CPU_DEVICES": str(config.devices)}
    candidates: tuple[Candidate, ...] = ("jax",)
    if config.against == "torch":
        if importlib.util.find_spec("torch") is None:
            raise UserError(
                "not installed; pip install 'crnn_jax[bench]'", field="against", value="torch"
            )
        candidates = (*candidates, *TORCH)
    with _contest(candidates, environment) as contestants:
        devices = contestants["jax"].devices
        if config.against == "torch":
            has_gpu = contestants[TORCH[0]].devices["has_gpu"]
            setup["device"] = twin_device(
                devices["platform"], config.devices or devices["count"], has_gpu
            )
        ready = {name: contestant.ask(setup) for name, contestant in contestants.items()}["jax"]
        times = {what: _times(contestants, what, config) for what in ("step", "forward")}
        # Memory first: the requests after it are not part of a step.
        peaks = {n: c.ask({"do": "memory"})["peak_memory_bytes"] for n, c in contestants.items()}
        rate = contestants["jax"].ask({"do": "matmul"})["gflops"]
        input_wait = contestants["jax"].ask({"do": "input"})["input_wait_s"]

    step, forward = (Timing.of(times[what]["jax"]) for what in ("step", "forward"))
    n_devices = ready["n_devices"]
    several = f"{n_devices} × " if n_devices > 1 and devices["platform"] != "cpu" else ""
    report: dict[str, Any] = {
        "arch": config.arch,
        "target": config.target,
        "rule": config.rule,
        "params": budget.params,
        "batch": config.batch,
        "precision": config.precision,
        "frames": frames,
        "device": f"{several}{devices['kind']}, {joblib.cpu_count()} cores, {processor_model()}",
        "device_count": n_devices,
        "compile_s": ready["compile_s"],
        "step_s": step.median,
        "step_s_fastest": step.fastest,
        "step_s_slowest": step.slowest,
        "forward_s": forward.median,
        "forward_s_fastest": forward.fastest,
        "forward_s_slowest": forward.slowest,
        "samples_per_s": config.batch / step.median,
        "seconds_per_2500_samples": 2500 * step.median / config.batch,
        "input_wait_s": input_wait,
        "flops_per_sample": ready["flops_per_sample"],
        "gflops": ready["flops_per_sample"] * config.batch / step.median / 1e9,
        "matmul_gflops": rate,
        "peak_memory_bytes": peaks["jax"],
    }
    if config.against == "torch":
        layout = _faster(times["step"])
        torch_step, torch_forward = (
            Timing.of(times[what][_faster(times[what])]) for what in ("step", "forward")
        )
        report |= {
            "torch_layout": layout.removeprefix("torch "),
            "torch_step_s": torch_step.median,
            "torch_step_s_fastest": torch_step.fastest,
            "torch_step_s_slowest": torch_step.slowest,
            "torch_forward_s": torch_forward.median,
            "torch_peak_memory_bytes": peaks[layout],
            "step_ratio": torch_step.median / step.median,
            "forward_ratio": torch_forward.median / forward.median,
        }
    return report


def _times(
    contestants: Mapping[Candidate, Contestant], what: str, config: BenchmarkConfig
) -> dict[Candidate, list[float]]:
    """Time each step or prediction, in s; PyTorch's slower layout drops out after one turn."""
    times: dict[Candidate, list[float]] = {name: [] for name in contestants}
    racing = tuple(contestants)
    for turn in range(config.rounds):
        for name in racing:
            answer = contestants[name].ask({"do": what, "seconds": config.turn_seconds})
            times[name] += answer["seconds"]
        if turn == 0 and len(racing) > 1:
            racing = ("jax", _faster(times))
    return times


def _faster(times: Mapping[Candidate, Sequence[float]]) -> Candidate:
    """Return PyTorch's layout with the lower median."""
    return min(TORCH, key=lambda name: statistics.median(times[name]))


@contextlib.contextmanager
def _contest(
    candidates: Sequence[Candidate], environment: Mapping[str, str]
) -> Iterator[dict[Candidate, Contestant]]:
    """Start the candidates' processes, and end them on exit."""
    contestants: dict[Candidate, Contestant] = {}
    try:
        for candidate in candidates:
            contestants[candidate] = Contestant(candidate, environment)
        yield contestants
    finally:
        for contestant in contestants.values():
            contestant.close()
