"""Commands for data sets."""

import dataclasses
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from crnn_jax.cli.display import print_table, show_preparation
from crnn_jax.cli.flags import Flat
from crnn_jax.config import DataConfig
from crnn_jax.signals import sigterm_raises
from crnn_jax.user_text import printable

if TYPE_CHECKING:
    from crnn_jax.data.prepared import PreparedSet
    from crnn_jax.data.shards import Engine


@dataclasses.dataclass(frozen=True)
class Prepare:
    """Prepare a data set: decode, compute log-mels, store them as TFDS records.

    It can be interrupted at any time; give the same command again to resume.

    Attributes
    ----------
    dataset
        synthetic, rendered, folder, msd, magnatagatune or jamendo.
    engine
        What makes the shards: processes on this machine, or an Apache Beam pipeline.
    runner
        Beam only: name of the runner, such as FlinkRunner, SparkRunner or PortableRunner.
    runner_options
        Beam only: options of the pipeline and the runner, as name=value without dashes.
    """

    dataset: tyro.conf.Positional[str]
    engine: Literal["local", "beam"] = "local"
    runner: str = "DirectRunner"
    runner_options: tuple[str, ...] = ()
    data: Annotated[DataConfig, Flat] = DataConfig()

    def run(self) -> int:
        engine = None
        if self.engine == "beam":
            from crnn_jax.data.engines.beam import beam_engine

            engine = beam_engine(self.runner, self.runner_options)
        data = prepare_data(dataclasses.replace(self.data, dataset=self.dataset), engine)
        sizes = ", ".join(f"{count:,} {split}" for split, count in data.n_examples.items())
        print(f"{data.path}: {sizes}; {len(data.tag_names)} tags")
        if data.n_rejected:
            print(_rejected(data))
        return 0


@dataclasses.dataclass(frozen=True)
class Inspect:
    """Summarise a data set, and draw sample clips, mean spectra and tag counts.

    Attributes
    ----------
    dataset
        Folder of a prepared data set, or the name of one, which is prepared if it does not exist.
    out
        PNG file to write; if not given, `inspection.png` in the data set's folder.
    """

    dataset: tyro.conf.Positional[str]
    out: str | None = None
    data: Annotated[DataConfig, Flat] = DataConfig()

    def run(self) -> int:
        from etils import epath
        from rich.table import Table

        from crnn_jax.api import check_local
        from crnn_jax.figures.inspection import check_page_path, draw_page

        if self.out is not None:
            check_page_path(epath.Path(self.out))
        check_local(dataclasses.replace(self.data, dataset=self.dataset))
        data = prepare_data(dataclasses.replace(self.data, dataset=self.dataset))
        clip = f"{data.mel.n_mels} × {data.mel.frames} log-mels of {data.mel.clip_seconds:g} s"
        print(f"{data.path}: {clip}")
        splits = list(data.n_examples)
        table = Table(show_footer=True)
        table.add_column("tag", "clips")
        table.add_column("category")
        for split in splits:
            table.add_column(split, f"{data.n_examples[split]:,}", justify="right")
        for name, category, *counts in zip(
            data.tag_names,
            data.tag_categories,
            *(data.tag_counts[split] for split in splits),
            strict=True,
        ):
            table.add_row(printable(name), printable(category), *(f"{n:,}" for n in counts))
        print_table(table)
        print(_rejected(data) if data.n_rejected else "no file was rejected")
        out = epath.Path(data.path) / "inspection.png" if self.out is None else epath.Path(self.out)
        draw_page(data, out)
        print(out)
        return 0


def _rejected(data: "PreparedSet") -> str:
    """Describe how many files were rejected, for which reasons, and where they are listed."""
    reasons = ", ".join(
        f"{count:,} {reason}" for reason, count in data.rejected_by_reason().items()
    )
    return f"{data.n_rejected:,} files could not be used ({reasons}): {data.path}/rejected.csv"


def prepare_data(config: DataConfig, engine: "Engine | None" = None) -> "PreparedSet":
    """Prepare or open a data set, with a progress bar."""
    from crnn_jax.data.prepared import prepare

    with sigterm_raises(), show_preparation(config.dataset) as report:
        return prepare(config, engine=engine, report=report)
