"""The cells of a study, their networks, and the checks before any of them is trained."""

import dataclasses
import os
from pathlib import Path

from crnn_jax.config import ModelConfig, SweepConfig
from crnn_jax.data.batches import count_frames
from crnn_jax.data.prepared import PreparedSet
from crnn_jax.errors import UserError
from crnn_jax.locks import on_disk
from crnn_jax.models import ARCHITECTURES
from crnn_jax.models.budget import Budget, solve
from crnn_jax.study.schema import Cell, DataDescription, RunConfig


def list_cells(config: SweepConfig) -> list[Cell]:
    """Return the grid's cells, small networks first so that mistakes in a study show early.

    Raises
    ------
    UserError
        If the grid is empty, or names an unknown architecture or a negative seed.
    """
    grid = [
        Cell(arch, target, rule, seed)
        for seed in config.seeds
        for target in sorted(config.targets)
        for rule in config.rules
        for arch in config.archs
    ]
    cells = [*grid, *(Cell(*values) for values in config.extra_cells)]
    if not cells:
        raise UserError("one of archs, targets, rules, seeds is empty; give each a value")
    for cell in cells:
        if cell.arch not in ARCHITECTURES:
            names = ", ".join(ARCHITECTURES)
            raise UserError(
                f"no such architecture; give one of {names}", field="archs", value=cell.arch
            )
        if cell.seed < 0:
            raise UserError("give 0 or more", field="seeds", value=cell.seed)
    return list(dict.fromkeys(cells))


def solve_cell(cell: Cell, config: SweepConfig, data: PreparedSet) -> Budget:
    """Find the widths of a cell's network for this data (`crnn_jax.models.budget.solve`)."""
    return solve(
        cell.arch,
        cell.rule,
        cell.target,
        n_tags=len(data.tag_names),
        n_mels=data.mel.n_mels,
        options=config.network,
        frames=count_frames(data.mel, config.train.clip_seconds),
    )


def make_run_config(
    cell: Cell, budget: Budget, config: SweepConfig, data: PreparedSet
) -> RunConfig:
    """Return the content of ``config.json`` for a solved cell."""
    # A full path, so that `evaluate` finds the set from any working folder.
    path = os.fspath(Path(data.path).absolute()) if on_disk(data.path) else data.path
    return RunConfig(
        **dataclasses.asdict(cell),
        params=budget.params,
        s=budget.s,
        model=ModelConfig(
            arch=cell.arch,
            widths=budget.widths,
            n_tags=len(data.tag_names),
            n_mels=data.mel.n_mels,
            **dataclasses.asdict(config.network),
        ),
        train=config.train,
        data=DataDescription(
            name=data.name,
            path=path,
            mel=data.mel,
            tag_names=data.tag_names,
            tag_categories=data.tag_categories,
            n_examples=data.n_examples,
            tracks_digest=data.tracks_digest,
        ),
    )


def check_scorable(data: PreparedSet) -> None:
    """Raise a UserError if training could not be scored, or has nothing to learn."""
    if not any(data.tag_counts["train"]):
        raise UserError(
            f"{data.path}: no tag has a positive example in the training split; give it more files"
        )
    for split in ("valid", "test"):
        n_examples = data.n_examples[split]
        if not any(0 < count < n_examples for count in data.tag_counts[split]):
            raise UserError(
                f"{data.path}: no tag has both positive and negative examples in the {split} "
                f"split, so there is no AUC; give it more files"
            )
