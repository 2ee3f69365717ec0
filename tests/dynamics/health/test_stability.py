"""What a solver's step does beyond its limit of stability is not taken for the equation's."""

import warnings

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from warned import solved

from dynamics import Strang, solve
from dynamics._health import health as _health
from dynamics._health import stability
from equations import SGD, AbstractDynamics, Momentum, Objective, modified, scheduled
from validation import compare

CASES = [
    (
        "a solver's own limit of stability",
        "instance",
        "a tanh network at the edge, gradient flow",
        "test_a_network_held_at_the_edge_of_its_solver",
    ),
    (
        "a solver's own limit of stability",
        "instance",
        "compare: equation diverged 100 %, refined 0 %",
        "test_compare_blames_the_solver",
    ),
    ("a solver's own limit of stability", "instance", "substeps='auto'", "test_auto_finds_a_number"),
    (
        "a solver's own limit of stability",
        "brother",
        "Heun's shorter interval",
        "test_the_interval_is_that_of_the_solver[heun]",
    ),
    (
        "a solver's own limit of stability",
        "brother",
        "Dopri8's longer one",
        "test_the_interval_is_that_of_the_solver[dopri8]",
    ),
    (
        "a solver's own limit of stability",
        "brother",
        "the flow of a splitting under noise",
        "test_the_interval_is_that_of_the_solver[strang]",
    ),
    (
        "a solver's own limit of stability",
        "brother",
        "the second order of `modified`",
        "test_other_equations[modified]",
    ),
    ("a solver's own limit of stability", "brother", "a learning rate that rises", "test_other_equations[rising]"),
    ("a solver's own limit of stability", "brother", "the leapfrog step of momentum", "test_other_equations[leapfrog]"),
    (
        "a solver's own limit of stability",
        "brother",
        "a memory that relaxes faster than a step",
        "test_a_memory_counts_and_growth_does_not",
    ),
    (
        "a solver's own limit of stability",
        "brother",
        "a rate that rises, with 'auto'",
        "test_auto_looks_again_at_the_end",
    ),
    ("a solver's own limit of stability", "brother", "compare with 'auto'", "test_compare_with_auto"),
    ("a solver's own limit of stability", "brother", "the limits of six tableaux", "test_limits_of_the_tableaux"),
    (
        "a solver's own limit of stability",
        "brother",
        "an estimate that takes every solver for Tsit5",
        "test_an_estimate_without_the_tableau_is_caught",
    ),
    (
        "a solver's own limit of stability",
        "brother",
        "modes of a field that is far from symmetric",
        "test_the_stiffest_mode_of_a_field",
    ),
    (
        "a solver's own limit of stability",
        "brother",
        "'auto' where nothing can be looked at",
        "test_auto_is_refused_by_name",
    ),
]

QUADRATIC = Objective(lambda w, e: 0.5 * jnp.sum(e * w**2), jnp.asarray([[1.0, 0.1], [1.0, 0.3]]))
START = jnp.asarray([1.0, 1.0])


def found(equation, objective=QUADRATIC, params=START, **settings):
    """The trajectory and the messages of its warnings."""
    settings = {"steps": 12, "save_every": 12} | settings
    return solved(equation, objective, params, **settings)


