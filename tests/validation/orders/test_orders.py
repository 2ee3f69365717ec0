"""`orders`: the orders that theory gives come out, each within its interval, and mutants of the equations are rejected."""

import json
import warnings

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from marks import some
from oracles import LinearRegression, mlp

from dynamics import Strang
from equations import SGD, Adam, Modified, Momentum, Objective, from_optax, modified
from equations._modified.increment import Increment
from equations._tree import add_scaled
from validation import orders
from validation._compare.statistics import Estimate
from validation._orders.ensemble import patterns
from validation._orders.fit import norm, slope, sweep
from validation._orders.moment_equations import discrete, linear, propagate

PROBLEM = LinearRegression()
BATCH = 4
RATES = [0.1, 0.05, 0.025, 0.0125]
MEASURES = ("mean", "second moment", "variance/eta")
FIRST, SECOND = SGD(0.1, BATCH), modified(SGD(0.1, BATCH))
BOTH = modified(SGD(0.1, BATCH), fluctuations=True)


def weights(w):
    return w


def exact(equation, rates=RATES, **options):
    options = {"time": 2.0, "observe": {"w": weights}} | options
    report = orders(equation, PROBLEM.objective, PROBLEM.start, learning_rates=rates, **options)
    assert report.method == "exact moments"
    return report


# Exact moments


@pytest.mark.slow
def test_moment_equations_agree_with_the_closed_form():
    sampling = "without_replacement"
    eta, steps = 0.05, 37
    equation, w, signal = SGD(eta, BATCH, sampling), jnp.asarray(PROBLEM.start), PROBLEM.objective
    increment = Increment.of(equation)
    map_, flow = discrete(increment, signal, increment.init(w)), linear(equation, signal, w)
    second = PROBLEM.second_moment.reshape(4, 4)
    sides = propagate(map_, flow, (second, second), eta, steps)
    for side, step in zip(sides, (PROBLEM.sgd_map, PROBLEM.sde_map), strict=True):
        truth = np.linalg.matrix_power(step(eta, BATCH, sampling), steps) @ PROBLEM.second_moment
        assert np.max(np.abs(side.ravel() - truth)) < 1e-12 * np.max(np.abs(truth))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("equation", "expected"),
    [(FIRST, (1, 1, 1)), pytest.param(SECOND, (2, 2, 1), marks=pytest.mark.slow), (BOTH, (2, 2, 2))],
    ids=["1", "2", "2f"],
)
def test_weak_orders_on_linear_regression(equation, expected):
    report = exact(equation, rates=[0.1, 0.05, 0.025, 0.0125, 0.00625])
    last = [report.local_slopes["w"][measure].value[-1] for measure in MEASURES]
    print(f"\n{report}\nlast halving: {np.round(last, 3)}")
    assert report.sharpness[-2] <= 0.03
    assert np.all(np.abs(np.subtract(last, expected)) < (0.05, 0.05, 0.1 if equation is BOTH else 0.05))
    assert [report.claim["w"][measure] for measure in MEASURES] == list(expected)
    assert set(report.verdict["w"].values()) == {"holds"}


@pytest.mark.slow
def test_momentum_in_its_natural_clock():
    """Order in the step h = sqrt(eta): 1 - beta ~ h."""
    steps = np.array([0.1, 0.05, 0.025, 0.0125])
    first = exact(Momentum(0.01, BATCH, momentum=0.9), rates=steps**2)
    second = exact(modified(Momentum(0.01, BATCH, momentum=0.9), fluctuations=True), rates=steps**2)
    print(f"\n{first}\n{second}")
    assert np.array_equal(first.steps, [20, 40, 80, 160])
    np.testing.assert_allclose(first.step_lengths, steps)
    for report, order in ((first, 1), (second, 2)):
        for measure in MEASURES:
            local = report.local_slopes["w"][measure].value
            assert abs(2 * local[-1] - local[-2] - order) < 0.06  # extrapolated to h = 0
            assert report.verdict["w"][measure] != "fails"
    assert set(first.verdict["w"].values()) == {"holds"}


@pytest.mark.slow
def test_transient_of_momentum():
    """Past the time of its transient the sweep starts from the algorithm's own distribution."""
    report = exact(
        modified(Momentum(0.01, BATCH, momentum=0.9)), rates=np.array([0.1, 0.05, 0.025]) ** 2, transient=1.0
    )
    assert report.claim["w"]["mean"] == 2
    assert np.all(np.abs(report.local_slopes["w"]["second moment"].value - 2) < 0.2)


