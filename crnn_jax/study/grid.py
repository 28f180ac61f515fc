"""The cells of a study, their networks, and the checks before any of them is trained."""

import dataclasses
import os
from pathlib import Path

from crnn_jax.config import FEWEST_POSITIVES, ModelConfig, SweepConfig
from crnn_jax.data.batches import count_crop
from crnn_jax.data.collection import SPLITS
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
    # The longest first: with the schedule wsd, shorter ones branch off it.
    budgets = sorted(config.time_budgets, reverse=True)
    grid = [
        Cell(arch, target, rule, seed, learning_rate, train_fraction, max_train_seconds, fold)
        for seed in config.seeds
        # Cells that read the same clips follow each other.
        for fold in (range(config.folds) if config.folds else (None,))
        for train_fraction in sorted(config.train_fractions) or (None,)
        for target in sorted(config.targets)
        for rule in config.rules
        for arch in config.archs
        for learning_rate in config.learning_rates or (None,)
        for max_train_seconds in budgets or (None,)
    ]
    cells = [*grid, *(Cell(*values) for values in config.extra_cells)]
    if config.folds is not None and config.extra_cells:
        raise UserError("have no fold; leave them out", field="extra_cells")
    if not cells:
        raise UserError("one of archs, targets, rules, seeds is empty; give each a value")
    for cell in cells:
        if cell.arch not in ARCHITECTURES:
            names = ", ".join(ARCHITECTURES)
            raise UserError(
                f"no such architecture; give one of {names}", field="archs", value=cell.arch
            )
        # JAX's keys are made of the seed's last 32 bits.
        if not 0 <= cell.seed < 2**32:
            raise UserError(f"give 0 to {2**32 - 1}", field="seeds", value=cell.seed)
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
        frames=count_crop(data.mel, config.train),
    )


def find_branches(cell: Cell, config: SweepConfig) -> tuple[Cell | None, tuple[float, ...]]:
    """Return the cell that a cell branches off, and the time budgets that branch off it.

    With the schedule ``wsd``, cells that differ only in their time budget are the same until the
    decay of the shorter one begins.
    """
    if config.train.schedule != "wsd" or cell.max_train_seconds is None:
        return None, ()
    longest = max(config.time_budgets)
    if cell.max_train_seconds < longest:
        return dataclasses.replace(cell, max_train_seconds=longest), ()
    return None, tuple(sorted(set(config.time_budgets) - {longest}))


def make_run_config(
    cell: Cell, budget: Budget, config: SweepConfig, data: PreparedSet
) -> RunConfig:
    """Return the content of ``config.json`` for a solved cell."""
    # A full path, so that `evaluate` finds the set from any working folder.
    path = os.fspath(Path(data.path).absolute()) if on_disk(data.path) else data.path
    return RunConfig(
        **cell.columns,
        params=budget.params,
        s=budget.s,
        model=ModelConfig(
            arch=cell.arch,
            widths=budget.widths,
            n_tags=len(data.tag_names),
            n_mels=data.mel.n_mels,
            **dataclasses.asdict(config.network),
        ),
        train=cell.train_config(config.train),
        data=DataDescription(
            name=data.name,
            path=path,
            mel=data.mel,
            tag_names=data.tag_names,
            tag_categories=data.tag_categories,
            n_examples=data.n_examples,
            tracks_digest=data.tracks_digest,
            fold=cell.fold,
            folds=config.folds,
        ),
    )


def list_rare_tags(data: PreparedSet, *, all_together: bool = False) -> dict[str, tuple[str, ...]]:
    """Return the tags with fewer than `FEWEST_POSITIVES` positive examples, by split.

    Their scores say little: one example more or less at the top changes an AUC by a tenth. A
    cross-validation scores the examples of all splits together.
    """
    tag_counts = data.tag_counts
    if all_together:
        divided = [tag_counts[split] for split in SPLITS]
        tag_counts = {"all": tuple(map(sum, zip(*divided, strict=True)))}
    rare = {
        split: tuple(
            name
            for name, count in zip(data.tag_names, counts, strict=True)
            if count < FEWEST_POSITIVES
        )
        for split, counts in tag_counts.items()
    }
    return {split: names for split, names in rare.items() if names}


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
