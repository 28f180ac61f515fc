"""How long a training step takes, where its time goes, and how that compares.

Every candidate (our network; with ``--against torch`` its PyTorch twin in both memory layouts)
lives in a process of its own, with its own threads and memory, and the candidates take turns,
A B A B: the machine's moods meet all of them alike. What is compared is the median of the turns.

The twin computes on the device that JAX chooses: the CPU, or one GPU. There all processes share
its memory, of which JAX would take three quarters at once; in these processes it takes what it
needs (``XLA_PYTHON_CLIENT_PREALLOCATE=false``). Products of float32 are float32 in both: no TF32.
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

from crnn_jax.config import BenchmarkConfig, MelConfig
from crnn_jax.errors import UserError
from crnn_jax.models import ARCHITECTURES
from crnn_jax.models.budget import solve
from crnn_jax.study.provenance import processor_model

Candidate = Literal["jax", "torch contiguous", "torch channels_last"]
TORCH: tuple[Candidate, ...] = ("torch contiguous", "torch channels_last")


@dataclasses.dataclass(frozen=True)
class Timing:
    """Wall times of one thing, in s a step."""

    median: float
    fastest: float
    slowest: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Timing":
        """Of single measurements."""
        return cls(statistics.median(seconds), min(seconds), max(seconds))


class Contestant:
    """A candidate's process (`crnn_jax.bench.worker`), asked in lines of JSON.

    Attributes
    ----------
    devices
        What its library can compute on.
    """

    def __init__(self, candidate: Candidate):
        self._process = subprocess.Popen(
            # PyTorch warns of the copy that SAME padding with four taps costs it, at every start.
            [
                *(sys.executable, "-W", "ignore::UserWarning", "-m", "crnn_jax.bench.worker"),
                candidate,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
        )
        self.devices = self._answer()

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request and wait for its answer. The first one is what to build.

        Raises
        ------
        UserError
            If the user's to mend.
        RuntimeError
            If the process has ended; its own words are on standard error.
        """
        assert self._process.stdin is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the benchmark's process ended with {self.close()}")
        answer = json.loads(line)
        if "user_error" in answer:
            problem, field, value = answer["user_error"]
            raise UserError(problem, field=field, value=value)
        return answer

    def close(self) -> int:
        """End the process; its exit code."""
        self._process.communicate()
        return self._process.returncode


def twin_device(platform: str, count: int, torch_has_gpu: bool) -> Literal["cpu", "cuda"]:
    """PyTorch's name of the device that JAX computes on.

    Parameters
    ----------
    platform, count
        JAX's default devices: their kind, and how many there are.
    torch_has_gpu
        Whether PyTorch can compute on a GPU.

    Raises
    ------
    UserError
        If PyTorch cannot compute there, or would on one of several.
    """
    on_cpu = "JAX_PLATFORMS=cpu compares both on the CPU"
    if platform == "cpu":
        return "cpu"
    if platform not in ("gpu", "cuda", "rocm"):
        raise UserError(
            f"JAX computes on {platform}, PyTorch cannot; {on_cpu}", field="against", value="torch"
        )
    if not torch_has_gpu:
        raise UserError(
            f"JAX computes on a GPU, the installed PyTorch cannot; install one "
            f"that can (pytorch.org), or {on_cpu}",
            field="against",
            value="torch",
        )
    if count > 1:
        raise UserError(
            f"JAX computes on {count} GPUs, PyTorch's twin on one; "
            f"CUDA_VISIBLE_DEVICES=0 lets both see one",
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
        ``device``; ``compile_s`` (first parameters and both steps, nothing kept from before);
        ``step_s`` and ``forward_s`` (median of a training step and of a prediction, in s) with
        ``_fastest`` and ``_slowest``; ``samples_per_s``, ``seconds_per_2500_samples``;
        ``input_wait_s`` (waiting for a batch, a step, while training from disk);
        ``flops_per_sample``, ``gflops`` (achieved rate in GFLOP/s) and ``matmul_gflops`` (of a
        large float32 matrix product in the same process, on one device); ``peak_memory_bytes``.
        With ``against``, of the faster layout: ``torch_step_s`` with ``_fastest`` and
        ``_slowest``, ``torch_forward_s``, ``torch_layout`` (of the step),
        ``torch_peak_memory_bytes``, ``step_ratio`` and ``forward_ratio`` (PyTorch's time over
        ours).

        Peak memory is on a CPU that of the process, libraries included, while steps run (on Linux;
        elsewhere compilation is in it). On another device it is what the library has taken of the
        device's memory: in JAX's are the trials of compilation (it cannot forget them), in
        PyTorch's are those of its first step not. None: the device does not tell.

    Raises
    ------
    UserError
        If the target cannot be reached, the devices do not divide the batch, or it does not fit
        into their memory; if PyTorch is asked for, and is not installed or cannot compute where
        JAX does.
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
    }
    candidates: tuple[Candidate, ...] = ("jax",)
    if config.against == "torch":
        if importlib.util.find_spec("torch") is None:
            raise UserError(
                "not installed; pip install 'crnn_jax[bench]'", field="against", value="torch"
            )
        candidates = (*candidates, *TORCH)
    with _contest(candidates) as contestants:
        devices = contestants["jax"].devices
        if config.against == "torch":
            has_gpu = contestants[TORCH[0]].devices["has_gpu"]
            setup["device"] = twin_device(devices["platform"], devices["count"], has_gpu)
        ready = {name: contestant.ask(setup) for name, contestant in contestants.items()}["jax"]
        times = {what: _times(contestants, what, config) for what in ("step", "forward")}
        # Memory first: what is asked after it is not part of a step.
        peaks = {n: c.ask({"do": "memory"})["peak_memory_bytes"] for n, c in contestants.items()}
        rate = contestants["jax"].ask({"do": "matmul"})["gflops"]
        input_wait = contestants["jax"].ask({"do": "input"})["input_wait_s"]

    step, forward = (Timing.of(times[what]["jax"]) for what in ("step", "forward"))
    several = f"{devices['count']} × " if devices["count"] > 1 else ""
    report: dict[str, Any] = {
        "arch": config.arch,
        "target": config.target,
        "rule": config.rule,
        "params": budget.params,
        "batch": config.batch,
        "precision": config.precision,
        "frames": frames,
        "device": f"{several}{devices['kind']}, {os.cpu_count()} cores, {processor_model()}",
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
    """Seconds of each step or prediction; PyTorch's slower layout leaves after the first turn."""
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
    """PyTorch's layout with the lower median."""
    return min(TORCH, key=lambda name: statistics.median(times[name]))


@contextlib.contextmanager
def _contest(candidates: Sequence[Candidate]) -> Iterator[dict[Candidate, Contestant]]:
    """The candidates' processes."""
    contestants: dict[Candidate, Contestant] = {}
    try:
        for candidate in candidates:
            contestants[candidate] = Contestant(candidate)
        yield contestants
    finally:
        for contestant in contestants.values():
            contestant.close()
