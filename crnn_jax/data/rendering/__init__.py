"""Music rendered from the scores that music21 ships, by real sound-fonts.

`corpus` lists the compositions, `plan` decides which clips are made of them, `score` reads the
notes of one, `arrangement` plays a stretch of them as MIDI, and `player` renders that.
"""
