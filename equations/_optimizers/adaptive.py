"""What the rules that divide by the root of a second moment share: the positive moment, the first step, the scalings."""

import dataclasses
import functools
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, ArrayLike, PyTree

from .._base import AbstractEquation
from .._checks.arguments import choice, decay, nonnegative
from .._checks.facts import refined
from .._gradients import is_noisy
from .._jaxpr.roots import root
from .._scaling import ScalingLimit, ratio
from .._splitting import GradientSplitting
from .._square_noise import clip_square_noise
from .._velocity import velocity_of

_ABSENT = object()


class Moments(eqx.Module):
    """Parameters, first moment and second moment (Optax's names), alike in structure."""

    params: PyTree
    mu: PyTree
    nu: PyTree


class AbstractAdaptive(AbstractEquation):
    """An equation with the gradient's square in its memory.

    Its state is an `eqx.Module` with the fields `params`, `nu`, which gains from squares only, and others. They are
    declared in the order in which a training step computes them, but for the parameters, which come first and are
    computed last.
    """

    _facts = refined(AbstractEquation, singular=True)

    def params(self, state):
        return state.params

    def step(self, t: Array, state: PyTree, gradient: PyTree) -> PyTree:
        """The training step of the algorithm that begins at t, on this gradient.

        It is the velocity's, but each part of the state goes along the new values of those before it, and the bias
        corrections are those after the step. (An Euler step takes the old values of all.)
        """
        after = t + self.learning_rate
        names = [field.name for field in dataclasses.fields(state) if field.name != "params"]
        for name in [*names, "params"]:
            rate = getattr(velocity_of(self, after, state, gradient), name)
            new = jax.tree.map(lambda y, v: (y + self.learning_rate * v).astype(y.dtype), getattr(state, name), rate)
            state = dataclasses.replace(state, **{name: new})
        return state

    def remembered(self, params: PyTree, memory: PyTree) -> PyTree:
        """The state of the equation where its twin has these parameters and this memory."""
        state = self.init(params)
        names = [field.name for field in dataclasses.fields(state) if field.name != "params"]
        found = {name: optax.tree_utils.tree_get(memory, name, _ABSENT) for name in names}
        if any(value is _ABSENT for value in found.values()):
            raise ValueError(
                f"Argument `memory` must have Optax's names for what {type(self).__name__} remembers, {', '.join(names)}, "
                f"but {', '.join(name for name in names if found[name] is _ABSENT)} is not among them; give `remembered`."
            )
        return dataclasses.replace(state, **found)

    def splitting(self):
        return AdaptiveSplitting(self)


class AdaptiveSplitting(GradientSplitting):
    """With a first step that is the algorithm's, and a second moment that stays positive."""

    def start(self, state, signal, noise):
        """The first step is taken as the algorithm takes it: a bias correction is 0/0 at t = 0, an empty root is zero."""
        equation = self.dynamics
        gradient = equation.gradient(state.params, signal, noise)
        return equation.step(jnp.zeros_like(equation.learning_rate), state, gradient)

    def resumed(self, params, memory):
        return self.dynamics.remembered(params, memory)

    def flow(self, t, state, signal):
        """The parameters' velocity at the mean gradient, the memory's at none: it forgets.

        What the memory gains is left to the kick whole, where the gain of the second moment is a square: over a training
        step nothing drives it negative, and the first moment never runs ahead of it.
        """
        if self.leapfrog:
            return super().flow(t, state, signal)
        velocity = functools.partial(velocity_of, self.dynamics)
        none = jax.tree.map(jnp.zeros_like, state.params)
        rest = velocity(t, state, none)
        gain = velocity(t, dataclasses.replace(state, nu=jax.tree.map(jnp.zeros_like, state.nu)), none).nu
        moving = velocity(t, state, signal.gradient(state.params)).params
        return dataclasses.replace(rest, params=moving, nu=jax.tree.map(jnp.subtract, rest.nu, gain))

    def mean_velocity(self, t, state, signal):
        """That at the mean gradient, but of the second moment that of a gradient a standard deviation above and below, each
        coordinate by itself: of second degree that is the mean over the noise.

        Of Adam and AdamW alone. Where the kick is of first order the variance is off by 15 % in steps whose means are good
        to 1 %, and the noise of a largest moment has tails that steps of many training steps change.
        """
        if not self.leapfrog or type(state) is not Moments:
            return None
        equation, batches = self.dynamics, self.dynamics.batches(signal)
        mean = batches.signal.gradient(state.params)
        if not is_noisy(equation):
            return velocity_of(equation, t, state, mean)
        variance = equation.gradient_noise.variance(batches, state.params)
        away = [jax.tree.map(lambda g, v, s=s: g + s * jnp.sqrt(v), mean, variance) for s in (1, -1)]
        nu = jax.tree.map(lambda *both: sum(both) / 2, *(velocity_of(equation, t, state, g).nu for g in away))
        return dataclasses.replace(velocity_of(equation, t, state, mean), nu=nu)

    def clip_noise(self, state, even, odd, dt):
        """Keeps the second moment positive, with its mean as it is."""
        nu = jax.tree.map(lambda *leaves: clip_square_noise(*leaves, dt=dt), state.nu, even.nu, odd.nu)
        return dataclasses.replace(odd, nu=nu)


