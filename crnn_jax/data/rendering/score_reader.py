"""A program that reads scores with music21: a path on each line of its input, notes as JSON out.

It prints ``ready`` once music21 is imported, and ends when its input ends. A score that does not
parse gives a string that says why.
"""

import json
import os
import sys
import threading
import time
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

from music21 import converter


def read(path: str) -> list[tuple[float, float, int, int]]:
    """Read the notes of a score: onset and duration in quarters, pitch, and part from the top."""
    score: Any = converter.parse(path, forceSource=True)
    notes = []
    for voice, part in enumerate(score.parts):
        for begin, duration, pitch in join_ties(list_notes(part)):
            notes.append((begin, duration, pitch, voice))
    return sorted(notes)


def list_notes(part: Any) -> Iterator[tuple[float, float, int, str | None]]:
    """Yield onset, duration, pitch and kind of tie of each note of a part, in their order."""
    for element in part.recurse().notes:
        begin, duration = float(element.getOffsetInHierarchy(part)), float(element.quarterLength)
        # Grace notes have no duration; chord symbols are no notes.
        if duration > 0 and (element.isNote or type(element).__name__ == "Chord"):
            for note in element.notes if element.isChord else (element,):
                tie = None if note.tie is None else note.tie.type
                yield begin, duration, int(note.pitch.midi), tie


def join_ties(
    notes: Iterable[tuple[float, float, int, str | None]],
) -> Iterator[tuple[float, float, int]]:
    """Join notes that are tied to each other.

    music21's own `stripTies` copies the score, and takes longer than parsing it.

    >>> list(join_ties([(0, 1, 60, "start"), (0, 4, 48, None), (1, 2, 60, "stop")]))
    [(0, 4, 48), (0, 3, 60)]
    """
    # Onset and end of notes that are tied to a later one.
    held: dict[int, tuple[float, float]] = {}
    for begin, duration, pitch, tie in notes:
        end = begin + duration
        if tie in ("stop", "continue") and pitch in held:
            begin, _ = held.pop(pitch)
        if tie in ("start", "continue"):
            held[pitch] = (begin, end)
        else:
            yield begin, end - begin, pitch
    # Tied to nothing.
    for pitch, (begin, end) in held.items():
        yield begin, end - begin, pitch


def end_with_parent(parent: int) -> None:
    """End this process when its parent has ended, also in the middle of a score."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def main() -> None:
    """Answer until the input ends."""
    # What music21 prints must not get into the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    warnings.simplefilter("ignore")
    threading.Thread(target=end_with_parent, args=(os.getppid(),), daemon=True).start()
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        try:
            answer: Any = read(line.rstrip("\n"))
        except Exception as error:  # music21 raises anything for a score that it cannot read.
            answer = f"{type(error).__name__}: {error}".partition("\n")[0]
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
