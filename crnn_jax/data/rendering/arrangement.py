"""How a stretch of a composition is played: instruments, tempo, and the notes as MIDI."""

import dataclasses
import io
import math
from typing import Any, NamedTuple

import numpy as np

TICKS_PER_QUARTER = 480
# Beats per minute that are drawn, and from which on a tempo is not slow, and is fast.
SLOWEST, FASTEST = 54.0, 200.0
TEMPOS = {"slow": 0.0, "medium tempo": 84.0, "fast": 132.0}
# Part of the pieces of several voices that two instruments share.
TWO_INSTRUMENTS = 0.4
# MIDI velocities, and the most semitones that a piece is transposed by.
VELOCITIES, TRANSPOSED = (72, 104), 4


class Note(NamedTuple):
    """A note: onset and duration in quarter notes, MIDI pitch, and its voice, 0 the highest."""

    onset: float
    duration: float
    pitch: int
    voice: int


class Instrument(NamedTuple):
    """An instrument: its tag, General MIDI program (from 0), and lowest and highest pitch."""

    name: str
    program: int
    lowest: int
    highest: int


INSTRUMENTS = (
    Instrument("piano", 0, 28, 96),
    Instrument("harpsichord", 6, 29, 89),
    Instrument("vibraphone", 11, 53, 89),
    Instrument("church organ", 19, 36, 96),
    Instrument("accordion", 21, 41, 93),
    Instrument("guitar", 24, 40, 84),
    Instrument("violin", 40, 55, 96),
    Instrument("cello", 42, 36, 76),
    Instrument("harp", 46, 28, 96),
    Instrument("string ensemble", 48, 36, 96),
    Instrument("choir", 52, 43, 84),
    Instrument("trumpet", 56, 54, 84),
    Instrument("oboe", 68, 58, 91),
    Instrument("clarinet", 71, 50, 91),
    Instrument("flute", 73, 59, 96),
)


@dataclasses.dataclass(frozen=True)
class Arrangement:
    """How a clip is played.

    Attributes
    ----------
    instruments
        One for all voices; or one for the upper half and one for the lower.
    beats_per_minute, beat
        Tempo, and the beat's length in quarter notes.
    start
        Where in the piece the clip is: 0 begins with it, 1 ends with it.
    transposed
        In semitones.
    noise_seed
        Seed of the velocities.
    """

    instruments: tuple[Instrument, ...]
    beats_per_minute: float
    beat: float
    start: float
    transposed: int
    noise_seed: int

    @property
    def tempo(self) -> str:
        """The tag of the tempo."""
        return [name for name, lowest in TEMPOS.items() if self.beats_per_minute >= lowest][-1]

    @property
    def quarters_per_second(self) -> float:
        """Speed."""
        return self.beats_per_minute * self.beat / 60


def beat_of(metre: str | None) -> float:
    """Return the beat of a metre in quarter notes: of 6/8, three eighths.

    >>> beat_of("3/4"), beat_of("6/8"), beat_of("4/2"), beat_of(None)
    (1.0, 1.5, 2.0, 1.0)
    """
    if metre is None:
        return 1.0
    beats, unit = map(int, metre.split("/"))
    compound = unit >= 8 and beats % 3 == 0
    return (3 if compound else 1) * 4 / unit


def draw_arrangement(metre: str | None, voices: int, rng: np.random.Generator) -> Arrangement:
    """Draw how a clip is played."""
    several = voices > 1 and rng.random() < TWO_INSTRUMENTS
    chosen = rng.choice(len(INSTRUMENTS), 2 if several else 1, replace=False)
    return Arrangement(
        instruments=tuple(INSTRUMENTS[number] for number in chosen),
        beats_per_minute=float(np.exp(rng.uniform(math.log(SLOWEST), math.log(FASTEST)))),
        beat=beat_of(metre),
        start=float(rng.random()),
        transposed=int(rng.integers(-TRANSPOSED, TRANSPOSED + 1)),
        noise_seed=int(rng.integers(2**31)),
    )


