"""Render MIDI with FluidSynth and a sound-font."""

import errno
import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import soxr
from jaxtyping import Float32

from crnn_jax.audio.files import AudioError
from crnn_jax.errors import UserError

# Programs, and the Debian packages that have them.
PROGRAMS = {"fluidsynth": "fluidsynth", "abc2midi": "abcmidi"}
# Where Debian puts sound-fonts, and the packages of those that are used by default.
FONT_FOLDERS = (Path("/usr/share/sounds/sf2"), Path("/usr/share/soundfonts"))
FONT_PACKAGES = {
    "FluidR3_GM.sf2": "fluid-soundfont-gm",
    "OPL-3_FM_128M.sf2": "opl3-soundfont",
    "TimGM6mb.sf2": "timgm6mb-soundfont",
}
# The rendered rate over that of the set: resampling decides what is heard near half of it.
OVERSAMPLED = 4 / 3
# Those that FluidSynth accepts, in Hz.
LOWEST_RATE, HIGHEST_RATE = 8_000, 96_000
# Root mean square of a clip: sound-fonts differ in loudness, which is not to be learned.
LOUDNESS = 0.1
# Longest that a clip may take to be rendered, in s; it takes a tenth of a second.
TIME_LIMIT_S = 120.0
# More than a rendered clip takes on the disk.
SPARE_BYTES = 2**25


def find_font(name: str, field: str) -> Path:
    """Return the path of a sound-font, given by its path or by the name that Debian gives it.

    Raises
    ------
    UserError
        If there is no such file, or it is no sound-font.
    """
    candidates = [Path(name), *(folder / name for folder in FONT_FOLDERS)]
    path = next((path for path in candidates if path.is_file()), None)
    if path is None:
        package = FONT_PACKAGES.get(name)
        fix = f"give `apt-get install {package}`" if package else "give its path"
        raise UserError(f"no such sound-font; {fix}", field=field, value=name)
    with path.open("rb") as file:
        start = file.read(12)
    if start[:4] != b"RIFF" or start[8:] != b"sfbk":
        raise UserError("not a sound-font (SF2); give another", field=field, value=name)
    return path


@functools.cache
def digest_font(path: Path) -> str:
    """Return the SHA-256 of a sound-font: its name says neither its version nor its content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_programs() -> None:
    """Raise a UserError if a program is missing."""
    missing = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    if missing:
        raise UserError(
            f"rendered: {' and '.join(missing)} missing; give `apt-get install {' '.join(missing)}`"
        )


@functools.cache
def program_versions() -> dict[str, str]:
    """Return the versions of the programs, as they say them."""
    commands = {"fluidsynth": ["fluidsynth", "--version"], "abc2midi": ["abc2midi", "-ver"]}
    return {name: _version(command) for name, command in commands.items()}


def _version(command: Sequence[str]) -> str:
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    match = re.search(r"\d+\.\d+(\.\d+)*", said.stdout + said.stderr)
    return match[0] if match else "unknown"


def render(
    midi: bytes, font: Path, *, seconds: float, sounding_s: float, sample_rate: int
) -> Float32[np.ndarray, "samples"]:
    """Render a MIDI file to as many seconds of mono samples, without reverb and chorus.

    Parameters
    ----------
    midi, font
        The file's content, and the sound-font.
    seconds, sounding_s
        Length of the clip, and of the music: what is rendered must be as long as the shorter one.
    sample_rate
        In Hz.

    Raises
    ------
    AudioError
        If it is silent, takes too long, or FluidSynth ends before it is done.
    """
    rate = min(max(round(OVERSAMPLED * sample_rate), LOWEST_RATE), HIGHEST_RATE)
    with tempfile.TemporaryDirectory() as folder:
        source, wave = Path(folder) / "clip.mid", Path(folder) / "clip.wav"
        source.write_bytes(midi)
        command = [
            # Without the user's own settings, which may be anything.
            *(
                "fluidsynth",
                "-f",
                "/dev/null",
                "-n",
                "-i",
                "-q",
                "-r",
                str(rate),
                "-g",
                "0.5",
                "-R",
                "0",
                "-C",
                "0",
            ),
            # Only the samples of the instruments that play are loaded.
            *("-o", "synth.dynamic-sample-loading=1", "-o", "synth.cpu-cores=1"),
            *("-T", "wav", "-O", "float", "-F", str(wave), str(font), str(source)),
        ]
        try:
            said = subprocess.run(command, capture_output=True, timeout=TIME_LIMIT_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise AudioError("time limit", f"took {TIME_LIMIT_S:g} s to be rendered") from error
        words = said.stderr.decode(errors="replace").strip().partition("\n")[0]
        # A full disk is no error to FluidSynth: it writes what fits.
        if said.returncode or "error" in words.lower() or not wave.exists():
            if shutil.disk_usage(folder).free < SPARE_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), folder)
            raise AudioError("not rendered", f"FluidSynth: {words or 'ended too early'}")
        stereo, _ = soundfile.read(wave, dtype="float32", always_2d=True)
        if len(stereo) < rate * min(seconds, sounding_s):
            raise AudioError("not rendered", "FluidSynth: ended too early")
    mono = soxr.resample(stereo.mean(axis=1), rate, sample_rate)
    clip = np.zeros(round(seconds * sample_rate), np.float32)
    clip[: len(mono)] = mono[: len(clip)]
    loudness = float(np.sqrt(np.mean(np.square(clip, dtype=float))))
    if loudness < 1e-6:
        raise AudioError("silent", "the sound-font plays nothing")
    return clip * np.float32(LOUDNESS / loudness)
