"""Steps that a controller chooses, with noise: Diffrax's Brownian tree, in steps that meet the records."""

import re

import diffrax as dfx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
from diffusions import START, A, OrnsteinUhlenbeck, S, moments
from marks import some
from oracles import within

from dynamics import Strang, solve
from equations import SGD, AbstractDynamics, Langevin, Objective, scheduled

CASES = [
    ("adaptive steps with noise", "instance", "SRA1 and others under a PID controller, in law", "test_law"),
    ("adaptive steps with noise", "brother", "the default solver under a controller", "test_the_default"),
    ("adaptive steps with noise", "brother", "Langevin's, and half solvers", "test_others"),
    ("adaptive steps with noise", "brother", "steps given beforehand", "test_given_steps"),
    ("adaptive steps with noise", "brother", "a path that fails", "test_a_path_that_fails"),
    ("adaptive steps with noise", "instance", "half solvers of wrong ones", "test_half_solvers_of_wrong_ones"),
    ("adaptive steps with noise", "brother", "wrong pairings", "test_refused"),
    ("adaptive steps with noise", "brother", "mutant: records between steps", "test_mutant"),
]

KEY = jax.random.key(0)
OBSERVE = {"x": lambda x: x}


def controller(atol=1e-2, **options):
    return dfx.PIDController(rtol=0.0, atol=atol, **options)


def run(solver, control, dynamics=None, paths=2000, steps=4, dt=0.25, **options):
    return solve(
        dynamics or OrnsteinUhlenbeck(), None, START, steps=steps, dt=dt, key=KEY, paths=paths, solver=solver,
        stepsize_controller=control, observe=OBSERVE, **options,
    )  # fmt: skip


def check(flow):
    assert flow.ok.all()
    for record in (1, 4):
        mean, covariance = moments(A, S, START, float(flow.times[record]))
        x = flow.observables["x"][:, record]
        assert within(x, mean, covariance) < 1 < within(x, mean, 1.3 * covariance)


@pytest.mark.parametrize("name", some(["SRA1", "ShARK", "SPaRK", "Heun", "ReversibleHeun"], []))
def test_law(name):
    flow = run(getattr(dfx, name)(), controller(dtmin=1e-3))
    check(flow)
    assert dict(flow.details)["brownian_motion"].startswith("diffrax.VirtualBrownianTree, steps of 0.001 ")


@pytest.mark.slow
def test_the_default():
    flow = run(None, controller())
    check(flow)
    assert dict(flow.details)["solver"] == "ShARK()"


@pytest.mark.slow
@pytest.mark.parametrize("solver", [dfx.HalfSolver(dfx.EulerHeun()), dfx.HalfSolver(dfx.SEA())], ids=repr)
def test_others(solver):
    """At smaller steps: at a tolerance of 1e-2 SEA's are off by four standard errors of 2000 paths, and by less below."""
    check(run(solver, controller(atol=1e-3, dtmin=1e-3)))


@pytest.mark.slow
def test_given_steps():
    check(run(dfx.ShARK(), dfx.StepTo(jnp.linspace(0.0, 4.0, 33))))
    with pytest.raises(ValueError, match="must step to all records"):
        run(dfx.ShARK(), dfx.StepTo(jnp.array([0.0, 1.5, 4.0])))


class Fragile(AbstractDynamics):
    def drift(self, t, state, signal):
        return jnp.where(state[:1] > 1.5, 1e200, 0.0) * jnp.ones(2)

    def diffusion(self, t, state, signal):
        return lx.DiagonalLinearOperator(jnp.ones(2))


@pytest.mark.slow
def test_a_path_that_fails():
    flow = run(dfx.SRA1(), controller(dtmin=1e-2, force_dtmin=True), Fragile(), 20)
    failed = np.asarray(flow.failed_at) >= 0
    assert 0 < failed.sum() < 20 and np.isfinite(flow.final).all()
    x = np.asarray(flow.observables["x"])
    assert np.isfinite(x).all()
    for path, step in enumerate(flow.failed_at):
        if step >= 0:
            assert np.all(x[path, step:] == x[path, step - 1])


@pytest.mark.slow
def test_mutant():
    """Between two steps a path of Diffrax's is a straight line: a quarter of the variance is missing in the middle."""

    def middle(key):
        tree = dfx.VirtualBrownianTree(0.0, 1.0, 1e-2, (), key, dfx.SpaceTimeLevyArea)
        terms = dfx.MultiTerm(
            dfx.ODETerm(lambda t, y, args: 0 * y), dfx.ControlTerm(lambda t, y, args: jnp.ones(()), tree)
        )
        saveat = dfx.SaveAt(ts=jnp.array([0.5]))
        return dfx.diffeqsolve(terms, dfx.SRA1(), 0.0, 1.0, 1.0, jnp.zeros(()), saveat=saveat).ys[0]

    x = np.asarray(jax.vmap(middle)(jax.random.split(KEY, 2000)))[:, None]
    assert within(x, np.zeros(1), 0.25 * np.eye(1)) < 1 < within(x, np.zeros(1), 0.5 * np.eye(1))


class Multiplicative(OrnsteinUhlenbeck):
    def diffusion(self, t, state, signal):
        return lx.DiagonalLinearOperator(0.3 * state)


class Mixed(OrnsteinUhlenbeck):
    """Whose noise does not commute."""

    def diffusion(self, t, state, signal):
        return lx.MatrixLinearOperator(jnp.array([[0.3, 0.1], [0.2, 0.4]]) * state)


@pytest.mark.parametrize("control", [None, controller()], ids=["constant", "adaptive"])
@pytest.mark.parametrize(("solver", "reason"), [
    (dfx.SRA1(), "is one for additive noise"),
    (dfx.ShARK(), "is one for additive noise"),
    (dfx.Heun(), "converges to the Stratonovich solution"),
    (dfx.ItoMilstein(), "needs noise that commutes"),
    (dfx.Tsit5(), "converging neither to the Itô"),
], ids=repr)  # fmt: skip
def test_half_solvers_of_wrong_ones(solver, reason, control):
    """By what is inside, whatever the metaclass of Diffrax's says of them."""
    for half in (dfx.HalfSolver(solver), dfx.HalfSolver(dfx.HalfSolver(solver))):
        with pytest.raises(ValueError, match=f"Argument `solver` must be .*HalfSolver.*{reason}"):
            run(half, control, Mixed())


def test_refused():
    def refused(reason, call):
        with pytest.raises(ValueError, match=re.escape(reason)):
            call()

    for solver in (dfx.SEA(), dfx.EulerHeun(), dfx.ItoMilstein(), dfx.GeneralShARK()):
        refused("`solver` must have an error estimate for `stepsize_controller`", lambda s=solver: run(s, controller()))
    for solver in (dfx.Euler(), Strang(), dfx.HalfSolver(dfx.Euler())):
        refused("`stepsize_controller` must be None", lambda s=solver: run(s, controller()))
    refused("neither additive nor in the Stratonovich form", lambda: run(None, controller(), Multiplicative()))
    objective = Objective(lambda w, x: 0.5 * jnp.sum((w - x) ** 2), np.array([[0.5], [-0.5]]))
    options = dict(steps=2, key=KEY, stepsize_controller=controller())
    refused("neither additive nor", lambda: solve(SGD(0.1, 2), objective, jnp.ones(1), **options))
    cooled = scheduled(Langevin(0.1), lambda step: 1 / (1 + step))
    refused("counts its training steps", lambda: solve(cooled, objective, jnp.ones(1), **options))
