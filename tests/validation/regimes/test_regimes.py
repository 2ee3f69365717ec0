"""The map of regimes on a problem of two parameters, whose edge is known."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from equations import SGD, Objective
from validation import Regimes, regimes

# The curvature at the minimum u = v = 1 is 2: beyond a learning rate of 1 training goes around it.
PRODUCT = Objective(lambda w, e: (w[0] * w[1] - 1) ** 2 / 2 + 0.1 + 0 * e, jnp.zeros(1))
START = jnp.array([0.9, 0.9])
MODELS = ("gradient flow", "modified, order 2", "rod flow, order 1", "SDE")


@pytest.fixture(scope="module")
def found() -> Regimes:
    rates, options = [0.05, 1.2], dict(steps=400, windows=2, models=MODELS)
    return regimes(SGD(0.1), PRODUCT, START, learning_rates=rates, **options)


@pytest.mark.slow
def test_below_the_edge_all_hold_and_beyond_it_the_rod_does(found):
    (one,) = found.maps
    assert one.errors["gradient flow"].shape == (2, 2)
    assert np.all(one.errors["gradient flow"][0] < 0.01) and one.errors["gradient flow"][1, 1] > 0.05
    assert one.best[1, 1] == "rod flow, order 1" and one.sharpness[1, 1] == pytest.approx(2.1, abs=0.2)
    assert "without noise it is the flow" in one.refused["SDE"]


@pytest.mark.slow
def test_a_model_that_is_wrong_is_not_the_best(found):
    """The mutant: an error of a tenth in the mean loss is beyond the bound."""
    (one,) = found.maps
    errors = {name: values + 0.1 for name, values in one.errors.items()}
    assert np.all(type(one)(**(vars(one) | {"errors": errors})).best == "none")


@pytest.mark.slow
def test_as_table_figure_and_json(found):
    text = str(found)
    assert "rod flow, order 1" in text and "to step 400" in text and "eta lambda_max" in text
    json.dumps(found.to_dict(), allow_nan=False)
    figure = found.plot()
    assert len(figure.axes) == 2 and figure.axes[0].get_xlabel() == "training step"


@pytest.mark.parametrize(
    "given, words",
    [
        (dict(learning_rates=[0.1, -0.1]), "Argument `learning_rates` must hold positive numbers"),
        (dict(learning_rates=[[0.1], [0.2]]), "Argument `learning_rates` must hold positive numbers"),
        (dict(learning_rates=[0.1], windows=3), "Argument `windows` must divide `steps`"),
        (dict(learning_rates=[0.1], models=["rod"]), "Argument `models` must be"),
        (dict(learning_rates=[0.1], bound=0.0), "Argument `bound` must be"),
    ],
)
def test_wrong_use(given, words):
    with pytest.raises((TypeError, ValueError), match=words):
        regimes([SGD(0.1)] if "models" in given else SGD(0.1), PRODUCT, START, **({"steps": 20, "windows": 2} | given))
