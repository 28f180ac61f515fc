"""Cross-validation: a prepared set whose splits are divided anew.

All clips of the set, whatever split they are stored in, are divided into parts. A part is the test
split of one fold, the next part its validation split, and the others are its training split.
"""

import bisect
import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from crnn_jax.data.collection import SPLITS
from crnn_jax.data.prepared import PreparedSet
from crnn_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Clips:
    """The clips of a set, in stored order: split by split.

    Attributes
    ----------
    tags
        Of each clip.
    groups
        Name of what must be on one side of a split: a recording, a composition.
    """

    tags: UInt8[np.ndarray, "clips tags"]
    groups: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Joined(Sequence[dict[str, Any]]):
    """Examples of several splits, by their places in all of them together."""

    sources: tuple[Sequence[dict[str, Any]], ...]
    starts: tuple[int, ...]
    places: Int[np.ndarray, "clips"]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> dict[str, Any]:  # type: ignore[override]
        place = int(self.places[number])
        split = bisect.bisect_right(self.starts, place) - 1
        return self.sources[split][place - self.starts[split]]


@dataclasses.dataclass(frozen=True)
class Fold(PreparedSet):
    """One fold of a prepared set.

    Attributes
    ----------
    whole
        The set.
    places
        Places of each split's clips among all clips of the set.
    """

    whole: PreparedSet
    places: dict[str, Int[np.ndarray, "clips"]]

    def source(self, split: str) -> Any:
        if split not in self._joined:
            if split not in self.n_examples:
                raise UserError(f"split `{split}`: a fold has {', '.join(self.n_examples)}")
            sizes = [self.whole.n_examples[name] for name in SPLITS]
            self._joined[split] = Joined(
                tuple(self.whole.source(name) for name in SPLITS),
                tuple(itertools.accumulate(sizes[:-1], initial=0)),
                self.places[split],
            )
        return self._joined[split]

    @functools.cached_property
    def _joined(self) -> dict[str, Joined]:
        return {}


def make_fold(data: PreparedSet, fold: int, folds: int) -> Fold:
    """Return one fold of a set, of which every clip is in the test split of exactly one fold.

    Raises
    ------
    UserError
        If the set has fewer groups of clips than folds.
    """
    clips = data.keep(read_clips, lambda: read_clips(data))
    parts = data.keep((divide, folds), lambda: divide(clips, folds, data.path))
    valid = (fold + 1) % folds
    places = {
        "train": np.flatnonzero((parts != fold) & (parts != valid)),
        "valid": np.flatnonzero(parts == valid),
        "test": np.flatnonzero(parts == fold),
    }
    of_set = {field.name: getattr(data, field.name) for field in dataclasses.fields(PreparedSet)}
    of_set["n_examples"] = {split: len(of_split) for split, of_split in places.items()}
    of_set["tag_counts"] = {
        split: tuple(clips.tags[of_split].sum(axis=0, dtype=int).tolist())
        for split, of_split in places.items()
    }
    return Fold(**of_set, whole=data, places=places)


def read_clips(data: PreparedSet) -> Clips:
    """Read tags and group of every clip of a set."""
    tags, track_ids = [], []
    for split in SPLITS:
        source = data.source(split)
        for place in range(len(source)):
            example = source[place]
            tags.append(np.array(example["tags"]))
            track_ids.append(example["track_id"])
    return Clips(np.stack(tags), tuple(data.name_groups(track_ids)))


def divide(clips: Clips, folds: int, name: str = "the set") -> Int[np.ndarray, "clips"]:
    """Divide the clips into parts, groups together, tags evenly; return each clip's part.

    The rarest tag that still has groups is dealt first, each group to the part that lacks most of
    this tag; of equals, to the one with the fewest clips (after Sechidis, Tsoumakas & Vlahavas, *On
    the stratification of multi-label data*, 2011). The result depends on the clips alone.

    Raises
    ------
    UserError
        If there are fewer groups than parts.
    """
    order = sorted(set(clips.groups), key=lambda group: hashlib.sha256(group.encode()).digest())
    if len(order) < folds:
        raise UserError(
            f"{name} has {len(order)} groups of clips that belong together; give at most that",
            field="folds",
            value=folds,
        )
    number = {group: place for place, group in enumerate(order)}
    of_clip = np.array([number[group] for group in clips.groups])
    sizes = np.bincount(of_clip, minlength=len(order))
    tags = np.zeros((len(order), clips.tags.shape[1]), int)
    np.add.at(tags, of_clip, clips.tags)

    part = np.full(len(order), -1)
    counts = np.zeros((folds, tags.shape[1]), int)
    clips_of_part = np.zeros(folds, int)
    while (waiting := part < 0).any():
        left = tags[waiting].sum(axis=0)
        tag = int(np.argmin(np.where(left > 0, left, np.iinfo(int).max)))
        # Groups without any tag are dealt last.
        tagged = bool(left.any())
        for group in np.flatnonzero(waiting & (tags[:, tag] > 0) if tagged else waiting):
            there = counts[:, tag] if tagged else clips_of_part
            lacking = np.lexsort((clips_of_part, there))[0]
            part[group] = lacking
            counts[lacking] += tags[group]
            clips_of_part[lacking] += sizes[group]
    return part[of_clip]
