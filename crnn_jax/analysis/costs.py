"""What a network costs: parameters, training operations, training time, training clips."""

import math
from collections.abc import Sequence

from crnn_jax.study.schema import RunResult

# What the networks of a study differ in, and how it is called.
COSTS = {
    "params": "parameters",
    "train_flops": "floating-point operations of training",
    "train_s": "training time in s",
}
# Of a training step on one device: not what a scaling law is a law of.
MEMORY = "peak_memory_bytes"
# What the runs of one network on parts of the data differ in.
CLIPS = "n_train"
NAMES = {**COSTS, MEMORY: "peak memory in bytes", CLIPS: "training clips"}


def cost_of(result: RunResult, cost: str) -> float:
    """Return what a run costs; `cost` is one of `NAMES`."""
    if cost == "train_flops":
        return result.flops_per_sample * result.samples_per_s * result.train_s
    return float(getattr(result, cost))


def mean_cost(results: Sequence[RunResult], cost: str) -> float:
    """Return the mean of what runs cost."""
    return math.fsum(cost_of(result, cost) for result in results) / len(results)
