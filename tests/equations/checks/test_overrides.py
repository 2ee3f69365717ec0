"""An override acts under every solver, with noise and without, or its class is refused with what to override instead."""

import dataclasses

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from registry import EQUATIONS, WITHOUT_SERIES

from dynamics import solve, stationary, train
from equations import (
    SGD,
    AbstractDynamics,
    AbstractEquation,
    Adam,
    Decayed,
    GradientSplitting,
    Isotropic,
    Lion,
    Momentum,
    Objective,
    Scheduled,
    SignSGD,
    Splitting,
    StudentT,
    _splitting,
    decayed,
    modified,
    scheduled,
)
from equations._checks.overrides import check_class
from equations.internal import split
from validation import compare, orders

CASES = [
    ("ignored overrides", "instance", "drift of a subclass of SGD, with noise", "test_a_drift"),
    (
        "ignored overrides",
        "brother",
        "the same by diffrax.Euler, in a schedule",
        "test_a_drift_by_euler_and_in_a_schedule",
    ),
    ("ignored overrides", "brother", "diffusion of a subclass of SGD", "test_a_diffusion"),
    ("ignored overrides", "brother", "kick of a subclass of SGD, by diffrax.Euler", "test_a_kick_by_euler"),
    ("ignored overrides", "brother", "drift of a nonlinear rule and of a leapfrog", "test_a_drift_and_its_kick"),
    ("ignored overrides", "brother", "drift of Adam, of a sign and of a wrapper", "test_a_drift_of_others"),
    ("ignored overrides", "brother", "diffusion of a wrapper", "test_a_diffusion_of_a_wrapper"),
    ("ignored overrides", "brother", "drift of a modified equation", "test_a_drift_of_a_series"),
    (
        "ignored overrides",
        "brother",
        "names that have moved, gradient, batches, and those of other classes",
        "test_refused",
    ),
    ("ignored overrides", "brother", "a kick where drift and diffusion are read", "test_where_the_field_is_read"),
    ("ignored overrides", "brother", "gradient or size of a signal", "test_signals"),
    ("ignored overrides", "brother", "the library's own classes pass", "test_the_library_passes"),
    ("ignored overrides", "brother", "a modified equation is that of the twin", "test_a_series_is_the_twins"),
    ("ignored overrides", "brother", "which series are told of it", "test_which_series_are_told"),
    ("ignored overrides", "brother", "a kick on a wrapper, by Euler", "test_a_kick_on_a_wrapper_by_euler"),
    ("ignored overrides", "brother", "a mutant whose flow forgets the drift", "test_mutant"),
]

KEY, ETA, STEPS, PATHS = jax.random.key(0), 0.1, 10, 2000
DATA = np.array([[-1.0], [1.0]])
OBJECTIVE, W = Objective(lambda w, x: 0.5 * jnp.sum((w - x) ** 2), DATA), jnp.ones(1)
NOISE = Isotropic(0.3)
HALF = optax.constant_schedule(0.5)


class Thrice(SGD):
    """d theta = -3 theta dt + the noise of SGD."""

    def drift(self, t, state, signal):
        return 3 * super().drift(t, state, signal)


class Hot(SGD):
    """d theta = -theta dt + 0.2 dW, whatever the batches."""

    def diffusion(self, t, state, signal):
        return lx.DiagonalLinearOperator(jnp.full(1, 0.2))


def ensemble(equation, **options):
    paths = PATHS if equation.random else 1
    return np.asarray(solve(equation, OBJECTIVE, W, steps=STEPS, key=KEY, paths=paths, **options).final)[:, 0]


def errors_from(values, mean, variance):
    """Distances of mean and variance from a normal distribution, in standard errors."""
    error = (variance / values.size) ** 0.5
    return abs(values.mean() - mean) / error, abs(values.var(ddof=1) - variance) / variance * (values.size / 2) ** 0.5


def exact_moments(rate, noise):
    """Of d w = -rate w dt + noise/sqrt(eta) dW, from 1, at time eta STEPS."""
    decay = np.exp(-rate * ETA * STEPS)
    return decay, noise**2 / ETA * (1 - decay**2) / (2 * rate)


@pytest.mark.slow
def test_a_drift():
    """Without noise, and with it, where mean and variance are those of d w = -3 w dt + noise."""
    np.testing.assert_allclose(ensemble(Thrice(ETA)), np.exp(-3.0), rtol=1e-4)
    values = ensemble(Thrice(ETA, noise_model=NOISE))
    assert max(errors_from(values, *exact_moments(3, 0.3 * ETA))) < 4


