"""The Stratonovich form, given or made, under Diffrax's solvers for it; and Milstein's, where the noise commutes."""

import re

import diffrax as dfx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
from diffusions import last, on_one_path, slopes
from marks import some
from oracles import LinearRegression, within

from dynamics import solve, train
from equations import SGD, AbstractDynamics, Adam, Diagonal, Objective, SignSGD, modified, scheduled, stratonovich
from equations._interpretation import Stratonovich, as_ito, spurious_drift

CASES = [
    ("noise in the Stratonovich form", "instance", "Heun and others on a dynamics that says so", "test_law"),
    (
        "noise in the Stratonovich form",
        "brother",
        "the default, Euler and Itô-Milstein on it",
        "test_law_of_ito_solvers",
    ),
    ("noise in the Stratonovich form", "brother", "SGD in the other form", "test_sgd_in_the_other_form"),
    ("noise in the Stratonovich form", "brother", "there and back, series", "test_there_and_back"),
    ("noise in the Stratonovich form", "brother", "under a schedule", "test_under_a_schedule"),
    ("noise in the Stratonovich form", "brother", "the correction of minibatches, exactly", "test_the_correction"),
    ("noise in the Stratonovich form", "brother", "in order, on shared paths", "test_strong_order"),
    ("noise in the Stratonovich form", "brother", "mutants without the correction", "test_mutants"),
    ("noise in the Stratonovich form", "brother", "a correction that is NaN", "test_a_form_without_a_drift_says_so"),
    ("noise in the Stratonovich form", "brother", "what has no such form", "test_no_such_form"),
    ("noise that commutes", "instance", "diagonal noise takes ItoMilstein", "test_milstein"),
    ("noise that commutes", "brother", "one number for all coordinates", "test_what_commutes[one]"),
    ("noise that commutes", "brother", "weakly diagonal noise is refused", "test_what_does_not_commute"),
    (
        "derivatives of the noise",
        "instance",
        "Milstein's term",
        "test_derivatives_that_are_not_the_losses_own[milstein]",
    ),
    ("derivatives of the noise", "brother", "of SGD", "test_derivatives_that_are_not_the_losses_own[correction]"),
    ("derivatives of the noise", "brother", "right ones pass: SGD in the other form", "test_sgd_in_the_other_form"),
]

KEY = jax.random.key(0)
TIME, MU, SIGMA = 1.0, -0.5, 0.6


class Geometric(AbstractDynamics):
    """dX = mu X dt + sigma X o dW, X = x exp(mu t + sigma W), in each of two coordinates."""

    interpretation = "stratonovich"

    def drift(self, t, state, signal):
        return MU * state

    def diffusion(self, t, state, signal):
        return lx.DiagonalLinearOperator(SIGMA * state)


class ItoGeometric(Geometric):
    """dX = (mu + sigma^2/2) X dt + sigma X dW, which is the same."""

    interpretation = "ito"

    def drift(self, t, state, signal):
        return (MU + SIGMA**2 / 2) * state


def deviations(x):
    """Of ln X from its law, in 4 standard errors: normal about mu t with the variance sigma^2 t."""
    return within(np.log(np.asarray(x)), np.full(2, MU * TIME), SIGMA**2 * TIME * np.eye(2))


SOLVERS = {
    name: getattr(dfx, name)()
    for name in (
        *("Heun", "Midpoint", "Ralston", "ReversibleHeun", "EulerHeun"),
        *("SlowRK", "SPaRK", "GeneralShARK", "StratonovichMilstein"),
    )
}


@pytest.mark.slow
@pytest.mark.parametrize("name", some(SOLVERS, ["SPaRK"]))
def test_law(name):
    assert deviations(last(Geometric(), jnp.ones(2), SOLVERS[name], 50, TIME / 50, 8000)) < 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["default", *some(["Euler", "ItoMilstein"], [])])
def test_law_of_ito_solvers(name):
    """They see the Itô form of what was given."""
    solver = None if name == "default" else getattr(dfx, name)()
    steps = 200 if name == "Euler" else 25
    assert deviations(last(Geometric(), jnp.ones(2), solver, steps, TIME / steps, 8000)) < 1


@pytest.mark.slow
@pytest.mark.parametrize("name", SOLVERS)
def test_mutants(name):
    """An Itô equation read as Stratonovich's, and one whose correction has the wrong sign."""

    class Misread(ItoGeometric):
        interpretation = "stratonovich"

    class WrongSign(Geometric):
        def drift(self, t, state, signal):
            return (MU - SIGMA**2 / 2) * state

    for mutant in (Misread(), WrongSign()):
        assert deviations(last(mutant, jnp.ones(2), SOLVERS[name], 50, TIME / 50, 8000)) > 1
    assert deviations(last(stratonovich(ItoGeometric()), jnp.ones(2), SOLVERS[name], 50, TIME / 50, 8000)) < 1


