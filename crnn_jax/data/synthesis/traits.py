"""The traits of a clip, and the tags that follow from them."""

import dataclasses
from typing import Literal

import numpy as np

Category = Literal["genre", "mood", "instrument", "era"]


@dataclasses.dataclass(frozen=True)
class Traits:
    """The choices that determine a clip's tags; every other property of it is a nuisance variable.

    `tempo`, `dynamics`, `contour` and `texture` are arcs (see `form.py`): they determine the order
    of events, the others determine which events occur.
    """

    genre: str
    mood: str
    lead: str
    chords: str
    rhythm: str
    era: str
    tempo: str
    dynamics: str
    contour: str
    texture: str


# Probability of each value of each trait. Frequencies fall off as for real tags: from about one
# clip in two (drums) to one in sixteen (voice). Clips with a value that has no tag have none of the
# trait's tags: an arch and a dip are neither a crescendo nor a decrescendo.
CHOICES: dict[str, dict[str, float]] = {
    "genre": {
        "house": 0.26,
        "breakbeat": 0.20,
        "blues": 0.18,
        "waltz": 0.16,
        "reggae": 0.12,
        "ambient": 0.08,
    },
    "mood": {"happy": 0.26, "calm": 0.20, "sad": 0.18, "tense": 0.12, "neutral": 0.24},
    "lead": {"synth lead": 0.30, "guitar": 0.26, "flute": 0.20, "bells": 0.18, "voice": 0.06},
    "chords": {"strings": 0.34, "electric piano": 0.26, "organ": 0.22, "soft pad": 0.18},
    "rhythm": {"drums": 0.48, "no drums": 0.52},
    "era": {"2000s": 0.30, "1970s": 0.22, "1980s": 0.14, "1920s": 0.10, "undated": 0.24},
    "tempo": {"rise": 0.26, "fall": 0.22, "arch": 0.26, "dip": 0.26},
    "dynamics": {"rise": 0.30, "fall": 0.26, "arch": 0.22, "dip": 0.22},
    "contour": {"rise": 0.30, "fall": 0.24, "arch": 0.23, "dip": 0.23},
    "texture": {"rise": 0.34, "fall": 0.22, "arch": 0.22, "dip": 0.22},
}


@dataclasses.dataclass(frozen=True)
class Tag:
    """One label.

    Attributes
    ----------
    name
        As it appears in tables and figures.
    category
        One of the four categories of Choi et al. (2017), table 1.
    decided_by, value
        A field of `Traits`, and the value for which the tag holds.
    temporal
        Whether only the order of events determines the tag: the same events in another order do
        not have it, and spectra averaged over time do not show it.
    """

    name: str
    category: Category
    decided_by: str
    value: str
    temporal: bool = False

    def holds(self, traits: Traits) -> bool:
        """Return whether a clip with these traits has the tag."""
        return bool(getattr(traits, self.decided_by) == self.value)


TAGS: tuple[Tag, ...] = (
    *(Tag(name, "genre", "genre", name) for name in CHOICES["genre"]),
    Tag("build-up", "genre", "texture", "rise", temporal=True),
    Tag("breakdown", "genre", "texture", "fall", temporal=True),
    *(Tag(name, "mood", "mood", name) for name in ("happy", "calm", "sad", "tense")),
    Tag("crescendo", "mood", "dynamics", "rise", temporal=True),
    Tag("decrescendo", "mood", "dynamics", "fall", temporal=True),
    Tag("accelerando", "mood", "tempo", "rise", temporal=True),
    Tag("ritardando", "mood", "tempo", "fall", temporal=True),
    Tag("rising melody", "mood", "contour", "rise", temporal=True),
    Tag("falling melody", "mood", "contour", "fall", temporal=True),
    Tag("drums", "instrument", "rhythm", "drums"),
    *(Tag(name, "instrument", "lead", name) for name in CHOICES["lead"]),
    *(Tag(name, "instrument", "chords", name) for name in ("strings", "electric piano", "organ")),
    *(Tag(name, "era", "era", name) for name in ("1920s", "1970s", "1980s", "2000s")),
)


def draw_traits(rng: np.random.Generator) -> Traits:
    """Draw the traits independently of each other, except that ambient music has no drums."""
    traits = {
        trait: str(rng.choice(list(chances), p=list(chances.values())))
        for trait, chances in CHOICES.items()
    }
    if traits["genre"] == "ambient":
        traits["rhythm"] = "no drums"
    return Traits(**traits)


def tags_of(traits: Traits) -> tuple[str, ...]:
    """Return the names of the tags that hold, in the order of `TAGS`."""
    return tuple(tag.name for tag in TAGS if tag.holds(traits))