def agree(equation, rate, noise=0.3):
    """Whether flow, drift and the Euler step of an equation are those of d w = -rate w dt + noise sqrt(eta) dW."""
    t, dt, xi = jnp.zeros(()), jnp.asarray(ETA / 2), 0.7
    normals = jax.tree.map(lambda leaf: jnp.full(leaf.shape, xi), split(equation).noise(W, OBJECTIVE, 1))
    expected = -rate * W
    parts = split(equation).flow(t, W, OBJECTIVE), equation.drift(t, W, OBJECTIVE)
    step = split(equation).euler(t, W, OBJECTIVE, normals, dt)
    whole = dt * expected + jnp.sqrt(ETA * dt) * noise * xi
    return all(np.allclose(part, expected, rtol=1e-12) for part in parts) and np.allclose(step, whole, rtol=1e-12)


def test_a_drift_by_euler_and_in_a_schedule():
    equation = Thrice(ETA, noise_model=NOISE)
    assert agree(equation, 3, -0.3)
    half = scheduled(equation, HALF)
    assert agree(half, 1.5, -0.15)
    assert agree(Thrice(ETA), 3, 0.0)


def test_a_diffusion():
    values = ensemble(Hot(ETA, 1))
    assert max(errors_from(values, *exact_moments(1, 0.2 * ETA**0.5))) < 4
    np.testing.assert_allclose(stationary(Hot(ETA, 1), OBJECTIVE, W).covariance, [[0.02]], rtol=1e-9)
    for equation, factor in ((Hot(ETA, 1), 1.0), (scheduled(Hot(ETA, 1), HALF), 0.5)):
        assert agree(equation, factor, factor * 0.2 / ETA**0.5)


class TwiceTheKick(GradientSplitting):
    def kick(self, t, state, signal, noise, dt):
        return 2 * super().kick(t, state, signal, noise, dt)


class Doubled(SGD):
    def splitting(self):
        return TwiceTheKick(self)


@pytest.mark.slow
def test_a_kick_by_euler():
    equation = Doubled(ETA, noise_model=NOISE)
    assert agree(equation, 1, -0.6) and agree(scheduled(equation, HALF), 0.5, -0.3)


class Squares(AbstractEquation):
    """Neither affine in the gradient nor a leapfrog."""

    def velocity(self, t, state, gradient):
        return -gradient - gradient**2

    def twin(self):
        return optax.stateless(lambda gradient, params: -self.learning_rate * (gradient + gradient**2))


class Leap(SGD):
    def splitting(self):
        return GradientSplitting(self, leapfrog=True)


@pytest.mark.parametrize("base", [Squares, Leap])
def test_a_drift_and_its_kick(base):
    """The kick stays, to the last bit, and the flow is the drift without the mean of the kick."""

    class Other(base):
        def drift(self, t, state, signal):
            return jnp.cos(state)

    t, other, plain = jnp.zeros(()), Other(ETA, 1), base(ETA, 1)
    normals = jnp.array([0.3, -1.2])
    np.testing.assert_array_equal(
        split(other).kick(t, W, OBJECTIVE, normals, jnp.asarray(ETA)),
        split(plain).kick(t, W, OBJECTIVE, normals, jnp.asarray(ETA)),
    )
    mean = plain.drift(t, W, OBJECTIVE) - split(plain).flow(t, W, OBJECTIVE)
    assert np.all(np.abs(mean) > 0.1)
    np.testing.assert_allclose(split(other).flow(t, W, OBJECTIVE) + mean, jnp.cos(W), rtol=1e-12)
    step = split(other).euler(t, W, OBJECTIVE, normals, jnp.asarray(ETA)) - split(plain).euler(
        t, W, OBJECTIVE, normals, jnp.asarray(ETA)
    )
    np.testing.assert_allclose(step, ETA * (jnp.cos(W) - plain.drift(t, W, OBJECTIVE)), rtol=1e-12)


