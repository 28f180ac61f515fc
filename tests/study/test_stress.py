"""Sweeps that are killed at random: every result there, none wrong, none made twice."""

import csv
import random
import subprocess

import pytest

from tests.commands import finish, kill, numbers, parameters

CELLS = [f"conv1d-4000-uniform-seed{seed}" for seed in range(3)]


def survive(commands, whole, out, kills, seed, longest_s):
    """Kill two processes that share a sweep, again and again, and look at all that they leave."""
    chance = random.Random(seed)
    first_seen = {}
    done = 0
    while done < kills:
        processes = [commands.start(out, seeds=len(CELLS)) for _ in range(2)]
        for process in processes:
            try:
                process.wait(chance.uniform(0, longest_s))
            except subprocess.TimeoutExpired:
                done += 1
            kill(process)
        for result in out.glob("*/result.json"):
            assert first_seen.setdefault(result, result.stat().st_mtime_ns) == (
                result.stat().st_mtime_ns
            ), "made twice"
        if len(first_seen) == len(CELLS):
            # The next sweep starts afresh.
            check(whole, out)
            out = out.with_name(f"{out.name}_")
            first_seen = {}
    assert finish(commands.start(out, seeds=len(CELLS)))[0] == 0
    check(whole, out)


def check(whole, out):
    for cell in CELLS:
        assert numbers(out / cell) == numbers(whole / cell)
        assert list(parameters(out / cell)) == list(parameters(whole / cell))
    assert not list(out.glob("*/failed.json"))
    with (out / "results.csv").open() as file:
        seeds = [row["seed"] for row in csv.DictReader(file)]
    assert len(seeds) == len(set(seeds))


@pytest.mark.stress
@pytest.mark.timeout(7200)
def test_many_kills(commands, swept_by_two, tmp_path):
    survive(commands, swept_by_two[0], tmp_path / "out", kills=200, seed=1, longest_s=20)
