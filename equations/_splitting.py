"""How a solver splits a dynamics: into a flow, and a kick with the noise and whatever the flow leaves out."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ._checks.facts import Facts
from ._checks.lineage import as_of, newer
from ._gradients import is_noisy, no_gradient
from ._tree import add_scaled, scaled_sum
from ._velocity import response, velocity_of

State = PyTree


@dataclasses.dataclass(frozen=True)
class Splitting:
    """What a solver takes of a dynamics; here from its drift and its diffusion alone.

    A step of the default solver is half a flow, a kick, and half a flow. Whatever the parts are, flow and mean of the kick
    are the drift together, and the covariance of the kick is that of the diffusion, which of a user's class is tried on
    numbers. A splitting of one's own overrides methods of this class or of `GradientSplitting`, and is what `splitting` of
    the dynamics returns.

    **Arguments:**

    - `dynamics`: whose splitting it is.
    - `leapfrog`: whether the gradient enters the velocities of the optimizer's memory only, so that the kick has all of it.
    - `smooth`: whether a training step has derivatives in the state, so that `modified` has a series.
    - `along_new_memory`: whether a training step moves the parameters along the memory that it makes, as momentum's does.
    - `first_order`: whether Euler's steps are the default, as for a field with kinks, of which others make nothing better.
    - `substeps`: steps of a solver in a training step where `solve` is asked for no number of them.
    - `alternating`: where the algorithm alternates, from a state the parameters it is at, with an axis of them; else None.
    """

    _facts = Facts("splitting", contract=True)

    dynamics: Any
    leapfrog: bool = False
    smooth: bool = True
    along_new_memory: bool = True
    first_order: bool = False
    substeps: int = 1
    alternating: Callable[[State], Any] | None = None

    @property
    def kicks(self) -> int:
        """Evaluations of the noise that a kick needs for weak second order: 2, or 1 if no kick changes the next one."""
        return 2

    def start(self, state: State, signal: Any, noise: PyTree) -> State | None:
        """The state after the first training step, for equations that are singular at t = 0; None for all others."""
        return None

    def resumed(self, params: PyTree, memory: PyTree) -> State | None:
        """The state from which the equation goes on where its twin has these parameters and this memory; None: unknown."""
        return None

    def flow(self, t: Array, state: State, signal: Any) -> State:
        """The part of the drift that is integrated as a flow; the kick carries the rest."""
        return self.dynamics.drift(t, state, signal)

    def noise(self, state: State, signal: Any, kicks_per_step: int) -> PyTree[jax.ShapeDtypeStruct] | None:
        """Structure of the standard normal numbers that one kick takes, None where nothing is random.

        `kicks_per_step` is the number of kicks in a training step.
        """
        operator = self.dynamics.diffusion(jnp.zeros(()), state, signal)
        return None if operator is None else operator.in_structure()

    def kick(self, t: Array, state: State, signal: Any, noise: PyTree, dt: Array) -> State:
        """The Itô increment over dt that `flow` leaves out, from standard normals; its mean is (drift - flow) dt."""
        operator = self.dynamics.diffusion(t, state, signal)
        if operator is None:
            return jax.tree.map(jnp.zeros_like, state)
        return jax.tree.map(lambda leaf: jnp.sqrt(dt) * leaf, operator.mv(noise))

    def euler(self, t: Array, state: State, signal: Any, noise: PyTree, dt: Array) -> State:
        """The increment of one Euler-Maruyama step."""
        return scaled_sum((dt, self.flow(t, state, signal)), (1.0, self.kick(t, state, signal, noise, dt)))

    def mean_velocity(self, t: Array, state: State, signal: Any) -> State | None:
        """The mean of the velocity over the noise, where a kick over many training steps may be made of it and of one draw;
        None elsewhere."""
        return None

    @property
    def noise_is_of_a_gradient(self) -> bool:
        """Whether all noise is that of one gradient, to which a velocity responds; else nothing is known of it."""
        return False

    def scales_all(self, state: State) -> bool:
        """Whether what is held is one factor of all rates: the flow under one and then another is that of their mean."""
        return False

    def coordinates(self, state: State) -> tuple[State, State]:
        """A state in two: what moves, and what the memory of an algorithm counts, which is time and no coordinate."""
        return state, jax.tree.map(lambda leaf: None, state)

    def kicks_have_a_mean(self, state: State) -> bool:
        """Whether a kick has a mean, which is then missing in the flow."""
        return False

    def check_noise(self, signal: Any) -> None:
        """Raises a ValueError unless the kick can do with what is known of the noise."""


class GradientSplitting(Splitting):
    """That of a training algorithm, from its velocity at a noisy gradient.

    Where it is a leapfrog step the whole gradient belongs in the kick, and a step costs one weighted gradient.
    """

    @property
    def kicks(self):
        # A kick of several gradients is of first order in any case; a second one would cost as much as all the rest.
        return 1 if self.leapfrog or self.dynamics.several_gradients else 2

    def flow(self, t, state, signal):
        """The velocity at the mean gradient; at no gradient where the kick carries all of it (`leapfrog`)."""
        params = self.dynamics.params(state)
        gradient = no_gradient(self.dynamics, params) if self.leapfrog else self.dynamics.gradient(params, signal, None)
        return velocity_of(self.dynamics, t, state, gradient)

    def noise(self, state, signal, kicks_per_step):
        """One draw for each kick, for minibatches `(N,)`; two where a nonlinear rule is kicked more than once a step."""
        equation, batches = self.dynamics, self.dynamics.batches(signal)
        if not is_noisy(equation):  # a diffusion of the user's has no part in this
            return None
        normals = equation.gradient_noise.kicked(batches, equation.params(state))
        return normals if kicks_per_step == 1 or equation.is_affine(state) else (normals, normals)

    def kick(self, t, state, signal, noise, dt):
        """u(\\bar g + delta) - flow over dt, with the mean and the covariance of the diffusion.

        An affine rule needs its linear response to delta, scaled by sqrt(learning_rate dt). Any other rule takes one draw
        if dt is a training step. Over a part of it one draw cannot have both moments; two independent ones can, as
        dt [(u1 + u2)/2 + r (u1 - u2)/2 - flow] with r^2 = 2 learning_rate/dt - 1.
        """
        equation = self.dynamics
        params, rate = equation.params(state), equation.learning_rate
        if equation.is_affine(state):
            if self.leapfrog:
                gradient = self._gaussian(params, signal, noise, dt)
                return scaled_sum((dt, response(equation, t, state, gradient)))
            if noise is None:
                return jax.tree.map(jnp.zeros_like, state)
            delta = equation.gradient_noise.delta(equation.batches(signal), params, noise)
            return scaled_sum((jnp.sqrt(rate * dt), response(equation, t, state, delta)))
        base = self.flow(t, state, signal)

        def velocity(normals):
            return velocity_of(equation, t, state, equation.gradient(params, signal, normals))

        if not isinstance(noise, tuple):
            return scaled_sum((dt, velocity(noise)), (-dt, base))
        # The combination that a rule's linear part sees is the first of the pair, which is the Brownian motion that other
        # step lengths see too; the second is perpendicular to it.
        ratio = jnp.sqrt(2 * rate / dt - 1)
        norm = jnp.sqrt(2 * (1 + ratio**2))
        along, across = (1 + ratio) / norm, (1 - ratio) / norm
        zeros = jax.tree.map(jnp.zeros_like, noise[0])
        first = velocity(add_scaled(zeros, (along, noise[0]), (across, noise[1])))
        second = velocity(add_scaled(zeros, (across, noise[0]), (-along, noise[1])))
        even = scaled_sum((0.5, first), (0.5, second), (-1.0, base))
        odd = scaled_sum((0.5, first), (-0.5, second))
        odd = scaled_sum((ratio, odd))
        return scaled_sum((dt, even), (dt, self.clip_noise(state, even, odd, dt)))

    def clip_noise(self, state: State, even: State, odd: State, dt: Array) -> State:
        """The noise `odd` of a kick dt (even + odd), clipped where the state could not bear it; by default not at all.

        `even` is the same and `odd` changes sign when the two draws of the kick change places, so that any clipping which
        is odd in `odd` leaves the mean of the kick untouched.
        """
        return odd

    def euler(self, t, state, signal, noise, dt):
        """One Euler-Maruyama step as one weighted gradient: mean and noise share the backward pass.

        Rules that are not affine have the right noise over a whole training step only. A user's flow or kick is taken.
        """
        equation = self.dynamics
        if newer(type(self), "flow", "euler") or newer(type(self), "kick", "euler"):
            return super().euler(t, state, signal, noise, dt)
        if isinstance(noise, tuple):
            raise ValueError(
                f"Argument `substeps` must be 1 for diffrax.Euler() with {type(equation).__name__}, whose velocity is not "
                "affine in the gradient; the default solver takes any number."
            )
        params = equation.params(state)
        if equation.is_affine(state):
            gradient = self._gaussian(params, signal, noise, dt)
        else:
            gradient = equation.gradient(params, signal, noise)
        return scaled_sum((dt, velocity_of(equation, t, state, gradient)))

    @property
    def noise_is_of_a_gradient(self):
        return True

    def kicks_have_a_mean(self, state):
        return self.leapfrog or (is_noisy(self.dynamics) and not self.dynamics.is_affine(state))

    def check_noise(self, signal):
        self.dynamics.gradient_noise.check_covariance()

    def _gaussian(self, params, signal, normals, dt) -> PyTree:
        """mean gradient + Gaussian noise over dt, which for minibatches share the backward pass."""
        if normals is None:
            return signal.gradient(params)
        equation = self.dynamics
        amplitude = jnp.sqrt(equation.learning_rate / dt)
        return equation.gradient_noise.gaussian(equation.batches(signal), params, normals, amplitude)


def _of_inner(name: str) -> property:
    return property(lambda self: getattr(self.inner, name), doc="That of the splitting inside.")


@dataclasses.dataclass(frozen=True)
class ForwardedSplitting(Splitting):
    """That of the dynamics inside another one, whose field differs from it."""

    leapfrog: Any = dataclasses.field(init=False, default=_of_inner("leapfrog"))
    smooth: Any = dataclasses.field(init=False, default=_of_inner("smooth"))
    along_new_memory: Any = dataclasses.field(init=False, default=_of_inner("along_new_memory"))
    first_order: Any = dataclasses.field(init=False, default=_of_inner("first_order"))
    substeps: Any = dataclasses.field(init=False, default=_of_inner("substeps"))
    alternating: Any = dataclasses.field(init=False, default=_of_inner("alternating"))
    inner: Any = None

    @classmethod
    def of(cls, dynamics: Any):
        """That of `dynamics`, with that of `dynamics.equation` in it."""
        return cls(dynamics, split(dynamics.equation))

    @property
    def kicks(self):
        return self.inner.kicks

    def start(self, state, signal, noise):
        return self.inner.start(state, signal, noise)

    def resumed(self, params, memory):
        return self.inner.resumed(params, memory)

    def flow(self, t, state, signal):
        return self.inner.flow(t, state, signal)

    def noise(self, state, signal, kicks_per_step):
        return self.inner.noise(state, signal, kicks_per_step)

    def kick(self, t, state, signal, noise, dt):
        return self.inner.kick(t, state, signal, noise, dt)

    def mean_velocity(self, t, state, signal):
        return None  # what is around may act on it too

    @property
    def noise_is_of_a_gradient(self):
        return self.inner.noise_is_of_a_gradient

    def scales_all(self, state):
        return False  # what is around may count too, or have a part that does not

    def coordinates(self, state):
        return self.inner.coordinates(state)

    def kicks_have_a_mean(self, state):
        return self.inner.kicks_have_a_mean(state)

    def check_noise(self, signal):
        self.inner.check_noise(signal)


class _Redrifted(ForwardedSplitting):
    """The same kick where a user's class gives another drift: what is new in that goes into the flow."""

    def flow(self, t, state, signal):
        drift, equation = self.dynamics.drift(t, state, signal), self.dynamics
        if not self.inner.kicks_have_a_mean(state):
            return drift
        old = as_of(type(equation), "drift", "splitting")(equation, t, state, signal)
        return scaled_sum((1.0, drift), (-1.0, old), (1.0, self.inner.flow(t, state, signal)))


def split(dynamics: Any) -> Splitting:
    """The splitting of a dynamics; a drift or diffusion that a user's class gives to an equation of ours acts in it."""
    kind = type(dynamics)
    if newer(kind, "diffusion", "splitting"):  # the kick is then an increment of that, without a mean
        return Splitting(dynamics)
    splitting = dynamics.splitting()
    if newer(kind, "drift", "splitting") and type(splitting) is not Splitting:
        return _Redrifted(dynamics, splitting)
    return splitting
