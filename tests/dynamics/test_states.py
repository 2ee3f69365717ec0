"""`keep_states`: the whole state at the recorded steps."""

import dataclasses

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from marks import some
from oracles import LinearRegression

from dynamics import solve, train
from equations import SGD, Adam, Momentum, averaged, from_optax, scheduled

PROBLEM = LinearRegression(examples=12)
KEY = jax.random.key(0)


def weights(w):
    return w


@pytest.mark.slow
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
    (trace,) = jax.tree.leaves(run.twin_states.memory)
    assert np.array_equal(trace, run.states.trace) and np.array_equal(run.twin_final_state.params, run.final)
    np.testing.assert_allclose(np.diff(run.states.params, axis=1), -0.05 * trace[:, 1:], rtol=1e-12)


RULES = {
    "sgd": SGD(0.05, 2),
    "momentum": Momentum(0.05, 2),
    "adam": averaged(Adam(0.05, 2)),
    "optax": from_optax(optax.adam, 0.05, 2),
    "scheduled": scheduled(SGD(0.05, 2), lambda k: 1 / (1 + k)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", some(RULES, ["momentum", "sgd"]))
def test_one_structure_on_both_sides(name):
    """At the records and at the end; an observable sees the same."""
    options = dict(steps=2, key=KEY, paths=2, keep_states=True, observe={"w": lambda w, state: sum_of(state)})
    runs = [run(RULES[name], PROBLEM.objective, PROBLEM.start, **options) for run in (train, solve)]
    for found in ([run.states for run in runs], [run.final_state for run in runs]):
        shapes = [jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree) for tree in found]
        assert shapes[0] == shapes[1]
    for run in runs:
        ends = jax.tree.map(lambda leaf: leaf[:, -1], run.states)
        assert jax.tree.all(jax.tree.map(np.array_equal, ends, run.final_state))
        seen = jax.vmap(jax.vmap(sum_of))(run.states)
        np.testing.assert_allclose(run.observables["w"], seen, rtol=1e-12)


def sum_of(state):
    return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(state))


class Apart(Momentum):
    """Whose state is another one than its algorithm's."""

    def init(self, params):
        return params, params

    def params(self, state):
        return state[0]


def test_where_it_is_not_known():
    with pytest.warns(UserWarning, match="`Trajectory.states` is None for Apart, from the memory"):
        run = train(Apart(0.05), PROBLEM.objective, PROBLEM.start, steps=1, keep_states=True)
    assert run.states is None and run.twin_states.params.shape == (1, 2, 3)
    with pytest.raises(ValueError, match="final_state` is not known for Apart, from the memory"):
        run.final_state  # noqa: B018
    flow = dataclasses.replace(run, checkpoint=None)  # as of steps that are no training steps
    for ask, words in (("final_state", "of a run that can go on"), ("twin_final_state", "of a run that can go on")):
        with pytest.raises(ValueError, match=words):
            getattr(flow, ask)
    with pytest.raises(ValueError, match="twin_final_state` is known of a run of `train`, and this one is of `solve`"):
        solve(SGD(0.05), PROBLEM.objective, PROBLEM.start, steps=1).twin_final_state  # noqa: B018


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
