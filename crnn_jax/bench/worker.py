"""One candidate of a benchmark, in a process of its own: requests and answers in lines of JSON.

    python -m crnn_jax.bench.worker CANDIDATE

It reports what its library can compute on, reads what to build, reports when that is ready, and
then answers requests.
"""

import contextlib
import ctypes
import functools
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import absl.logging
import numpy as np

from crnn_jax.errors import UserError

# Size of the float32 matrix product that the achieved rate is compared with; large enough on an
# accelerator to hide the cost of the call.
MATMUL_SIZE_CPU, MATMUL_SIZE_ACCELERATOR = 3000, 8192
MATMUL_SECONDS = 1.0
# Steps over which the wait for input is averaged.
INPUT_STEPS = 8


class JaxNetwork:
    """The JAX network, with the same compiled steps as in training."""

    @staticmethod
    def devices() -> dict[str, Any]:
        """Return what JAX computes on."""
        from crnn_jax.train.devices import find_devices, use_cores

        use_cores()
        devices = find_devices()
        first = devices[0]
        return {"platform": first.platform, "kind": first.device_kind, "count": len(devices)}

    def __init__(self, setup: dict[str, Any]):
        from crnn_jax.config import ModelConfig, TrainConfig
        from crnn_jax.train import parallel
        from crnn_jax.train.compile import compile_steps
        from crnn_jax.train.devices import batch_mesh

        self.config = TrainConfig(batch_size=setup["batch"])
        model = ModelConfig(setup["arch"], tuple(setup["widths"]), precision=setup["precision"])
        self.mesh = batch_mesh(setup["batch"], setup["devices"], field="batch")
        self.frames = setup["frames"]
        self.compiled, self.state = compile_steps(model, self.config, 0, self.frames, self.mesh)
        self.batch = parallel.put_batch(self.mesh, _random_batch(setup))
        self.ready = {
            "n_devices": self.mesh.size,
            "compile_s": self.compiled.compile_s,
            "flops_per_sample": self.compiled.flops_per_sample,
        }

    def step(self) -> None:
        self.train(self.batch)

    def train(self, batch: Any) -> None:
        """Run a training step on a batch and wait for its end."""
        import jax

        self.state, metrics = self.compiled.train(self.state, batch)
        jax.block_until_ready(metrics)

    def forward(self) -> None:
        import jax

        logits = self.compiled.evaluate(self.state.variables, self.batch["log_mel"])
        jax.block_until_ready(logits)

    def input_wait(self) -> float:
        """Measure how long a step waits for its batch when training from disk, in s."""
        from crnn_jax.config import DataConfig, MelConfig
        from crnn_jax.data.batches import training_batches
        from crnn_jax.data.prepared import prepare
        from crnn_jax.train import parallel

        mel = MelConfig()
        seconds = (self.frames - 1) * mel.hop_length / mel.sample_rate
        # The steps span two epochs, so that the reader has to start over.
        n_examples = (INPUT_STEPS * self.config.batch_size * 25) // (16 * 2) + 25
        with tempfile.TemporaryDirectory() as folder:
            data = prepare(
                DataConfig(
                    data_dir=folder, n_examples=n_examples, mel=MelConfig(clip_seconds=seconds)
                )
            )
            n_tags = self.batch["tags"].shape[1]
            waits = []
            with contextlib.closing(training_batches(data, self.config, 0)) as reader:
                for _ in range(INPUT_STEPS):
                    start = time.perf_counter()
                    log_mel = next(reader)["log_mel"]
                    # The tags of the synthetic set are not those of the timed network.
                    tags = _tags(self.config.batch_size, n_tags)
                    batch = parallel.put_batch(self.mesh, {"log_mel": log_mel, "tags": tags})
                    waits.append(time.perf_counter() - start)
                    self.train(batch)
        # The first batch has no computation to overlap with.
        return statistics.fmean(waits[1:])

    def peak_memory(self) -> int | None:
        """Return the peak, in bytes: of the process on a CPU, else the largest of the devices."""
        import jax

        if self.mesh.devices.flat[0].platform == "cpu":
            return peak_memory()
        stats = [device.memory_stats() for device in jax.local_devices()]
        return max(
            (of_device["peak_bytes_in_use"] for of_device in stats if of_device), default=None
        )

    def matmul_rate(self) -> float:
        """Measure the rate of a large float32 matrix product, in GFLOP/s."""
        import jax
        import jax.numpy as jnp

        on_cpu = jax.devices()[0].platform == "cpu"
        size = MATMUL_SIZE_CPU if on_cpu else MATMUL_SIZE_ACCELERATOR
        a = jnp.ones((size, size))
        product = jax.jit(jnp.matmul)
        jax.block_until_ready(product(a, a))  # compiles
        seconds = _seconds(lambda: jax.block_until_ready(product(a, a)), MATMUL_SECONDS)
        return 2 * size**3 / statistics.median(seconds) / 1e9


