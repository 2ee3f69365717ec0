"""Clipping example by example, with noise: what is known of it in closed form, and what Optax makes of it."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from marks import some

import equations
from dynamics import solve, stationary, train
from equations import (
    SAM,
    SGD,
    Adam,
    Clipped,
    Isotropic,
    LossNoise,
    Momentum,
    Objective,
    SignSGD,
    averaged,
    clipped,
    decayed,
    modified,
    regularized,
    scheduled,
)
from equations._signals import clipped as signals
from equations.internal import real_gradient, split
from validation import corrected

NORM, NOISE, ETA = 0.6, 0.4, 0.05
RNG = np.random.default_rng(0)
DATA = RNG.normal(size=(5, 3)), RNG.normal(size=5)
PARAMS = {"w": jnp.asarray(RNG.normal(size=3)), "b": jnp.asarray([0.3])}
T = jnp.zeros(())


def flat(tree):
    return ravel_pytree(tree)[0]


def loss(params, example):
    x, y = example
    return 0.5 * (jnp.tanh(jnp.dot(x, params["w"]) + params["b"][0]) - y) ** 2


def drops(params, example, key):
    """With dropout on the inputs."""
    x, y = example
    return loss(params, (2.0 * jax.random.bernoulli(key, 0.5, x.shape).astype(x.dtype) * x, y))


def penalty(params):
    return 0.2 * jnp.sum(params["w"] ** 2)


PLAIN = Objective(loss, DATA)
SIGNALS = {
    "plain": PLAIN,
    "penalty": regularized(PLAIN, penalty),
    "random": Objective(drops, DATA, random=True, draws=3),
    "mean given": regularized(Objective(drops, DATA, random=True, draws=3, mean=loss), penalty),
    "bound": PLAIN.bind({"w": None, "b": PARAMS["b"]}),
}


@eqx.filter_jit
def gradients(signal, params):
    """Of every example with every key, leaves `(N, ...)`."""
    drawn = signal.by_samples().drawn()
    gradient = lambda example: jax.grad(lambda p: drawn.surrogate(p, params, example))(params)  # noqa: E731
    return jax.vmap(gradient)(drawn.examples)


def by_optax(signal, params, noise=0.0):
    private = optax.contrib.differentially_private_aggregate(NORM, noise, 0)
    return private.update(gradients(signal, params), private.init(params))[0]


def close(found, wanted, rtol=1e-12):
    np.testing.assert_allclose(flat(found), flat(wanted), rtol=rtol, atol=1e-15)


@pytest.mark.parametrize("name", SIGNALS)
def test_the_mean_is_that_of_optax(name):
    """To 1e-12, in chunks too: of penalties, of keys, of the parameters that are trained alone; something is clipped."""
    signal, params = SIGNALS[name], PARAMS
    if name == "bound":
        params = {"w": PARAMS["w"], "b": None}
    equation, third = clipped(SGD(ETA), NORM), jnp.asarray([3])

    @jax.jit
    def found(params):
        seen = equation.sees(signal)
        surrogate = lambda p: jnp.mean(jax.vmap(lambda e: seen.surrogate(p, params, e))(seen.examples))  # noqa: E731
        return [
            equation.gradient(params, signal, None),
            clipped(SGD(ETA), NORM, noise=0.0).gradient(params, signal, None),
            equation.sees(seen).gradient(params),  # once more changes nothing
            jax.grad(surrogate)(params),
        ], seen.take(third).gradient(params)

    @jax.jit
    def wanted(params):
        plain = signal.by_samples().gradient(params)
        return by_optax(signal, params), by_optax(signal.take(third), params), plain

    (all, one), (mean, single, plain) = found(params), wanted(params)
    assert np.abs(flat(mean) - flat(plain)).max() > 1e-2, "nothing is clipped"
    for gradient in all:
        close(gradient, mean)
    close(one, single)


def test_chunks(monkeypatch):
    def gradient(params):
        return clipped(SGD(ETA), NORM).sees(PLAIN).gradient(params)

    whole = jax.jit(gradient)(PARAMS)
    monkeypatch.setattr(signals, "_HELD", 8)  # two examples, and the last one
    assert "scan" in str(jax.make_jaxpr(lambda params: gradient(params))(PARAMS))
    close(jax.jit(lambda params: gradient(params))(PARAMS), whole, 1e-14)


@eqx.filter_jit
def covariance_of(equation, signal=PLAIN):
    operator = equation.diffusion(T, PARAMS, signal)
    zeros, unravel = ravel_pytree(jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), operator.in_structure()))
    root = jax.vmap(lambda unit: flat(operator.mv(unravel(unit))))(jnp.eye(zeros.size)).T
    return root @ root.T


def expected_covariance(batch_size):
    """Of the mean of a batch and what is added, by the clipped gradients themselves."""
    one = jax.vmap(flat)(gradients(PLAIN, PARAMS))
    one = one * np.minimum(1, NORM / np.linalg.norm(one, axis=1))[:, None]
    added = (NOISE * NORM / (batch_size or len(one))) ** 2 * np.eye(one.shape[1])
    return added + (0 if batch_size is None else np.cov(one.T, bias=True) / batch_size)


class NoiseOfTheMean(Clipped):
    """Mutant: noise * norm in place of noise * norm / B."""

    @property
    def acting(self):
        return dataclasses.replace(self.equation, noise_model=Isotropic(self.noise * self.norm))


def check_covariance(kind, batch_size):
    equation = kind(equation=SGD(ETA, batch_size), norm=NORM, noise=NOISE)
    wanted = expected_covariance(batch_size)
    np.testing.assert_allclose(covariance_of(equation), ETA * wanted, rtol=1e-12, atol=1e-16)
    model, batches = equation.gradient_noise, equation.batches(PLAIN)
    variance = jax.jit(lambda: flat(model.variance(batches, PARAMS)))()
    np.testing.assert_allclose(variance, np.diag(wanted), rtol=1e-12)


@pytest.mark.parametrize("batch_size", [None, 2])
def test_the_covariance_is_that_of_clipped_gradients_and_what_is_added(batch_size):
    check_covariance(Clipped, batch_size)
    with pytest.raises(AssertionError):
        check_covariance(NoiseOfTheMean, batch_size)


@pytest.mark.slow
def test_a_random_loss_is_clipped_with_its_key():
    """Var_B = f Var(examples' means) + (1/B) mean_i Var_key, of clipped gradients; by three keys, whose noise is taken out
    of the first again."""
    signal, batch = SIGNALS["random"], 2
    equation = clipped(SGD(ETA, batch, noise_model=LossNoise()), NORM, NOISE)
    one = jax.vmap(flat)(gradients(signal, PARAMS))
    one = (one * np.minimum(1, NORM / np.linalg.norm(one, axis=1))[:, None]).reshape(5, 3, -1)
    keys = one.var(axis=1, ddof=1).mean(0)
    wanted = one.mean(1).var(0) / batch + keys * (1 / batch - (1 - 1 / 5) / 3 / batch) + (NOISE * NORM / batch) ** 2
    np.testing.assert_allclose(np.diag(covariance_of(equation, signal)), ETA * wanted, rtol=1e-12)


real = eqx.filter_jit(real_gradient)


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", some([None, 2], [2]))
def test_a_step_of_the_algorithm(batch_size):
    """The gradient of a real batch is Optax's, and noise norm z/B, also around other equations and in what is around it."""
    batch = PLAIN if batch_size is None else PLAIN.take(jnp.asarray([4, 1]))
    plain = clipped(SGD(ETA, batch_size), NORM, NOISE)
    normals = jax.tree.map(lambda p: 1 + 0 * p, PARAMS)
    wanted = jax.tree.map(lambda g: g + NOISE * NORM / batch.size, by_optax(batch, PARAMS))
    others = [
        averaged(plain), decayed(plain, 0.1), scheduled(plain, lambda step: 1.0), modified(plain),
        clipped(decayed(SGD(ETA, batch_size), 0.1), NORM, NOISE), clipped(Adam(ETA, batch_size), NORM, NOISE),
    ]  # fmt: skip
    for equation in [plain] if batch_size is None else [plain, *others]:
        close(real(equation, batch, PARAMS, {"own": normals}), wanted)
    several = clipped(SAM(ETA, batch_size, normalized=False), NORM, NOISE)
    close(real(several, batch, PARAMS, {"own": normals})(PARAMS), wanted)


@pytest.mark.slow
def test_the_mean_of_the_sign():
    """DP-signSGD: erf(g/(sigma sqrt(2))), sigma that of the clipped gradients and of what is added."""
    equation = clipped(SignSGD(ETA, 2), NORM, NOISE)
    sigma = np.sqrt(np.diag(expected_covariance(2)))
    wanted = -jax.lax.erf(flat(by_optax(PLAIN, PARAMS)) / (sigma * 2**0.5))
    np.testing.assert_allclose(flat(eqx.filter_jit(equation.drift)(T, PARAMS, PLAIN)), wanted, rtol=1e-12)


@pytest.mark.slow
def test_the_series_has_the_derivative_of_the_clipped_gradient():
    """modified: -(g + (eta/2) g'[g]) with g the clipped gradient."""
    equation = modified(clipped(SGD(ETA), NORM))
    gradient = equation.equation.sees(PLAIN).gradient
    forced = corrected(equation.equation, force="backward_error")  # to the same order
    slow = modified(equation.equation, memory="adiabatic")
    g, along = jax.jit(lambda p: jax.jvp(gradient, (p,), (gradient(p),)))(PARAMS)
    wanted = jax.tree.map(lambda g, a: -g - ETA / 2 * a, g, along)
    close(eqx.filter_jit(equation.drift)(T, equation.init(PARAMS), PLAIN).params, wanted)
    for other in (forced, slow):
        found = other.params(eqx.filter_jit(other.drift)(T, other.init(PARAMS), PLAIN))
        np.testing.assert_allclose(flat(found), flat(wanted), atol=5e-5)


BOWL = Objective(lambda w, x: 0.5 * jnp.sum((w - x) ** 2), RNG.normal(size=(6, 2)))
START = jnp.asarray([1.0, -0.5])


def pairs(rule, **options):
    """A norm that clips nothing, and the same noise as one knows it without."""
    large = clipped(rule(ETA, 2, **options), norm=1e3, noise=1e-3)
    return large, rule(ETA, 2, noise_model=Isotropic(0.5), **options)


@pytest.mark.parametrize("rule", [SGD, Momentum, Adam, SignSGD])
def test_a_norm_that_clips_nothing_is_isotropic_noise(rule):
    """In every hook of the splitting, on the same normals."""

    @jax.jit
    def hooks(equation):
        parts, state = split(equation), equation.init(START)
        normals, pair = (parts.noise(state, BOWL, kicks) for kicks in (1, 2))
        normals, pair = (jax.tree.map(lambda leaf: 0.3 + 0 * jnp.ones(leaf.shape), n) for n in (normals, pair))
        begun = parts.start(state, BOWL, normals)
        state = jax.tree.map(lambda leaf: leaf + 0.7, state)
        args = jnp.asarray(3 * ETA), state, BOWL
        kicks = parts.kick(*args, normals, ETA), parts.kick(*args, pair, ETA / 2)
        return begun, parts.flow(*args), kicks, parts.euler(*args, normals, ETA), equation.drift(*args)

    for found, wanted in zip(*(jax.tree.leaves(hooks(e)) for e in pairs(rule)), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-15)


RUNS = {"train": (train, SGD), "adam": (solve, Adam), "signs": (solve, SignSGD)}


@pytest.mark.slow
@pytest.mark.parametrize("name", some(RUNS, fast=["train"]))
def test_a_run_of_that(name):
    run, rule = RUNS[name]
    ours, plain = (
        run(e, BOWL, START, steps=4, key=jax.random.key(0), paths=2, observe={"w": lambda w: w}) for e in pairs(rule)
    )
    np.testing.assert_allclose(ours.observables["w"], plain.observables["w"], rtol=1e-9)


@pytest.mark.slow
def test_stationary_of_what_is_clipped():
    ours, plain = (stationary(e, BOWL, START) for e in pairs(SGD))
    for found, wanted in zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)


