"""Candidates of a benchmark: each in a process of its own, and they take turns.

PyTorch has many ways to compute the same network: as written or compiled (`torch.compile`), in two
memory layouts, in two precisions. Which is the fastest depends on the network and the processor,
so they are tried for a turn, and the fastest of each kind race against ours.
"""

import contextlib
import dataclasses
import itertools
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from crnn_jax.config import Precision
from crnn_jax.errors import UserError

WHAT = ("step", "forward")


@dataclasses.dataclass(frozen=True)
class TorchVariant:
    """A way for PyTorch to compute the network."""

    compiled: bool
    channels_last: bool
    precision: Precision

    @property
    def name(self) -> str:
        """A name such as ``compiled, channels_last, float32``."""
        how = "compiled" if self.compiled else "eager"
        layout = "channels_last" if self.channels_last else "contiguous"
        return f"{how}, {layout}, {self.precision}"


VARIANTS = tuple(
    itertools.starmap(
        TorchVariant, itertools.product((False, True), (False, True), ("float32", "bfloat16"))
    )
)


class Contestant:
    """A candidate's process (`crnn_jax.bench.worker`); requests and answers are lines of JSON.

    Parameters
    ----------
    library
        ``jax`` or ``torch``.
    environment
        Environment variables of the process, in addition to this one's.

    Attributes
    ----------
    devices
        What its library can compute on.
    """

    def __init__(self, library: str, environment: Mapping[str, str] | None = None):
        self._process = subprocess.Popen(
            # PyTorch warns at every start of the copy that SAME padding with four taps costs it.
            [
                *(sys.executable, "-W", "ignore::UserWarning", "-m", "crnn_jax.bench.worker"),
                library,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {}), "XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
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

    def seconds(self, what: str, turn_seconds: float) -> list[float]:
        """Give it a turn, and return the wall time of each step or prediction, in s."""
        seconds: list[float] = self.ask({"do": what, "seconds": turn_seconds})["seconds"]
        return seconds

    def peak_memory(self) -> int | None:
        """Return its peak so far, in bytes; None if its device does not report it."""
        peak: int | None = self.ask({"do": "memory"})["peak_memory_bytes"]
        return peak

    def close(self) -> int:
        """End the process and return its exit code."""
        self._process.communicate()
        return self._process.returncode


@dataclasses.dataclass
class Finalist:
    """A variant that was the fastest of its kind when each had a turn.

    Attributes
    ----------
    variant
        The variant.
    contestant
        Its process.
    first
        Median time of its first turn by what was timed, in s.
    peak_memory_bytes
        Its peak when only training steps have run, in bytes.
    """

    variant: TorchVariant
    contestant: Contestant
    first: dict[str, float]
    peak_memory_bytes: int | None


# The kinds: the fastest float32, and the fastest of all.
KINDS: dict[str, Callable[[TorchVariant], bool]] = {
    "float32": lambda variant: variant.precision == "float32",
    "any": lambda variant: True,
}


@dataclasses.dataclass
class Qualification:
    """Outcome of the first turns.

    Attributes
    ----------
    finalists
        The fastest variant by what was timed and kind, such as ``("step", "float32")``.
    first_turns
        Median times of every variant that had a turn, in s, by its name and what was timed.
    failed
        Why a variant could not be measured, by its name.
    """

    finalists: dict[tuple[str, str], Finalist] = dataclasses.field(default_factory=dict)
    first_turns: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    failed: dict[str, str] = dataclasses.field(default_factory=dict)


@contextlib.contextmanager
def qualify(setup: Mapping[str, Any], turn_seconds: float) -> Iterator[Qualification]:
    """Give PyTorch's variants a turn, and keep the processes of the fastest until exit.

    Compilation takes one to several minutes on a CPU: of the four combinations of layout and
    precision, those are compiled that were the fastest of their kind as written.

    One process runs at a time, so that a machine has to have memory for the finalists only.
    """
    outcome = Qualification()
    opened: list[Contestant] = []
    try:
        for variant in (variant for variant in VARIANTS if not variant.compiled):
            _take_turn(outcome, opened, variant, setup, turn_seconds)
        fastest = dict.fromkeys(leader.variant for leader in outcome.finalists.values())
        for variant in fastest:
            compiled = dataclasses.replace(variant, compiled=True)
            _take_turn(outcome, opened, compiled, setup, turn_seconds)
        yield outcome
    finally:
        for contestant in opened:
            contestant.close()


def _take_turn(
    outcome: Qualification,
    opened: list[Contestant],
    variant: TorchVariant,
    setup: Mapping[str, Any],
    turn_seconds: float,
) -> None:
    """Measure a variant, and end the processes that are no longer the fastest of any kind."""
    contestant = Contestant("torch")
    opened.append(contestant)
    ready = contestant.ask({**setup, **dataclasses.asdict(variant)})
    if "failed" in ready:
        outcome.failed[variant.name] = ready["failed"]
    else:
        first = {"step": statistics.median(contestant.seconds("step", turn_seconds))}
        peak = contestant.peak_memory()
        first["forward"] = statistics.median(contestant.seconds("forward", turn_seconds))
        outcome.first_turns[variant.name] = first
        finalist = Finalist(variant, contestant, first, peak)
        for what, (kind, belongs) in itertools.product(WHAT, KINDS.items()):
            leader = outcome.finalists.get((what, kind))
            if belongs(variant) and (leader is None or first[what] < leader.first[what]):
                outcome.finalists[what, kind] = finalist
    running = [leader.contestant for leader in outcome.finalists.values()]
    for other in [other for other in opened if other not in running]:
        opened.remove(other)
        other.close()


def race(
    contestants: Sequence[Contestant], what: str, rounds: int, turn_seconds: float
) -> list[list[float]]:
    """Let contestants take turns, A B A B; return each one's times, in s."""
    times: list[list[float]] = [[] for _ in contestants]
    for _ in range(rounds):
        for own, contestant in zip(times, contestants, strict=True):
            own += contestant.seconds(what, turn_seconds)
    return times