class TorchNetwork:
    """The PyTorch twin, on the device that JAX runs on."""

    @staticmethod
    def devices() -> dict[str, Any]:
        """Return whether PyTorch has a GPU."""
        import torch

        return {"has_gpu": torch.cuda.is_available()}

    def __init__(self, setup: dict[str, Any]):
        import torch

        from crnn_jax.bench.torch_twins import Runner, build

        torch.manual_seed(0)
        device = setup["device"]
        self.on_gpu = device == "cuda"
        network = build(
            setup["arch"],
            setup["widths"],
            setup["padding"],
            channels_last=setup["channels_last"],
            device=device,
        )
        # One program for each of the two shapes of use: no dimension is left open.
        self.runner = Runner(
            torch.compile(network, dynamic=False) if setup["compiled"] else network
        )
        batch = _random_batch(setup)
        self.log_mel = torch.from_numpy(batch["log_mel"].astype(np.float32)).to(device)
        self.tags = torch.from_numpy(batch["tags"].astype(np.float32)).to(device)
        if setup["precision"] == "bfloat16":
            autocast = functools.partial(torch.autocast, device, dtype=torch.bfloat16)
        else:
            autocast = functools.partial(torch.autocast, device, enabled=False)
        self.autocast = autocast
        self.ready: dict[str, Any] = {}
        if self.on_gpu:
            # As in JAX: float32 in all products, and the fastest kernel for each convolution.
            torch.set_float32_matmul_precision("highest")
            torch.backends.cudnn.allow_tf32 = False
            torch.backends.cudnn.benchmark = True
            # The kernels are chosen here. The memory of their trials is not part of a step's.
            self.step()
            self.forward()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def step(self) -> None:
        with self.autocast():
            self.runner.train_step(self.log_mel, self.tags)
        self.wait()

    def forward(self) -> None:
        with self.autocast():
            self.runner.forward(self.log_mel)
        self.wait()

    def wait(self) -> None:
        """Wait for the GPU to finish: PyTorch's calls return before that."""
        import torch

        if self.on_gpu:
            torch.cuda.synchronize()

    def peak_memory(self) -> int:
        """Return the peak, in bytes: of the process on a CPU, else of its tensors on the GPU."""
        import torch

        return torch.cuda.max_memory_allocated() if self.on_gpu else peak_memory()


def _random_batch(setup: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return a batch of noise at the level of log-mels."""
    rng = np.random.default_rng(0)
    log_mel = rng.normal(-30, 15, (setup["batch"], 96, setup["frames"])).astype(np.float16)
    return {"log_mel": log_mel, "tags": _tags(setup["batch"], 50)}


def _tags(batch: int, n_tags: int) -> np.ndarray:
    return (np.random.default_rng(1).random((batch, n_tags)) < 0.1).astype(np.uint8)


def _seconds(call: Callable[[], object], turn: float) -> list[float]:
    """Call until a turn is filled, at least once; return the wall time of each call, in s."""
    seconds: list[float] = []
    while sum(seconds) < turn:
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds


def answer(network: JaxNetwork | TorchNetwork, request: dict[str, Any]) -> dict[str, Any]:
    """Answer a request."""
    match request["do"]:
        case "step" | "forward" as what:
            return {"seconds": _seconds(getattr(network, what), request["seconds"])}
        case "memory":
            return {"peak_memory_bytes": network.peak_memory()}
        case "matmul" if isinstance(network, JaxNetwork):
            return {"gflops": network.matmul_rate()}
        case "input" if isinstance(network, JaxNetwork):
            return {"input_wait_s": network.input_wait()}
    raise ValueError(f"no such request: {request}")


STATUS = Path("/proc/self/status")


def forget_peak_memory() -> None:
    """Reset the process's high-water mark (see proc(5)); only possible on Linux.

    Memory freed by compilation is first returned to the system: it is not part of a step.
    """
    if STATUS.exists():
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int:
    """Return the process's high-water mark, in bytes."""
    if STATUS.exists():
        (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    # Bytes on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


# Messages of XLA, of PyTorch on a GPU and on a CPU; they share no exception class.
OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "out of memory", "can't allocate memory")


def torch_lacks(setup: dict[str, Any]) -> str | None:
    """Say why PyTorch cannot compute in a precision here, or return None.

    On a CPU without bfloat16 instructions it converts number by number: a step of a large network
    takes minutes.
    """
    import torch

    if setup["precision"] != "bfloat16" or setup["device"] != "cpu":
        return None
    supported = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return None if supported else "oneDNN has no bfloat16 on this processor"


def torch_compilation_errors() -> tuple[type[Exception], ...]:
    """Return what PyTorch raises where it cannot compile, such as without a C++ compiler."""
    from torch._dynamo.exc import BackendCompilerFailed, TorchDynamoException
    from torch._inductor.exc import InductorError

    return BackendCompilerFailed, TorchDynamoException, InductorError


def answers(library: str) -> Iterator[dict[str, Any]]:
    """Yield the devices before any request, then an answer to each; the first is what to build."""
    kind = JaxNetwork if library == "jax" else TorchNetwork
    yield kind.devices()
    requests = map(json.loads, sys.stdin)
    if (setup := next(requests, None)) is None:
        return
    try:
        network: JaxNetwork | TorchNetwork
        if library == "jax":
            network = JaxNetwork(setup)
            # The first call of each touches new memory.
            network.step()
            network.forward()
        else:
            if reason := torch_lacks(setup):
                yield {"failed": reason}
                return
            network = TorchNetwork(setup)
            try:
                # PyTorch compiles, and chooses its kernels.
                network.step()
                network.forward()
            except torch_compilation_errors() as error:
                yield {"failed": str(error).strip().partition("\n")[0]}
                return
        forget_peak_memory()
        network.step()
        yield network.ready
        for request in requests:
            yield answer(network, request)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY):
            raise UserError(
                "out of memory; give a smaller one, or a shorter --clip-seconds",
                field="batch",
                value=setup["batch"],
            ) from error
        raise


def main() -> None:
    """Serve requests until standard input ends."""
    # Output of libraries must not mix with the answers.
    out, sys.stdout = sys.stdout, sys.stderr
    absl.logging.set_verbosity(absl.logging.ERROR)
    try:
        for said in answers(sys.argv[1]):
            print(json.dumps(said), file=out, flush=True)
    except UserError as error:
        answer = {"user_error": [error.problem, error.field, error.value]}
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    main()
