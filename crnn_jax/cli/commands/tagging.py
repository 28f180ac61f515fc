"""Commands that apply trained networks to files."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from crnn_jax.cli.caches import keep_compiled
from crnn_jax.cli.display import make_console, print_table
from crnn_jax.errors import UserError
from crnn_jax.user_text import printable

if TYPE_CHECKING:
    from crnn_jax.api import Run
    from crnn_jax.tagging.tagger import TaggedFile


@dataclasses.dataclass(frozen=True)
class ImportKeras:
    """Create a run of the published CRNN (Keunwoo Choi, 2016) from its Keras 1 weights.

    Attributes
    ----------
    weights
        The published HDF5 file, from Theano or from TensorFlow.
    out
        The run's folder.
    backend
        What the weights were trained with; if not given, determined from the names in the file.
    """

    weights: tyro.conf.Positional[str]
    out: tyro.conf.Positional[str]
    backend: Literal["theano", "tensorflow"] | None = None

    def run(self) -> int:
        from etils import epath

        from crnn_jax.tagging.keras_import import import_keras

        config = import_keras(Path(self.weights), epath.Path(self.out), self.backend)
        assert config.imported is not None
        print(
            f"{self.out}: {config.arch}, {config.params:,} parameters, "
            f"{config.model.n_tags} tags, {config.imported.backend} weights"
        )
        return 0


@dataclasses.dataclass(frozen=True)
class Tag:
    """Tag audio files with a trained network.

    Attributes
    ----------
    run_folder
        The run's folder.
    files
        Audio files, or .npy files of a log-mel.
    top
        Number of tags reported for each file.
    hop_seconds
        For long files: time between the starts of successive windows, in s. If not given, the
        length of a window.
    per_window
        Report the scores of each window too.
    json
        Print JSON instead of tables.
    figure
        Draw the log-mel and the scores over time to this PNG or SVG file (for one file only).
    """

    run_folder: tyro.conf.Positional[str]
    files: tyro.conf.Positional[tuple[str, ...]]
    top: int = 10
    hop_seconds: float | None = None
    per_window: bool = False
    json: bool = False
    figure: str | None = None

    def run(self) -> int:
        from etils import epath

        if self.top < 1:
            raise UserError("give 1 or more", field="top", value=self.top)
        if self.figure is not None:
            from crnn_jax.figures.tag_scores import check_figure_path, draw_tags

            check_figure_path(epath.Path(self.figure))
            if len(self.files) != 1:
                raise UserError(
                    f"{len(self.files)} files; give one", field="figure", value=self.figure
                )
        run, tagged = _tag(self.run_folder, self.files, self.hop_seconds)
        tag_names = run.tag_names
        if self.json:
            print(json.dumps([self._as_json(file, tag_names) for file in tagged], indent=2))
        else:
            for file in tagged:
                self._print(file, tag_names)
        if self.figure is not None and tagged:
            draw_tags(tagged[0], tag_names, run.config.input_mel, self.top, epath.Path(self.figure))
        return 0 if len(tagged) == len(self.files) else 1

    def _as_json(self, file: "TaggedFile", tag_names: Sequence[str]) -> dict[str, Any]:
        best = file.best(self.top)
        scores, windows = file.mean_scores.tolist(), file.scores.tolist()
        values: dict[str, Any] = {
            "path": file.path,
            "tags": [{"tag": tag_names[tag], "score": round(scores[tag], 6)} for tag in best],
        }
        if self.per_window:
            values["windows"] = [
                {
                    "start_s": round(start_s, 3),
                    "scores": {tag_names[tag]: round(window[tag], 6) for tag in best},
                }
                for start_s, window in zip(file.start_s.tolist(), windows, strict=True)
            ]
        return values

    def _print(self, file: "TaggedFile", tag_names: Sequence[str]) -> None:
        from rich.table import Table

        best = file.best(self.top)
        table = Table(title=printable(file.path), title_justify="left")
        if self.per_window:
            table.add_column("from (s)", justify="right")
            for tag in best:
                table.add_column(printable(tag_names[tag]), justify="right")
            for start_s, scores in zip(file.start_s, file.scores[:, best], strict=True):
                table.add_row(f"{start_s:.1f}", *(f"{score:.3f}" for score in scores))
            table.add_section()
            table.add_row("mean", *(f"{score:.3f}" for score in file.mean_scores[best]))
        else:
            table.add_column("tag")
            table.add_column("score", justify="right")
            for tag in best:
                table.add_row(printable(tag_names[tag]), f"{file.mean_scores[tag]:.3f}")
        print_table(table)


@dataclasses.dataclass(frozen=True)
class Embed:
    """Write the features of audio files that a trained network feeds to its output layer.

    Attributes
    ----------
    run_folder
        The run's folder.
    files
        Audio files, or .npy files of a log-mel.
    out
        NumPy archive (.npz) of `paths` and `features`, one row per file: the mean over its windows.
    hop_seconds
        For long files: time between the starts of successive windows, in s. If not given, the
        length of a window.
    """

    run_folder: tyro.conf.Positional[str]
    files: tyro.conf.Positional[tuple[str, ...]]
    out: str
    hop_seconds: float | None = None

    def run(self) -> int:
        from etils import epath

        from crnn_jax.tagging.tagger import write_features

        out = epath.Path(self.out)
        if not out.name or out.is_dir():
            raise UserError(
                "not a file name; give one such as features.npz", field="out", value=self.out
            )
        _, tagged = _tag(self.run_folder, self.files, self.hop_seconds)
        if tagged:
            write_features(tagged, out)
            features = tagged[0].features.shape[1]
            print(f"{self.out}: {len(tagged)} files, {features} features each")
        return 0 if len(tagged) == len(self.files) else 1


def _tag(
    run_folder: str, files: Sequence[str], hop_seconds: float | None
) -> "tuple[Run, list[TaggedFile]]":
    """Tag files with a progress bar; those that cannot be used are reported and skipped."""
    from rich.progress import Progress

    from crnn_jax.api import load_run
    from crnn_jax.tagging.tagger import BadFile

    if not files:
        raise UserError("no file; give one or more after the run's folder")
    keep_compiled()
    run = load_run(run_folder)
    tagged = []
    # On standard error, so that standard output can be read by a program.
    console = make_console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        results = run.tag(files, hop_seconds=hop_seconds)
        for result in progress.track(results, total=len(files), description="Tagging"):
            if isinstance(result, BadFile):
                console.print(printable(f"crnn-jax: {result.message}"))
            else:
                tagged.append(result)
    return run, tagged
