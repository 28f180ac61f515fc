"""What FluidSynth plays: measured with an FFT."""

import numpy as np
import pytest

from crnn_jax.audio.files import AudioError
from crnn_jax.data.rendering.arrangement import INSTRUMENTS, Arrangement, Note, write_midi
from crnn_jax.data.rendering.player import (
    FONT_PACKAGES,
    LOUDNESS,
    check_programs,
    find_font,
    program_versions,
    render,
)
from crnn_jax.errors import UserError

FLUTE = next(instrument for instrument in INSTRUMENTS if instrument.name == "flute")


def midi(pitch):
    return write_midi(
        [Note(0.0, 4.0, pitch, 0)], Arrangement((FLUTE,), 60.0, 1.0, 0.0, 0, noise_seed=0)
    )


@pytest.mark.usefixtures("player")
@pytest.mark.parametrize("font", FONT_PACKAGES)
def test_a_note_has_its_frequency(font):
    clip = render(
        midi(81), find_font(font, "sound_fonts"), seconds=4.0, sounding_s=4.0, sample_rate=12_000
    )
    assert clip.dtype == np.float32
    assert clip.shape == (48_000,)
    assert np.sqrt(np.mean(np.square(clip, dtype=float))) == pytest.approx(LOUDNESS, rel=1e-3)
    spectrum = np.abs(np.fft.rfft(clip * np.hanning(len(clip))))
    # A5, or with a synthesiser its octaves.
    peak = np.argmax(spectrum) / 4.0
    octaves = np.log2(peak / 880.0)
    assert abs(octaves - round(octaves)) < 0.02


@pytest.mark.usefixtures("player")
def test_the_same_bytes_twice():
    font = find_font("TimGM6mb.sf2", "sound_fonts")
    first, second = (
        render(midi(69), font, seconds=2.0, sounding_s=2.0, sample_rate=12_000) for _ in range(2)
    )
    assert first.tobytes() == second.tobytes()


@pytest.mark.usefixtures("player")
def test_a_clip_without_sound_is_rejected():
    empty = write_midi(
        [Note(60.0, 1.0, 69, 0)], Arrangement((FLUTE,), 60.0, 1.0, 0.0, 0, noise_seed=0)
    )
    with pytest.raises(AudioError) as error:
        render(
            empty,
            find_font("TimGM6mb.sf2", "sound_fonts"),
            seconds=2.0,
            sounding_s=2.0,
            sample_rate=12_000,
        )
    assert error.value.reason == "silent"


@pytest.mark.usefixtures("player")
def test_versions_are_numbers():
    assert set(program_versions()) == {"fluidsynth", "abc2midi"}
    assert all(version[0].isdigit() for version in program_versions().values())


@pytest.mark.usefixtures("player")
def test_a_rendering_that_ends_too_early_is_rejected():
    """As when the disk is full, or FluidSynth is killed: what is there would be padded."""
    with pytest.raises(AudioError, match="ended too early") as error:
        render(
            midi(69),
            find_font("TimGM6mb.sf2", "sound_fonts"),
            seconds=60.0,
            sounding_s=60.0,
            sample_rate=12_000,
        )
    assert error.value.reason == "not rendered"


@pytest.mark.usefixtures("player")
def test_the_users_settings_do_not_matter(monkeypatch, tmp_path):
    font = find_font("TimGM6mb.sf2", "sound_fonts")
    options = {"seconds": 2.0, "sounding_s": 2.0, "sample_rate": 12_000}
    expected = render(midi(69), font, **options)
    (tmp_path / ".fluidsynth").write_text("set synth.reverb.active 1\nset synth.gain 1\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert render(midi(69), font, **options).tobytes() == expected.tobytes()


def test_a_missing_font_names_its_package():
    with pytest.raises(
        UserError, match=r"sound_fonts none\.sf2: no such sound-font; give its path"
    ):
        find_font("none.sf2", "sound_fonts")


def test_what_is_no_font_is_refused(tmp_path):
    for content in (b"", b"RIFF\x00\x00\x00\x00WAVEfmt "):
        path = tmp_path / "tone.sf2"
        path.write_bytes(content)
        with pytest.raises(UserError, match="not a sound-font"):
            find_font(str(path), "sound_fonts")


def test_missing_programs_name_their_packages(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"apt-get install fluidsynth abcmidi"):
        check_programs()
