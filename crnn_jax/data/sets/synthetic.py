"""The built-in default set: synthesised music."""

import numpy as np
from jaxtyping import Float

from crnn_jax.config import DataConfig
from crnn_jax.data.builder import RecordsBuilder
from crnn_jax.data.collection import Collection, Track
from crnn_jax.data.synthesis import TAGS, draw_tags, render_clip
from crnn_jax.errors import UserError

# Of every 25 clips, 16 are for training, 3 for validation and 6 for test: with a thousand clips, a
# test split that is large enough for per-tag AUC matters more than a few more training clips.
SPLIT_OF_PLACE = ("train",) * 16 + ("valid",) * 3 + ("test",) * 6

# Minimum for the instruments' filters and the shortest note.
LOWEST_SAMPLE_RATE = 8_000
SHORTEST_CLIP_SECONDS = 1.0


class Synthetic(RecordsBuilder):
    """Music made by a small synthesiser, with tags in the paper's four categories.

    It needs no download. Some of its tags depend only on the order of events (a crescendo, an
    accelerando, a rising melody), which is what a recurrent layer is for. The waveforms are
    processed in the same way as real audio. A clip is determined by (seed, index).
    """

    name = "synthetic"

    @classmethod
    def collection(cls, config: DataConfig) -> Collection:
        mel = config.mel
        if mel.sample_rate < LOWEST_SAMPLE_RATE:
            raise UserError(
                f"synthesised music needs {LOWEST_SAMPLE_RATE} Hz or more",
                field="mel.sample_rate",
                value=mel.sample_rate,
            )
        if mel.clip_seconds < SHORTEST_CLIP_SECONDS:
            raise UserError(
                f"synthesised music needs clips of {SHORTEST_CLIP_SECONDS:g} s or more",
                field="mel.clip_seconds",
                value=f"{mel.clip_seconds:g}",
            )
        if config.n_examples < len(SPLIT_OF_PLACE):
            raise UserError(
                f"too few for three splits; give {len(SPLIT_OF_PLACE)} or more",
                field="n_examples",
                value=config.n_examples,
            )
        columns = {tag.name: column for column, tag in enumerate(TAGS)}
        splits: dict[str, list[Track]] = {"train": [], "valid": [], "test": []}
        for index in range(config.n_examples):
            tags = tuple(sorted(columns[name] for name in draw_tags(config.music_seed, index)))
            split = SPLIT_OF_PLACE[index % len(SPLIT_OF_PLACE)]
            splits[split].append(Track(f"{config.music_seed}/{index}", str(index), tags))
        names = tuple(tag.name for tag in TAGS)
        return Collection(names, tuple(tag.category for tag in TAGS), splits)

    @classmethod
    def variant(cls, config: DataConfig, collection: Collection) -> str:
        return f"{config.n_examples}-clips-seed{config.music_seed}"

    @staticmethod
    def read_track(config: DataConfig, track: Track) -> Float[np.ndarray, "samples"]:
        mel = config.mel
        clip = render_clip(
            config.music_seed,
            int(track.source),
            sample_rate=mel.sample_rate,
            clip_samples=mel.clip_samples,
        )
        return clip.audio


BUILDER = Synthetic
