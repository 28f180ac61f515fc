"""The benchmark, run for real on small networks: what it counts, and what it compares."""

import importlib.util
import json
import math
import subprocess
import sys

import jax
import joblib
import psutil
import pytest

from crnn_jax.bench.contest import VARIANTS, Contestant
from crnn_jax.bench.run import Timing, benchmark, twin_device
from crnn_jax.config import BenchmarkConfig, ModelConfig
from crnn_jax.errors import UserError
from crnn_jax.models import ARCHITECTURES
from crnn_jax.models import build as build_network
from crnn_jax.models.budget import solve

TORCH = importlib.util.find_spec("torch") is not None
needs_torch = pytest.mark.skipif(not TORCH, reason="needs PyTorch: pip install 'crnn_jax[bench]'")
SMALL = BenchmarkConfig("conv2d", 10_000, batch=8, clip_seconds=2.71, rounds=2, turn_seconds=0.01)


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
    """What the command prints of it."""
    command = [
        *(sys.executable, "-m", "crnn_jax", "benchmark", "--json", "--arch", SMALL.arch),
        *("--target", SMALL.target, "--batch", SMALL.batch, "--clip-seconds", SMALL.clip_seconds),
        *("--rounds", SMALL.rounds, "--turn-seconds", SMALL.turn_seconds),
    ]
    said = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert (said.returncode, said.stderr) == (0, "")
    return json.loads(said.stdout)


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


def test_a_report_says_what_was_timed(report):
    assert (report["arch"], report["target"], report["batch"]) == ("conv2d", 10_000, 8)
    assert report["params"] == solve("conv2d", "uniform", 10_000).params
    assert {"compile_s", "step_s", "forward_s", "samples_per_s"} <= set(report)


def test_a_timing_is_a_median():
    assert Timing.of([3.0, 1.0, 2.0, 9.0]) == Timing(median=2.5, fastest=1.0, slowest=9.0)


@pytest.fixture
def contestant():
    started = Contestant("jax")
    yield started
    started.close()


def test_a_process_that_ends_is_no_answer(contestant):
    no_widths = {"arch": "conv1d", "batch": 1, "frames": 96, "precision": "float32"}
    with pytest.raises(RuntimeError, match="the benchmark's process ended with exit code 1"):
        contestant.ask(no_widths)