# Mutants, on exact moments


class NoiseDropped(SGD):
    """d theta = -g dt."""

    def diffusion(self, t, state, signal):
        return None


class OtherDrift(Modified):
    """b + factor eta b'b for -1/2."""

    factor = 0.0

    def drift(self, t, state, signal):
        field = lambda y: self.equation.drift(t, y, signal)  # noqa: E731
        value, along = jax.jvp(field, (state,), (field(state),))
        return add_scaled(value, (self.factor * self.learning_rate, along))


class WrongSign(OtherDrift):
    factor = 0.5


class ThirdForHalf(OtherDrift):
    factor = -1 / 3


class NoGradientOfSigma(Modified):
    """(1 - (eta/2) b') sigma(y): S without -(eta/2) b.grad Sigma."""

    def responding(self, t, state, signal):
        return state, super().responding(t, state, signal)[1]


class Entropic(Modified):
    """-grad (L + (eta/4)|grad L|^2 + (eta/4) tr C/B) in the Itô drift."""

    def drift(self, t, state, signal):
        w, unravel = ravel_pytree(self.params(state))

        def trace(w):
            grads = jax.vmap(lambda i: signal.take(i[None]).gradient(unravel(w)))(jnp.arange(signal.size))
            return jnp.mean(jnp.sum((grads - grads.mean(0)) ** 2, axis=1)) / self.batch_size

        zero = jax.tree.map(jnp.zeros_like, state)
        push = type(state)(unravel(jax.grad(trace)(w)), zero.memory)
        return add_scaled(super().drift(t, state, signal), (-self.learning_rate / 4, push))


def as_mutant(kind, right):
    return kind(
        right.learning_rate, right.batch_size, right.sampling, equation=right.equation, order=right.order,
        fluctuations=right.fluctuations, route=right.route,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("mutant", "measure"),
    [
        (NoiseDropped(0.1, BATCH), "variance/eta"),
        (as_mutant(WrongSign, SECOND), "mean"),
        (as_mutant(ThirdForHalf, SECOND), "mean"),
        (as_mutant(NoGradientOfSigma, BOTH), "variance/eta"),
        (as_mutant(Entropic, SECOND), "mean"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else value.split("/")[0],
)
def test_mutants_are_rejected(mutant, measure):
    report = exact(mutant)
    found, claim = report.slope["w"][measure], report.claim["w"][measure]
    print(f"\n{type(mutant).__name__}: {measure} slope {found:.3f} ± {report.slope_error['w'][measure]:.3f}, "
          f"claim {claim}, {report.verdict['w'][measure]}")  # fmt: skip
    assert report.verdict["w"][measure] == "fails"
    assert found < claim - 0.7


def test_the_noise_that_the_mean_does_not_see():
    report = exact(NoiseDropped(0.1, BATCH))
    assert report.verdict["w"]["mean"] == "holds" and report.verdict["w"]["variance/eta"] == "fails"


# Without noise


@pytest.fixture(scope="module")
def network():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(16, 3))
    y = np.tanh(x @ rng.normal(size=3) + 0.5) + 0.1 * rng.normal(size=16)

    def loss(net, example):
        return 0.5 * jnp.sum((net(example[0]) - example[1]) ** 2)

    return Objective(loss, (x, y)), mlp(jax.random.key(1), (3, 4, 1), jnp.float64)


RATES_OF_NETWORK = [0.125, 0.0625, 0.03125, 0.015625]


@pytest.mark.slow
@pytest.mark.parametrize("order", some([1, 2, 3, 4, 5], [2, 3]))
def test_deterministic_orders_on_a_network(network, order):
    report = orders(modified(SGD(0.1), order, route="map"), *network, time=4.0, learning_rates=RATES_OF_NETWORK)
    local = report.local_slopes["parameters"]["mean"].value
    print(f"\norder {order}: {np.round(local, 3)}, eta lambda_max {np.round(report.sharpness, 3)}")
    assert report.method == "deterministic" and report.sharpness[1] <= 0.12
    assert np.all(np.abs(local[-2:] - order) < 0.1)
    assert report.verdict["parameters"]["mean"] == "holds"
    assert np.all(report.solver_errors["parameters"]["mean"].value < 1e-3 * report.errors["parameters"]["mean"].value)


@pytest.mark.slow
def test_adam_after_its_transient(network):
    equation = modified(Adam(0.1, b1=0.5, b2=0.6, eps=0.1), 2)
    report = orders(equation, *network, time=2.0, transient=2.0, learning_rates=[0.1, 0.05, 0.025])
    print(f"\n{report}")
    assert report.verdict["parameters"]["mean"] == "holds"
    assert abs(report.local_slopes["parameters"]["mean"].value[-1] - 2) < 0.1


# By sampling


@pytest.fixture(scope="module")
def neuron():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(8, 3))
    y = np.tanh(x @ rng.normal(size=3)) + 0.4 * rng.normal(size=8)

    def loss(w, example):
        return 0.5 * (jnp.tanh(jnp.dot(w, example[0])) - example[1]) ** 2

    return Objective(loss, (x, y)), jnp.asarray(rng.normal(size=3))


