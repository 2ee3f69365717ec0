"""Facts about the adaptive optimizers: orders with and without noise, second order, starts, bounds, exact moments."""

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from jaxtyping import PyTree
from marks import some
from mutants.decayed import SameDecay

from dynamics import train
from equations import (
    AdaGrad,
    Adam,
    AdamW,
    AMSGrad,
    Isotropic,
    LaProp,
    NAdam,
    Objective,
    RMSProp,
    decayed,
    modified,
    scheduled,
)
from equations._modified.increment import Increment
from equations._optimizers.adaptive import AbstractAdaptive
from equations.internal import split
from validation import orders


def wave(w, example):
    """Noise both multiplicative and additive, and curvature that changes."""
    curvature, center = example
    return jnp.sum(curvature * (w - center) ** 2 / 2 + 0.3 * jnp.cos(w))


RNG = np.random.default_rng(0)
PROBLEM = Objective(wave, (RNG.uniform(0.5, 1.5, (8, 2)), RNG.normal(size=(8, 2))))
START = jnp.array([3.0, -3.0])
W = {"w": lambda w: w}

FAMILY = {
    "adam": Adam(0.1, b1=0.8, b2=0.9),
    "adamw": AdamW(0.1, b1=0.8, b2=0.9, weight_decay=0.1),
    "nadam": NAdam(0.1, b1=0.8, b2=0.9),
    "amsgrad": AMSGrad(0.1, b1=0.8, b2=0.9),
    "laprop": LaProp(0.1, b1=0.8, b2=0.9),
    "rmsprop": RMSProp(0.1, initial_scale=1.0),
    "rmsprop_corrected": RMSProp(0.1, eps_in_sqrt=False, bias_correction=True),
    "rmsprop_centered": RMSProp(0.1, initial_scale=1.0, centered=True),
    "adagrad": AdaGrad(0.1, initial_accumulator_value=100.0, eps=1e-5),
}


def swept(equation, **options):
    """Without noise. AdaGrad's clock is another."""
    defaults = {"time": 1.2, "transient": 0.4, "learning_rates": [0.02, 0.01, 0.005, 0.0025]}
    if float(equation.scaling_limit().time_per_step()) < float(equation.learning_rate):
        defaults = {"time": 0.5, "transient": 0.1, "learning_rates": [0.1 / 2**0.5, 0.05, 0.05 / 2**0.5, 0.025]}
    return orders(equation, PROBLEM, START, observe=W, **(defaults | options))


# ---------------------------------------------------------------------------------------------------------------------
# Orders


@pytest.mark.slow
@pytest.mark.parametrize("name", some(FAMILY, ["adam", "amsgrad", "rmsprop_centered"]))
def test_second_order_with_the_new_second_moment(name):
    """`modified` of every one of them, after a transient: the series is regular where nu is not near zero."""
    # At 1.2 the leading coefficient of those three passes through zero: the error there is of third order.
    time = {"time": 2.0} if name in ("adam", "adamw", "nadam") else {}
    report = swept(modified(FAMILY[name], order=2), **time)
    slope, half = report.slope["w"]["mean"], report.slope_error["w"]["mean"]
    print(f"\n{name}: order 2 measured {slope:.3f} ± {half:.3f}")
    assert report.verdict["w"]["mean"] == "holds" and abs(slope - 2) < 0.15


@pytest.mark.slow
def test_decay_beside_an_optimizer_of_the_clock_of_eta_squared():
    """lambda ~ eta beside AdaGrad: first order, continued after a transient; at the same lambda there is no limit."""
    rule = decayed(FAMILY["adagrad"], 0.3)
    mutant = SameDecay(**{field.name: getattr(rule, field.name) for field in dataclasses.fields(rule)})
    good, bad = (swept(equation).slope["w"]["mean"] for equation in (rule, mutant))
    print(f"\ndecay beside AdaGrad: slope {good:.3f}; at the same lambda {bad:.3f}")
    assert abs(good - 1) < 0.15 and abs(bad - 1) > 0.3


class Lagged(Adam):
    """Adam that divides by the old second moment, as published second-order models have it."""

    def twin(self):
        adam = optax.scale_by_adam(self.b1, self.b2, self.eps, self.eps_root)

        def update(gradient, state, params=None):
            _, new = adam.update(gradient, state, params)
            mu_hat = optax.tree_utils.tree_bias_correction(new.mu, self.b1, new.count)
            nu_hat = optax.tree_utils.tree_bias_correction(state.nu, self.b2, state.count)
            return jax.tree.map(lambda m, v: m / self.root(v), mu_hat, nu_hat), new

        lagged = optax.GradientTransformation(adam.init, update)
        return optax.chain(lagged, optax.scale_by_learning_rate(self.learning_rate))


