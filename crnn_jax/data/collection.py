"""A collection before it is prepared: its tracks and their tags."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence

# Splits of every set, and a further test split that a set may have: the same kind of music as the
# test split's, but sounding like nothing in the training split.
SPLITS = ("train", "valid", "test")
UNHEARD = "unheard"
# File of a set that says which of its clips belong together.
TRACKS = "tracks.csv"


@dataclasses.dataclass(frozen=True, slots=True)
class Track:
    """A clip to be made.

    Attributes
    ----------
    track_id, source
        Its name, and what it is made from.
    tags
        Its tags as column numbers.
    position
        Where in a file the clip is, see `crnn_jax.audio.decode.read_clip`.
    group
        Name of what must be on one side of a split: a recording, a composition. Empty: the track
        is on its own.
    """

    track_id: str
    source: str
    tags: tuple[int, ...]
    group: str = ""
    position: float = 0.5


def cut(track: Track, n_clips: int) -> list[Track]:
    """Return the tracks of several clips of a file, evenly spread over it; of one, its centre."""
    if n_clips == 1:
        return [track]
    return [
        dataclasses.replace(
            track,
            track_id=f"{track.track_id}#{number}",
            group=track.group or track.track_id,
            position=(number + 0.5) / n_clips,
        )
        for number in range(n_clips)
    ]


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
