"""Real compositions, rendered by real sound-fonts: a set that anyone can rebuild."""

import hashlib
import importlib.metadata
import importlib.util
import json
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

# With fewer, the small splits lack whole repertoires.
FEWEST_CLIPS = 150
# Rounding leaves out a few clips of a small set.
PLANNED_PART = 0.95


class Rendered(RecordsBuilder):
    """Compositions from the corpus that music21 ships, rendered by FluidSynth with sound-fonts.

    Masses by Palestrina, chorales by Bach, madrigals by Monteverdi, music of the Italian trecento;
    dances and airs from Ireland, Scotland and America (O'Neill, Aird, Ryan), songs from China,
    Germany, Lorraine and Luxembourg (Essen collection). Instruments and tempo are drawn, and exact.
    The other tags are what the scores' headers say: repertoire, dance, metre, mode, number of
    voices; a piece may leave its metre or mode, and where the encoding does not give the mode
    (songs, madrigals, trecento) it has no such tag. The music is rendered, never recorded.

    A work is on one side of the split with all its movements, versions and renderings. Training,
    validation and test clips are played by the same sound-fonts; the split ``unheard`` has the test
    split's clips, note by note, played by one that is heard nowhere else.

    It needs the extra ``rendered`` (music21, mido) and Debian's packages ``fluidsynth``,
    ``abcmidi``, ``fluid-soundfont-gm``, ``opl3-soundfont`` and ``timgm6mb-soundfont``. music21
    distributes the scores by permission of their encoders, some with restrictions: see
    ``corpus/license.txt``, ``essenFolksong/license.txt`` (legal status unclear; non-commercial use)
    and the end of each file in ``palestrina`` (rights to derivative electronic formats reserved).
    What is rendered from them is for your own research, and not for distribution.
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
        if (most := sum(map(len, plan.values()))) < PLANNED_PART * config.n_examples:
            raise UserError(
                f"the corpus gives at most about {most:,} different clips; give fewer",
                field="n_examples",
                value=config.n_examples,
            )
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
        from crnn_jax.data.rendering.player import digest_font, find_font, program_versions

        def describe(name: str, field: str) -> str:
            path = find_font(name, field)
            return f"{path.name} {digest_font(path.resolve())}"

        return {
            **{name: importlib.metadata.version(name) for name in ("music21", "mido", "soxr")},
            **program_versions(),
            "sound_fonts": [describe(name, "sound_fonts") for name in config.sound_fonts],
            "unheard_sound_font": describe(config.unheard_sound_font, "unheard_sound_font"),
        }

    def _metadata(self) -> dict[str, Any]:
        return {**super()._metadata(), "made_with": self.made_with(self.config)}

    @staticmethod
    def read_track(config: DataConfig, track: Track) -> Float[np.ndarray, "samples"]:
        from crnn_jax.data.rendering.arrangement import cut_notes, sounding_seconds, write_midi
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
        return render(
            midi,
            font,
            seconds=seconds,
            sounding_s=sounding_seconds(notes, arrangement),
            sample_rate=config.mel.sample_rate,
        )


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
    from crnn_jax.data.rendering.player import check_programs, digest_font, find_font

    check_programs()
    if not config.sound_fonts:
        raise UserError("none is given; give one or more", field="sound_fonts")
    heard = {digest_font(find_font(name, "sound_fonts").resolve()) for name in config.sound_fonts}
    unheard = find_font(config.unheard_sound_font, "unheard_sound_font").resolve()
    if digest_font(unheard) in heard:
        raise UserError(
            "has the content of one of sound_fonts, so it would be heard; give another",
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
