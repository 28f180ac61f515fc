"""Synthesised music with tags: the data set that needs no download.

score (`composition`, in an order given by `form`) -> `instruments` -> `production`; the traits of a
clip are drawn first (`traits`), and the tags name them.
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
    """Return independent generators for a clip's traits, score, performance and recording."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index,))).spawn(4)


def draw_tags(seed: int, index: int) -> tuple[str, ...]:
    """Return the names of a clip's tags, in the order of `TAGS`, without rendering it."""
    return tags_of(draw_traits(_generators(seed, index)[0]))


def render_clip(seed: int, index: int, *, sample_rate: int, clip_samples: int) -> Clip:
    """Render one clip of the infinite data set that a seed defines.

    A clip depends only on the arguments: not on other clips, nor on the process that makes it. Its
    tags, key and tempo depend only on `seed` and `index`; a longer clip has more bars, and its form
    is stretched. Samples are bit-identical for the same kind of CPU and the same versions of NumPy
    and SciPy.

    Parameters
    ----------
    seed, index
        Seed of the data set and index of the clip in it, both at least 0.
    sample_rate
        Hz, at least 8000.
    clip_samples
        Length; intended for clips of 4 s to 60 s.
    """
    traits_rng, score_rng, sound_rng, era_rng = _generators(seed, index)
    traits = draw_traits(traits_rng)
    score = compose(traits, clip_samples / sample_rate, score_rng)
    mix = perform(score, traits, sample_rate, clip_samples, sound_rng)
    return Clip(record(mix, traits.era, sample_rate, era_rng), tags_of(traits))
