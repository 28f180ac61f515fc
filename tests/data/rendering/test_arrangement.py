"""From notes to MIDI, compared with what mido reads back."""

import io

import mido
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_jax.data.rendering.arrangement import (
    INSTRUMENTS,
    TEMPOS,
    Arrangement,
    Note,
    cut_notes,
    draw_arrangement,
    write_midi,
)

FLUTE = next(instrument for instrument in INSTRUMENTS if instrument.name == "flute")
CELLO = next(instrument for instrument in INSTRUMENTS if instrument.name == "cello")


def arrangement(**changes):
    values = {
        **{"instruments": (FLUTE,), "beats_per_minute": 60.0, "beat": 1.0, "start": 0.0},
        **{"transposed": 0, "noise_seed": 0},
    }
    return Arrangement(**{**values, **changes})


def played(content):
    """(onset s, channel, pitch) of every note of a MIDI file."""
    seconds, notes = 0.0, []
    for message in mido.MidiFile(file=io.BytesIO(content)):
        seconds += message.time
        if message.type == "note_on":
            notes.append((round(seconds, 3), message.channel, message.note))
    return notes


def test_notes_sound_when_and_as_they_are_written():
    notes = [Note(0.0, 1.0, 72, 0), Note(1.0, 0.5, 74, 0), Note(1.5, 1.0, 76, 0)]
    assert played(write_midi(notes, arrangement())) == [(0, 0, 72), (1, 0, 74), (1.5, 0, 76)]
    faster = arrangement(beats_per_minute=120.0, transposed=2)
    assert played(write_midi(notes, faster)) == [(0, 0, 74), (0.5, 0, 76), (0.75, 0, 78)]
    # The beat of 6/8 is three eighths.
    compound = arrangement(beats_per_minute=60.0, beat=1.5)
    assert [onset for onset, *_ in played(write_midi(notes, compound))] == [0, 0.667, 1]


def test_two_instruments_share_the_voices():
    notes = [Note(0.0, 1.0, 76 - 12 * voice, voice) for voice in range(4)]
    parts = played(write_midi(notes, arrangement(instruments=(FLUTE, CELLO))))
    assert (
        sorted((channel, pitch % 12) for _, channel, pitch in parts) == [(0, 4)] * 2 + [(1, 4)] * 2
    )
    file = mido.MidiFile(
        file=io.BytesIO(write_midi(notes, arrangement(instruments=(FLUTE, CELLO))))
    )
    programs = [message.program for message in file if message.type == "program_change"]
    assert programs == [FLUTE.program, CELLO.program]


@settings(deadline=None)
@given(st.integers(20, 110), st.sampled_from(INSTRUMENTS), st.integers(-4, 4))
def test_a_voice_is_moved_by_octaves_into_the_range(pitch, instrument, transposed):
    ((_, _, sounding),) = played(
        write_midi(
            [Note(0.0, 1.0, pitch, 0)],
            arrangement(instruments=(instrument,), transposed=transposed),
        )
    )
    assert (sounding - pitch - transposed) % 12 == 0
    assert instrument.lowest <= sounding <= instrument.highest


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(0.25, 4), st.integers(40, 80)), min_size=1),
    st.floats(0, 1),
    st.floats(1, 30),
)
def test_a_clip_is_filled_with_notes_of_the_piece(values, start, seconds):
    notes = sorted(Note(onset, duration, pitch, 0) for onset, duration, pitch in values)
    length = max(note.onset + note.duration for note in notes)
    cut = cut_notes(notes, arrangement(start=start), seconds)
    assert all(0 <= note.onset < seconds and note.duration > 0 for note in cut)
    assert {note.pitch for note in cut} <= {note.pitch for note in notes}
    if length < seconds:
        # Played again from its beginning.
        assert [note.pitch for note in cut if note.onset + note.duration <= length] == [
            note.pitch for note in notes if note.onset + note.duration <= length
        ]


def test_tempos_and_instruments_are_drawn_evenly():
    rng = np.random.default_rng(0)
    drawn = [draw_arrangement("4/4", 4, rng) for _ in range(2000)]
    for name in TEMPOS:
        assert 0.2 < np.mean([one.tempo == name for one in drawn]) < 0.5
    for instrument in INSTRUMENTS:
        assert 0.05 < np.mean([instrument in one.instruments for one in drawn]) < 0.15
    assert {len(draw_arrangement("4/4", 1, rng).instruments) for _ in range(50)} == {1}


def test_a_tempo_is_named_after_its_beats():
    names = {bpm: arrangement(beats_per_minute=bpm).tempo for bpm in (60.0, 100.0, 180.0)}
    assert names == {60.0: "slow", 100.0: "medium tempo", 180.0: "fast"}
    assert arrangement(beats_per_minute=90.0, beat=2.0).quarters_per_second == pytest.approx(3.0)
