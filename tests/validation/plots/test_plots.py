"""Figures of trajectories and results: they draw into the axes that are given, and say what is wrong in one line."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

from dynamics import solve, train
from equations import SGD, Objective
from validation import compare, orders, plots

DATA = jnp.array([[1.0, 0.0], [-1.0, 0.5], [0.0, 1.0], [2.0, -1.0]])
OBJECTIVE = Objective(lambda w, x: jnp.sum((w - x) ** 2) / 2, DATA)
OPTIONS = dict(
    steps=8, key=jax.random.key(0), paths=6, save_every=4, observe={"loss": OBJECTIVE.value, "w": lambda w: w}
)


@pytest.fixture(scope="module")
def both():
    return [run(SGD(0.1, 2), OBJECTIVE, jnp.zeros(2), **OPTIONS) for run in (solve, train)]


@pytest.fixture
def ax():
    return Figure().add_subplot()


@pytest.mark.slow
def test_two_runs_in_one_figure(both, ax):
    assert plots.plot(*both, observable="loss", ax=ax) is ax
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert len(ax.lines) == 2 and labels[0].endswith("equation") and labels[1].endswith("discrete")
    middle = np.median(np.asarray(both[1].observables["loss"]), axis=0)
    np.testing.assert_allclose(ax.lines[1].get_ydata(), middle)


@pytest.mark.slow
def test_the_axis_is_time_where_it_is_asked_for(both, ax):
    plots.plot(both[0], observable="w", component=(1,), band="standard error", time=True, labels=["SGD"], ax=ax)
    np.testing.assert_allclose(ax.lines[0].get_xdata(), both[0].times)
    assert ax.get_xlabel() == "time" and ax.get_ylabel() == "w[1]"


@pytest.mark.slow
def test_phase_and_density(both):
    phase = plots.plot_phase(*both, x=("w", 0), y=("w", 1), paths=2)
    assert len(phase.lines) == 2 * 2 * 2  # a line and a dot for each path
    samples = np.random.default_rng(0).normal(size=4000)
    drawn = plots.plot_density(samples, lambda x: -(x**2) / 2)
    at, density = drawn.lines[0].get_data()
    np.testing.assert_allclose(density, np.exp(-(at**2) / 2) / np.sqrt(2 * np.pi), rtol=5e-3)


def test_orders():
    report = orders(SGD(0.1), OBJECTIVE, jnp.zeros(2), time=0.8, learning_rates=[0.2, 0.1, 0.05])
    ax = report.plot()
    assert any("slope 1" in text.get_text() for text in ax.get_legend().get_texts())
    with pytest.raises(ValueError, match="Argument `measure`"):
        report.plot(measure="mode")


@pytest.mark.slow
def test_a_comparison_draws_its_first_observable():
    result = compare(SGD(0.1, 2), OBJECTIVE, jnp.zeros(2), **OPTIONS)
    assert result.plot().get_ylabel() == "loss" and result.plot("w", (0,)).get_ylabel() == "w[0]"


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda run: plots.plot(observable="loss"), "`trajectories` must be at least one"),
        (lambda run: plots.plot("loss", observable="loss"), "`trajectories` must be results of `solve` or `train`"),
        (lambda run: plots.plot(run, observable="los"), "`observable` must be one of"),
        (lambda run: plots.plot(run, observable="w"), "`component` must index"),
        (lambda run: plots.plot(run, observable="loss", band="all"), "`band` must be"),
        (lambda run: plots.plot(run, observable="loss", labels=["a", "b"]), "`labels` must have one for each"),
        (lambda run: plots.plot(run, observable="loss", ax="loss"), "`ax` must be Matplotlib axes"),
        (lambda run: plots.plot_phase(run, x="w", y="loss"), "`component` must index"),
        (lambda run: plots.plot_density([1.0, 1.0]), "`samples` must hold"),
    ],
)
def test_wrong_arguments(both, call, words):
    with pytest.raises((TypeError, ValueError), match=f"Argument {words}"):
        call(both[0])