class AbstractAveraging(AbstractAdaptive):
    """An adaptive equation whose memory is exponential averages, under one of three scalings by name.

    - `"ballistic"`: 1 - beta ~ eta, everything else stays; clock eta * step. The noise vanishes as sqrt(eta)
        (Compagnoni et al. 2025, ICLR).
    - `"batch_equivalent"`: 1 - beta ~ eta^2 and batch size ~ eta^2, so that the noise of a gradient grows as 1/eta and the
        moments with it, eps ~ 1/eta; clock eta^2 * step. The noise stays of order one: kappa times the batch at
        sqrt(kappa) times the learning rate is the same limit, which is the square-root rule (Malladi et al. 2022, NeurIPS).
    - `"fixed"`: every hyperparameter stays; clock eta * step. A limit without noise, and then of the algorithm with its
        memory eliminated adiabatically (see `modified`); with noise there is none, for nu fluctuates by as much as it is.
    """

    scaling: str = eqx.field(
        default="ballistic",
        static=True,
        kw_only=True,
        converter=lambda value: choice("scaling", value, ("ballistic", "batch_equivalent", "fixed")),
    )

    decays: ClassVar[tuple[str, ...]]
    """The names of the decay rates."""

    def exponents(self) -> dict[str, int]:
        """How hyperparameters move with eta where the gradients grow as 1/eta, by name: value ~ eta^exponent."""
        return {}

    def scaling_limit(self):
        if self.scaling == "fixed":
            return AveragingLimit(self, memory=self.decays)
        if self.scaling == "ballistic":
            return AveragingLimit(self, decays=dict.fromkeys(self.decays, 1), memory=self.decays)
        decays, time = dict.fromkeys(self.decays, 2), self.learning_rate**2
        return AveragingLimit(self, time, decays, self.exponents(), batch=2, heat=True, memory=self.decays)

    def forget(self, rate: Array, target: PyTree, average: PyTree) -> PyTree:
        """(1 - rate)/eta (target - average): what an exponential average does."""
        return jax.tree.map(lambda x, m: (1 - rate) / self.learning_rate * (x - m), target, average)


class AveragingLimit(ScalingLimit):
    """Rules for the batch size move the memory, so that it spans the same examples, whatever the scaling."""

    def at_batch_size(self, rule, batch_size):
        kappa = ratio(self.equation, rule, batch_size)
        if rule == "square_root":
            _check_noise(self.equation)
        along = "ballistic" if rule == "linear" else "batch_equivalent"
        equation = dataclasses.replace(self.equation, scaling=along)
        moved = equation.scaling_limit().rescaled(kappa if rule == "linear" else kappa**0.5)
        return dataclasses.replace(moved, batch_size=batch_size, scaling=self.equation.scaling)


def _check_noise(equation: AbstractAveraging) -> None:
    """The square-root rule is one for the noise of minibatches."""
    if not equation.random:
        given = f"sampling={equation.sampling!r}"
    elif equation.gradient_noise.beside_loss.injects:
        given = f"noise_model={equation.gradient_noise!r}"
    else:
        return
    raise ValueError(
        "Argument `equation` must have the noise of independent minibatches and no other for rule='square_root', but "
        f"{given} was given."
    )


class AbstractAdam(AbstractAveraging):
    """Adam's two moments and hyperparameters; a rule gives `direction`, and its twin."""

    b1: Array = eqx.field(default=0.9, converter=decay("b1"))
    b2: Array = eqx.field(default=0.999, converter=decay("b2"))
    eps: Array = eqx.field(default=1e-8, converter=nonnegative("eps"))
    eps_root: Array = eqx.field(default=0.0, converter=nonnegative("eps_root"))

    decays: ClassVar = ("b1", "b2")

    def exponents(self):
        return {"eps": -1, "eps_root": -2}

    def init(self, params):
        zeros = jax.tree.map(jnp.zeros_like, params)
        return Moments(params, zeros, zeros)

    def velocity(self, t, state, gradient):
        squares = jax.tree.map(jnp.square, gradient)
        return Moments(
            self.direction(t / self.learning_rate, state, gradient),
            self.forget(self.b1, gradient, state.mu),
            self.forget(self.b2, squares, state.nu),
        )

    def direction(self, steps: Array, state: PyTree, gradient: PyTree) -> PyTree:
        """d params/dt after `steps` training steps, a real number."""
        mu_hat, nu_hat = unbiased(state.mu, self.b1, steps), unbiased(state.nu, self.b2, steps)
        return jax.tree.map(lambda m, v: -m / self.root(v), mu_hat, nu_hat)

    def root(self, nu: Array) -> Array:
        """What the first moment is divided by."""
        return root(nu + self.eps_root) + self.eps

    def optax(self) -> dict[str, Any]:
        """The hyperparameters by Optax's names."""
        return dict(learning_rate=self.learning_rate, b1=self.b1, b2=self.b2, eps=self.eps, eps_root=self.eps_root)

    def splitting(self):
        return AdaptiveSplitting(self, leapfrog=True)


def unbiased(average: PyTree, rate: ArrayLike, steps: Array) -> PyTree:
    """An exponential average from zero over the weight it has gathered, 1 - rate^steps."""
    weight = 1 - rate**steps
    return jax.tree.map(lambda m: m / weight.astype(m.dtype), average)


def clip_quotients(quotients: PyTree, share: Array) -> PyTree:
    """Gradients over the root of a second moment, none beyond 1/sqrt(share).

    An algorithm that divides by the new second moment, which holds the share (1 - b2)/weight of the gradient's own square,
    keeps this bound by itself. Its equation divides by the moment as it is, which after the first steps may be near zero;
    as eta -> 0 the bound goes to infinity and no longer acts.
    """
    bound = 1 / jnp.sqrt(share)
    return jax.tree.map(lambda q: jnp.clip(q, -bound.astype(q.dtype), bound.astype(q.dtype)), quotients)
