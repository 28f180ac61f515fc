"""The learning rate of each network, found by short runs before the study.

Every network is trained with each of the learning rates for a few epochs, with the first seed. The
study then trains it with the best one, by the validation split. So three seeds of a study with
three learning rates cost three full runs and three short ones, instead of nine full ones.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence

import jax
from etils import epath

from crnn_jax.config import SweepConfig
from crnn_jax.data.batches import count_steps
from crnn_jax.data.prepared import PreparedSet
from crnn_jax.errors import UserError
from crnn_jax.study import runs
from crnn_jax.study.events import OnSweepEvent, RatesChosen, ignore
from crnn_jax.study.grid import list_cells
from crnn_jax.study.manifest import Origin, announce
from crnn_jax.study.schema import Cell, Network
from crnn_jax.study.sweep import make_jobs, sweep
from crnn_jax.train import parallel
from crnn_jax.train.schedule import make_plan

# Seconds between looks at cells that another command is training.
WAIT_S = 2.0


def make_trial(config: SweepConfig) -> SweepConfig:
    """Return the study of the short runs."""
    assert config.trial_epochs is not None, "only studies with a trial have one"
    return dataclasses.replace(
        config,
        seeds=config.seeds[:1],
        time_budgets=(),
        extra_cells=(),
        trial_epochs=None,
        train=dataclasses.replace(config.train, epochs=config.trial_epochs, max_train_seconds=None),
    )


def try_rates(
    config: SweepConfig,
    data: PreparedSet,
    out: epath.Path,
    run_study: Callable[..., list[Cell]] = sweep,
    on_event: OnSweepEvent = ignore,
    origin: Origin = Origin(),
) -> list[Cell]:
    """Run the short runs that have no result yet; return the study's cells with their rates.

    Parameters
    ----------
    config, data, out
        The study, its data set and its folder.
    run_study
        Trains the cells of a study that have no result, and returns those that failed
        (`crnn_jax.study.sweep.sweep`, or that with some of its arguments).
    on_event
        Called with `crnn_jax.study.events.RatesChosen` at the end.
    origin
        Where the study comes from, for ``study.json``.

    Raises
    ------
    UserError
        As in `sweep`, or if all short runs of a network failed.
    """
    trial = make_trial(config)
    cells, folder = list_cells(trial), out / runs.TRIAL
    # What is wrong with the other cells is said now, and not after the trial.
    lowest = dict.fromkeys((cell.network for cell in cells), min(config.learning_rates))
    make_jobs(config, data, out, list_cells_with(config, lowest))
    _check_schedule(config, trial, data)
    if jax.process_index() == 0:
        # Its cells are not known yet: it is not over when its short runs are.
        announce(out, origin)
    failed: set[Cell] = set()
    while True:
        waiting = [cell for cell in cells if cell not in failed]
        failed |= set(run_study(trial, data, folder, cells=waiting))
        parallel.together()
        # Of several processes the first one asks: they see a shared disk at different times.
        left = [cell for cell in waiting if cell not in failed and not _is_done(folder, cell)]
        if not parallel.agree_on(len(left)):
            break
        if jax.process_index() == 0:
            _wait_for(folder, left)
        parallel.together()
    rates = _choose(config.learning_rates, cells, folder)
    on_event(RatesChosen(rates))
    return list_cells_with(config, rates)


def _check_schedule(config: SweepConfig, trial: SweepConfig, data: PreparedSet) -> None:
    """Raise a UserError if the schedule does not fit into the trial's epochs."""
    for fraction in trial.train_fractions or (trial.train.train_fraction,):
        train = dataclasses.replace(trial.train, train_fraction=fraction)
        try:
            make_plan(train, count_steps(data, train))
        except UserError as error:
            raise UserError(
                f"too few for the schedule ({error}); give more, or fewer warmup_steps",
                field="trial_epochs",
                value=config.trial_epochs,
            ) from error


def _is_done(folder: epath.Path, cell: Cell) -> bool:
    return (folder / cell.name / "result.json").exists()


def _wait_for(folder: epath.Path, cells: Sequence[Cell]) -> None:
    """Wait until one of the cells is done, or no other command holds it any more."""
    while not any(_is_done(folder, cell) for cell in cells):
        for cell in cells:
            with runs.hold(folder / cell.name) as held:
                if held:
                    return
        time.sleep(WAIT_S)


def _choose(
    learning_rates: Sequence[float], cells: Sequence[Cell], folder: epath.Path
) -> dict[Network, float]:
    """Return each network's learning rate with the best validation AUC; of equals, the lowest."""
    scores: dict[Network, dict[float, float]] = {cell.network: {} for cell in cells}
    for cell in cells:
        result = runs.read_result(folder / cell.name)
        if result is not None and cell.learning_rate is not None:
            scores[cell.network][cell.learning_rate] = result.valid_auc
    chosen = {}
    for network, of_rates in scores.items():
        best = max(sorted(of_rates), key=of_rates.__getitem__, default=None)
        place = -1 if best is None else learning_rates.index(best)
        # The first process reads what it has written; the others may not see it yet.
        place = parallel.agree_on(place)
        if place < 0:
            raise UserError(
                f"all learning rates of {network.arch} at {network.target:,} parameters failed; "
                f"see {folder}/*/failed.json, and give lower ones",
                field="learning_rates",
                value=" ".join(f"{rate:g}" for rate in learning_rates),
            )
        chosen[network] = learning_rates[place]
    return chosen


def list_cells_with(config: SweepConfig, rates: Mapping[Network, float]) -> list[Cell]:
    """Return the study's cells, each with the learning rate that was chosen for its network.

    A cell beside the grid has the one of its architecture's nearest size in the grid, if possible
    with the same rule.
    """

    def find(cell: Cell) -> float:
        def distance(network: Network) -> tuple[bool, float, float]:
            return (
                network.rule != cell.rule,
                abs(math.log(network.target / cell.target)),
                -(network.train_fraction or 1.0),
            )

        same = [network for network in rates if network.arch == cell.arch]
        return rates.get(cell.network) or rates[min(same, key=distance)]

    cells = list_cells(dataclasses.replace(config, learning_rates=(), trial_epochs=None))
    return [dataclasses.replace(cell, learning_rate=find(cell)) for cell in cells]