@pytest.mark.slow
def test_the_model_of_the_old_second_moment_is_of_first_order_only():
    """For what Optax divides by, the published model of the lagged one is no second-order model."""
    errors = []
    rates = (0.02, 0.01, 0.005)
    for eta in rates:
        right, lagged = (cls(0.1, b1=0.8, b2=0.9).scaling_limit().rescaled(eta / 0.1) for cls in (Adam, Lagged))
        steps, skip = round(0.8 / eta), round(0.4 / eta)
        errors.append([_flow_error(right, model, steps, skip) for model in (right, lagged)])
    errors = np.array(errors)
    slopes = np.log2(errors[:-1] / errors[1:])
    print(f"\nslopes with the new second moment {slopes[:, 0]}, with the old one {slopes[:, 1]}")
    assert np.all(slopes[:, 0] > 1.85) and np.all(slopes[:, 1] < 1.15)


def _flow_error(algorithm, model, steps, skip):
    """Of the order-2 equation of `model` against `algorithm`, from the algorithm's state after `skip` steps."""
    increment, series = Increment.of(algorithm), modified(model, order=2)
    eta = algorithm.learning_rate

    @eqx.filter_jit
    def run(increment, series):
        def discrete(_, y):
            rate = increment.velocity(eta, y, PROBLEM.gradient(y.params))
            return jax.tree.map(lambda a, b: a + eta * b, y, rate)

        def kutta(_, y):
            def at(z):
                return series.drift(eta, z, PROBLEM)

            def moved(factor, k):
                return jax.tree.map(lambda a, b: a + factor * eta * b, y, k)

            k1 = at(y)
            k2 = at(moved(0.5, k1))
            k3 = at(moved(0.5, k2))
            k4 = at(moved(1.0, k3))
            return jax.tree.map(lambda a, p, q, r, s: a + eta / 6 * (p + 2 * q + 2 * r + s), y, k1, k2, k3, k4)

        middle = jax.lax.fori_loop(0, skip, discrete, increment.init(START))
        ends = [jax.lax.fori_loop(0, steps, step, middle) for step in (discrete, kutta)]
        return jnp.linalg.norm(ends[0].params - ends[1].params)

    return float(run(increment, series))


@pytest.mark.slow
def test_an_empty_second_moment_leaves_order_one_half():
    """RMSProp as Optax has it by default: the k-th step is longer by 1/sqrt((1 - decay) k)."""
    options = {"transient": 0.0, "learning_rates": [0.0025, 0.00125, 0.000625]}
    empty, full = (swept(RMSProp(0.1, initial_scale=scale), **options).slope["w"]["mean"] for scale in (0.0, 1.0))
    print(f"\nfrom an empty second moment {empty:.3f}, from one {full:.3f}")
    assert 0.35 < empty < 0.55 and abs(full - 1) < 0.1


def bowl(curvature):
    """A gradient of variable curvature, to which noise is added: steep, for model errors that stand out of the noise."""
    return Objective(lambda w, size: jnp.sum(size * (w**2 / 2 + 0.3 * jnp.cos(w))), curvature * jnp.ones(1))


# Equations, their noise, the curvature and the natural time in which one can tell the order.
NOISY = {
    "adam": (Adam(0.05, b1=0.9, b2=0.9), 1.0, 4.0, 1.6),
    "adamw": (AdamW(0.05, b1=0.9, b2=0.9, weight_decay=0.1), 1.0, 4.0, 1.6),
    "nadam": (NAdam(0.05, b1=0.9, b2=0.9), 1.5, 4.0, 0.8),
    "laprop": (LaProp(0.05, b1=0.9, b2=0.9), 2.0, 2.0, 1.6),
    "rmsprop": (RMSProp(0.05, decay=0.8, initial_scale=1.0), 1.0, 4.0, 0.8),
    "rmsprop_corrected": (RMSProp(0.05, decay=0.8, bias_correction=True), 1.5, 4.0, 0.8),
    "rmsprop_centered": (RMSProp(0.05, decay=0.9, initial_scale=1.0, centered=True), 1.0, 4.0, 1.6),
    "adagrad": (AdaGrad(0.2, initial_accumulator_value=50.0, eps=1e-5), 1.0, 4.0, 0.8),
    "amsgrad": (AMSGrad(0.1, b1=0.8, b2=0.8), 2.0, 2.0, 1.6),
    "composed": (
        scheduled(decayed(Adam(0.05, b1=0.9, b2=0.9), 0.3), optax.cosine_decay_schedule(1.0, 50, 0.2)),
        1.0,
        4.0,
        1.6,
    ),
}


