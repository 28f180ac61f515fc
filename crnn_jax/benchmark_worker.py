"""One candidate of a benchmark, in a process of its own: requests and answers in lines of JSON."""

import ctypes
import functools
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import absl.logging
import numpy as np

# Of the float32 matrix product that the achieved rate is compared with.
MATMUL_SIZE = 3000
MATMUL_SECONDS = 1.0
# Steps over which the waiting for input is averaged.
INPUT_STEPS = 8


class JaxNetwork:
    """Ours, by the same compiled steps that training takes."""

    def __init__(self, setup: dict[str, Any]):
        import jax

        from crnn_jax import parallel
        from crnn_jax.config import ModelConfig, TrainConfig
        from crnn_jax.training import compile_steps

        self.config = TrainConfig(batch_size=setup["batch"], precision=setup["precision"])
        model = ModelConfig(setup["arch"], tuple(setup["widths"]), precision=setup["precision"])
        self.mesh = parallel.batch_mesh()
        self.frames = setup["frames"]
        self.compiled, self.state = compile_steps(model, self.config, 0, self.frames, self.mesh)
        self.batch = parallel.put_batch(self.mesh, _random_batch(setup))
        self.ready = {
            "compile_s": self.compiled.compile_s,
            "flops_per_sample": self.compiled.flops_per_sample,
            "device": jax.devices()[0].device_kind,
        }

    def step(self) -> None:
        self.train(self.batch)

    def train(self, batch: Any) -> None:
        """A training step on a batch, to its end."""
        import jax

        self.state, metrics = self.compiled.train(self.state, batch)
        jax.block_until_ready(metrics)

    def forward(self) -> None:
        import jax

        logits = self.compiled.evaluate(self.state.variables, self.batch["log_mel"])
        jax.block_until_ready(logits)

    def input_wait(self) -> float:
        """Seconds a step that training from disk waits for its batch."""
        from crnn_jax import parallel
        from crnn_jax.config import DataConfig, MelConfig
        from crnn_jax.datasets import prepare
        from crnn_jax.pipeline import training_batches

        mel = MelConfig()
        seconds = (self.frames - 1) * mel.hop_length / mel.sample_rate
        # Two epochs' worth, so that the reader has to go round.
        n_examples = (INPUT_STEPS * self.config.batch_size * 25) // (16 * 2) + 25
        with tempfile.TemporaryDirectory() as folder:
            data = prepare(
                DataConfig(
                    data_dir=folder, n_examples=n_examples, mel=MelConfig(clip_seconds=seconds)
                )
            )
            reader, _ = training_batches(data, self.config, 0)
            n_tags = self.batch["tags"].shape[1]
            waits = []
            for _ in range(INPUT_STEPS):
                start = time.perf_counter()
                batch = next(reader)
                # The synthetic set has other tags than the network timed.
                batch = {"log_mel": batch["log_mel"], "tags": _tags(self.config.batch_size, n_tags)}
                batch = parallel.put_batch(self.mesh, batch)
                waits.append(time.perf_counter() - start)
                self.train(batch)
            reader.close()
        # The first batch comes before there is anything to overlap with.
        return statistics.fmean(waits[1:])

    def matmul_rate(self) -> float:
        """GFLOP/s of a large float32 matrix product."""
        import jax
        import jax.numpy as jnp

        a = jnp.ones((MATMUL_SIZE, MATMUL_SIZE))
        product = jax.jit(jnp.matmul)
        jax.block_until_ready(product(a, a))  # compiles
        seconds = _seconds(lambda: jax.block_until_ready(product(a, a)), MATMUL_SECONDS)
        return 2 * MATMUL_SIZE**3 / statistics.median(seconds) / 1e9


class TorchNetwork:
    """The twin in PyTorch."""

    def __init__(self, setup: dict[str, Any], *, channels_last: bool):
        import torch

        from crnn_jax.torch_networks import Runner, build

        torch.manual_seed(0)
        self.runner = Runner(build(setup["arch"], setup["widths"], channels_last=channels_last))
        batch = _random_batch(setup)
        self.log_mel = torch.from_numpy(batch["log_mel"].astype(np.float32))
        self.tags = torch.from_numpy(batch["tags"].astype(np.float32))
        if setup["precision"] == "bfloat16":
            autocast = functools.partial(torch.autocast, "cpu", dtype=torch.bfloat16)
        else:
            autocast = functools.partial(torch.autocast, "cpu", enabled=False)
        self.autocast = autocast
        self.ready: dict[str, Any] = {}

    def step(self) -> None:
        with self.autocast():
            self.runner.train_step(self.log_mel, self.tags)

    def forward(self) -> None:
        with self.autocast():
            self.runner.forward(self.log_mel)


def _random_batch(setup: dict[str, Any]) -> dict[str, np.ndarray]:
    """A batch of noise at the level of log-mels."""
    rng = np.random.default_rng(0)
    log_mel = rng.normal(-30, 15, (setup["batch"], 96, setup["frames"])).astype(np.float16)
    return {"log_mel": log_mel, "tags": _tags(setup["batch"], 50)}


def _tags(batch: int, n_tags: int) -> np.ndarray:
    return (np.random.default_rng(1).random((batch, n_tags)) < 0.1).astype(np.uint8)


def _seconds(call: Callable[[], object], turn: float) -> list[float]:
    """Wall time of each of as many calls as it takes to fill a turn, one at least."""
    seconds: list[float] = []
    while sum(seconds) < turn:
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds


def build_network(setup: dict[str, Any]) -> JaxNetwork | TorchNetwork:
    """The candidate that the first request names."""
    if setup["candidate"] == "jax":
        return JaxNetwork(setup)
    return TorchNetwork(setup, channels_last=setup["candidate"] == "torch channels_last")


def answer(network: JaxNetwork | TorchNetwork, request: dict[str, Any]) -> dict[str, Any]:
    """Do what a request asks for."""
    match request["do"]:
        case "step" | "forward" as what:
            return {"seconds": _seconds(getattr(network, what), request["seconds"])}
        case "memory":
            return {"peak_memory_bytes": peak_memory()}
        case "matmul" if isinstance(network, JaxNetwork):
            return {"gflops": network.matmul_rate()}
        case "input" if isinstance(network, JaxNetwork):
            return {"input_wait_s": network.input_wait()}
    raise ValueError(f"no such request: {request}")


STATUS = Path("/proc/self/status")


def forget_peak_memory() -> None:
    """Begin the process's high-water mark anew (see proc(5)); only Linux can.

    What compilation has freed is given back to the system first: it is no part of a step.
    """
    if STATUS.exists():
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int:
    """The process's high-water mark, in bytes."""
    if STATUS.exists():
        (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    # Bytes on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    """Serve requests until standard input ends."""
    # Whatever a library prints must not get between the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    absl.logging.set_verbosity(absl.logging.ERROR)
    network = build_network(json.loads(sys.stdin.readline()))
    forget_peak_memory()
    # The first of each touches new memory, and makes PyTorch choose its kernels.
    network.step()
    network.forward()
    print(json.dumps(network.ready), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(network, json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