def net(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((16, 4)), np.sign(rng.standard_normal((16, 2)))

    def loss(w, example):
        return jnp.sum((w[1].T @ jnp.tanh(w[0].T @ example[0]) - example[1]) ** 2) / 2

    return Objective(loss, (x, y)), tuple(jnp.asarray(rng.standard_normal(n) / 3) for n in ((4, 6), (6, 2)))


def last(tree):
    return jax.tree.map(lambda leaf: leaf[0], tree)


@pytest.mark.slow
def test_a_network_held_at_the_edge_of_its_solver():
    objective, params = net(0)
    arguments = dict(steps=320, save_every=320)
    held, messages = found(SGD(0.6), objective, params, **arguments)
    assert len(messages) == 1 and "unstable at the end of the run" in messages[0] and "substeps" in messages[0]
    assert dict(held.details)["stability"] == messages[0]
    # The flow itself goes on to where the step would be longer than the limit of Tsit5, and lower.
    finer, messages = found(SGD(0.6), objective, params, substeps=4, **arguments)
    assert not messages and "stability" not in dict(finer.details)
    assert objective.value(last(finer.final)) < 0.98 * objective.value(last(held.final))


def test_auto_finds_a_number():
    chosen, messages = found(SGD(8.0), substeps="auto")
    assert not messages and dict(chosen.details)["substeps_chosen"] == "auto"
    assert 3 <= int(dict(chosen.details)["substeps"]) <= 5 and abs(chosen.final[0, 0]) < 1e-6
    assert int(dict(found(SGD(1.0), substeps="auto")[0].details)["substeps"]) == 1


RISING = scheduled(SGD(1.0), lambda step: 1 + step / 2)


def test_auto_looks_again_at_the_end():
    chosen, messages = found(RISING, substeps="auto")
    assert not messages and int(dict(chosen.details)["substeps"]) > 1


def compared(**settings):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = compare(SGD(6.0), QUADRATIC, START, steps=120, save_every=120, **settings)
    return result, [str(one.message) for one in caught]


@pytest.mark.slow
def test_compare_blames_the_solver():
    result, messages = compared()
    assert (result.failed["equation"], result.failed["refined"]) == (1, 0)
    assert len(messages) == 1 and "solver is unstable" in messages[0]
    assert "unstable at substeps=1, not the equation: at 2 it is fine" in str(result)


def test_compare_with_auto():
    result, messages = compared(substeps="auto")
    assert not messages and not result.failed["equation"] and "unstable" not in str(result)
    flow, refined = (int(dict(side.details)["substeps"]) for side in (result.flow, result.refined))
    assert refined == 2 * flow > 2


INTERVALS = {  # a solver, a step within its limit, one beyond it; a batch makes noise
    "tsit5": (None, 3.2, 4.0, None),
    "heun": (dfx.Heun(), 1.8, 2.2, None),
    "dopri8": (dfx.Dopri8(), 4.6, 5.6, None),
    "strang": (None, 2.2, 2.8, 1),
}


@pytest.mark.parametrize("name", INTERVALS)
def test_the_interval_is_that_of_the_solver(name, key):
    solver, within, beyond, batch = INTERVALS[name]
    for step, wrong in ((within, False), (beyond, True)):
        _, messages = found(SGD(step, batch), solver=solver, key=key)
        assert len(messages) == wrong, (step, messages)
        assert not wrong or ("solver is unstable" in messages[0] and "`substeps`" in messages[0])


OTHERS = {  # an equation within the limit, one beyond it, and the solver
    "modified": (SGD(2.5), modified(SGD(2.5)), None),
    "rising": (scheduled(SGD(1.0), lambda step: 1.5 + 0 * step), RISING, None),
    "leapfrog": (Momentum(2.0), Momentum(8.0), Strang()),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_equations(name):
    within, beyond, solver = OTHERS[name]
    assert not found(within, solver=solver)[1]
    messages = found(beyond, solver=solver)[1]
    assert len(messages) == 1 and "solver is unstable" in messages[0], messages


class Linear(AbstractDynamics):
    """dy = rates * y dt."""

    rates: jax.Array

    def drift(self, t, y, signal):
        return self.rates * y


def test_a_memory_counts_and_growth_does_not():
    for rates, wrong in (([0.1, -2.0], False), ([0.1, -5.0], True), ([5.0, -2.0], False), ([5.0, -4.5], True)):
        _, messages = found(Linear(jnp.asarray(rates)), None, dt=1.0)
        assert len(messages) == wrong, (rates, messages)


def test_limits_of_the_tableaux():
    limits = {
        dfx.Euler: 2, dfx.Heun: 2, dfx.Midpoint: 2,
        dfx.Bosh3: -np.roots([1 / 6, 1 / 2, 1, 2]).real.min(),  # R = -1
        dfx.Tsit5: 3.507, dfx.Dopri8: 5.167,
    }  # fmt: skip
    for kind, limit in limits.items():
        assert abs(stability.limit(stability.stability_function(kind())) - limit) < 2e-3, kind
    assert abs(stability.limit(stability.stability_function(Strang())) - limits[dfx.Bosh3]) < 2e-3


def test_an_estimate_without_the_tableau_is_caught(monkeypatch):
    monkeypatch.setattr(_health, "stability_function", lambda solver: stability._function(dfx.Tsit5))
    assert not found(SGD(2.2), solver=dfx.Heun())[1]  # one message with Heun's own


def test_the_stiffest_mode_of_a_field():
    rng = np.random.default_rng(0)
    basis = rng.standard_normal((12, 12))  # of condition 80
    for outlier in (np.diag([-6.0, -1.0]), np.asarray([[-3.0, 5.0], [-5.0, -3.0]])):
        modes = np.zeros((12, 12))
        modes[:2, :2], modes[range(2, 12), range(2, 12)] = outlier, -rng.uniform(0, 1, 10)
        matrix = jnp.asarray(basis @ modes @ np.linalg.inv(basis))
        table = jax.jit(lambda y, m: stability.jacobian(lambda y: m @ y, y))(
            jnp.asarray(rng.standard_normal(12)), matrix
        )
        ours, true = (max(np.linalg.eigvals(m), key=abs) for m in (table, matrix))
        assert abs(abs(ours) - abs(true)) < 0.05 * abs(true)


def test_auto_is_refused_by_name():
    def run(rate=1.0, **settings):
        return solve(SGD(rate), QUADRATIC, START, steps=2, **settings).final

    with pytest.raises(ValueError, match="under a trace"):
        jax.jit(lambda rate: run(rate, substeps="auto"))(1.0)
    with pytest.raises(ValueError, match="Euler"):
        run(substeps="auto", solver=dfx.Euler())
    with pytest.raises(ValueError, match="stepsize_controller"):
        run(substeps="auto", stepsize_controller=dfx.PIDController(1e-3, 1e-3))
    with pytest.raises(TypeError, match="'auto'"):
        run(substeps="many")
    with pytest.raises(ValueError, match="Euler"):
        compare(SGD(1.0), QUADRATIC, START, steps=2, substeps="auto", solver=dfx.Euler())