@pytest.mark.parametrize(
    "base",
    [Adam(ETA, 1), SignSGD(ETA, noise_model=NOISE), scheduled(Squares(ETA, 1), HALF)],
    ids=["Adam", "sign", "around"],
)
def test_a_drift_of_others(base):
    """The kick stays, and what is new in the drift is in the flow: a rule with a memory, a sign and a wrapper."""

    class Other(type(base)):
        def drift(self, t, state, signal):
            return jax.tree.map(jnp.cos, state)

    t, state, dt = jnp.asarray(2 * ETA), base.init(W), jnp.asarray(ETA)
    state = jax.tree.map(lambda leaf: leaf + 0.5, state)
    other = Other(**{field.name: getattr(base, field.name) for field in dataclasses.fields(base)})
    normals = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.7), split(base).noise(state, OBJECTIVE, 1))
    kicks = [ravel_pytree(split(e).kick(t, state, OBJECTIVE, normals, dt))[0] for e in (other, base)]
    np.testing.assert_array_equal(*kicks)
    flows, drifts = (
        [ravel_pytree(f(t, state, OBJECTIVE))[0] for f in functions]
        for functions in ((split(other).flow, split(base).flow), (other.drift, base.drift))
    )
    np.testing.assert_allclose(flows[0] - flows[1], drifts[0] - drifts[1], rtol=1e-9, atol=1e-13)


def test_a_diffusion_of_a_wrapper():
    """It is all the noise there is, and the drift is the flow."""

    class Other(Scheduled):
        def diffusion(self, t, state, signal):
            return Hot.diffusion(self, t, state, signal)

    assert agree(Other(**vars(scheduled(SGD(ETA, 1), HALF))), 0.5, 0.2 / ETA**0.5)


def test_a_drift_of_a_series():
    series = modified(Squares(ETA, 1))

    class Other(type(series)):
        def drift(self, t, state, signal):
            return jax.tree.map(jnp.cos, super().drift(t, state, signal))

    other = Other(**{name: getattr(series, name) for name in series.__dataclass_fields__})
    t, state = jnp.zeros(()), series.init(W)
    change = [e.drift(t, state, OBJECTIVE).params - split(e).flow(t, state, OBJECTIVE).params for e in (other, series)]
    assert np.all(np.abs(change[1]) > 0.1)
    np.testing.assert_allclose(*change, rtol=1e-12)


def same(self, t, state, signal):
    return jax.tree.map(jnp.zeros_like, state)


def of(base, **methods):
    """A subclass that overrides these methods."""
    return type("Mine", (base,), {name: method for name, method in methods.items()})


def anything(self, *args):
    return None


