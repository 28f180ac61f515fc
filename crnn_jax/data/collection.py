"""A collection before it is prepared: its tracks and their tags."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence


@dataclasses.dataclass(frozen=True, slots=True)
class Track:
    """A clip to be made: its name, its source, and its tags as column numbers."""

    track_id: str
    source: str
    tags: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Collection:
    """Everything that preparation needs to know about a collection.

    Attributes
    ----------
    tag_names, tag_categories
        Names of the columns, and their categories (genre, mood, instrument, era, …).
    splits
        The tracks of each split, in the order in which they are stored.
    """

    tag_names: tuple[str, ...]
    tag_categories: tuple[str, ...]
    splits: Mapping[str, Sequence[Track]]


def digest_of(collection: Collection) -> str:
    """Return a digest that distinguishes collections with different tracks, tags or splits."""
    digest = hashlib.sha256(repr(collection.tag_names).encode())
    for split, tracks in collection.splits.items():
        # The audio's location is not part of it: the files may be moved.
        digest.update(repr((split, [(track.track_id, track.tags) for track in tracks])).encode())
    return digest.hexdigest()[:12]
