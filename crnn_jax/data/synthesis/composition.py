"""The score of a clip: its notes, their onsets and their durations.

A genre is a rhythm and a chord progression. The rhythm is written in drum-machine notation: one
character is one step, ``x`` begins a note, ``-`` holds it, ``.`` is silence. A mood is a scale, a
tempo, a register and an articulation.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int, Shaped

from crnn_jax.data.synthesis.form import is_dense, semitones_above, times_of
from crnn_jax.data.synthesis.traits import Traits


@dataclasses.dataclass(frozen=True)
class Genre:
    """One bar of rhythm for each voice, and the scale degrees that the chords are built on."""

    beats: int
    lead: str
    chords: str
    bass: str
    drums: dict[str, str]
    progression: tuple[int, ...]
    chord_degrees: tuple[int, ...] = (0, 2, 4)


GENRES: dict[str, Genre] = {
    "house": Genre(  # four on the floor: kick on every beat, bass and hi-hat between them
        beats=4,
        lead="x-x-x-x-x-x-x-x-",
        chords="x-.x-.x-.x-.x-..",
        bass="..x...x...x...x.",
        drums={
            "kick": "x...x...x...x...",
            "snare": "....x.......x...",
            "hat": "..x...x...x...x.",
        },
        progression=(0, 4, 5, 3),
    ),
    "breakbeat": Genre(  # syncopated kick and snare under a running hi-hat, held chords
        beats=4,
        lead="x-xxx-x-xxx-x-xx",
        chords="x---------x-----",
        bass="x-xx..x-..x-x-..",
        drums={
            "kick": "x.x.......xx....",
            "snare": "....x..x.x..x..x",
            "hat": "xxxxxxxxxxxxxxxx",
        },
        progression=(0, 5),
    ),
    "blues": Genre(  # shuffle (three steps a beat), walking bass, sevenths, the twelve-bar form
        beats=4,
        lead="x-xx-xx-xx-x",
        chords="x-.x-xx-.x-x",
        bass="x--x--x--x--",
        drums={"kick": "x.....x.....", "snare": "...x.....x..", "hat": "x.xx.xx.xx.x"},
        progression=(0, 0, 0, 0, 3, 3, 0, 0, 4, 3, 0, 4),
        chord_degrees=(0, 2, 4, 6),
    ),
    "waltz": Genre(  # three beats: bass on the first, chords on the second and third
        beats=3,
        lead="x-x-x-x-x-x-",
        chords="....x-..x-..",
        bass="x---........",
        drums={"kick": "x...........", "snare": "....x...x...", "hat": "....x...x..."},
        progression=(0, 3, 4, 0),
    ),
    "reggae": Genre(  # one drop: short chords off the beat, kick and snare on the third beat
        beats=4,
        lead="x-x-x-x-x-x-x-x-",
        chords="..x...x...x...x.",
        bass="x---..x-x---....",
        drums={
            "kick": "........x.......",
            "snare": "........x.......",
            "hat": "x.x.x.x.x.x.x.x.",
        },
        progression=(0, 3),
    ),
    "ambient": Genre(  # a drone, open chords without a third, few long notes
        beats=4,
        lead="x---x---x---x---",
        chords="x---------------",
        bass="x---------------",
        drums={},
        progression=(0,),
        chord_degrees=(0, 1, 4),
    ),
}


@dataclasses.dataclass(frozen=True)
class Mood:
    """How a mood is played, based on the cues listed by Juslin & Laukka (2003).

    Attributes
    ----------
    scale
        Semitones above the tonic.
    beats_per_minute
        Range of the clip's mean tempo.
    register
        Semitones by which the melody and the chords are transposed.
    articulation
        Fraction of a note's written length during which it sounds.
    brightness_db
        Gain of the high frequencies.
    """

    scale: tuple[int, ...]
    beats_per_minute: tuple[float, float]
    register: int
    articulation: float
    brightness_db: float


MAJOR = (0, 2, 4, 5, 7, 9, 11)
MINOR = (0, 2, 3, 5, 7, 8, 10)
DORIAN = (0, 2, 3, 5, 7, 9, 10)
LOCRIAN = (0, 1, 3, 5, 6, 8, 10)  # its chord on the tonic is diminished

MOODS: dict[str, Mood] = {
    "happy": Mood(MAJOR, (124.0, 144.0), +5, 0.55, +3.0),
    "calm": Mood(MAJOR, (80.0, 94.0), +4, 1.0, -5.0),
    "sad": Mood(MINOR, (80.0, 94.0), -6, 1.0, -8.0),
    "tense": Mood(LOCRIAN, (126.0, 148.0), -6, 0.7, +5.0),
    "neutral": Mood(DORIAN, (102.0, 116.0), 0, 0.75, 0.0),
}

# Lowest MIDI note of each voice, before the register is added.
LEAD_LOWEST, CHORDS_LOWEST, BASS_LOWEST = 62, 50, 30
SHORTEST_NOTE_SECONDS = 0.1
REST_PROBABILITY = 0.06  # of a step of the melody, so that no two rhythms are the same


@dataclasses.dataclass(frozen=True)
class Part:
    """The notes of one voice.

    Attributes
    ----------
    onset, duration
        In s.
    pitch
        MIDI note number.
    velocity
        Amplitude, about 1.
    """

    onset: Float[np.ndarray, "notes"]
    duration: Float[np.ndarray, "notes"]
    pitch: Int[np.ndarray, "notes"]
    velocity: Float[np.ndarray, "notes"]


@dataclasses.dataclass(frozen=True)
class Score:
    """All voices of a clip; `drums` holds the onsets of each drum in s."""

    lead: Part
    chords: Part
    bass: Part
    drums: dict[str, Float[np.ndarray, "hits"]]


def nearest_in_scale(
    pitch: Float[np.ndarray, "notes"], tonic: int, scale: tuple[int, ...]
) -> Int[np.ndarray, "notes"]:
    """Return the note of the scale at or just below each pitch."""
    below = np.array([max(s for s in scale if s <= step) for step in range(12)])
    octave, step = np.divmod(np.floor(pitch).astype(int) - tonic, 12)
    return tonic + 12 * octave + below[step]


def fold(pitch: Int[np.ndarray, "*notes"], lowest: int) -> Int[np.ndarray, "*notes"]:
    """Move each pitch by octaves into the octave that begins at `lowest`."""
    return lowest + (pitch - lowest) % 12


def write_part(
    symbols: Shaped[np.ndarray, "steps"],
    pitch: Int[np.ndarray, "steps voices"],
    time: Float[np.ndarray, "steps_and_end"],
    articulation: float,
    rng: np.random.Generator,
) -> Part:
    """Return the notes of a row of symbols; a note ends with the last step that holds it.

    Parameters
    ----------
    symbols
        ``x``, ``-`` or ``.``, one per step.
    pitch
        MIDI notes that would begin together at each step.
    time
        Onset of each step, and the end of the last, in s.
    articulation
        See `Mood`.
    rng
        Draws the accents.
    """
    onset = np.flatnonzero(symbols == "x")
    not_held = np.append(np.flatnonzero(symbols != "-"), symbols.size)
    end = not_held[np.searchsorted(not_held, onset, side="right")]
    duration = np.maximum(articulation * (time[end] - time[onset]), SHORTEST_NOTE_SECONDS)
    voices = pitch.shape[1]
    return Part(
        onset=time[onset].repeat(voices),
        duration=duration.repeat(voices),
        pitch=pitch[onset].ravel(),
        velocity=rng.uniform(0.75, 1.25, onset.size).repeat(voices),
    )


def compose(traits: Traits, seconds: float, rng: np.random.Generator) -> Score:
    """Write the score of a clip.

    Parameters
    ----------
    traits
        Traits of the clip; `genre`, `mood`, `rhythm`, `tempo`, `contour` and `texture` are used.
    seconds
        Length of the clip in s. The arcs and the chord progression always span the whole clip.
    rng
        Draws what the tags do not determine: key, tempo within its range, register, rests, accents.

    Returns
    -------
    A score with at least one note in each of lead, chords and bass.
    """
    genre, mood = GENRES[traits.genre], MOODS[traits.mood]
    tonic = int(rng.integers(12))
    register = mood.register + int(rng.integers(-2, 3))
    beats = seconds * rng.uniform(*mood.beats_per_minute) / 60

    steps_per_bar = len(genre.lead)
    steps = beats * steps_per_bar / genre.beats
    n_steps = int(np.ceil(steps))
    time = times_of(np.arange(n_steps + 1) / steps, traits.tempo, seconds)
    x = time[:-1] / seconds

    def repeated(bar: str) -> Shaped[np.ndarray, "steps"]:
        return np.resize(list(bar), n_steps)

    height = semitones_above(x, traits.contour) + rng.integers(-2, 3, n_steps)
    melody = nearest_in_scale(LEAD_LOWEST + register + height, tonic, mood.scale)
    rests = rng.random(n_steps) < REST_PROBABILITY
    rests[0] = False
    lead = np.where(rests, ".", repeated(genre.lead))

    progression = np.array(genre.progression)
    bar = np.arange(n_steps) // steps_per_bar
    degree = progression[bar * progression.size // (bar[-1] + 1), None] + genre.chord_degrees
    chord = tonic + np.array(mood.scale)[degree % 7]
    dense = is_dense(x, traits.texture)
    # A dense section opens with a chord and a kick, so that it is audible even if very short.
    opening = dense & ~np.concatenate([[False], dense[:-1]])
    chords = np.where(opening, "x", np.where(dense, repeated(genre.chords), "."))

    def write(symbols: Shaped[np.ndarray, "steps"], pitch: Int[np.ndarray, "steps voices"]) -> Part:
        return write_part(symbols, pitch, time, mood.articulation, rng)

    return Score(
        lead=write(lead, melody[:, None]),
        chords=write(chords, fold(chord, CHORDS_LOWEST + register)),
        bass=write(repeated(genre.bass), fold(chord[:, :1], BASS_LOWEST)),
        drums={
            drum: time[:-1][(repeated(strokes) == "x") & dense | (opening & (drum == "kick"))]
            for drum, strokes in genre.drums.items()
            if traits.rhythm == "drums"
        },
    )
