"""Training time of every architecture and size, with ``--against torch`` next to PyTorch's.

For each cell: seconds per step and per 2,500 samples (the paper's unit), the achieved rate against
that of a large matrix product in the same run, and PyTorch's time over ours. Writes
``training_time.csv`` after every cell and a figure at the end; cells that are in the CSV are not
timed again, unless PyTorch's times are missing.

    python experiments/training_time.py --out runs/training_time
    python experiments/training_time.py --out runs/training_time --against torch

The table gives `crnn-jax analyse --times` the times of a study whose runs shared their machine, or
ran on several.
"""

import dataclasses
import functools
import io
import itertools
import operator
from typing import Literal

import pandas as pd
import tyro
from etils import epath
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from crnn_jax.analysis import tables
from crnn_jax.bench.run import benchmark
from crnn_jax.cli.main import exit_after
from crnn_jax.config import PAPER_TARGETS, Architecture, BenchmarkConfig, Rule
from crnn_jax.errors import UserError
from crnn_jax.figures.canvas import COLUMN_WIDTH, GREY, new_figure, style, write_figure
from crnn_jax.figures.legends import add_legend, architecture_handle
from crnn_jax.figures.looks import architecture_looks
from crnn_jax.figures.parameter_axis import scale_parameter_axis
from crnn_jax.files import write_file

ARCHS: tuple[Architecture, ...] = ("conv1d", "conv2d", "crnn")
BATCHES = (16,)
LineStyle = Literal["-", "--"]
KEY = ("arch", "rule", "target", "batch", "precision", "frames")
# PyTorch's time of a step over ours, where it was measured.
RATIO = "torch_float32_step_ratio"


@dataclasses.dataclass(frozen=True)
class TrainingTime:
    """Measurement of every architecture at every size.

    Attributes
    ----------
    out
        Folder of ``training_time.csv`` and the figure.
    against
        What to compare with.
    archs
        Architectures.
    targets
        Sizes.
    rules
        How widths are scaled.
    batches
        Batch sizes, in clips.
    clip_seconds
        Length of a clip, in s.
    rounds
        Rounds over the candidates.
    """

    out: str
    against: Literal["torch"] | None = None
    archs: tuple[Architecture, ...] = ARCHS
    targets: tuple[int, ...] = PAPER_TARGETS
    rules: tuple[Rule, ...] = ("uniform",)
    batches: tuple[int, ...] = BATCHES
    clip_seconds: float = BenchmarkConfig.clip_seconds
    rounds: int = 3


def read_table(path: epath.Path) -> pd.DataFrame:
    """Read what earlier calls have timed; no rows if there was none."""
    if not path.exists():
        return pd.DataFrame(columns=list(KEY))
    again = "after it is deleted, this script"
    tables.read_table(path, ("arch", "rule", "target", "params"), again)
    table = pd.read_csv(io.StringIO(path.read_text()))
    if lacking := [name for name in (*KEY, "step_s") if name not in table]:
        raise UserError(f"{path}: lacks the column {', '.join(lacking)}; {again} writes it again")
    return table


def rows_of(table: pd.DataFrame, cell: BenchmarkConfig) -> pd.Series:
    """Return which rows are a cell's."""
    same = [table[key] == getattr(cell, key) for key in KEY]
    return functools.reduce(operator.and_, same)


def is_timed(table: pd.DataFrame, cell: BenchmarkConfig) -> bool:
    """Tell whether a cell is in the table, with all that is to be measured."""
    rows = table[rows_of(table, cell)]
    if cell.against is None:
        return len(rows) > 0
    return RATIO in rows and bool(rows[RATIO].notna().any())


def draw(table: pd.DataFrame) -> Figure:
    """Draw the time of a clip and, where all rows have it, PyTorch's time over ours.

    Of several rules, that of the first row is drawn.
    """
    table = table[table["rule"] == table["rule"].iloc[0]]
    compared = RATIO in table and bool(table[RATIO].notna().all())
    batches = sorted(table["batch"].unique())
    line_styles: dict[int, LineStyle] = {
        batch: "-" if batch == batches[-1] else "--" for batch in batches
    }
    looks = architecture_looks(table["arch"])
    with style():
        figure = new_figure(COLUMN_WIDTH, 4.6 if compared else 2.6)
        panels = list(figure.subplots(2 if compared else 1, 1, sharex=True, squeeze=False)[:, 0])
        for (arch, look), batch in itertools.product(looks.items(), batches):
            cells = table[(table["arch"] == arch) & (table["batch"] == batch)]
            cells = cells.sort_values("params")
            line = {
                "color": look.colour,
                "marker": look.marker,
                "linestyle": line_styles[batch],
                "label": f"{look.name}, batch {batch}",
            }
            panels[0].plot(cells["params"], 1e3 * cells["step_s"] / batch, **line)
            if compared:
                panels[1].plot(cells["params"], cells[RATIO], **line)
        panels[0].set(yscale="log", ylabel="Training step (ms per clip)")
        panels[0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panels[0].yaxis.set_major_formatter("{x:g}")
        panels[0].yaxis.set_minor_locator(NullLocator())
        scale_parameter_axis(panels[-1], list(table["params"]), list(table["target"]))
        if compared:
            panels[1].set_ylabel("PyTorch's time / ours,\nfastest way in float32")
            panels[1].axhline(1.0, color=GREY, linewidth=0.8)
            panels[1].set_ylim(bottom=0)
        add_legend(
            figure,
            [architecture_handle(look) for look in looks.values()],
            [
                Line2D([], [], color=GREY, linestyle=line_style, label=f"batch {batch}")
                for batch, line_style in line_styles.items()
            ],
            title=", ".join(sorted(table["device"].unique())),
        )
    return figure


def main(config: TrainingTime) -> None:
    """Time the cells that are not in the table yet."""
    out = epath.Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    path = out / "training_time.csv"
    table = read_table(path)
    cells = itertools.product(config.batches, config.rules, config.targets, config.archs)
    for batch, rule, target, arch in cells:
        cell = BenchmarkConfig(
            *(arch, target, rule, batch, config.clip_seconds),
            rounds=config.rounds,
            against=config.against,
        )
        if is_timed(table, cell):
            continue
        report = benchmark(cell)
        row = {key: value for key, value in report.items() if not isinstance(value, dict)}
        table = pd.concat([table[~rows_of(table, cell)], pd.DataFrame([row])], ignore_index=True)
        write_file(path, table.to_csv(index=False).encode())
        ratio = f", PyTorch × {row[RATIO]:.2f}" if RATIO in row else ""
        print(
            f"{arch} {target:,} {rule} batch {batch}: {1e3 * row['step_s'] / batch:.1f} ms per "
            f"clip, {row['gflops']:.0f} of {row['matmul_gflops']:.0f} GFLOP/s{ratio}",
            flush=True,
        )
    for figure in write_figure(draw(read_table(path)), out / "figures", "training_time"):
        print(figure)


if __name__ == "__main__":
    exit_after(lambda: main(tyro.cli(TrainingTime, description=__doc__)))
