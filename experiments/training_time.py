"""Training time of every architecture and size, with ``--against torch`` next to PyTorch's.

For each cell: seconds per step and per 2,500 samples (the paper's unit), the achieved rate against
that of a large matrix product in the same run, and PyTorch's time over ours. Writes
``training_time.csv`` after every cell and a figure at the end; cells that are in the CSV are not
timed again.

    python experiments/training_time.py --out runs/training_time
    python experiments/training_time.py --out runs/training_time --against torch
"""

import csv
import dataclasses
import io
import itertools
from typing import Any, Literal

import tyro
from etils import epath
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from crnn_jax.bench.run import benchmark
from crnn_jax.config import PAPER_TARGETS, Architecture, BenchmarkConfig
from crnn_jax.figures.canvas import COLUMN_WIDTH, GREY, new_figure, style, write_figure
from crnn_jax.figures.legends import add_legend, architecture_handle
from crnn_jax.figures.looks import architecture_looks
from crnn_jax.figures.parameter_axis import scale_parameter_axis
from crnn_jax.files import write_file

ARCHS: tuple[Architecture, ...] = ("conv1d", "conv2d", "crnn")
BATCHES = (8, 16)
LineStyle = Literal["-", "--"]
KEY = ("arch", "target", "batch", "precision")


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
    batches
        Batch sizes, in clips.
    rounds
        Rounds over the candidates.
    """

    out: str
    against: Literal["torch"] | None = None
    archs: tuple[Architecture, ...] = ARCHS
    targets: tuple[int, ...] = PAPER_TARGETS
    batches: tuple[int, ...] = BATCHES
    rounds: int = 3


def read_rows(path: epath.Path) -> list[dict[str, Any]]:
    """Read the rows of an earlier call."""
    if not path.exists():
        return []
    return list(csv.DictReader(io.StringIO(path.read_text())))


def torch_ratio(row: dict[str, Any]) -> Any:
    """Return PyTorch's time of a float32 step over ours; None if it was not measured.

    ``step_ratio`` is the name in tables of the time before `torch.compile` was among the ways.
    """
    return row.get("torch_float32_step_ratio") or row.get("step_ratio")


def write_rows(path: epath.Path, rows: list[dict[str, Any]]) -> None:
    """Write all rows, under the columns of any of them."""
    text = io.StringIO()
    columns = list(dict.fromkeys(column for row in rows for column in row))
    writer = csv.DictWriter(text, columns, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    write_file(path, text.getvalue().encode())


def draw(rows: list[dict[str, Any]]) -> Figure:
    """Draw the time of a clip and, where all rows have it, PyTorch's time over ours."""
    compared = all(torch_ratio(row) for row in rows)
    batches = sorted({int(row["batch"]) for row in rows})
    line_styles: dict[int, LineStyle] = {
        batch: "-" if batch == batches[-1] else "--" for batch in batches
    }
    looks = architecture_looks(row["arch"] for row in rows)
    with style():
        figure = new_figure(COLUMN_WIDTH, 4.6 if compared else 2.6)
        panels = list(figure.subplots(2 if compared else 1, 1, sharex=True, squeeze=False)[:, 0])
        for (arch, look), batch in itertools.product(looks.items(), batches):
            cells = [row for row in rows if (row["arch"], int(row["batch"])) == (arch, batch)]
            cells.sort(key=lambda row: int(row["params"]))
            params = [int(row["params"]) for row in cells]
            line = {
                "color": look.colour,
                "marker": look.marker,
                "linestyle": line_styles[batch],
                "label": f"{look.name}, batch {batch}",
            }
            times = [1e3 * float(row["step_s"]) / batch for row in cells]
            panels[0].plot(params, times, **line)
            if compared:
                panels[1].plot(params, [float(torch_ratio(row)) for row in cells], **line)
        panels[0].set(yscale="log", ylabel="Training step (ms per clip)")
        panels[0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panels[0].yaxis.set_major_formatter("{x:g}")
        panels[0].yaxis.set_minor_locator(NullLocator())
        targets = [int(row["target"]) for row in rows]
        scale_parameter_axis(panels[-1], [int(row["params"]) for row in rows], targets)
        if compared:
            panels[1].set_ylabel("PyTorch's time / ours")
            panels[1].axhline(1.0, color=GREY, linewidth=0.8)
            panels[1].set_ylim(bottom=0)
        add_legend(
            figure,
            [architecture_handle(look) for look in looks.values()],
            [
                Line2D([], [], color=GREY, linestyle=line_style, label=f"batch {batch}")
                for batch, line_style in line_styles.items()
            ],
            title=", ".join(sorted({row["device"] for row in rows})),
        )
    return figure


def main(config: TrainingTime) -> None:
    """Time the cells that are not in the table yet."""
    out = epath.Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    table = out / "training_time.csv"
    rows = read_rows(table)
    done = {tuple(str(row[key]) for key in KEY) for row in rows}
    for batch, target, arch in itertools.product(config.batches, config.targets, config.archs):
        cell = BenchmarkConfig(
            arch, target, batch=batch, rounds=config.rounds, against=config.against
        )
        if (arch, str(target), str(batch), cell.precision) in done:
            continue
        row = benchmark(cell)
        rows.append(row)
        write_rows(table, rows)
        ratio = f", PyTorch × {torch_ratio(row):.2f}" if torch_ratio(row) else ""
        print(
            f"{arch} {target:,} batch {batch}: {1e3 * row['step_s'] / batch:.1f} ms per clip, "
            f"{row['gflops']:.0f} of {row['matmul_gflops']:.0f} GFLOP/s{ratio}"
        )
    for path in write_figure(draw(read_rows(table)), out / "figures", "training_time"):
        print(path)


if __name__ == "__main__":
    main(tyro.cli(TrainingTime, description=__doc__))
