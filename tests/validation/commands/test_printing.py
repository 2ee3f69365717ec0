"""What reports and figures say: of runs without noise, that diverge, of wrapped equations; legends beside the data."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dynamics import Trajectory
from dynamics._described import hyperparameters
from equations import SGD, Adam, Objective, decayed, scheduled
from validation import compare
from validation._axes import finish
from validation._commands.compare_report import write_report
from validation._compare.compare import Comparison
from validation._compare.plots import plot_difference, plot_fan
from validation._compare.statistics import moments
from validation._irreversibility.result import Irreversibility

CASES = [
    ("comparisons without noise", "instance", "inf s.e. and 64 paths each", "test_without_noise"),
    ("comparisons without noise", "brother", "a side with noise, one without", "test_one_side_without_noise"),
    ("comparisons without noise", "brother", "an observable that nothing moves", "test_an_observable_that_stays"),
    ("a comparison that has diverged", "instance", "failed paths 0.0 % beside 1e29", "test_divergence"),
    ("a comparison that has diverged", "brother", "from large parameters, that is none", "test_large_parameters"),
    ("a comparison that has diverged", "brother", "one path of many", "test_one_path_diverges"),
    ("headings and settings of a report", "instance", "two sections headed Scheduled", "test_report"),
    ("headings and settings of a report", "instance", "Minibatch() though gaussian was asked for", "test_report"),
    ("headings and settings of a report", "brother", "fields that are no fields", "test_hyperparameters"),
    ("headings and settings of a report", "brother", "a schedule that was stretched", "test_hyperparameters"),
    ("columns of irreversibility", "instance", "an empty curl column", "test_curl_column[none]"),
    ("columns of irreversibility", "brother", "curls that there are", "test_curl_column[all]"),
    ("columns of irreversibility", "brother", "curls of some forces", "test_curl_column[some]"),
    ("legends over data", "instance", "fan and difference of compare", "test_legends_cover_no_data[fan]"),
    ("legends over data", "brother", "the difference", "test_legends_cover_no_data[difference]"),
    ("legends over data", "brother", "long labels in a narrow panel", "test_legends_cover_no_data[panel]"),
]
DATA = np.array([[-1.0, 0.3], [1.0, 0.2], [0.5, -0.1], [-0.5, -0.4]])


def quadratic(w, example):
    return 0.5 * jnp.sum((w - example) ** 2)


OBJECTIVE, START = Objective(quadratic, DATA), jnp.array([1.0, 2.0])


def made(equation, flow, run, noise="minibatch"):
    """A `Comparison` of given observables "x", arrays `(paths, saves)`, whose final parameters are their last."""

    def trajectory(values, kind):
        values = jnp.asarray(values)
        count, saves = values.shape
        steps = jnp.arange(saves)
        return Trajectory(
            steps, steps.astype(float), {"x": values}, values[:, -1:], jnp.ones(count, bool), jnp.full(count, -1),
            equation, kind, (("noise", noise),),
        )  # fmt: skip

    flow, run = trajectory(flow, "equation"), trajectory(run, "discrete")
    quiet = not equation.random
    kept = [np.asarray(side.observables["x"])[: 1 if quiet else None] for side in (flow, flow, run)]
    return Comparison(equation, flow, flow, run, {"x": moments(*kept, 2, (not quiet, not quiet))})


@pytest.mark.slow
def test_without_noise():
    result = compare(SGD(0.1), OBJECTIVE, START, steps=4, observe={"w": lambda w: w})
    text = str(result)
    assert (
        result.scale == 2
        and "nothing is random: one path each" in text
        and "s.e." not in text
        and "variance" not in text
    )
    model = np.abs(result.moments["w"]["mean"].model_error.value / result.moments["w"]["mean"].discrete.value)
    row = next(line for line in text.splitlines() if line.startswith("w[1]"))
    assert row.split()[-4:] == [f"{model[-1, 1]:.2e}", f"{model[:, 1].max():.2e}", "at", f"{np.argmax(model[:, 1])}"]


def paths(count, seed, size=1.0):
    return 1 + size * np.cumsum(np.random.default_rng(seed).normal(size=(count, 6)), axis=1)


def test_one_side_without_noise():
    result = made(SGD(0.1, 1), paths(8, 0), paths(8, 1))
    assert ", 8 paths each" in str(result) and "Student's t" in str(result)
    shuffled = SGD(0.1, 1, "shuffled")
    values = [np.ones((1, 6)), np.ones((1, 6)), paths(8, 1)]
    kept = {"x": moments(*values, 2, (False, True))}
    text = str(Comparison(shuffled, result.flow, result.flow, result.run, kept))
    assert "8 paths of the discrete algorithm, one of the equation, which has no noise" in text and " inf" not in text


def test_an_observable_that_stays():
    still = np.ones((8, 6))
    text = str(made(SGD(0.1, 1), still, still + 1e-3))
    row = next(line for line in text.splitlines() if line.startswith("x ") and "mean" in line)
    assert row.split()[-3] == "9.99e-04" and " inf" not in text and " nan" not in text


def test_divergence():
    growth = 2.0 ** np.arange(0, 102, 20)[None]
    text = str(made(SGD(3.0), np.ones((1, 6)), growth))
    assert "The discrete side diverges: parameters of up to 1.3e+30 on 100.0% of its paths" in text
    assert "equation side diverges" not in text
    assert made(SGD(3.0), growth, growth).to_dict()["runaway_fraction"]["equation"] == 1


def test_large_parameters():
    large = made(SGD(0.1), 1e12 * np.ones((1, 6)), 1e12 * np.ones((1, 6)))
    assert "diverges" in str(large) and "diverges" not in str(dataclasses.replace(large, scale=1e12))


def test_one_path_diverges():
    run = paths(8, 1)
    run[3] *= 1e12
    result = made(SGD(0.1, 1), paths(8, 0), run)
    assert result.runaway["discrete"][0] == 0.125 and "on 12.5% of its paths, which the averages hold" in str(result)


@pytest.mark.slow
def test_report(tmp_path):
    schedule = optax.cosine_decay_schedule(1.0, 10)
    results = {
        kind.__name__: made(scheduled(decayed(kind(0.1, 1), 0.1), schedule), paths(8, 0), paths(8, 1), "gaussian")
        for kind in (SGD, Adam)
    }
    write_report(tmp_path, "A title", results, {})
    page = (tmp_path / "report.html").read_text()
    assert ">Scheduled(Decayed(SGD))</h2>" in page and ">Scheduled(Decayed(Adam))</h2>" in page
    assert "noise = Gaussian gradients of the covariance of Minibatch()" in page and "noise_model" not in page
    assert "stretch =" not in page and "decays =" not in page and "8 paths each." in page


def test_hyperparameters():
    wrapped = scheduled(Adam(0.1), optax.cosine_decay_schedule(1.0, 10))
    found = hyperparameters(wrapped)
    assert {"decays", "stretch", "equation"} & set(found) == set() and found["b1"] == 0.9
    assert hyperparameters(wrapped.scaling_limit().rescaled(0.25))["stretch"] != 1


@pytest.mark.parametrize("curl", [{}, {"velocity": 0.5, "backward_error": 0.25}, None], ids=["none", "some", "all"])
def test_curl_column(curl):
    names = ("backward_error", "time_renormalized", "time_asymmetry", "entropy_production")
    numbers = dict.fromkeys(names, 1.0)
    curl = dict.fromkeys(("velocity", *names[:3]), 0.125) if curl is None else curl
    result = Irreversibility(
        SGD(0.1, 1), 1.0, None, numbers, numbers, {}, numbers, numbers, curl, 4, True, "none", 1, True,
    )  # fmt: skip
    header = next(line for line in str(result).splitlines() if line.startswith("measure"))
    assert ("curl" in header) == bool(curl) and ("curl: 0 if" in str(result)) == bool(curl)


def boxes(ax):
    """The legend and the axes in pixels, once drawn."""
    ax.figure.canvas.draw()
    return ax.get_legend().get_window_extent(), ax.get_window_extent(), ax.figure.bbox


@pytest.mark.parametrize("which", ["fan", "difference", "panel"])
def test_legends_cover_no_data(which):
    result = made(SGD(0.1, 1), paths(8, 0), paths(8, 1))
    if which == "panel":
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(4, 3.6), layout="constrained")
        FigureCanvasAgg(figure)
        ax = figure.add_subplot()
        for place in range(3):
            ax.plot([0, 1], [0, place], label=f"a rather long label number {place}")
        finish(ax, "title", "x", "y")
    else:
        ax = {"fan": plot_fan, "difference": plot_difference}[which](result, "x")
    legend, axes, figure = boxes(ax)
    assert not legend.overlaps(axes) and figure.x0 - 1 <= legend.x0 and legend.x1 <= figure.x1 + 1
    assert ax.get_xlabel() and ax.get_ylabel()
    if which == "difference":
        assert ax.get_ylabel() == "equation − discrete"
