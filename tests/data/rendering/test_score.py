"""The notes of real scores; scores that do not parse, or not in time."""

import os
import signal
import time

import pytest

from crnn_jax.audio.files import AudioError
from crnn_jax.data.rendering import score
from crnn_jax.data.rendering.corpus import corpus_folder
from crnn_jax.data.rendering.score import ScoreReader, read_notes

pytestmark = pytest.mark.usefixtures("corpus", "player")


@pytest.fixture
def reader():
    reader = ScoreReader()
    yield reader
    reader.close()


def test_a_tune_has_the_notes_of_its_text():
    # X:1 of Han: K:C, L:1/16, "d4A2c2 | d4d4 | A3cd2g2 | c2A2G4 …"
    notes = read_notes("essenFolksong/han1.abc#0")
    assert [note.pitch for note in notes[:5]] == [74, 69, 72, 74, 74]
    assert [note.duration for note in notes[:3]] == pytest.approx([1.0, 0.5, 0.5], abs=0.02)
    assert [note.onset for note in notes[:4]] == pytest.approx([0, 1, 1.5, 2], abs=0.02)
    assert {note.voice for note in notes} == {0}


def test_a_chorale_has_four_voices_from_the_top():
    notes = read_notes("bach/bwv66.6.mxl")
    firsts = [min(note for note in notes if note.voice == voice) for voice in range(4)]
    # A chord of F sharp minor's relative major, soprano to bass: C#5, E4, A3, A3.
    assert [note.pitch for note in firsts] == [73, 64, 57, 57]
    assert max(note.onset + note.duration for note in notes) == pytest.approx(36.0)


def test_chord_symbols_are_not_played(tmp_path):
    plain = "X:1\nM:4/4\nL:1/4\nK:C\nCDEF|GABc|\n"
    path = tmp_path / "one.abc"
    pitches = []
    for text in (plain, plain.replace("CDEF", '"C"CDEF').replace("GABc", '"G7"GABc')):
        path.write_text(text)
        pitches.append([note.pitch for note in score._read_tune(path, 0, 5.0)])
    assert pitches[0] == pitches[1] == [60, 62, 64, 65, 67, 69, 71, 72]


def test_a_score_that_takes_too_long_is_given_up_and_the_next_one_read(reader):
    path = corpus_folder() / "bach" / "bwv66.6.mxl"
    with pytest.raises(AudioError, match=r"took more than 0\.001 s") as error:
        reader.read(path, 0.001)
    assert error.value.reason == "time limit"
    assert len(reader.read(path, 60.0)) > 100


def test_a_tune_that_takes_too_long_is_given_up(monkeypatch, tmp_path):
    # A real process that hangs in place of abc2midi.
    slow = tmp_path / "abc2midi"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    started = time.monotonic()
    with pytest.raises(AudioError, match="time limit|took") as error:
        score._read_tune(corpus_folder() / "airdsAirs" / "book1.abc", 0, 0.2)
    assert error.value.reason == "time limit"
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("broken.mxl", b"PK\x03\x04 no archive"),
        ("empty.xml", b""),
        ("text.xml", b"<score-partwise><part"),
    ],
)
def test_what_is_no_score_is_rejected_with_its_reason(reader, tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(AudioError) as error:
        reader.read(path, 60.0)
    assert error.value.reason == "not a score"
    assert "\n" not in str(error.value)
    # The process survives.
    assert reader.read(corpus_folder() / "bach" / "bwv66.6.mxl", 60.0)


def test_a_reader_that_is_killed_rejects_one_score(reader):
    path = corpus_folder() / "bach" / "bwv66.6.mxl"
    reader.read(path, 60.0)
    os.kill(reader._process.pid, signal.SIGKILL)
    with pytest.raises(AudioError, match="was killed"):
        reader.read(path, 60.0)
    assert reader.read(path, 60.0)


def test_a_tune_without_notes_is_rejected(tmp_path, monkeypatch):
    (tmp_path / "empty.abc").write_text("X:1\nT:Nothing\nK:C\n")
    monkeypatch.setattr(score, "corpus_folder", lambda: tmp_path)
    with pytest.raises(AudioError) as error:
        read_notes("empty.abc#0")
    assert error.value.reason in ("no notes", "not a score")