def sampled(equation, problem, seed=0, **options):
    options = {"time": 1.0, "learning_rates": RATES, "observe": {"w": weights}} | options
    report = orders(equation, *problem, key=jax.random.key(seed), **options)
    print(f"\n{report}")
    assert report.method.startswith("sampling")
    return report


@pytest.mark.slow  # the errors that sampling measures are the exact ones (below), whose orders are known (above)
@pytest.mark.parametrize("equation", [FIRST, SECOND], ids=["1", "2"])
def test_orders_of_a_neuron_by_sampling(equation, neuron):
    report = sampled(equation, neuron, seed=1, paths=8192)
    for measure in MEASURES:
        found, half, claim = (getattr(report, field)["w"][measure] for field in ("slope", "slope_error", "claim"))
        assert half < 0.2
        assert abs(found - claim) <= half
        assert report.verdict["w"][measure] == "holds"


@pytest.mark.slow
def test_cannot_tell_with_few_paths(neuron):
    report = sampled(BOTH, neuron, paths=64, learning_rates=RATES[:3])
    assert report.verdict["w"]["variance/eta"] == "cannot tell"
    assert (
        json.loads(json.dumps(report.to_dict(), allow_nan=False))["observables"]["w"]["variance/eta"]["slope"] is None
    )


@pytest.mark.slow
def test_sampling_measures_the_errors_that_moments_give():
    """Model error without solver error, within its Monte Carlo error, also for independent minibatches."""
    truth = exact(FIRST, rates=RATES[:3], time=1.0)

    def squash(w):
        return jnp.tanh(w)  # no polynomial: forces sampling

    for noise, paths in (("gaussian", 1024), ("minibatch", 2048)):
        report = sampled(FIRST, (PROBLEM.objective, PROBLEM.start), learning_rates=RATES[:3], paths=paths,
                         noise=noise, observe={"w": weights, "tanh": squash})  # fmt: skip
        for measure in MEASURES:
            errors = report.errors["w"][measure]
            assert np.all(np.abs(errors.value - truth.errors["w"][measure].value) < 4 * errors.error)


@pytest.mark.slow
def test_moments_do_not_close_for_a_rule_that_switches_far_from_the_start():
    """A drop of the learning rate after 40 steps, and clipping of gradients that only an outlier has."""

    def drop(learning_rate):
        return optax.sgd(optax.piecewise_constant_schedule(learning_rate, {40: 0.1}))

    def clip(learning_rate):
        return optax.chain(optax.clip(300.0), optax.sgd(learning_rate))

    problem = LinearRegression()
    start = jnp.asarray(problem.start)
    for factory in (drop, clip, optax.sgd):
        increment = from_optax(factory, 0.1, batch_size=4)
        closes = discrete(increment, problem.objective, increment.init(start)) is not None
        assert closes == (factory is optax.sgd)


@pytest.mark.slow
def test_float32_where_x64_is_on():
    problem = LinearRegression()
    single = Objective(problem.objective.loss, (problem.x.astype(np.float32), problem.y.astype(np.float32)))
    start = jnp.asarray(problem.start, jnp.float32)
    report = orders(modified(SGD(0.1)), single, start, time=2.0, learning_rates=[0.1, 0.05, 0.025])
    assert report.verdict["parameters"]["mean"] == "holds"