def test_a_process_takes_no_more_of_a_gpu_than_it_needs(contestant):
    (process,) = (p for p in psutil.Process().children() if p.cmdline()[-1] == "jax")
    assert process.environ()["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
    assert contestant.devices == {"platform": "cpu", "kind": "cpu", "count": joblib.cpu_count()}


@pytest.mark.parametrize(
    ("platform", "count", "torch_has_gpu", "device"),
    [
        ("cpu", 1, False, "cpu"),
        # XLA's virtual devices are the same cores.
        ("cpu", 8, False, "cpu"),
        # JAX_PLATFORMS=cpu on a machine with a GPU.
        ("cpu", 1, True, "cpu"),
        ("gpu", 1, True, "cuda"),
    ],
)
def test_the_twin_computes_where_jax_does(platform, count, torch_has_gpu, device):
    assert twin_device(platform, count, torch_has_gpu) == device


@pytest.mark.parametrize(
    ("platform", "count", "torch_has_gpu", "message"),
    [
        ("tpu", 4, True, "JAX runs on tpu, which PyTorch cannot use; set JAX_PLATFORMS=cpu"),
        ("gpu", 1, False, "JAX runs on a GPU, which the installed PyTorch cannot use; install"),
        ("gpu", 8, True, "JAX runs on 8 GPUs, the PyTorch twin on one; set CUDA_VISIBLE"),
    ],
)
def test_the_twin_cannot_compute_where_jax_does(platform, count, torch_has_gpu, message):
    with pytest.raises(UserError) as error:
        twin_device(platform, count, torch_has_gpu)
    assert str(error.value).startswith(f"against torch: {message}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("batch", "devices", "message"),
    [
        (12, 8, "--batch 12: not a multiple of 8, the number of devices; give 8 or 16"),
        (10**9, 1, f"--batch {10**9}: out of memory; give a smaller one, or a shorter"),
    ],
)
def test_a_batch_that_cannot_be(command, monkeypatch, batch, devices, message):
    """Found out in the other process, and said by this one in a line."""
    monkeypatch.setenv("XLA_FLAGS", f"--xla_force_host_platform_device_count={devices}")
    code, _, err = command("benchmark", "--target", 10_000, "--batch", batch)
    assert code == 2
    assert err.startswith(f"crnn-jax: {message}")
    assert err.count("\n") == 1


@pytest.mark.skipif(TORCH, reason="PyTorch is installed")
def test_without_torch(command):
    code, _, err = command("benchmark", "--against", "torch")
    assert code == 2
    assert err == "crnn-jax: --against torch: not installed; pip install 'crnn_jax[bench]'\n"


@needs_torch
@pytest.mark.parametrize("arch", ["conv1d", "conv2d", "crnn"])
def test_twins_have_the_same_parameters(arch):
    from crnn_jax.bench.torch_twins import build

    budget = solve(arch, "uniform", 30_000)
    twin = build(arch, budget.widths, (0, 0))
    count = sum(parameter.numel() for parameter in twin.parameters())
    # PyTorch's GRU has two biases a gate, of which one would do.
    second_biases = 3 * sum(budget.widths[4:]) if arch == "crnn" else 0
    assert count == budget.params + second_biases


@needs_torch
# Some of the ways have to be compiled.
@pytest.mark.timeout(900)
def test_against_torch():
    report = benchmark(
        BenchmarkConfig(
            "conv1d",
            10_000,
            batch=2,
            clip_seconds=3.0,
            rounds=2,
            turn_seconds=0.01,
            against="torch",
        )
    )
    turns = report["torch_first_turns"]
    as_written = {variant.name for variant in VARIANTS if not variant.compiled}
    measured = set(turns)
    failed = report["torch_failed"].keys()
    assert as_written <= measured | failed
    assert measured | failed <= {variant.name for variant in VARIANTS}
    assert not measured & failed
    # Compiled is what was the fastest of its kind as written.
    assert 1 <= len((measured | failed) - as_written) <= 4
    for what in ("step", "forward"):
        fastest, of_all = report[f"torch_float32_{what}"], report[f"torch_any_{what}"]
        assert {fastest, of_all} <= measured
        assert fastest.endswith("float32")
        assert of_all == min(measured, key=lambda name: turns[name][what])
        for name in ("float32", "any"):
            times = [
                report[f"torch_{name}_{what}_s{which}"] for which in ("_fastest", "", "_slowest")
            ]
            assert times == sorted(times)
            ratio = report[f"torch_{name}_{what}_ratio"]
            assert ratio == pytest.approx(times[1] / report[f"{what}_s"])
        if fastest == of_all:
            assert report[f"torch_any_{what}_s"] == report[f"torch_float32_{what}_s"]
    assert report["torch_peak_memory_bytes"] > 100e6
    assert all(math.isfinite(v) for v in report.values() if isinstance(v, float))


@needs_torch
@pytest.mark.parametrize("arch", ["conv1d", "conv2d", "crnn"])
@pytest.mark.parametrize("frames", [128, 188, 1366])
# What PyTorch's own padding costs.
@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")
def test_twins_pool_as_many_frames(arch, frames):
    """Also where ours is padded: the twin would else do less."""
    import torch

    from crnn_jax.bench.torch_twins import build

    widths = tuple(2 for _ in ARCHITECTURES[arch].base_widths)
    network = build_network(ModelConfig(arch, widths))

    def outputs_of_blocks(log_mel):
        _, variables = network.init_with_output(
            jax.random.key(0), log_mel, train=False, capture_intermediates=True
        )
        return variables["intermediates"]

    outputs = jax.eval_shape(outputs_of_blocks, jax.ShapeDtypeStruct((2, 96, frames), "float32"))
    blocks = sorted(name for name in outputs if name.startswith("ConvolutionBlock"))
    expected = [outputs[name]["__call__"][0].shape for name in blocks]
    twin = build(arch, widths, ARCHITECTURES[arch].padding.of(frames))
    found = []
    for block in twin.blocks:
        block.register_forward_hook(lambda *call: found.append(tuple(call[2].shape)))
    twin(torch.zeros(2, 96, frames))
    assert [(n, mel, time, maps) for n, maps, mel, time in found] == expected


@needs_torch
def test_an_architecture_without_a_twin(command):
    flags = ("--clip-seconds", 3, "--rounds", 1, "--turn-seconds", 0.01, "--against", "torch")
    code, _, err = command("benchmark", "--arch", "k2c1", "--target", 10_000, "--batch", 2, *flags)
    assert code == 2
    assert err == (
        "crnn-jax: --against torch: k2c1 has no PyTorch twin; give one of conv1d, conv2d, crnn, or "
        "leave this out\n"
    )