REFUSED = {
    **{
        name: (of(SGD, **{name: anything}), f"override `splitting().{name}` in place of `{name}`")
        for name in ("flow", "kick", "noise", "start", "euler", "resumed")
    },
    "bounded": (of(Adam, bounded=anything), "override `splitting().clip_noise` in place of `bounded`"),
    "leapfrog": (of(SGD, leapfrog=True), "override `splitting().leapfrog` in place of `leapfrog`"),
    "kicks": (of(Momentum, kicks=property(lambda self: 1)), "override `splitting().kicks` in place of `kicks`"),
    "has_series": (of(SGD, has_series=False), "override `splitting().smooth` in place of `has_series`"),
    "claim": (of(SGD, claim=anything), "override `scaling_limit().claimed_order` in place of `claim`"),
    **{
        name: (of(SGD, **{name: anything}), f"override `scaling_limit().{name}` in place of `{name}`")
        for name in ("rescaled", "time_per_step", "variance_scale", "learning_rate_at")
    },
    "between": (of(Decayed, between=anything), "override `held` in place of `between`"),
    "gradient": (of(SGD, gradient=anything), "`gradient_noise`, or `surrogate` of a signal, in place of `gradient`"),
    "batches": (of(SGD, batches=anything), "`gradient_noise` in place of `batches`"),
    "is_affine": (of(SGD, is_affine=anything), "the class attribute `linear`, which is tried on numbers, in place of"),
    "series": (of(SGD, series=anything), "`twin`, whose series is taken, in place of `series`"),
    "diffusion of Adam": (of(Adam, diffusion=anything), "`gradient_noise`, or `splitting` as well, whose first step"),
    "diffusion around Adam": (of(Scheduled, diffusion=anything), "`gradient_noise`, or `splitting` as well, whose"),
    "velocity of Lion": (of(Lion, velocity=same), "`velocity` and `drift` together in place of `velocity`"),
    "velocity of a wrapper": (of(Decayed, velocity=same), "`mapped` or `added` in place of `velocity`"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    kind, words = REFUSED[name]
    around = {Decayed: decayed(SGD(ETA), 0.1), Scheduled: scheduled(Adam(ETA), HALF)}
    equation = next((kind(**vars(wrapper)) for base, wrapper in around.items() if issubclass(kind, base)), None)
    equation = kind(ETA) if equation is None else equation
    for door in (solve, compare):
        with pytest.raises(TypeError, match="Argument `equation` must override") as found:
            door(equation, OBJECTIVE, W, steps=2)
        assert words in str(found.value)


class Kicked(AbstractDynamics):
    def drift(self, t, state, signal):
        return -state

    def splitting(self):
        return Kicks(self)


class Kicks(Splitting):
    def noise(self, state, signal, kicks_per_step):
        return jax.ShapeDtypeStruct(state.shape, state.dtype)

    def kick(self, t, state, signal, noise, dt):
        return jnp.sqrt(dt) * noise


class NoKick(GradientSplitting):
    def kick(self, t, state, signal, noise, dt):
        return 0 * state


class Quiet(SGD):
    def splitting(self):
        return NoKick(self)


class NoKickOfAdam(type(Adam(ETA).splitting())):
    kick = NoKick.kick


def test_where_the_field_is_read():
    """A kick alone is enough for `solve`, not where no path is made; `orders` then samples."""
    for equation, objective in (
        (Kicked(), None),
        (Quiet(ETA, 1), OBJECTIVE),
        (scheduled(Quiet(ETA), HALF), OBJECTIVE),
    ):
        check_class(equation)
        with pytest.raises(TypeError, match="`diffusion` as well, which is read here, in place of `splitting`"):
            stationary(equation, objective, W)
    with pytest.raises(ValueError, match="Argument `key`"):
        orders(Quiet(ETA, 1), OBJECTIVE, W, time=1.0, learning_rates=[0.1, 0.05, 0.025])


@pytest.mark.parametrize("name", ["gradient", "size"])
def test_signals(name):
    signal = of(Objective, **{name: property(lambda self: 1) if name == "size" else anything})
    for door in (solve, train):
        with pytest.raises(TypeError, match=f"Argument `objective` must override `surrogate`.*in place of `{name}`"):
            door(SGD(ETA), signal(OBJECTIVE.loss, DATA), W, steps=2)


def test_the_library_passes():
    for name, entry in EQUATIONS.items():
        for reads in ("equation", "field", "twin"):
            check_class(entry.equation, reads)
            if split(entry.equation).smooth and name not in WITHOUT_SERIES:
                check_class(modified(entry.equation), reads)
    for kind in (
        of(Quiet, diffusion=anything),
        of(Lion, velocity=same, drift=same),
        of(Adam, splitting=lambda self: NoKickOfAdam(self)),
    ):
        check_class(kind(ETA))
    check_class(Kicked())
    check_class(Thrice(ETA, noise_model=StudentT(4.0, 1.0)), "field")


@pytest.mark.parametrize("kind", [Thrice, Hot])
def test_a_series_is_the_twins(kind):
    """As the docstring says, and with a word: another drift or diffusion beside the same twin has no part in it."""
    with pytest.warns(UserWarning, match=rf"{'Thrice.drift' if kind is Thrice else '.diffusion'} has no part.*of SGD"):
        other = modified(kind(ETA))
    t, one = jnp.zeros(()), modified(SGD(ETA))
    state = one.init(W)
    np.testing.assert_array_equal(other.drift(t, state, OBJECTIVE).params, one.drift(t, state, OBJECTIVE).params)
    final = [solve(equation, OBJECTIVE, W, steps=2).final for equation in (other, one)]
    np.testing.assert_allclose(*final, rtol=1e-12)


def test_which_series_are_told():
    """Inside of a schedule too; not where the twin is the class's own, nor of a subclass that changes neither."""
    with pytest.warns(UserWarning, match="Thrice.drift has no part"):
        modified(scheduled(Thrice(ETA), HALF))
    own = of(SGD, velocity=lambda self, t, state, gradient: -gradient, twin=lambda self: optax.sgd(self.learning_rate))
    modified(own(ETA))
    modified(of(SGD)(ETA))


def test_a_kick_on_a_wrapper_by_euler():
    """The Euler step of a wrapper is made of the kick that its subclass gives."""
    half = scheduled(SGD(ETA, noise_model=NOISE), HALF)

    class Kick(type(half.splitting())):
        def kick(self, t, state, signal, noise, dt):
            return jax.tree.map(lambda leaf: 2 * leaf, super().kick(t, state, signal, noise, dt))

    class Around(Scheduled):
        def splitting(self):
            return Kick.of(self)

    twice = Around(**vars(half))
    assert agree(half, 0.5, -0.15) and agree(twice, 0.5, -0.3)


def test_mutant(monkeypatch):
    """Where nothing asks whether there is another drift, the flow is SGD's."""
    equation = Thrice(ETA, noise_model=NOISE)
    assert agree(equation, 3, -0.3)
    monkeypatch.setattr(_splitting, "newer", lambda *args: False)
    assert not agree(equation, 3, -0.3)
