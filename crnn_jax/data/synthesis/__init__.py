"""Music with tags, made from nothing: the data set that needs no download.

score (`composition`, in an order given by `form`) -> `instruments` -> `production`; what the clip
is to be is drawn beforehand (`traits`) and is what the tags name.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from crnn_jax.data.synthesis.composition import compose
from crnn_jax.data.synthesis.production import perform, record
from crnn_jax.data.synthesis.traits import TAGS, Tag, draw_traits, tags_of

__all__ = ["TAGS", "Clip", "Tag", "draw_tags", "render_clip"]


@dataclasses.dataclass(frozen=True)
class Clip:
    """A rendered clip.

    Attributes
    ----------
    audio
        Mono, float32, within [-1, 1].
    tags
        Names of the tags that hold, in the order of `TAGS`.
    """

    audio: Float[np.ndarray, "samples"]
    tags: tuple[str, ...]


def _generators(seed: int, index: int) -> list[np.random.Generator]:
    """Independent streams for the traits, the score, the performance and the record of a clip."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index,))).spawn(4)


def draw_tags(seed: int, index: int) -> tuple[str, ...]:
    """Names of the tags of a clip, in the order of `TAGS`, without making the clip."""
    return tags_of(draw_traits(_generators(seed, index)[0]))


def render_clip(seed: int, index: int, *, sample_rate: int, clip_samples: int) -> Clip:
    """Make one clip of the endless data set that a seed stands for.

    A clip depends on its arguments alone: not on other clips, nor on the process that makes it.
    Its tags, key and tempo depend on `seed` and `index` only; a longer clip has more bars, and its
    form is stretched. Samples are equal bit for bit on one kind of CPU with one NumPy and SciPy.

    Parameters
    ----------
    seed, index
        Of the data set and of the clip in it, both at least 0.
    sample_rate
        Hz, at least 8000.
    clip_samples
        Length, meant for clips of 4 s to 60 s.
    """
    traits_rng, score_rng, sound_rng, era_rng = _generators(seed, index)
    traits = draw_traits(traits_rng)
    score = compose(traits, clip_samples / sample_rate, score_rng)
    mix = perform(score, traits, sample_rate, clip_samples, sound_rng)
    return Clip(record(mix, traits.era, sample_rate, era_rng), tags_of(traits))
