"""Which clips are made, on which side of the split."""

import collections
import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_jax.data.rendering.corpus import corpus_folder, read_abc, split_tunes
from crnn_jax.data.rendering.plan import (
    CLIP_SHARES,
    MOST_CLIPS,
    WORK_SHARES,
    arrange,
    clip_tags,
    list_tags,
    plan_clips,
    side_of,
)

SPLITS = ("train", "valid", "test", "unheard")


@pytest.fixture(scope="module")
def plan(corpus):
    return plan_clips(corpus, 4000, 0)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("n_clips", [400, 4000])
def test_no_work_is_on_two_sides(corpus, n_clips, seed):
    """Whether a work is all that it should be is tested below."""
    plan = plan_clips(corpus, n_clips, seed)
    sides = {
        split: {clip.composition.work for clip in clips}
        for split, clips in plan.items()
        if split != "unheard"
    }
    assert not sides["train"] & sides["valid"]
    assert not sides["train"] & sides["test"]
    assert not sides["valid"] & sides["test"]
    assert plan["unheard"] == plan["test"]


def test_no_tune_is_on_two_sides(plan):
    """No passage of thirty notes of a tune in the training split is in one of the test split.

    Independent of how works are found: the letters of the text alone, whatever their octave.
    """
    abc = [
        clip.composition.name
        for split in ("train", "test")
        for clip in plan[split]
        if "#" in clip.composition.name and clip.version == 0
    ]
    sides = {clip.composition.name: split for split in ("train", "test") for clip in plan[split]}
    having = collections.defaultdict(set)
    for name in abc:
        file, _, number = name.partition("#")
        tune = split_tunes(read_abc(corpus_folder() / file))[int(number)]
        body = re.split(r"^K:.*$", tune, maxsplit=1, flags=re.MULTILINE)[-1]
        letters = re.sub(r'"[^"]*"|[^A-Ga-g]', "", re.sub(r"(?m)^[A-Za-z]:.*$|%.*$", "", body))
        moves = [(ord(b.lower()) - ord(a.lower())) % 7 for a, b in itertools.pairwise(letters)]
        for start in range(len(moves) - 23):
            passage = tuple(moves[start : start + 24])
            if len(set(passage)) > 3:
                having[passage].add(name)
    shared = collections.Counter(
        pair
        for names in having.values()
        for pair in itertools.combinations(sorted(names), 2)
        if sides[pair[0]] != sides[pair[1]]
    )
    # Six successive passages of 25 notes are one of thirty.
    assert {pair: n for pair, n in shared.items() if n >= 6} == {}


def test_the_set_is_as_large_as_asked_for(plan):
    assert tuple(plan) == SPLITS
    for split, clips in plan.items():
        assert len(clips) == 4000 * CLIP_SHARES[split] // 100
        # None is there twice.
        assert len({(clip.composition.name, clip.version) for clip in clips}) == len(clips)
        assert max(clip.version for clip in clips) < MOST_CLIPS
    assert sum(CLIP_SHARES.values()) == sum(WORK_SHARES.values()) == 100


def test_no_repertoire_dominates(plan):
    for clips in plan.values():
        counts = collections.Counter(clip.composition.repertoire for clip in clips)
        assert len(counts) == 12
        # The 49 madrigals do not suffice for a twelfth; the others share what is left.
        assert max(counts.values()) < 0.11 * len(clips)


def test_clips_of_a_composition_follow_each_other(plan):
    names = [clip.composition.name for clip in plan["train"]]
    assert names == sorted(names)


def test_every_tag_can_be_learned_and_tested(corpus, plan):
    tags = list_tags(corpus, plan)
    assert len(tags) >= 30
    assert set(tags.values()) == {
        *("repertoire", "dance", "metre", "mode", "voices", "instrument", "tempo")
    }
    for split, fewest in (("train", 27), ("test", 4)):
        counts = collections.Counter(
            name for clip in plan[split] for name in clip_tags(clip, 0) & set(tags)
        )
        rare = {name: counts[name] for name in tags if counts[name] < fewest}
        assert not rare, split


def test_another_seed_plays_the_same_music_differently(corpus):
    clips = [plan_clips(corpus, 400, 0)["train"][0]] * 2
    assert arrange(clips[0], 0) == arrange(clips[1], 0)
    assert arrange(clips[0], 0) != arrange(clips[0], 1)


@settings(deadline=None)
@given(st.text(min_size=1), st.integers(0, 100))
def test_a_work_has_one_side(work, seed):
    assert side_of(work, seed) in WORK_SHARES


def test_works_have_their_shares():
    sides = collections.Counter(side_of(f"work {number}", 0) for number in range(20_000))
    for split, percent in WORK_SHARES.items():
        assert sides[split] / 200 == pytest.approx(percent, abs=1.5)
