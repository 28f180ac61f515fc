"""Batches: nothing lost, nothing twice, the same rows however many processes read."""

import dataclasses
import itertools

import numpy as np
import pytest

from crnn_jax.config import MelConfig, TrainConfig
from crnn_jax.errors import UserError
from crnn_jax.pipeline import evaluation_batches, frames_of, training_batches

CONFIG = TrainConfig(batch_size=10)


def take(data, config, seed, n, **processes):
    iterator, steps = training_batches(data, config, seed, **processes)
    return list(itertools.islice(iterator, n)), steps


def digest(rows):
    return [hash(row.tobytes()) for row in rows]


def test_an_epoch_has_every_example_at_most_once_and_its_own_order(small_set):
    batches, steps = take(small_set, CONFIG, 0, 8)
    assert steps == 4  # 48 examples, the last 8 left out
    epochs = [
        [d for batch in batches[start : start + 4] for d in digest(batch["log_mel"])]
        for start in (0, 4)
    ]
    stored = set(digest(example["log_mel"] for example in small_set.source("train")))
    for epoch in epochs:
        assert len(set(epoch)) == 40
        assert set(epoch) <= stored
    assert epochs[0] != epochs[1]


def test_order_is_the_seeds(small_set):
    first, again, other = (
        [digest(batch["log_mel"]) for batch in take(small_set, CONFIG, seed, 4)[0]]
        for seed in (3, 3, 4)
    )
    assert first == again
    assert first != other


def test_processes_together_read_what_one_would(small_set):
    whole, steps = take(small_set, CONFIG, 1, 8)
    shares = [take(small_set, CONFIG, 1, 8, process=p, n_processes=2) for p in range(2)]
    assert {share_steps for _, share_steps in shares} == {steps}
    for step, batch in enumerate(whole):
        parts = [share[step]["log_mel"] for share, _ in shares]
        np.testing.assert_array_equal(np.concatenate(parts), batch["log_mel"])


def test_reading_goes_on_from_a_state(small_set):
    iterator, _ = training_batches(small_set, CONFIG, 0)
    for _ in range(3):
        next(iterator)
    state = iterator.get_state()
    expected = [next(iterator)["tags"] for _ in range(3)]
    resumed, _ = training_batches(small_set, CONFIG, 0)
    resumed.set_state(state)
    for tags in expected:
        np.testing.assert_array_equal(next(resumed)["tags"], tags)


def test_evaluation_reads_all_in_order_and_the_short_last_batch(small_set):
    batches = list(evaluation_batches(small_set, "test", dataclasses.replace(CONFIG, batch_size=7)))
    assert [len(batch["tags"]) for batch in batches] == [7, 7, 4]
    stored = np.stack([example["log_mel"] for example in small_set.source("test")])
    np.testing.assert_array_equal(np.concatenate([b["log_mel"] for b in batches]), stored)


def test_clip_seconds_keeps_the_centre(small_set):
    config = dataclasses.replace(CONFIG, clip_seconds=2.5)
    batch = next(evaluation_batches(small_set, "test", config))
    frames = 1 + 30_000 // 256
    assert batch["log_mel"].shape == (10, 96, frames)
    whole = small_set.source("test")[0]["log_mel"]
    before = (whole.shape[1] - frames) // 2
    np.testing.assert_array_equal(batch["log_mel"][0], whole[:, before : before + frames])


def test_max_examples_takes_the_first(small_set):
    config = dataclasses.replace(CONFIG, max_examples=20)
    batches, steps = take(small_set, config, 0, 2)
    assert steps == 2
    first = [small_set.source("train")[i]["log_mel"] for i in range(20)]
    assert sorted(d for b in batches for d in digest(b["log_mel"])) == sorted(digest(first))


def test_a_batch_larger_than_the_split_is_refused(small_set):
    with pytest.raises(UserError, match="--batch-size 49.*48 examples"):
        training_batches(small_set, dataclasses.replace(CONFIG, batch_size=49), 0)


@pytest.mark.parametrize("seconds", [0.5, 29.5, -1.0])
def test_clip_seconds_outside_of_what_there_is_are_refused(seconds):
    with pytest.raises(UserError, match="--clip-seconds"):
        frames_of(MelConfig(), seconds)
    assert frames_of(MelConfig(), 29.12) == frames_of(MelConfig(), None) == 1366
