"""Benchmark of a training step: how long it takes, where its time goes, and how that compares.

Every candidate (the JAX network; with ``--against torch`` its PyTorch twin, in the fastest of the
ways that PyTorch offers) runs in a process of its own, with its own threads and memory, and the
candidates take turns, so that fluctuations of the machine affect all of them alike. The median over
all turns is compared.

The twin runs on the device that JAX chooses: the CPU, or one GPU. All processes share the GPU's
memory, of which JAX would preallocate three quarters; in these processes it allocates what it needs
(``XLA_PYTHON_CLIENT_PREALLOCATE=false``). Both multiply float32 in full precision: no TF32.
"""

import contextlib
import dataclasses
import importlib.util
import statistics
from collections.abc import Sequence
from typing import Any, Literal

import joblib

from crnn_jax.bench.contest import (
    KINDS,
    WHAT,
    Contestant,
    Finalist,
    Qualification,
    qualify,
    race,
)
from crnn_jax.config import BenchmarkConfig
from crnn_jax.errors import UserError
from crnn_jax.models import ARCHITECTURES
from crnn_jax.models.budget import solve
from crnn_jax.study.provenance import processor_model


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

        With ``against``, for the fastest way in which PyTorch computes in float32, and for the
        fastest of all: ``torch_float32_step`` and ``torch_any_step`` (which way that is, such as
        ``compiled, channels_last, float32``) with ``_s``, ``_s_fastest``, ``_s_slowest`` (in s)
        and ``_ratio`` (PyTorch's time over ours); the same for ``_forward``; and
        ``torch_peak_memory_bytes`` of the float32 step. ``torch_first_turns`` are the medians by
        which these were chosen, in s; ``torch_failed`` says which ways could not be measured, and
        why.

        On a CPU, peak memory is that of the process, libraries included, while training steps run
        (on Linux; elsewhere it includes compilation). On another device it is what the library has
        allocated of the device's memory: JAX's value includes the trials of compilation (JAX cannot
        reset it), PyTorch's excludes those of its first step. None: the device does not report it.

    Raises
    ------
    UserError
        If the target cannot be reached; if the batch is not divisible by the number of devices or
        does not fit into their memory; or if PyTorch is requested and is not installed or cannot
        run where JAX does.
    """
    budget = solve(config.arch, config.rule, config.target)
    setup: dict[str, Any] = {
        "arch": config.arch,
        "widths": budget.widths,
        "batch": config.batch,
        "frames": config.frames,
        "padding": ARCHITECTURES[config.arch].padding.of(config.frames),
        "precision": config.precision,
        "devices": config.devices,
    }
    against = config.against == "torch"
    if against and importlib.util.find_spec("torch") is None:
        raise UserError(
            "not installed; pip install 'crnn_jax[bench]'", field="against", value="torch"
        )
    # Read when JAX starts, before it is asked to build anything.
    environment = {} if config.devices is None else {"JAX_NUM_CPU_DEVICES": str(config.devices)}
    with contextlib.ExitStack() as processes:
        ours = Contestant("jax", environment)
        processes.callback(ours.close)
        devices = ours.devices
        outcome = Qualification()
        if against:
            setup["device"] = _twin_device(devices, config.devices)
        ready = ours.ask(setup)
        if against:
            outcome = processes.enter_context(qualify(setup, config.turn_seconds))
        finalists = outcome.finalists
        # Memory first: what is asked after the first turn is not part of a training step.
        ours.seconds("step", config.turn_seconds)
        peak = ours.peak_memory()
        timings = {
            what: _race(ours, {k: finalists[what, k] for k in KINDS if finalists}, what, config)
            for what in WHAT
        }
        rate = ours.ask({"do": "matmul"})["gflops"]
        input_wait = ours.ask({"do": "input"})["input_wait_s"]

    step, forward = (timings[what]["ours"] for what in WHAT)
    n_devices = ready["n_devices"]
    several = f"{n_devices} × " if n_devices > 1 and devices["platform"] != "cpu" else ""
    report: dict[str, Any] = {
        "arch": config.arch,
        "target": config.target,
        "rule": config.rule,
        "params": budget.params,
        "batch": config.batch,
        "precision": config.precision,
        "frames": config.frames,
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
        "peak_memory_bytes": peak,
    }
    for (what, kind), finalist in finalists.items():
        torch, jax = timings[what][kind], timings[what]["ours"]
        name = f"torch_{kind}_{what}"
        report |= {
            name: finalist.variant.name,
            f"{name}_s": torch.median,
            f"{name}_s_fastest": torch.fastest,
            f"{name}_s_slowest": torch.slowest,
            f"{name}_ratio": torch.median / jax.median,
        }
    if against:
        report["torch_peak_memory_bytes"] = finalists["step", "float32"].peak_memory_bytes
        report["torch_first_turns"] = outcome.first_turns
        report["torch_failed"] = outcome.failed
    return report


def _race(
    ours: Contestant, others: dict[str, Finalist], what: str, config: BenchmarkConfig
) -> dict[str, Timing]:
    """Time ours and the finalists, by their kinds; one of both kinds runs once."""
    contestants = list(
        dict.fromkeys([ours, *(finalist.contestant for finalist in others.values())])
    )
    times = race(contestants, what, config.rounds, config.turn_seconds)
    of = {id(c): Timing.of(seconds) for c, seconds in zip(contestants, times, strict=True)}
    return {"ours": of[id(ours)]} | {
        kind: of[id(finalist.contestant)] for kind, finalist in others.items()
    }


def _twin_device(devices: dict[str, Any], wanted: int | None) -> Literal["cpu", "cuda"]:
    torch = Contestant("torch")
    try:
        has_gpu = torch.devices["has_gpu"]
    finally:
        torch.close()
    return twin_device(devices["platform"], wanted or devices["count"], has_gpu)
