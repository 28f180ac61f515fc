"""The command that times a network."""

import dataclasses
import json

from crnn_jax.cli.display import print_table
from crnn_jax.config import SHORTEST_FRAMES, BenchmarkConfig, MelConfig
from crnn_jax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Benchmark(BenchmarkConfig):
    """Time a training step and a prediction of one network, optionally next to PyTorch's.

    Attributes
    ----------
    json
        Print JSON instead of a table.
    """

    json: bool = False

    def run(self) -> int:
        from crnn_jax.bench.run import benchmark

        mel = MelConfig(clip_seconds=self.clip_seconds)
        if mel.frames < SHORTEST_FRAMES:
            shortest = SHORTEST_FRAMES * mel.hop_length / mel.sample_rate
            raise UserError(
                f"the networks need {shortest:.2g} s; give that or more",
                field="clip_seconds",
                value=f"{self.clip_seconds:g}",
            )
        fields = (field.name for field in dataclasses.fields(BenchmarkConfig))
        report = benchmark(BenchmarkConfig(**{name: getattr(self, name) for name in fields}))
        if self.json:
            print(json.dumps(report, indent=2))
            return 0
        from rich.table import Table

        table = Table(title=f"{report['arch']}, {report['params']:,} parameters")
        table.add_column("")
        table.add_column("", justify="right")
        for key, value in report.items():
            table.add_row(key, f"{value:,.4g}" if isinstance(value, float) else str(value))
        print_table(table)
        return 0
