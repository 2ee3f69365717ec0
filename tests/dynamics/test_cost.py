"""What `solve` says of its cost, and where it warns of it."""

import warnings

import diffrax as dfx
import jax.numpy as jnp
import numpy as np
import pytest

import dynamics._cost as costs
from dynamics import SVAG, ControlVariate, LargeBatches, Strang, solve
from dynamics._cost import cost_of, warn_of_cost
from dynamics.internal import Method, Problem
from equations import SAM, SGD, Adam, Langevin, Momentum, NAdam, Objective, SignSGD, modified
from validation import compare
from validation._commands.progress import cost_in_words

OBJECTIVE = Objective(lambda w, x: 0.5 * jnp.sum((w - x) ** 2), np.linspace(-1, 1, 40)[:, None])
START = jnp.zeros(1)


def problem(equation, steps=10, objective=OBJECTIVE, paths=1):
    return Problem.of(equation, objective, START, reads="equation").scheduled(steps, paths, 1, {})


# Stages of the flow and kicks, on 40 examples.
COSTS = {
    "default": (SGD(0.1, 4), None, 3 * 40, 4),
    "Strang": (SGD(0.1, 4), Strang(), 5 * 40, 4),
    "one kick": (SGD(0.1, 4), Strang(dfx.Heun(), kicks=1), 3 * 40, 4),
    "Euler": (SGD(0.1, 4), dfx.Euler(), 40, 4),
    "leapfrog": (Momentum(0.1, 4), None, 40, 4),
    "not affine": (NAdam(0.1, 4), None, (3 + 2 * 3) * 40, 4),
    "Adam": (Adam(0.1, 4), None, 40, 4),
    "no batches": (Langevin(0.1), None, 3 * 40, 40),
    "epochs": (SGD(0.1, 4, "shuffled"), None, 6 * 40, 4),  # Tsit5
    "flow": (SGD(0.1), dfx.Heun(), 2 * 40, 40),
    "SVAG": (SGD(0.1, 4), SVAG(3), 2 * 3 * 4, 4),
    "SVAG(1)": (SGD(0.1, 4), SVAG(1), 4, 4),
    "large batches": (SGD(0.1, 4), LargeBatches(2), 4, 4),
    "control variates": (SGD(0.1, 4), ControlVariate(3, 5), 2 * 3 + 40 / 5, 4),
}


@pytest.mark.parametrize("name", COSTS)
def test_gradients_of_a_training_step(name):
    equation, solver, own, algorithm = COSTS[name]
    case = problem(equation)
    found = cost_of(case, Method.of(case, solver).solver, 1)
    assert (found.solver, found.algorithm) == (own, algorithm)


@pytest.mark.slow
def test_a_result_says_what_it_costs(key):
    run = solve(SGD(0.1, 4), OBJECTIVE, START, steps=2, key=key, substeps=2)
    assert dict(run.details)["gradients"] == (
        "60 times the algorithm's: those of 240 examples a training step, the algorithm's of 4"
    )
    own = solve(modified(SGD(0.1)), OBJECTIVE, START, steps=2, solver=dfx.Euler())
    assert "gradients" in dict(own.details)


def test_the_progress_of_the_command_says_it():
    assert cost_in_words(SGD(0.1, 4), OBJECTIVE, START, 10, "auto") == ", 30 times the gradients"
    assert cost_in_words(SGD(0.1, 4), OBJECTIVE, START, 10, 2) == ", 60 times the gradients"


def told(equation, solver=None, **how):
    case = problem(equation, **how)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_cost(case, Method.of(case, solver).solver, 1)
    return [str(warning.message) for warning in caught]


CHEAPER = {
    "SVAG": (SGD(0.1, 1), None, "dynamics.SVAG"),
    "SVAG for momentum": (Momentum(0.1, 1), Strang(), None),  # 40 times
    "Euler": (NAdam(0.1, 1), None, "diffrax.Euler"),
    "Adam": (Adam(0.1, 1), None, None),
    "sign": (SignSGD(0.1, 1), None, "diffrax.Euler"),
    "two gradients": (SAM(0.1, 1, normalized=False), None, "diffrax.Euler"),
}


@pytest.mark.parametrize("name", CHEAPER)
def test_a_long_run_names_what_is_cheaper(name, monkeypatch):
    """From a hundred training steps a step on, and where the whole run takes as many gradients as last for a minute."""
    equation, solver, wanted = CHEAPER[name]
    assert not told(equation, solver)
    monkeypatch.setattr(costs, "_MUCH", 10 * 40.0)
    (message,) = told(equation, solver) if wanted is not None else ("",)
    assert (wanted or "") in message and (wanted is not None or not told(equation, solver))


@pytest.mark.slow
def test_solve_and_compare_warn(key, monkeypatch):
    """And not of SVAG itself, nor below a hundred times; at the figures of 50 000 images without any change."""
    size = 784 * 128 + 128 * 10
    assert 3 * 50_000 / 64 >= costs._RATIO and 3 * 50_000 * size * 4 * 200 >= costs._MUCH
    monkeypatch.setattr(costs, "_MUCH", 1.0)
    for run in (solve, compare):
        with pytest.warns(UserWarning, match="120 times the 1 of the algorithm's.*SVAG"):
            run(SGD(0.1, 1), OBJECTIVE, START, steps=2, key=key, observe={"w": lambda w: w}, paths=2)
    assert not told(SGD(0.1, 1), SVAG(8)) and not told(SGD(0.1, 4), steps=1000)
