"""`keep_states`: the whole state at the recorded steps."""

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import LinearRegression

from dynamics import solve, train
from equations import SGD, Adam, Momentum

PROBLEM = LinearRegression(examples=12)
KEY = jax.random.key(0)


def weights(w):
    return w


@pytest.mark.parametrize(("function", "equation"), [(solve, Momentum(0.05, 2)), (train, Adam(0.05, 2))])
def test_the_parameters_in_the_states_are_the_observed_ones(function, equation):
    arguments = dict(steps=6, key=KEY, paths=3, observe={"w": weights}, save_every=2)
    run = function(equation, PROBLEM.objective, PROBLEM.start, keep_states=True, **arguments)
    params = run.states.params if hasattr(run.states, "params") else run.states
    assert np.array_equal(params, run.observables["w"])
    assert all(leaf.shape[:2] == (3, 4) for leaf in jax.tree.leaves(run.states))
    assert np.array_equal(params[:, -1], run.final)
    without = function(equation, PROBLEM.objective, PROBLEM.start, **arguments)
    assert without.states is None  # another program, whose numbers are the same to rounding
    np.testing.assert_allclose(without.observables["w"], run.observables["w"], rtol=1e-12)


def test_the_memory_of_the_twin():
    run = train(Momentum(0.05, 2), PROBLEM.objective, PROBLEM.start, steps=4, key=KEY, keep_states=True)
    (trace,) = jax.tree.leaves(run.states.memory)
    np.testing.assert_allclose(np.diff(run.states.params, axis=1), -0.05 * trace[:, 1:], rtol=1e-12)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The solver is unstable")  # so it is at a learning rate of 1e90
def test_adaptive_steps_and_diverged_paths():
    flow = solve(SGD(0.05), PROBLEM.objective, PROBLEM.start, steps=4, observe={"w": weights}, keep_states=True,
                 stepsize_controller=dfx.PIDController(1e-6, 1e-8), paths=2)  # fmt: skip
    assert np.array_equal(flow.states, flow.observables["w"]) and flow.states.shape == (2, 5, 3)
    for run in (train(Momentum(1e90), PROBLEM.objective, PROBLEM.start, steps=4, keep_states=True),
                solve(SGD(1e90), PROBLEM.objective, PROBLEM.start, steps=4, keep_states=True)):  # fmt: skip
        assert not run.ok[0] and all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(run.states))


def test_wrong_argument():
    with pytest.raises(TypeError, match="Argument `keep_states` must be True or False"):
        solve(SGD(0.05), PROBLEM.objective, PROBLEM.start, steps=1, keep_states=1)
