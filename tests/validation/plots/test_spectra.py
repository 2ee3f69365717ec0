"""Figures of spectra and of entropy production: what they draw, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

from dynamics import entropy_production, train
from equations import SGD, Objective
from validation import plots

PULLS = jax.random.normal(jax.random.key(1), (20, 2)) @ jnp.array([[1.0, 0.9], [0.0, 0.4]])
OBJECTIVE = Objective(lambda w, e: 0.5 * w @ jnp.diag(jnp.array([2.0, 0.5])) @ w - e @ w, PULLS)


@pytest.fixture(scope="module")
def produced():
    options = dict(steps=6, key=jax.random.key(0), paths=8, noise="gaussian", keep_states=True)
    run = train(SGD(0.05, 4), OBJECTIVE, jnp.ones(2), **options)
    return entropy_production(SGD(0.05, 4), OBJECTIVE, run), run


def test_entropy_is_a_rate_with_two_standard_errors(produced):
    entropy, run = produced
    ax = Figure().add_subplot()
    assert plots.plot_entropy(entropy, run, rest=1.5, bound=(1.0, 0.1), ax=ax) is ax
    rates = np.asarray(entropy.medium) / 0.05  # entropy per unit of time, not per step
    np.testing.assert_allclose(ax.lines[0].get_data(), [np.arange(1, 7), rates.mean(axis=0)])
    upper = ax.collections[0].get_paths()[0].vertices[:, 1].max()
    np.testing.assert_allclose(upper, (rates.mean(0) + 2 * rates.std(0, ddof=1) / 8**0.5).max())
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["entropy of the steps, medium", "at rest", "lower bound"]
    assert plots.plot_entropy(entropy, run, time=True).lines[0].get_xdata()[-1] == pytest.approx(0.3)


def test_a_spectrum_is_ranked():
    ax = plots.plot_spectrum(np.array([1.0, 3.0, 2.0]), [0.5, 0.1], labels=["early", "late"], threshold=2.5)
    np.testing.assert_allclose(ax.lines[0].get_data(), [[1, 2, 3], [3, 2, 1]])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["threshold, 2.5", "early", "late"]


def test_exponents_have_error_bars():
    class Found:
        exponents, standard_errors = np.array([-0.2, 0.1]), np.array([0.01, 0.03])

    ax = plots.plot_spectrum(Found(), name="exponent per training step")
    low, high = ax.collections[0].get_segments()[0][:, 1]
    assert (low, high) == pytest.approx((0.1 - 2 * 0.03, 0.1 + 2 * 0.03)) and ax.get_legend() is None


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda e, r: plots.plot_spectrum(), "`spectra` must be at least one"),
        (lambda e, r: plots.plot_spectrum(np.eye(2)), r"`spectra` must be finite numbers of shape \(k,\)"),
        (lambda e, r: plots.plot_spectrum([1.0, np.nan]), "`spectra` must be finite"),
        (lambda e, r: plots.plot_spectrum("loss"), "`spectra` must hold real numbers"),
        (lambda e, r: plots.plot_spectrum([1.0], labels=["a", "b"]), "`labels` must have one for each"),
        (lambda e, r: plots.plot_spectrum([1.0], threshold=[1.0, 2.0]), "`threshold` must hold a real number"),
        (lambda e, r: plots.plot_entropy(r, e), "`entropy` must be what `entropy_production` returns"),
        (lambda e, r: plots.plot_entropy(3.0, r), "`entropy` must be what `entropy_production` returns"),
        (lambda e, r: plots.plot_entropy(e, r, part="all"), "`part` must be"),
        (lambda e, r: plots.plot_entropy(e, r, part="total"), "`part` must be one of what was computed"),
        (lambda e, r: plots.plot_entropy(e, r, bound=1.0), "`bound` must hold 2 real numbers"),
        (lambda e, r: plots.plot_entropy(e, "run"), "`trajectory` must be the run"),
    ],
)
def test_wrong_arguments(produced, call, words):
    with pytest.raises((TypeError, ValueError), match=f"Argument {words}"):
        call(*produced)