@pytest.mark.slow
def test_milstein():
    """Diagonal noise, in the Itô form; the mutant without the correction of the drift."""
    assert deviations(last(ItoGeometric(), jnp.ones(2), dfx.ItoMilstein(), 50, TIME / 50, 8000)) < 1

    class Mutant(Geometric):
        interpretation = "ito"

    assert deviations(last(Mutant(), jnp.ones(2), dfx.ItoMilstein(), 50, TIME / 50, 8000)) > 1


ORDERS = {"Heun": (Geometric, 1.0), "ItoMilstein": (ItoGeometric, 1.0), "SlowRK": (Geometric, 1.5)}


@pytest.mark.slow
@pytest.mark.parametrize("name", ORDERS)
def test_strong_order(name):
    """On shared paths; noise of one coordinate each commutes, for which Heun has order 1."""
    kind, order = ORDERS[name]
    counts = (16, 64, 1024)
    *coarse, fine = on_one_path(kind(), jnp.ones(2), getattr(dfx, name)(), counts, paths=500)
    (slope,) = slopes([np.sqrt(np.mean((x - fine) ** 2)) for x in coarse], counts[:-1])
    assert abs(slope - order) < 0.2


PROBLEM = LinearRegression(examples=8, dimension=2)


def test_the_correction():
    """-(1/2) sum (D sigma) sigma = -(eta/4) grad tr(C/B) for minibatches, to rounding."""
    sgd, w = SGD(0.1, 2), jnp.asarray(PROBLEM.start)

    def trace(w):
        gradients = jax.vmap(lambda x, y: (x @ w - y) * x)(jnp.asarray(PROBLEM.x), jnp.asarray(PROBLEM.y))
        return jnp.sum(jnp.var(gradients, axis=0)) / 2

    correction = spurious_drift(sgd, jnp.zeros(()), w, PROBLEM.objective)
    np.testing.assert_allclose(correction, 0.1 / 2 * jax.grad(trace)(w), rtol=1e-12)
    drift = stratonovich(sgd).drift(jnp.zeros(()), w, PROBLEM.objective)
    np.testing.assert_allclose(drift, -PROBLEM.objective.gradient(w) - 0.05 / 2 * jax.grad(trace)(w), rtol=1e-12)


@pytest.mark.parametrize("name", some(["Heun", "SPaRK", "EulerHeun"], []))
def test_sgd_in_the_other_form(name):
    """Equal in law to the exact moments of the equation of SGD; without the correction it is not."""
    eta, steps, paths = 0.4, 10, 4000 if name == "Heun" else 10000
    means, covariances = PROBLEM.trace(PROBLEM.sde_map(eta, 1), steps, steps)

    class Misread(Stratonovich):
        def drift(self, t, state, signal):
            return self.equation.drift(t, state, signal)

    def deviation(form):
        run = solve(
            form, PROBLEM.objective, PROBLEM.start, steps=steps, key=KEY, paths=paths, solver=getattr(dfx, name)(),
            substeps=4, save_every=steps,
        )  # fmt: skip
        return within(run.final, means[-1], covariances[-1])

    assert deviation(stratonovich(SGD(eta, 1))) < 1 < deviation(Misread(SGD(eta, 1)))


@pytest.mark.slow
def test_there_and_back():
    sgd, given = SGD(0.1, 2), Geometric()
    other = stratonovich(sgd)
    assert as_ito(other) is sgd and as_ito(sgd) is sgd and stratonovich(given) is given
    assert stratonovich(other) is other
    options = dict(steps=2, key=KEY, paths=2)
    ends = [solve(form, PROBLEM.objective, PROBLEM.start, **options).final for form in (sgd, other)]
    np.testing.assert_array_equal(*ends)
    run = solve(other, PROBLEM.objective, PROBLEM.start, solver=dfx.Heun(), **options)
    assert run.equation.interpretation == "stratonovich" and run.times[-1] == pytest.approx(0.2)
    assert dict(run.details)["interpretation"] == "stratonovich"
    t, state = jnp.zeros(()), jnp.ones(2)
    np.testing.assert_allclose(as_ito(given).drift(t, state, None), ItoGeometric().drift(t, state, None), rtol=1e-12)
    timed = type("Timed", (Geometric,), {"learning_rate": jnp.asarray(0.1)})()
    drifts = [modified(form).drift(t, state, None) for form in (timed, as_ito(timed))]
    np.testing.assert_array_equal(*drifts)


@pytest.mark.slow
def test_under_a_schedule():
    options = dict(steps=2, key=KEY, paths=2)
    falling = stratonovich(scheduled(SGD(0.1, 2), lambda step: 1.0 / (1 + step)))
    run = solve(falling, PROBLEM.objective, PROBLEM.start, solver=dfx.Heun(), **options)
    np.testing.assert_allclose(run.times, [0, 0.1, 0.15])


