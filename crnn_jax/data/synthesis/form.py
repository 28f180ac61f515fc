"""The order of events: arcs over the clip, which alone determine the temporal tags.

An arc maps clip time x (0 at the start, 1 at the end) to a position from 0 to 1: how loud, how
fast, how high, how dense. All four arcs are measure-preserving: each position is held for the
same fraction of the time with any arc. So a crescendo, a decrescendo and a swell are the same
material in a different order, their spectra averaged over time agree in mean and variance, and
only the order distinguishes them.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float

Arc = Callable[[Float[np.ndarray, "times"]], Float[np.ndarray, "times"]]

ARCS: dict[str, Arc] = {
    "rise": lambda x: x,
    "fall": lambda x: 1 - x,
    "arch": lambda x: 1 - np.abs(2 * x - 1),
    "dip": lambda x: np.abs(2 * x - 1),
}

TEMPO_RATIO = 3.0  # fastest to slowest tempo of a clip
DYNAMIC_RANGE_DB = 26.0  # about pp to ff
CONTOUR_SEMITONES = 24  # lowest to highest note of the melody
TEMPO_GRID = 1024  # points at which the tempo curve is integrated


def times_of(
    beats: Float[np.ndarray, "events"], tempo: str, seconds: float
) -> Float[np.ndarray, "events"]:
    """Return the time in the clip at which a fraction of its beats has passed.

    Parameters
    ----------
    beats
        Positions in the score, 0 (first beat of the clip) to 1 (its end).
    tempo
        Arc of the tempo, which varies by a factor of `TEMPO_RATIO`.
    seconds
        Length of the clip in s.

    Returns
    -------
    Onsets in s: the inverse of the integral of the tempo over time.
    """
    x = np.linspace(0.0, 1.0, TEMPO_GRID)
    speed = TEMPO_RATIO ** ARCS[tempo](x)
    passed = np.concatenate([[0.0], np.cumsum((speed[1:] + speed[:-1]) / 2)])
    return seconds * np.interp(beats * passed[-1], passed, x)


def is_dense(x: Float[np.ndarray, "times"], texture: str) -> Bool[np.ndarray, "times"]:
    """Return whether all voices play (half of the clip) or only melody and bass (the rest)."""
    return ARCS[texture](x) >= 0.5


def semitones_above(x: Float[np.ndarray, "times"], contour: str) -> Float[np.ndarray, "times"]:
    """Return the height of the melody above its lowest note, in semitones."""
    return CONTOUR_SEMITONES * ARCS[contour](x)


def gain(x: Float[np.ndarray, "times"], dynamics: str) -> Float[np.ndarray, "times"]:
    """Return the amplitude of the whole ensemble, at most 1."""
    return 10 ** (DYNAMIC_RANGE_DB * (ARCS[dynamics](x) - 1) / 20)
