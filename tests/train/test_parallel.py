"""Compiled steps that are kept; which devices a process is given."""

import os
import subprocess
import sys

import pytest

from crnn_jax.config import ClusterConfig
from crnn_jax.errors import UserError
from tests.commands import Commands, finish, free_port


@pytest.mark.cluster
def test_what_is_compiled_is_kept_and_repaired(small_set, tmp_path):
    caches = tmp_path / "caches"
    commands = Commands(small_set.path, caches)

    def start(out):
        process = commands.start(tmp_path / out, "--epochs", 1, "--checkpoint-seconds", 600)
        code, said, err = finish(process)
        assert (code, err) == (0, ""), said
        return sorted(caches.rglob("*-cache"))

    entries = start("first")
    assert entries
    before = [(entry.stat().st_size, entry.stat().st_mtime_ns) for entry in entries]
    for number, entry in enumerate(entries):
        content = entry.read_bytes()
        # Whole; cut anywhere by a kill; or with nothing of it on the disk after a power cut.
        half = content[: number * len(content) // len(entries)]
        if number % 3:
            entry.write_bytes((half, bytes(99))[number % 2])
    # Whatever is compiled is kept, however short it took: there is nothing that was not there.
    assert start("second") == entries
    for number, (entry, (size, written)) in enumerate(zip(entries, before, strict=True)):
        if number % 3:
            assert abs(entry.stat().st_size - size) < 0.1 * size
        else:
            assert entry.stat().st_mtime_ns == written, "compiled again"


# What Slurm sets for the fourth task on a machine, of a job with one task: it waits for no other.
SLURM = {
    "SLURM_JOB_ID": "1",
    "SLURM_STEP_NODELIST": "localhost",
    "SLURM_NTASKS": "1",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "3",
}
JOIN = """
import jax, sys
from crnn_jax.config import ClusterConfig
from crnn_jax.train.parallel import join_processes

join_processes(ClusterConfig(**eval(sys.argv[1])))
print(jax.process_count(), jax.config.values["jax_cuda_visible_devices"])
"""


@pytest.mark.parametrize(
    ("ids", "environment", "devices"),
    [
        (None, {}, "all"),
        ((0, 1), {}, "0,1"),
        (None, SLURM, "3"),
        ((0, 1), SLURM, "0,1"),
    ],
)
def test_gpus_of_a_process(ids, environment, devices):
    """JAX's own choice, and ours in its place."""
    flags = {"distributed": True, "local_device_ids": ids}
    if not environment:
        flags |= {"coordinator_address": f"localhost:{free_port()}"}
        flags |= {"num_processes": 1, "process_id": 0}
    said = subprocess.run(
        [sys.executable, "-c", JOIN, repr(flags)],
        env={**os.environ, **environment, "JAX_COORDINATOR_PORT": str(free_port())},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.stdout == f"1 {devices}\n", said.stderr


@pytest.mark.parametrize(
    ("ids", "flags", "message"),
    [
        ((), {"distributed": True}, "local_device_ids: give numbers from 0, each once"),
        ((0, 0), {"distributed": True}, "local_device_ids 0 0: give numbers from 0, each once"),
        ((-1,), {"distributed": True}, "local_device_ids -1: give numbers from 0, each once"),
        ((2, 3), {}, "local_device_ids 2 3: only for one of several processes"),
    ],
)
def test_mistakes_in_the_gpus_of_a_process(ids, flags, message):
    with pytest.raises(UserError) as error:
        ClusterConfig(local_device_ids=ids, **flags)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