def told(name, first=None, paths=400_000):
    """The order sweep of a noisy equation, from the algorithm's state after a transient, under Gaussian gradient noise."""
    equation, noise, curvature, time = NOISY[name]
    equation = dataclasses.replace(equation, noise_model=Isotropic(noise))
    ratio, transient = (2**0.5, 0.16) if name == "adagrad" else (2.0, 0.4)
    rates = (first or float(equation.learning_rate)) / ratio ** np.arange(3)
    report = orders(equation, bowl(curvature), jnp.array([2.0]), time=time, transient=transient, learning_rates=rates,
                    observe=W, key=jax.random.key(0), paths=paths)  # fmt: skip
    assert not np.any(report.failed)
    print(f"\n{report}")
    return report


def smallest(report, measure, error=0.15):
    """The slope between the two smallest learning rates, nearest to the limit, known to `error` (one standard error)."""
    local = report.local_slopes["w"][measure]
    assert local.error[-1] < error, local
    return local.value[-1]


@pytest.mark.slow  # without noise the law `order` has it, and kick_moments the noise of every kick
def test_first_order_with_noise():
    """Of Adam, at larger steps and with fewer paths than in the table below."""
    report = told("adam", first=0.1, paths=64_000)
    assert abs(smallest(report, "mean") - 1) < 0.15
    assert "fails" not in report.verdict["w"].values()


# What is not told: where the mean of NAdam is, its Var/eta is right to 3e-5. Over twice the time that has the slope
# 1.16 ± .09 at eta = .1 to .025 and 1.13 ± .45 (local slopes 1.30, .81) at half of these.
HIDDEN = {("nadam", "variance/eta")}


# Its Var/eta is off by a fourth of what Adam's is, and takes more paths to tell.
MANY = {"laprop": 1_600_000}


# AdaGrad divides by the root of 50 at least, so that its steps are far shorter than eta * lambda_max says.
SHORT = {"adagrad": pytest.mark.filterwarnings("ignore:eta . lambda_max is:UserWarning")}


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(name, marks=SHORT.get(name, ())) for name in NOISY if name != "amsgrad"])
def test_orders_with_noise(name):
    """Mean and Var/eta, at the smallest learning rates within .15 of 1."""
    report = told(name, paths=MANY.get(name, 400_000))
    for measure in ("mean", "variance/eta"):
        if (name, measure) in HIDDEN:
            assert report.verdict["w"][measure] != "fails"
        else:
            assert abs(smallest(report, measure) - 1) < 0.15 and report.verdict["w"][measure] != "fails"


@pytest.mark.slow
def test_orders_of_amsgrad_with_noise():
    """Var/eta of order 1/2, as it claims; the mean of a greater one, which is not that of the limit: see the next test."""
    report = told("amsgrad")
    assert abs(report.slope["w"]["variance/eta"] - 0.5) < 0.15 and report.verdict["w"]["variance/eta"] == "holds"
    assert report.slope["w"]["mean"] > 0.85


def test_running_maximum_of_amsgrad():
    """The honest exception: what the noise of nu does to its maximum, on a gradient of constant mean and variance.

    E nu_max lies O(sqrt(eta)) above its noise-free value. The equation gets that right to O(eta), and its variance over eta
    to O(sqrt(eta)) only.
    """
    rng, rate, variance, paths, parts = np.random.default_rng(0), 2.0, 0.5, 20_000, 8
    rates, found = np.array([0.1, 0.05, 0.025]), []
    for eta in rates:
        dt = eta / parts
        step, path = np.full((2, paths), 1 + variance)
        largest, relaxed = step.copy(), path.copy()
        for _ in range(round(1.6 / eta)):
            same, other = rng.normal(size=(2, parts, paths))
            g = 1 + variance**0.5 * same.sum(0) / parts**0.5
            step = step + rate * eta * (g**2 - step)
            largest = np.maximum(largest, step)
            for a, b in zip(same, other, strict=True):
                noise = 2 * variance**0.5 * a + 2**0.5 * variance * b
                path = path + rate * (dt * (1 + variance - path) + (eta * dt) ** 0.5 * noise)
                relaxed = relaxed + dt / eta * np.maximum(path - relaxed, 0)
        found.append([largest.mean() - 1 - variance, (largest - relaxed).mean(), (largest.var() - relaxed.var()) / eta])
    slopes = np.log2(np.array(found)[:-1] / np.array(found)[1:])
    print(
        f"\nslopes of the bias by noise {slopes[:, 0]}, of the mean's error {slopes[:, 1]}, of Var/eta's {slopes[:, 2]}"
    )
    assert np.all(np.abs(slopes[:, 0] - 0.5) < 0.15)
    assert np.all(np.abs(slopes[:, 1] - 1) < 0.2)
    assert np.all(np.abs(slopes[:, 2] - 0.5) < 0.25)