def refused(match, call, error=ValueError):
    with pytest.raises(error, match=re.escape(match)):
        call()


def run(dynamics, solver=None, **options):
    return lambda: solve(dynamics, None, jnp.ones(2), steps=2, dt=0.1, key=KEY, solver=solver, **options)


def test_no_such_form():
    class Wrong(Geometric):
        interpretation = "Stratonovich"

    class Algorithm(SGD):
        interpretation = "stratonovich"

    class Split(Geometric):
        def splitting(self):
            return super().splitting()

    refused("`interpretation` of 'ito', 'stratonovich' or 'additive', but Wrong has 'Stratonovich'", run(Wrong()))
    algorithm = lambda: train(Algorithm(0.1, 2), PROBLEM.objective, PROBLEM.start, steps=2, key=KEY)  # noqa: E731
    refused("`equations.stratonovich(equation)` is its Stratonovich form", algorithm)
    refused("must not have a splitting of its own", run(Split()), TypeError)
    refused("must not be singular at the start", lambda: stratonovich(Adam(0.1, 2)))
    refused("must not be singular at the start", lambda: stratonovich(scheduled(Adam(0.1, 2), lambda step: 1.0)))
    refused("must be an equations.AbstractDynamics", lambda: stratonovich(3), TypeError)
    refused("must be an equations.AbstractEquation", lambda: train(stratonovich(SGD(0.1, 2)), PROBLEM.objective,
            PROBLEM.start, steps=2, key=KEY), TypeError)  # fmt: skip


class Matrix(AbstractDynamics):
    """The noise sum_k M_k x dW_k."""

    matrices: tuple

    def drift(self, t, state, signal):
        return -state

    def diffusion(self, t, state, signal):
        return lx.MatrixLinearOperator(jnp.stack([jnp.asarray(m) @ state for m in self.matrices], axis=1))


COMMUTE = {
    "one": (np.array([[0.0, 0.3], [-0.3, 0.0]]),),
    "triangular": (np.array([[0.3, 0.1], [0.0, 0.3]]), np.array([[0.1, 0.2], [0.0, 0.1]])),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", some(COMMUTE, ["one"]))
def test_what_commutes(kind):
    flow = run(Matrix(COMMUTE[kind]), dfx.ItoMilstein())()
    assert np.isfinite(flow.final).all()


def test_what_does_not_commute():
    """dx = y dW, dy = x dV; and the noise of SGD."""
    weakly = Matrix((np.array([[0.0, 1.0], [0.0, 0.0]]), np.array([[0.0, 0.0], [1.0, 0.0]])))
    refused("it needs noise that commutes", run(weakly, dfx.ItoMilstein()))
    refused("it needs noise that commutes", run(stratonovich(weakly), dfx.StratonovichMilstein()))
    options = dict(steps=2, key=KEY, solver=dfx.ItoMilstein())
    refused("it needs noise that commutes", lambda: solve(SGD(0.1, 2), PROBLEM.objective, PROBLEM.start, **options))
    refused("it converges to the Stratonovich solution", run(weakly, dfx.Heun()))
    refused("it is one for additive noise", run(stratonovich(weakly), dfx.SRA1()))
    refused("neither to the Itô nor", run(Geometric(), dfx.Tsit5()))


def test_a_form_without_a_drift_says_so():
    """Where the noise of the sign has no derivative, its correction is NaN, and all paths fail in their first step."""
    signs = Objective(lambda p, e: 0.5 * (p - e) ** 2, jnp.array([1.0, -1.0, 3.0, 0.5]))
    with pytest.warns(UserWarning, match=r"The drift of Stratonovich\(SignSGD\) is NaN or infinite at the start"):
        found = solve(stratonovich(SignSGD(0.05, 2)), signs, jnp.array(0.2), steps=2, key=KEY, solver=dfx.Heun())
    assert not found.ok.any()


STOPPED = Objective(lambda w, r: 0.5 * (1 + 3 * r) * (w - 0.9 * jax.lax.stop_gradient(w)) ** 2, jnp.array([1.0, -1.0]))


@pytest.mark.parametrize(
    "equation, solver",
    [(SGD(0.5, 1, noise_model=Diagonal()), dfx.ItoMilstein()), (stratonovich(SGD(0.1, 1)), dfx.Heun())],
    ids=["milstein", "correction"],
)
def test_derivatives_that_are_not_the_losses_own(equation, solver):
    """Both take derivatives of the noise, which `stop_gradient` in the loss makes others."""
    with pytest.raises(ValueError, match="Argument `loss` must have a gradient with right derivatives"):
        solve(equation, STOPPED, jnp.array(1.0), steps=2, key=KEY, solver=solver)