def cut_notes(notes: list[Note], arrangement: Arrangement, seconds: float) -> list[Note]:
    """Return the notes of a clip, from its start on; a piece that is too short is played again."""
    length = max(note.onset + note.duration for note in notes)
    needed = seconds * arrangement.quarters_per_second
    if length < needed:
        rounds = math.ceil(needed / length)
        notes = [
            note._replace(onset=note.onset + number * length)
            for number in range(rounds)
            for note in notes
        ]
        start = 0.0
    else:
        start = arrangement.start * (length - needed) // arrangement.beat * arrangement.beat
    cut = []
    for note in notes:
        onset, end = max(note.onset - start, 0.0), note.onset + note.duration - start
        # What would sound for less than a 64th is the end of a note before the clip.
        if end - onset > 1 / 16 and onset < needed:
            cut.append(note._replace(onset=onset, duration=end - onset))
    return cut


def sounding_seconds(notes: list[Note], arrangement: Arrangement) -> float:
    """Return the time from a clip's start to the end of its last note, in s."""
    end = max(note.onset + note.duration for note in notes)
    return end / arrangement.quarters_per_second


def write_midi(notes: list[Note], arrangement: Arrangement) -> bytes:
    """Return a MIDI file of a clip's notes.

    A voice is moved by octaves into the range of its instrument.
    """
    # Part of an extra: the plan of a set does not need it.
    import mido

    n_voices = 1 + max(note.voice for note in notes)
    shifts = {
        voice: arrangement.transposed + _octaves(notes, voice, arrangement)
        for voice in {note.voice for note in notes}
    }
    rng = np.random.default_rng(arrangement.noise_seed)
    events: list[tuple[int, int, Any]] = []
    for note in sorted(notes):
        channel = _place(note.voice, n_voices, arrangement)
        pitch = min(max(note.pitch + shifts[note.voice], 0), 127)
        velocity = int(rng.integers(*VELOCITIES))
        begin, end = (
            round(TICKS_PER_QUARTER * quarters)
            for quarters in (note.onset, note.onset + note.duration)
        )
        events.append(
            (begin, 1, mido.Message("note_on", channel=channel, note=pitch, velocity=velocity))
        )
        events.append((end, 0, mido.Message("note_off", channel=channel, note=pitch)))
    track = mido.MidiTrack()
    tempo = round(1e6 / arrangement.quarters_per_second)
    track.append(mido.MetaMessage("set_tempo", tempo=tempo))
    for channel, instrument in enumerate(arrangement.instruments):
        track.append(mido.Message("program_change", channel=channel, program=instrument.program))
    now = 0
    # At the same time, notes end before others begin.
    for tick, _, message in sorted(events, key=lambda event: event[:2]):
        track.append(message.copy(time=tick - now))
        now = tick
    file = mido.MidiFile(ticks_per_beat=TICKS_PER_QUARTER)
    file.tracks.append(track)
    content = io.BytesIO()
    file.save(file=content)
    return content.getvalue()


def _place(voice: int, n_voices: int, arrangement: Arrangement) -> int:
    """Return which of the instruments plays a voice."""
    return voice * len(arrangement.instruments) // n_voices


def _octaves(notes: list[Note], voice: int, arrangement: Arrangement) -> int:
    """Return the semitones, in whole octaves, that bring a voice into its instrument's range."""
    pitches = sorted(note.pitch for note in notes if note.voice == voice)
    middle = pitches[len(pitches) // 2] + arrangement.transposed
    n_voices = 1 + max(note.voice for note in notes)
    instrument = arrangement.instruments[_place(voice, n_voices, arrangement)]
    # Half an octave from either end of the range.
    low, high = instrument.lowest + 6, instrument.highest - 6
    if middle < low:
        return 12 * math.ceil((low - middle) / 12)
    return -12 * math.ceil((middle - high) / 12) if middle > high else 0
