"""Real compositions, rendered by real sound-fonts: a set that anyone can rebuild."""

import hashlib
import importlib.metadata
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from crnn_jax.audio.files import AudioError
from crnn_jax.config import DataConfig
from crnn_jax.data.builder import RecordsBuilder
from crnn_jax.data.collection import UNHEARD, Collection, Track
from crnn_jax.data.rendering.corpus import Composition, corpus_folder, list_compositions
from crnn_jax.data.rendering.plan import PlannedClip, arrange, clip_tags, list_tags, plan_clips
from crnn_jax.errors import UserError

FEWEST_CLIPS = 100


class Rendered(RecordsBuilder):
    """Compositions from the corpus that music21 ships, rendered by FluidSynth with sound-fonts.

    Masses by Palestrina, chorales by Bach, madrigals by Monteverdi, music of the Italian trecento;
    dances and airs from Ireland, Scotland and America (O'Neill, Aird, Ryan), songs from China,
    Germany, Lorraine and Luxembourg (Essen collection). Tags are what the scores say (repertoire,
    dance, metre, mode, number of voices) and what this project chose (instruments, tempo): they
    are exact. The music is rendered, never recorded.

    A work is on one side of the split with all its movements, versions and renderings. Training,
    validation and test clips are played by the same sound-fonts; the split ``unheard`` has the test
    split's clips, note by note, played by one that is heard nowhere else.

    It needs the extra ``rendered`` (music21, mido) and Debian's packages ``fluidsynth``,
    ``abcmidi``, ``fluid-soundfont-gm``, ``opl3-soundfont`` and ``timgm6mb-soundfont``. music21
    distributes the scores by permission of their encoders (its ``corpus/license.txt``; the Essen
    collection and Palestrina's masses for non-commercial use only); what is rendered from them is
    for your own research.
    """

    name = "rendered"

    @classmethod
    def collection(cls, config: DataConfig) -> Collection:
        _check(config)
        compositions = list_compositions(corpus_folder())
        if not compositions:
            raise UserError(
                f"rendered: no composition in {corpus_folder()} can be used; install music21 again"
            )
        seed = config.music_seed
        plan = plan_clips(compositions, config.n_examples, seed)
        categories = list_tags(compositions, plan)
        columns = {name: column for column, name in enumerate(categories)}
        splits = {
            split: [
                Track(
                    track_id=f"{clip.composition.name}/{clip.version}",
                    source=_describe(clip, split),
                    tags=tuple(
                        sorted(columns[name] for name in clip_tags(clip, seed) & set(columns))
                    ),
                    group=clip.composition.work,
                )
                for clip in clips
            ]
            for split, clips in plan.items()
        }
        return Collection(tuple(categories), tuple(categories.values()), splits)

    @classmethod
    def variant(cls, config: DataConfig, collection: Collection) -> str:
        text = json.dumps(cls.made_with(config), sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:6]
        return f"{config.n_examples}-clips-seed{config.music_seed}-{digest}"

    @classmethod
    def made_with(cls, config: DataConfig) -> dict[str, Any]:
        from crnn_jax.data.rendering.player import program_versions

        return {
            **{name: importlib.metadata.version(name) for name in ("music21", "mido")},
            **program_versions(),
            "sound_fonts": [Path(name).name for name in config.sound_fonts],
            "unheard_sound_font": Path(config.unheard_sound_font).name,
        }

    def _metadata(self) -> dict[str, Any]:
        return {**super()._metadata(), "made_with": self.made_with(self.config)}

    @staticmethod
    def read_track(config: DataConfig, track: Track) -> Float[np.ndarray, "samples"]:
        from crnn_jax.data.rendering.arrangement import cut_notes, write_midi
        from crnn_jax.data.rendering.player import find_font, render
        from crnn_jax.data.rendering.score import read_notes

        clip, split = _understand(track.source)
        arrangement = arrange(clip, config.music_seed)
        if split == UNHEARD:
            font = find_font(config.unheard_sound_font, "unheard_sound_font")
        else:
            place = arrangement.noise_seed % len(config.sound_fonts)
            font = find_font(config.sound_fonts[place], "sound_fonts")
        seconds = config.mel.clip_seconds
        notes = cut_notes(read_notes(clip.composition.name), arrangement, seconds)
        if not notes:
            raise AudioError("no notes", f"{track.track_id}: no note within the clip")
        midi = write_midi(notes, arrangement)
        return render(midi, font, seconds=seconds, sample_rate=config.mel.sample_rate)


def _describe(clip: PlannedClip, split: str) -> str:
    """Return all that a process needs to make a clip, without the corpus's list."""
    composition = clip.composition
    return json.dumps(
        [composition.name, composition.metre, composition.voices, clip.version, split]
    )


def _understand(source: str) -> tuple[PlannedClip, str]:
    name, metre, voices, version, split = json.loads(source)
    composition = Composition(name, "", "", None, metre, None, voices)
    return PlannedClip(composition, version), split


def _check(config: DataConfig) -> None:
    """Raise a UserError for what is missing, before the corpus is read."""
    for name in ("music21", "mido"):
        if importlib.util.find_spec(name) is None:
            raise UserError(
                f"rendered: {name} is not installed; give `pip install 'crnn_jax[rendered]'`"
            )
    from crnn_jax.data.rendering.player import check_programs, find_font

    check_programs()
    if not config.sound_fonts:
        raise UserError("none is given; give one or more", field="sound_fonts")
    heard = [find_font(name, "sound_fonts") for name in config.sound_fonts]
    if find_font(config.unheard_sound_font, "unheard_sound_font") in heard:
        raise UserError(
            "also in sound_fonts, so it would be heard; give another",
            field="unheard_sound_font",
            value=config.unheard_sound_font,
        )
    if config.n_examples < FEWEST_CLIPS:
        raise UserError(
            f"too few for all repertoires in all splits; give {FEWEST_CLIPS} or more",
            field="n_examples",
            value=config.n_examples,
        )


BUILDER = Rendered
