"""The benchmark, run for real on small networks: what it counts, and what it compares."""

import importlib.util
import json
import math

import pytest

from crnn_jax import benchmark as benchmark_module
from crnn_jax.benchmark import Timing, benchmark
from crnn_jax.budget import solve
from crnn_jax.config import BenchmarkConfig

TORCH = importlib.util.find_spec("torch") is not None
needs_torch = pytest.mark.skipif(not TORCH, reason="needs PyTorch: pip install 'crnn_jax[bench]'")
SMALL = BenchmarkConfig("conv2d", 10_000, batch=8, clip_seconds=3.0, rounds=2, turn_seconds=0.01)


def convolution_flops(widths: tuple[int, ...], frames: int) -> float:
    """Of conv2d: two a product and sum, forward and twice that backward."""
    mel, inputs, total = 96, 1, 0
    for features, pool in zip(widths, ((2, 4), (2, 4), (2, 4), (3, 5), (4, 4)), strict=True):
        total += 2 * 9 * inputs * features * mel * frames
        mel, frames = mel // pool[0], max(1, frames // pool[1])
        inputs = features
    return 3 * total


@pytest.fixture(scope="module")
def report():
    return benchmark(SMALL)


def test_a_report_agrees_with_itself(report):
    for what in ("step", "forward"):
        fastest, slowest = report[f"{what}_s_fastest"], report[f"{what}_s_slowest"]
        assert 0 < fastest <= report[f"{what}_s"] <= slowest
    assert report["samples_per_s"] == pytest.approx(8 / report["step_s"])
    assert report["seconds_per_2500_samples"] == pytest.approx(2500 / report["samples_per_s"])
    achieved = report["flops_per_sample"] * report["samples_per_s"] / 1e9
    assert report["gflops"] == pytest.approx(achieved)
    assert report["matmul_gflops"] > 1
    assert report["compile_s"] > 0
    assert report["input_wait_s"] >= 0
    # JAX alone takes more than 100 MB.
    assert 100e6 < report["peak_memory_bytes"] < 4e9
    assert not any("torch" in key or "ratio" in key for key in report)


def test_flops_are_those_of_the_convolutions_and_a_little_more(report):
    """XLA's count, against the closed form of what nearly all of it is."""
    widths = solve("conv2d", "uniform", 10_000).widths
    expected = convolution_flops(widths, report["frames"])
    assert expected < report["flops_per_sample"] < 1.25 * expected


def test_the_command_prints_json(command):
    flags = ("--clip-seconds", 3, "--batch", 8, "--rounds", 1, "--turn-seconds", 0.01)
    code, out, _ = command("benchmark", "--arch", "conv1d", "--target", 10_000, *flags, "--json")
    report = json.loads(out)
    assert code == 0
    assert (report["arch"], report["target"], report["batch"]) == ("conv1d", 10_000, 8)
    assert report["params"] == solve("conv1d", "uniform", 10_000).params
    assert {"compile_s", "step_s", "forward_s", "samples_per_s"} <= set(report)


def test_a_timing_is_a_median():
    assert Timing.of([3.0, 1.0, 2.0, 9.0]) == Timing(median=2.5, fastest=1.0, slowest=9.0)


def test_a_process_that_ends_is_no_answer():
    setup = {"arch": "no such network", "widths": [], "batch": 1, "frames": 96}
    with pytest.raises(RuntimeError, match="the benchmark's process ended with 1"):
        benchmark_module.Contestant("jax", {**setup, "precision": "float32"})


@pytest.mark.skipif(TORCH, reason="PyTorch is installed")
def test_without_torch(command):
    code, _, err = command("benchmark", "--against", "torch")
    assert code == 2
    assert err == "crnn-jax: --against torch: not installed; pip install 'crnn_jax[bench]'\n"


@needs_torch
@pytest.mark.parametrize("arch", ["conv1d", "conv2d", "crnn"])
def test_twins_have_the_same_parameters(arch):
    from crnn_jax.torch_networks import build

    budget = solve(arch, "uniform", 30_000)
    twin = build(arch, budget.widths)
    count = sum(parameter.numel() for parameter in twin.parameters())
    # PyTorch's GRU has two biases a gate, of which one would do.
    second_biases = 3 * sum(budget.widths[4:]) if arch == "crnn" else 0
    assert count == budget.params + second_biases


@needs_torch
def test_against_torch():
    report = benchmark(
        BenchmarkConfig(
            "crnn", 10_000, batch=2, clip_seconds=3.0, rounds=2, turn_seconds=0.01, against="torch"
        )
    )
    assert report["torch_layout"] in ("contiguous", "channels_last")
    assert report["step_ratio"] == pytest.approx(report["torch_step_s"] / report["step_s"])
    assert report["forward_ratio"] == pytest.approx(report["torch_forward_s"] / report["forward_s"])
    assert report["torch_peak_memory_bytes"] > 100e6
    assert all(math.isfinite(v) for v in report.values() if isinstance(v, float))
