"""Commands that show studies in a browser."""

import dataclasses
import json
from typing import TYPE_CHECKING

import tyro
from etils import epath

from crnn_jax.cli.commands.analysis import check_resampling, make_titled, to_mapping
from crnn_jax.cli.display import print_table
from crnn_jax.config import RESAMPLES
from crnn_jax.errors import UserError
from crnn_jax.user_text import printable

if TYPE_CHECKING:
    from rich.table import Table

    from crnn_jax.analysis.across import Across


@dataclasses.dataclass(frozen=True)
class Report:
    """Write a page that shows a sweep or a run in a browser: one file, which opens offline.

    Attributes
    ----------
    folder
        The sweep's folder, or that of one of its runs.
    out
        The file; if not given, `report.html` in the folder.
    resamples
        How often test clips and seeds are resampled for the intervals.
    seed
        Of the resampling.
    times
        CSV of each network's training speed, measured alone, as for `analyse`; if not given, the
        runs' own times count.
    """

    folder: tyro.conf.Positional[str]
    out: str | None = None
    resamples: int = RESAMPLES
    seed: int = 0
    times: str | None = None

    def run(self) -> int:
        from crnn_jax.report.run_contents import is_run
        from crnn_jax.report.run_page import write_run_report
        from crnn_jax.report.study_page import write_report

        check_resampling(self.resamples, self.seed)
        if is_run(epath.Path(self.folder)):
            if self.times is not None:
                raise UserError(
                    f"{self.folder} is a run, which took the time that it took; leave it out",
                    field="times",
                    value=self.times,
                )
            path = write_run_report(self.folder, self.out)
        else:
            path = write_report(
                self.folder,
                self.out,
                n_resamples=self.resamples,
                seed=self.seed,
                times=self.times,
            )
        print(path)
        return 0


@dataclasses.dataclass(frozen=True)
class Compare:
    """Compare each network of a sweep with the same one of other sweeps, and write a page of it.

    Two machines, two data sets, before and after a change. On the same test clips the differences
    are paired.

    Attributes
    ----------
    folders
        The sweeps' folders, the one to compare with first.
    out
        The page.
    resamples
        How often test clips and seeds are resampled for the intervals.
    seed
        Of the resampling.
    json
        Print everything as JSON, and write no page.
    """

    folders: tyro.conf.Positional[tuple[str, ...]]
    out: str = "compare.html"
    resamples: int = RESAMPLES
    seed: int = 0
    json: bool = False

    def run(self) -> int:
        from crnn_jax.analysis.across import compare_studies
        from crnn_jax.report.compare_page import render_comparison
        from crnn_jax.report.html import bundling, write_page

        check_resampling(self.resamples, self.seed)
        folders = list(map(epath.Path, self.folders))
        if self.json:
            values = to_mapping(compare_studies(folders, self.resamples, self.seed))
            del values["results"]
            print(json.dumps(values, indent=2, allow_nan=False))
            return 0
        with bundling() as bundle:
            across = compare_studies(folders, self.resamples, self.seed)
            print_table(_comparison(across))
            for note in across.notes:
                print(printable(note))
            write_page(epath.Path(self.out), render_comparison(across, bundle()))
        print(self.out)
        return 0


def _comparison(across: "Across") -> "Table":
    from crnn_jax.analysis.words import describe_interval

    table = make_titled(
        f"AUC in each study minus that in {printable(across.folders[0])}",
        ("architecture", "rule"),
        ("size", *map(printable, across.folders)),
    )
    for match in across.matches:
        cells = []
        for score, difference in zip(match.scores, match.differences, strict=True):
            shown = "–" if score is None else f"{score.auc:.3f}"
            if difference is not None:
                shown += f", {describe_interval(difference.auc)}"
            cells.append(shown)
        table.add_row(match.arch, match.rule, f"{match.target:,}", *cells)
    return table
