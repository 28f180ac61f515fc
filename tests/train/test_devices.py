"""Eight devices and one give the same training curve."""

import jax
import pytest
from etils import epath

from crnn_jax.study.evaluation import evaluate, load_network
from tests.commands import CELL, finish, history, numbers

# Scores that are equal but for rounding may change places: one pair, of at least 8 of a tag, of at
# least 20 tags.
ONE_PAIR = 1 / 8 / 20

EIGHT = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}


def test_eight_devices_train_as_one(commands, tmp_path):
    """Initial values, dropout masks and batch statistics included: all of them move the loss."""
    runs = []
    for environment in ({}, EIGHT):
        out = tmp_path / str(len(runs))
        code, _, err = finish(
            commands.start(out, "--checkpoint-seconds", 600, environment=environment)
        )
        assert code == 0, err
        runs.append(out / CELL)
    one, eight = map(history, runs)
    assert len(one) == len(eight) == 3
    for alone, shared in zip(one, eight, strict=True):
        assert shared["loss"] == pytest.approx(alone["loss"], abs=1e-5)
        assert shared["valid_auc"] == pytest.approx(alone["valid_auc"], abs=ONE_PAIR)
    # This process has one device, and reads what eight have trained.
    (jax_device,) = jax.devices()
    network = load_network(epath.Path(runs[1]))
    for leaf in jax.tree.leaves(network.variables):
        assert leaf.devices() == {jax_device}
    scores = evaluate(network, "test", None)
    assert scores.auc == pytest.approx(numbers(runs[1])["test_auc"], abs=1e-5)


def test_a_batch_that_eight_devices_do_not_divide(commands, tmp_path):
    code, _, err = finish(commands.start(tmp_path, "--batch-size", 12, environment=EIGHT))
    assert (code, err) == (
        2,
        "crnn-jax: --batch-size 12: not a multiple of 8, the number of devices; give 8 or 16\n",
    )
    # The corrected command may have the folder.
    assert not (tmp_path / CELL).exists()
