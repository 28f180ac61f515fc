"""Which clips are made: of which compositions, how often, on which side of the split.

The plan is a function of the corpus, the number of clips and the seed.
"""

import collections
import dataclasses
import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from crnn_jax.data.collection import UNHEARD
from crnn_jax.data.rendering.arrangement import INSTRUMENTS, TEMPOS, Arrangement, draw_arrangement
from crnn_jax.data.rendering.corpus import Composition

# Percent of the works, and of the clips. The test split's clips are played a second time, with
# another sound-font, for the split `unheard`.
WORK_SHARES = {"train": 76, "valid": 10, "test": 14}
CLIP_SHARES = {"train": 68, "valid": 8, "test": 12, UNHEARD: 12}
# Clips of one composition; each has its own instruments, tempo and stretch.
MOST_CLIPS = 4
# A tag that fewer works, or a smaller part of the clips of a split, have is left out: it could not
# be learned and tested on different works.
FEWEST_WORKS, SMALLEST_PART = 40, 0.01
CATEGORIES = ("repertoire", "dance", "metre", "mode", "voices", "instrument", "tempo")


@dataclasses.dataclass(frozen=True)
class PlannedClip:
    """A clip of a composition; `version` distinguishes its clips, and how they are played."""

    composition: Composition
    version: int


def plan_clips(
    compositions: Sequence[Composition], n_clips: int, seed: int
) -> dict[str, list[PlannedClip]]:
    """Return the clips of each split, those of one composition next to each other.

    Every repertoire has the same number of clips, as far as its compositions suffice: the largest
    would otherwise be most of the set. A work is on one side of the split.
    """
    sides: dict[str, dict[str, list[Composition]]] = {split: {} for split in WORK_SHARES}
    for composition in _shuffled(compositions, seed):
        of_side = sides[side_of(composition.work, seed)]
        of_side.setdefault(composition.repertoire, []).append(composition)
    splits = {
        split: _deal(repertoires, n_clips * CLIP_SHARES[split] // 100)
        for split, repertoires in sides.items()
    }
    return {**splits, UNHEARD: splits["test"]}


def side_of(work: str, seed: int) -> str:
    """Return the split of a work, from its name and the seed alone."""
    percent = _hash(f"{seed} split {work}") % 100
    for split, share in WORK_SHARES.items():
        percent -= share
        if percent < 0:
            return split
    raise AssertionError("the shares add up to 100")


def _deal(repertoires: Mapping[str, Sequence[Composition]], n_clips: int) -> list[PlannedClip]:
    """Deal clips to the repertoires in turn, to their compositions in turn."""
    available = {
        name: MOST_CLIPS * len(compositions) for name, compositions in sorted(repertoires.items())
    }
    counts = dict.fromkeys(available, 0)
    for _ in range(min(n_clips, sum(available.values()))):
        with_more = [name for name, count in counts.items() if count < available[name]]
        counts[min(with_more, key=counts.__getitem__)] += 1
    clips = []
    for name, count in counts.items():
        of_repertoire = repertoires[name]
        for number in range(count):
            version, place = divmod(number, len(of_repertoire))
            clips.append(PlannedClip(of_repertoire[place], version))
    return sorted(clips, key=lambda clip: (clip.composition.name, clip.version))


def list_tags(
    compositions: Sequence[Composition], plan: Mapping[str, Sequence[PlannedClip]]
) -> dict[str, str]:
    """Return the tags and their categories: those of enough music, most works first in each."""
    works: dict[tuple[str, str], set[str]] = collections.defaultdict(set)
    for composition in compositions:
        for category, name in composition_tags(composition):
            works[category, name].add(composition.work)
    counts = {
        split: collections.Counter(
            tag for clip in plan[split] for tag in composition_tags(clip.composition)
        )
        for split in ("train", "test")
    }
    kept = [
        (tag, len(of_tag))
        for tag, of_tag in works.items()
        if len(of_tag) >= FEWEST_WORKS
        and all(counts[split][tag] >= SMALLEST_PART * len(plan[split]) for split in counts)
    ]
    kept.sort(key=lambda item: (CATEGORIES.index(item[0][0]), -item[1], item[0][1]))
    chosen = {instrument.name: "instrument" for instrument in INSTRUMENTS}
    return (
        {name: category for (category, name), _ in kept} | chosen | dict.fromkeys(TEMPOS, "tempo")
    )


def composition_tags(composition: Composition) -> Iterator[tuple[str, str]]:
    """Yield the category and name of each tag of a composition."""
    yield "repertoire", composition.repertoire
    if composition.dance:
        yield "dance", composition.dance
    if composition.metre:
        yield "metre", f"{composition.metre} time"
    if composition.mode:
        yield "mode", composition.mode
    yield "voices", "one voice" if composition.voices == 1 else f"{composition.voices} voices"


def clip_tags(clip: PlannedClip, seed: int) -> set[str]:
    """Return the names of all tags of a clip, also of those that the set leaves out."""
    arrangement = arrange(clip, seed)
    names = {name for _, name in composition_tags(clip.composition)}
    return names | {part.name for part in arrangement.instruments} | {arrangement.tempo}


def arrange(clip: PlannedClip, seed: int) -> Arrangement:
    """Draw how a clip is played; the same whatever else is in the set."""
    return draw_arrangement(
        clip.composition.metre,
        clip.composition.voices,
        np.random.default_rng([seed, _hash(clip.composition.name), clip.version]),
    )


def _shuffled(compositions: Sequence[Composition], seed: int) -> list[Composition]:
    return sorted(compositions, key=lambda composition: _hash(f"{seed} {composition.name}"))


@functools.cache
def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
