"""A program that reads scores with music21: a path on each line of its input, notes as JSON out.

It ends when its input ends. A score that does not parse gives a string that says why.
"""

import json
import sys
import warnings
from typing import Any


def read(path: str) -> list[tuple[float, float, int, int]]:
    """Read the notes of a score: onset and duration in quarters, pitch, and part from the top."""
    from music21 import converter

    score: Any = converter.parse(path, forceSource=True)
    notes = []
    for voice, part in enumerate(score.parts):
        for element in part.stripTies().flatten().notes:
            duration = float(element.quarterLength)
            # Grace notes have none.
            if duration > 0:
                for pitch in element.pitches:
                    notes.append((float(element.offset), duration, int(pitch.midi), voice))
    return sorted(notes)


def main() -> None:
    """Answer until the input ends."""
    # What music21 prints must not get into the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        try:
            answer: Any = read(line.rstrip("\n"))
        except Exception as error:  # music21 raises anything for a score that it cannot read.
            answer = f"{type(error).__name__}: {error}".partition("\n")[0]
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
