"""The notes of a composition: a tune's by abc2midi, a score's by music21, in its own process."""

import atexit
import contextlib
import functools
import io
import json
import os
import select
import subprocess
import sys
import tempfile
from pathlib import Path

import mido

from crnn_jax.audio.files import AudioError
from crnn_jax.data.rendering.arrangement import Note
from crnn_jax.data.rendering.corpus import corpus_folder, read_abc, split_tunes
from crnn_jax.errors import UserError

# Longest that a score may take to be read, in s. The slowest take two; a busy machine must not
# reject others than an idle one.
TIME_LIMIT_S = 120.0
# Longest that music21 may take to be imported, in s.
START_S = 120.0
# First line of `score_reader`'s output.
READY = b"ready\n"
# Scores kept in memory: clips of one composition follow each other.
KEPT = 4


@functools.lru_cache(maxsize=KEPT)
def read_notes(name: str, time_limit_s: float = TIME_LIMIT_S) -> list[Note]:
    """Read the notes of a composition, by its name in the corpus (`Composition.name`).

    Raises
    ------
    AudioError
        If it does not parse, takes too long, or has no notes.
    """
    file, _, number = name.partition("#")
    path = corpus_folder() / file
    notes = (
        _read_tune(path, int(number), time_limit_s) if number else _read_score(path, time_limit_s)
    )
    if not notes:
        raise AudioError("no notes", f"{name}: no note was read")
    return notes


def _read_tune(path: Path, number: int, time_limit_s: float) -> list[Note]:
    tune = split_tunes(read_abc(path))[number]
    # Chord symbols would be played as an accompaniment.
    lines = []
    for line in tune.splitlines():
        lines.append(line)
        if line.startswith("K:"):
            lines.append("%%MIDI gchordoff")
    with tempfile.TemporaryDirectory() as folder:
        source, midi = Path(folder) / "tune.abc", Path(folder) / "tune.mid"
        source.write_text("\n".join(lines) + "\n", encoding="latin-1")
        try:
            said = subprocess.run(
                ["abc2midi", source, "-o", midi, "-silent"],
                capture_output=True,
                timeout=time_limit_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise AudioError(
                "time limit", f"{path.name}#{number}: took {time_limit_s:g} s"
            ) from error
        if said.returncode < 0 or not midi.exists():
            words = said.stdout.decode(errors="replace").strip().partition("\n")[0]
            raise AudioError("not a score", f"{path.name}#{number}: {words or 'no tune'}")
        try:
            return _read_midi(midi.read_bytes())
        # What mido raises for a file that ends too early, or is not MIDI.
        except (EOFError, OSError, ValueError, KeyError) as error:
            raise AudioError(
                "not a score", f"{path.name}#{number}: {error or 'no MIDI'}"
            ) from error


def _read_midi(content: bytes) -> list[Note]:
    """Return the notes of a MIDI file with one voice."""
    file = mido.MidiFile(file=io.BytesIO(content))
    notes, sounding = [], {}
    ticks = 0
    for message in mido.merge_tracks(file.tracks):
        ticks += message.time
        now = ticks / file.ticks_per_beat
        if message.type == "note_on" and message.velocity > 0:
            sounding[message.channel, message.note] = now
        elif message.type in ("note_on", "note_off"):
            begin = sounding.pop((message.channel, message.note), None)
            if begin is not None and now > begin:
                notes.append(Note(begin, now - begin, message.note, 0))
    return sorted(notes)


class ScoreReader:
    """A process that reads scores with music21, ended and started anew if one takes too long."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def read(self, path: Path, time_limit_s: float) -> list[Note]:
        """Read the notes of a score.

        Raises
        ------
        AudioError
            If it does not parse, or takes too long.
        """
        process = self._process or self._start(path)
        assert process.stdin is not None
        assert process.stdout is not None
        # A process that was killed: its output has ended, too.
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(os.fsencode(path) + b"\n")
            process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], time_limit_s)
        if not ready:
            self.close()
            raise AudioError("time limit", f"{path}: took more than {time_limit_s:g} s to be read")
        answer = process.stdout.readline()
        if not answer:
            # Most likely for lack of memory.
            self.close()
            raise AudioError("not a score", f"{path}: the process that reads it was killed")
        notes = json.loads(answer)
        if isinstance(notes, str):
            raise AudioError("not a score", f"{path}: {notes}")
        return [Note(*note) for note in notes]

    def _start(self, path: Path) -> "subprocess.Popen[bytes]":
        """Start the process, and wait until it has imported music21."""
        command = [sys.executable, "-m", "crnn_jax.data.rendering.score_reader"]
        process = self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], START_S)
        if not ready or process.stdout.readline() != READY:
            self.close()
            tried = subprocess.run(
                [sys.executable, "-c", "import music21"],
                capture_output=True,
                text=True,
                check=False,
            )
            reason = (tried.stderr.strip() or "it takes too long").rpartition("\n")[2]
            raise UserError(
                f"rendered: music21 cannot be imported ({reason}); install it again, then give the "
                f"same command again to resume"
            )
        return process

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()
            for stream in (process.stdin, process.stdout):
                assert stream is not None
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
            process.wait()


@functools.lru_cache(maxsize=1)
def _reader() -> ScoreReader:
    """Return this process's reader; music21 takes a second to import."""
    reader = ScoreReader()
    atexit.register(reader.close)
    return reader


def _read_score(path: Path, time_limit_s: float) -> list[Note]:
    return _reader().read(path, time_limit_s)
