"""Figures of studies with several learning rates or parts of the data."""

import numpy as np
import pandas as pd

from crnn_jax.figures import draw as draw_module
from crnn_jax.figures.auc_against_data import auc_against_data
from crnn_jax.figures.draw import draw
from crnn_jax.figures.learning_rates import learning_rates
from tests.tables import make_results, make_scores, write_csv

RATES = (1e-4, 1e-3, 1e-2)


def with_rates(best=1e-3):
    results = make_results(rules=("uniform",), seeds=(0, 1))
    parts = [
        results.assign(learning_rate=rate, valid_auc=0.8 - 0.02 * abs(np.log10(rate / best)))
        for rate in RATES
    ]
    return pd.concat(parts, ignore_index=True)


def with_fractions():
    results = make_results(rules=("uniform",), seeds=(0, 1))
    parts = [
        results.assign(train_fraction=fraction, n_train=int(640 * fraction))
        for fraction in (0.1, 1.0)
    ]
    return pd.concat(parts, ignore_index=True).astype({"n_train": "Int64"})


def test_the_curves_of_the_learning_rate_and_their_maxima():
    figure = learning_rates(with_rates())
    assert len(figure.axes) == 6
    left, right = figure.axes[:2]
    curves = [line for line in left.get_lines() if len(line.get_xdata()) == 3]
    assert len(curves) == 2
    for line in curves:
        np.testing.assert_allclose(line.get_xdata(), RATES)
        np.testing.assert_allclose(line.get_ydata(), [0.78, 0.8, 0.78])
    points = [line for line in right.get_lines() if line.get_linestyle() == "None"]
    assert [line.get_ydata().tolist() for line in points] == [[1e-3, 1e-3]]
    # A filled marker: it is not at the edge of what was tried.
    assert points[0].get_markerfacecolor() != "white"


def test_an_optimum_at_the_edge_is_open():
    right = learning_rates(with_rates(best=1e-4)).axes[1]
    points = [line for line in right.get_lines() if line.get_linestyle() == "None"]
    assert [line.get_markerfacecolor() for line in points] == ["white"]


def test_auc_against_the_training_clips():
    (axes,) = auc_against_data(with_fractions()).axes
    lines = [line for line in axes.get_lines() if len(line.get_xdata()) == 2]
    assert len(lines) == 6
    for line in lines:
        assert line.get_xdata().tolist() == [64.0, 640.0]
    assert sorted(text.get_text() for text in axes.texts) == ["0.1M"] * 3 + ["0.25M"] * 3


def test_a_study_with_axes_has_their_figures(tmp_path):
    rates = with_rates()
    write_csv(tmp_path / "results.csv", rates)
    scores = make_scores()
    write_csv(
        tmp_path / "per_tag.csv",
        pd.concat([scores.assign(learning_rate=rate) for rate in RATES], ignore_index=True),
    )
    names = {path.name for path in draw(tmp_path)}
    assert "learning_rates.png" in names
    assert "auc_against_data.png" not in names


def test_a_figure_of_one_axis_does_not_average_over_the_others(tmp_path, monkeypatch):
    """Learning rates are those of all the data; the data's are those of the best learning rate."""
    rates = with_rates()
    both = pd.concat(
        [rates, rates.assign(train_fraction=0.1, n_train=64, valid_auc=rates["valid_auc"] - 0.3)],
        ignore_index=True,
    ).astype({"n_train": "Int64"})
    write_csv(tmp_path / "results.csv", both)
    write_csv(tmp_path / "per_tag.csv", make_scores())
    drawn = {}
    for name in ("learning_rates", "auc_against_data"):
        function = getattr(draw_module, name)
        monkeypatch.setattr(
            draw_module,
            name,
            lambda table, n=name, f=function: drawn.update({n: table}) or f(table),
        )
    draw(tmp_path)
    assert set(drawn["learning_rates"]["train_fraction"]) == {1.0}
    assert set(drawn["learning_rates"]["learning_rate"]) == set(RATES)
    assert set(drawn["auc_against_data"]["train_fraction"]) == {0.1, 1.0}
    assert set(drawn["auc_against_data"]["learning_rate"]) == {1e-3}