@pytest.mark.slow
def test_a_slope_that_rises_faster_and_faster_is_no_failure():
    """Nesterov at order 2: 1.60, 1.65, 1.83, 1.92, ... with smaller steps."""
    equation = modified(Momentum(0.01, 4, momentum=0.8, nesterov=True), fluctuations=True)
    problem = LinearRegression()
    report = orders(
        equation, problem.objective, jnp.asarray(problem.start), time=1.6, learning_rates=[0.0064, 0.0016, 0.0004]
    )
    assert "fails" not in report.verdict["parameters"].values()


@pytest.mark.slow
def test_shuffled_epochs(neuron):
    """Noise-free at leading order; the algorithm's batches are always real, and compared at epoch ends."""
    equation = SGD(0.1, 4, "shuffled")
    report = sampled(equation, neuron, learning_rates=RATES[:3])
    assert "minibatches" in report.method
    assert report.verdict["w"]["mean"] == "holds"
    with pytest.raises(ValueError, match="Argument `time` must be a whole number of epochs of 2 training steps"):
        sampled(equation, neuron, time=1.1)


@pytest.mark.slow
def test_divergence_is_reported():
    """Paths that diverge are left out; where all do nothing can be said."""
    quartic = Objective(lambda w, a: 0.25 * jnp.sum((a * w) ** 4), jnp.array([1.0, 2.0, 3.0]))
    for equation in (SGD(0.1), SGD(0.1, 2)):
        with pytest.warns(UserWarning, match="eta \\* lambda_max"):
            report = orders(equation, quartic, jnp.full(2, 4.0), time=2.0, learning_rates=[0.1, 0.05, 0.025],
                            observe={"w": weights}, key=jax.random.key(0), paths=16)  # fmt: skip
        assert np.all(report.failed == 1) and report.verdict["w"]["mean"] == "cannot tell"
        assert "100.0%" in str(report) and json.dumps(report.to_dict(), allow_nan=False)


def test_groups_cancel_products_of_different_kicks():
    for kicks in (1, 2, 4, 8):
        signs = patterns(kicks)
        assert len(signs) == 2 * kicks
        np.testing.assert_allclose(signs.T @ signs / len(signs), np.eye(kicks), atol=1e-15)
        assert not signs.sum(axis=0).any()


# Slopes and verdicts


def test_interval_covers():
    """Of 95 % intervals from errors with a known order, Monte Carlo error and lack of fit, at least 9 in 10 cover."""
    rng = np.random.default_rng(0)
    x = np.log([0.2, 0.1, 0.05, 0.025])
    for deviation, scatter in ((0.05, 0.0), (0.0, 0.03), (0.05, 0.05)):
        covered = 0
        for _ in range(200):
            logs = 1.5 * x + rng.normal(size=4) * np.hypot(deviation, scatter)
            value, half = slope(x, Estimate(np.exp(logs), deviation * np.exp(logs)))
            covered += abs(value - 1.5) < half
        print(f"Monte Carlo {deviation}, lack of fit {scatter}: {covered / 2:.0f} % cover")
        assert covered >= 180


def test_norm_is_unbiased_and_knows_its_error():
    rng = np.random.default_rng(0)
    truth = np.array([0.3, -0.4])
    values, errors = np.array([norm(truth + 2.0 * rng.normal(size=(400, 2))) for _ in range(500)]).T
    assert abs(values.mean() - 0.5) < 0.02
    assert abs(np.sqrt(np.mean(errors**2)) / values.std() - 1) < 0.15
    assert norm(np.array([[3.0, 4.0]])) == (5.0, 0.0)


@pytest.mark.parametrize(
    ("errors", "deviation", "hidden", "verdict"),
    [
        (lambda h: h**2, 0.0, 0.0, "holds"),
        (lambda h: h, 0.0, 0.0, "fails"),
        (lambda h: h + h**2, 0.0, 0.0, "fails"),
        (lambda h: h**2 * (1 - 2.5 * h), 0.0, 0.0, "cannot tell"),  # has yet to rise to the claim
        (lambda h: h**2, 0.5, 0.0, "cannot tell"),
        (lambda h: h**2, 0.0, 0.01, "cannot tell"),
        (lambda h: 0 * h, 0.0, 0.0, "cannot tell"),
        (lambda h: np.nan * h, 0.0, 0.0, "cannot tell"),
    ],
)
def test_verdicts(errors, deviation, hidden, verdict):
    h = np.array([0.2, 0.1, 0.05, 0.025])
    values, zero = errors(h), Estimate(0 * h, 0 * h)
    assert sweep(h, Estimate(values, deviation * np.abs(values)), zero, 0 * h + hidden, 2.0).verdict == verdict