# ---------------------------------------------------------------------------------------------------------------------
# Bounds


def updates(optimizer, gradients):
    """The steps on given gradients, in units of the learning rate 1."""

    @jax.jit
    def run(gradients):
        def body(memory, gradient):
            with jax.numpy_dtype_promotion("standard"):
                step, memory = optimizer.update(gradient, memory)
            return memory, step

        return jax.lax.scan(body, jax.tree.map(jnp.asarray, optimizer.init(jnp.zeros(()))), gradients)[1]

    return np.asarray(run(jnp.asarray(gradients)))


IMPULSE = np.array([1.0] + [1e-12] * 400)


@pytest.mark.parametrize("b1", [0.5, 0.9, 0.99])
def test_laprop_is_bounded_whatever_its_averages(b1):
    b2 = 0.7
    twin = LaProp(1.0, b1=b1, b2=b2).twin()
    jumps = np.abs(updates(twin, np.random.default_rng(0).standard_cauchy(2000) ** 3)).max()
    print(f"\nb1={b1}: largest step {jumps:.3f}, bound {1 / math.sqrt(1 - b2):.3f}")
    assert jumps <= 1 / math.sqrt(1 - b2)
    assert np.abs(updates(twin, IMPULSE)).max() < 1 + 1e-9


@pytest.mark.parametrize("b2, blows_up", [(0.7, True), (0.9, False)])
def test_adam_blows_up_after_an_impulse_where_the_first_moment_outlives_the_root(b2, blows_up):
    """After it m/sqrt(v) goes as (b1/sqrt(b2))^t, until the small gradients are the larger part of v."""
    b1 = 0.9
    steps = np.abs(updates(optax.adam(1.0, b1, b2, eps=0.0), IMPULSE))
    growth = steps[100] / steps[99]
    print(f"\nb2={b2}: growth {growth:.6f} a step, b1/sqrt(b2) = {b1 / math.sqrt(b2):.6f}, largest {steps.max():.0f}")
    np.testing.assert_allclose(growth, b1 / math.sqrt(b2), rtol=1e-4)
    assert (steps.max() > 8000) == blows_up
    assert blows_up or steps.max() <= 1 + 1e-9


@pytest.mark.parametrize("steps", [2, 1000])
@pytest.mark.parametrize("equation", [FAMILY["laprop"], FAMILY["rmsprop_corrected"], NAdam(0.1, b1=0.8, b2=0.9)])
def test_the_equation_is_held_to_the_bound_of_its_algorithm(equation, steps):
    """Where the second moment is near zero, the velocity is what the largest quotient gives, and finite."""
    state = equation.init(START)
    state = eqx.tree_at(lambda s: s.nu, state, jnp.full_like(START, 1e-30))
    rates = equation.velocity(equation.learning_rate * steps, state, jnp.ones(2))
    bound = ((1 - 0.9**steps) / (1 - 0.9)) ** 0.5
    quotient = {
        "LaProp": lambda: rates.mu * 0.1 / 0.2,
        "RMSProp": lambda: -rates.params,
        "NAdam": lambda: -rates.params / 0.2 * (1 - 0.8**steps),
    }
    np.testing.assert_allclose(quotient[type(equation).__name__](), bound, rtol=1e-9)


# ---------------------------------------------------------------------------------------------------------------------
# The magnitude of Adam's update


def magnitudes(b1, steps, paths=20_000, seed=0):
    """|update| of Adam on standard normal gradients as b2 -> 1, shape (paths, steps)."""
    objective = Objective(lambda w, slope: slope * w, np.array([1.0, -1.0]))  # variance one, wherever w is
    adam = Adam(1.0, batch_size=1, b1=b1, b2=1 - 1e-9, eps=0.0)
    run = train(adam, objective, jnp.zeros(()), steps=steps, key=jax.random.key(seed), paths=paths, noise="gaussian",
                observe={"w": lambda w: w})  # fmt: skip
    return np.abs(np.diff(np.asarray(run.observables["w"]), axis=1))


def variance(samples):
    """And its standard error."""
    squares = (samples - samples.mean(0)) ** 2
    return squares.mean(0), squares.std(0) / len(samples) ** 0.5