REFUSED = {
    "norm": (lambda: clipped(SGD(ETA), norm=0.0), "Argument `norm` must be a positive finite number"),
    "noise": (
        lambda: clipped(SGD(ETA), norm=1.0, noise=-1.0),
        "Argument `noise` must be a finite number, zero or more",
    ),
    "twice": (lambda: clipped(decayed(clipped(SGD(ETA), 1.0), 0.1), 1.0), "must not be clipped already"),
    "series": (lambda: clipped(modified(SGD(ETA)), 1.0), "put `modified` outside"),
    "average": (lambda: clipped(averaged(SGD(ETA)), 1.0), "put `averaged` outside"),
    "batch_equivalent": (
        lambda: clipped(Adam(ETA, 2, scaling="batch_equivalent"), 1.0, noise=1.0).scaling_limit().rescaled(2.0),
        "unless the noise is that of minibatches",
    ),
    "no algorithm": (lambda: clipped(equations.Oja, 1.0), "Argument `equation` must be an equations.AbstractEquation"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name):
    make, message = REFUSED[name]
    with pytest.raises((TypeError, ValueError), match=message):
        make()


HALF = RNG.normal(size=(4, 2))
SYMMETRIC = Objective(lambda w, x: 0.5 * jnp.sum((w - x) ** 2), np.concatenate([HALF, -HALF]))
LEVELS = np.array([4.0, 8.0, 16.0])


def slope_of_floor(run, rule, rate, steps):
    """d log(loss above its minimum, at rest) / d log(noise) and its standard error, by paths."""
    logs, errors = [], []
    for noise in LEVELS:
        report = run(
            clipped(rule(rate), norm=1.0, noise=noise), SYMMETRIC, jnp.zeros(2), steps=steps, save_every=100, paths=128,
            key=jax.random.key(1), observe={"height": lambda w: 0.5 * jnp.sum(w**2)},
        )  # fmt: skip
        heights = np.asarray(report.observables["height"])[:, steps // 200 :].mean(axis=1)
        logs.append(np.log(heights.mean()))
        errors.append(heights.std() / heights.mean() / len(heights) ** 0.5)
    x = np.log(LEVELS) - np.log(LEVELS).mean()
    return x @ logs / (x @ x), np.sqrt(x**2 @ np.square(errors)) / (x @ x)


def check_power(slope, error, power):
    assert error < 0.05 and abs(slope - power) < 4 * error, f"{slope:.3f} +- {error:.3f} in place of {power}"


@pytest.mark.slow
@pytest.mark.parametrize("rule, rate, steps, power", [(SGD, 0.01, 3000, 2), (SignSGD, 0.005, 6000, 1)])
@pytest.mark.parametrize("run", [solve, train])
def test_floors(run, rule, rate, steps, power):
    """~ noise^2 for DP-SGD, eta d (noise norm/N)^2/(4 h) at a restoring rate h; ~ noise for DP-signSGD, since the mean of a
    sign is g sqrt(2/pi)/sigma (derived). The other power is rejected.

    Away from the minimum the mean of clipped gradients pulls less: of DP-signSGD at a rate of .02 the slope is 1.053 with
    an error of .009, in equation and algorithm alike, at .005 it is 1.000 with .010 (1024 paths).
    """
    slope, error = slope_of_floor(run, rule, rate, steps)
    print(f"{rule.__name__}, {run.__name__}: {slope:.3f} +- {error:.3f}")
    check_power(slope, error, power)
    with pytest.raises(AssertionError):
        check_power(slope, error, 3 - power)