# The report, and bad input


@pytest.mark.slow
def test_report(capsys):
    with pytest.warns(UserWarning, match="eta \\* lambda_max is"):
        report = exact(SECOND, rates=[0.5, 0.25, 0.125], observe=None)
    text = str(report)
    assert "exact moments" in text and "order 2" in text and "variance/eta" in text
    assert all(f" {verdict}\n" in text for verdict in report.verdict["parameters"].values())
    assert set(report.slope) == {"loss", "parameters"} and set(report.slope["loss"]) == {"mean"}
    plain = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert plain["observables"]["parameters"]["mean"]["verdict"] == report.verdict["parameters"]["mean"]
    assert plain["steps"] == [4, 8, 16]
    np.testing.assert_allclose(report.sharpness, PROBLEM.sharpness * report.learning_rates, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "kind", "wording"),
    [
        ({"equation": SGD}, TypeError, "Argument `equation` must be an equations.AbstractEquation"),
        ({"learning_rates": [0.1, 0.05]}, ValueError, "Argument `learning_rates` must hold at least three positive"),
        ({"learning_rates": [0.1, 0.2, 0.05]}, ValueError, "decreasing, but"),
        ({"learning_rates": [0.1, 0.0, -0.1]}, ValueError, "Argument `learning_rates` must"),
        ({"learning_rates": 0.1}, TypeError, "Argument `learning_rates` must"),
        ({"learning_rates": ["a", "b", "c"]}, TypeError, "Argument `learning_rates` must"),
        ({"time": 0.0}, ValueError, "Argument `time` must be a positive finite number"),
        ({"time": 0.43}, ValueError, "Argument `time` must be a whole number of training steps .* learning rate 0.1"),
        ({"transient": 0.43}, ValueError, "Argument `transient` must be a whole number of training steps"),
        ({"transient": -1.0}, ValueError, "Argument `transient` must be a finite number, zero or more"),
        ({"equation": Momentum(0.01), "learning_rates": [0.01, 0.0025, 0.000625], "transient": 1.0}, ValueError,
         "Argument `transient` must be 0 for Momentum"),
        ({"observe": {}}, ValueError, "Argument `observe` must hold at least one observable"),
        ({"observe": {"w": 3}}, TypeError, "Argument `observe` must hold callables"),
        ({"paths": 1}, ValueError, "Argument `paths` must be an integer of at least 2"),
        ({"noise": "none"}, ValueError, "Argument `noise` must be one of"),
        ({"substeps": 0}, ValueError, "Argument `substeps` must be an integer"),
        ({"solver": Strang(), "equation": SGD(0.1)}, ValueError, "Argument `solver` must be an explicit Runge-Kutta"),
        ({"solver": dfx.Dopri5()}, ValueError, "Argument `solver` must be Strang"),
        ({"key": 3}, TypeError, "Argument `key` must be a single typed key"),
        ({"objective": 3}, TypeError, "Argument `objective` must be a signal"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else None,
)  # fmt: skip
def test_bad_input(change, kind, wording):
    given = {"equation": FIRST, "objective": PROBLEM.objective, "params": PROBLEM.start, "time": 0.4,
             "learning_rates": RATES[:3]} | change  # fmt: skip
    with warnings.catch_warnings(), pytest.raises(kind, match=wording):
        orders(given.pop("equation"), given.pop("objective"), given.pop("params"), **given)


@pytest.mark.slow
def test_a_key_is_needed_exactly_in_sampling(neuron):
    exact(FIRST, rates=[0.1, 0.05, 0.025])
    with pytest.raises(ValueError, match="Argument `key` must be a key"):
        orders(FIRST, *neuron, time=1.0, learning_rates=[0.2, 0.1, 0.05])


class OwnNoise(SGD):
    """With a diffusion that is none for the full batch, and a splitting."""

    def diffusion(self, t, state, signal):
        return super().diffusion(t, state, signal)

    def splitting(self):
        return super().splitting()


def test_a_diffusion_that_is_none_needs_no_key():
    options = dict(time=1.0, learning_rates=RATES[:3], observe={"w": weights})
    own, plain = (orders(kind(0.1), PROBLEM.objective, PROBLEM.start, **options) for kind in (OwnNoise, SGD))
    assert own.method == plain.method == "deterministic" and own.slope["w"] == plain.slope["w"]