@pytest.mark.slow
def test_variance_of_the_magnitude_of_adams_update_grows_to_a_bound():
    """1 - t Gamma(t/2)^2 / (pi Gamma((t + 1)/2)^2) at b1 = 0, b2 -> 1, which is Var|u| with E u^2 = 1."""
    found, error = variance(magnitudes(0.0, 10))
    t = np.arange(1, 11)
    ratio = np.array([math.exp(2 * (math.lgamma(k / 2) - math.lgamma((k + 1) / 2))) for k in t])
    exact = 1 - t * ratio / math.pi
    print(f"\nmeasured {found}\nexact    {exact}\nlimit    {1 - 2 / math.pi}")
    np.testing.assert_allclose(exact[[1, 2, 4, 9]], [0.1894, 0.25, 0.2969, 0.3308], atol=1e-4)
    assert found[0] < 1e-12 and np.all(np.abs(found - exact)[1:] < 4 * error[1:])
    wrong = 1 - ratio / math.pi  # the factor t left out
    assert np.all(np.abs(found - wrong)[1:] > 20 * error[1:])


@pytest.mark.slow
def test_with_momentum_it_is_not_monotone():
    """(R^2)(1 - 8/pi^2) after two steps, R^2 = (b1^2 + 1)/(1 + b1)^2; (1 - 2/pi)(1 - b1)/(1 + b1) in the end."""
    b1, steps = 0.9, 120
    found, error = variance(magnitudes(b1, steps, paths=10_000))
    second = (b1**2 + 1) / (1 + b1) ** 2 * (1 - 8 / math.pi**2)
    last = (1 - 2 / math.pi) * (1 - b1) / (1 + b1)
    print(f"\nafter 2 steps {found[1]:.4f} (exact {second:.4f}), after {steps} {found[-1]:.5f} (limit {last:.5f})")
    assert abs(found[1] - second) < 4 * error[1]
    # E u^2 differs from its limit by a relative 1/steps, for the second moment is itself an average of as many numbers.
    assert abs(found[-1] - last) < 4 * error[-1] + 3 * last / steps
    assert found[1] > 4 * found[-1]


class NotCentral(RMSProp):
    """Goes on from the twin's second moment as it is, m^2 included."""

    def remembered(self, params, memory):
        return AbstractAdaptive.remembered(self, params, memory)


def resumed_and_stepped(equation):
    """The state after three steps of the algorithm: from the memory of its twin, and by the equation's own `step`."""
    params, twin = START, equation.twin()
    memory, state = twin.init(params), equation.init(params)
    for k, gradient in enumerate(([1.0, -2.0], [0.5, 3.0], [-0.3, 0.7])):
        gradient = jnp.asarray(gradient)
        state = equation.step(k * equation.learning_rate, state, gradient)
        with jax.numpy_dtype_promotion("standard"):
            updates, memory = twin.update(gradient, memory, params)
        params = params + updates
    return [ravel_pytree(found)[0] for found in (split(equation).resumed(params, memory), state)]


@pytest.mark.parametrize("name", FAMILY)
def test_a_state_of_the_twin_is_one_of_the_equation(name):
    np.testing.assert_allclose(*resumed_and_stepped(FAMILY[name]), rtol=1e-12)


def test_a_state_that_is_not_the_own_is_seen():
    central = FAMILY["rmsprop_centered"]
    mutant = NotCentral(**{f.name: getattr(central, f.name) for f in dataclasses.fields(central)})
    assert np.max(np.abs(np.subtract(*resumed_and_stepped(mutant)))) > 0.01


class OtherNames(Adam):
    """Its memory goes by a name that is not Optax's."""

    def init(self, params):
        state = super().init(params)
        return Renamed(params, state.mu, state.nu)


class Renamed(eqx.Module):
    params: PyTree
    average: PyTree
    nu: PyTree


def test_a_memory_by_another_name_is_refused():
    adam = OtherNames(0.1)
    with pytest.raises(ValueError, match="Argument `memory` must have .* remembers, average, nu, but average is not"):
        split(adam).resumed(START, adam.twin().init(START))


def test_the_order_that_amsgrad_claims():
    """1/2 of variances where there is noise, as measured above, and not 1; without any it has order 1 of all."""
    noisy, still = AMSGrad(0.1, 2), AMSGrad(0.1)
    measures = ("mean", "second moment", "variance/eta")
    assert [noisy.scaling_limit().claimed_order(m) for m in measures] == [1.0, 1.0, 0.5] and [
        still.scaling_limit().claimed_order(m) for m in measures
    ] == [1.0] * 3
