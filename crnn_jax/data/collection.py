"""A collection before it is prepared: its tracks, and what they are tagged with."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence


@dataclasses.dataclass(frozen=True, slots=True)
class Track:
    """One clip to be: its name, where it comes from, and its tags as column numbers."""

    track_id: str
    source: str
    tags: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Collection:
    """All that preparation must know of a collection.

    Attributes
    ----------
    tag_names, tag_categories
        The columns, and what each is about (genre, mood, instrument, era, …).
    splits
        Tracks of each split, in the order in which they are stored.
    """

    tag_names: tuple[str, ...]
    tag_categories: tuple[str, ...]
    splits: Mapping[str, Sequence[Track]]


def digest_of(collection: Collection) -> str:
    """Tells collections apart that have other tracks, tags or splits."""
    digest = hashlib.sha256(repr(collection.tag_names).encode())
    for split, tracks in collection.splits.items():
        # The audio's place is not part of it: it may be moved.
        digest.update(repr((split, [(track.track_id, track.tags) for track in tracks])).encode())
    return digest.hexdigest()[:12]
