"""The contract: what a dynamics is (all that `dynamics.solve` knows), and what a training algorithm adds to it."""

import abc
import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

from ._checks.arguments import LARGEST, choice, integer, number, positive
from ._checks.declared import check_linear
from ._checks.lineage import newer
from ._checks.own_names import check_unset
from ._noise.base import SAMPLINGS, AbstractGradientNoise, Batches, Minibatch, noise_model
from ._signals.base import AbstractSignal
from ._tree import add_scaled, scaled_sum
from ._velocity import reads_affine, velocity_of

State = PyTree
Params = PyTree


def kept_positive(square: Array, even: Array, odd: Array, dt: Array) -> Array:
    """`odd` of a kick dt (even + odd) of a second moment `square`, cut so that it stays positive, with its mean as it is.

    Over a whole training step the kick of a second moment is a square. Over a part of one the noise may be larger than the
    mean, and while the moment is not yet the sum of many steps, larger than itself: it is cut to three quarters of the mean
    increment and a fifth of the moment. A tighter cut takes away noise that the parameters' variance needs
    (tests/test_adam.py), a looser one lets the moment come near zero, and the parameters leap. Once some ten steps are in
    it the cut no longer acts.
    """
    bound = 0.75 * jnp.abs(even) + jnp.abs(square) / (5 * dt)
    return jnp.clip(odd, -bound, bound).astype(odd.dtype)


def with_batches_of(outer: "AbstractEquation", inner: "AbstractEquation") -> "AbstractEquation":
    """`inner` with the batches of the equation around it, also where `dataclasses.replace` gave that one others."""
    names = ("batch_size", "sampling")
    other = {n: getattr(outer, n) for n in names if getattr(outer, n) != getattr(inner, n)}
    return dataclasses.replace(inner, **other) if other else inner


class AbstractDynamics(eqx.Module):
    """A stochastic differential equation dY = drift dt + diffusion dW, read in the Itô sense. All that `solve` knows.

    A dynamics of one's own gives `drift`, and if it is noisy `diffusion` (a Lineax operator) or, where that is faster,
    `kick` and `noise`. The state is any PyTree of floating-point arrays; it is the parameters themselves unless `init`
    and `params` say otherwise. The length of a training step in time is its attribute `learning_rate`, if it has one,
    or the argument `dt` of `solve`. Under a stream of stimuli the signal is a `Stimulus`; what acts late is given by
    `delayed` and reaches the drift after `delay`, an attribute in seconds known before tracing, as `signal.past`.

    What the methods return has the structure and the shapes of the state, in floating-point numbers, which are cast to the
    precision of the state; all else is refused by class and method before compilation, as is a class whose override of a
    method would be ignored in some runs, or an attribute under a name that is looked for (`order`, `increment`, ...), or
    under a private name of these classes.
    """

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        check_unset(cls)

    def init(self, params: Params) -> State:
        """The state at time zero."""
        return params

    def params(self, state: State) -> Params:
        """The parameters in a state."""
        return state

    @abc.abstractmethod
    def drift(self, t: Array, state: State, signal: Any) -> State:
        """dY/dt, the mean over the noise."""

    def diffusion(self, t: Array, state: State, signal: Any) -> lx.AbstractLinearOperator | None:
        """The linear operator in front of dW, from the noise's structure to the state's; None: no noise."""
        return None

    def flow(self, t: Array, state: State, signal: Any) -> State:
        """The part of the drift that a splitting integrates as a flow; the kick carries the rest."""
        return self.drift(t, state, signal)

    def noise(self, state: State, signal: Any, kicks_per_step: int) -> PyTree[jax.ShapeDtypeStruct] | None:
        """Structure of the standard normal numbers that one kick takes, None where nothing is random.

        `kicks_per_step` is the number of kicks in a training step.
        """
        operator = self.diffusion(jnp.zeros(()), state, signal)
        return None if operator is None else operator.in_structure()

    def kick(self, t: Array, state: State, signal: Any, noise: PyTree, dt: Array) -> State:
        """The Itô increment over dt that `flow` leaves out, from standard normals; its mean is (drift - flow) dt."""
        operator = self.diffusion(t, state, signal)
        if operator is None:
            return jax.tree.map(jnp.zeros_like, state)
        return jax.tree.map(lambda leaf: jnp.sqrt(dt) * leaf, operator.mv(noise))

    @property
    def kicks(self) -> int:
        """Evaluations of the noise that a kick needs for weak second order: 2, or 1 if no kick changes the next one."""
        return 2

    def euler(self, t: Array, state: State, signal: Any, noise: PyTree, dt: Array) -> State:
        """The increment of one Euler-Maruyama step."""
        return scaled_sum((dt, self.flow(t, state, signal)), (1.0, self.kick(t, state, signal, noise, dt)))

    def delayed(self, state: State, signal: Any) -> PyTree:
        """What of a state under a stimulus acts after the delay only: a PyTree of arrays, zero before anything arrives."""
        raise NotImplementedError(f"{type(self).__name__} has a delay, but does not say by `delayed` what is delayed.")

    def start(self, state: State, signal: Any, noise: PyTree) -> State | None:
        """The state after the first training step, for equations that are singular at t = 0; None for all others."""
        return None

    def held(self, step: Array) -> "AbstractDynamics":
        """The same dynamics with all that it counts held at training step `step`, a whole number from 0.

        A schedule and an optimizer's own count are functions of the training step: held, they have one value in every stage
        of a solver, whatever the rounding of t/eta. Time is not counted. Itself, the same object, where nothing is.
        """
        return self

    def between(self, low: Array, high: Array) -> "AbstractDynamics":
        """The same dynamics, for a step of a solver that lies between the training steps `low` and `high`.

        What it counts is read at real numbers of steps, but not beyond that interval, at whose ends it may jump. Itself
        where nothing is counted.
        """
        return self

    def check(self, params: Params, signal: Any) -> None:
        """Raises a TypeError or ValueError unless the dynamics can run on these parameters and this signal."""

    def check_step(self, dt: float) -> None:
        """Warns where a solver's steps of this length, under a stream of stimuli, cannot resolve the dynamics."""


class AbstractEquation(AbstractDynamics):
    r"""The continuous model of one training algorithm, and the algorithm itself, its *twin*.

    A new algorithm gives `velocity` and `twin`, and `init` and `params` if it remembers more than the parameters. Time
    is t = learning_rate * step. Drift and noise follow from the velocity u(t, Y, g) and the minibatch gradient
    g = \bar g + delta:

        dY = E[u(t, Y, \bar g + delta)] dt + sqrt(learning_rate) (u(t, Y, \bar g + delta) - E[u]) "dW/dt" dt,

    where the noise of all components comes from the same delta (Li, Tai and E 2019, JMLR 20(40), for the affine case).
    A subclass of a rule without a closed form of its own may give another `drift` or `diffusion` to it: the flow, the kick
    and the Euler step follow. The twin does not, nor does what is made of the twin alone, as by `modified`.

    **Arguments:**

    - `learning_rate`: positive, time per training step. Traced: a new value does not recompile.
    - `batch_size`: examples per minibatch, or None for the full batch, without noise.
    - `sampling`: `"with_replacement"`, `"without_replacement"` (independent subsets), `"shuffled"` (epochs of batches
        without repetition, noise-free at leading order).
    - `noise_model`: how the gradient of a training step deviates from the full one: `Minibatch()`, which is exact, or
        `Diagonal()`, `Isotropic(scale)`, `LabelNoise(scale)`, `StudentT(df, scale)`.

    **Raises:** TypeError or ValueError, naming the argument.
    A rule may say that its velocity is affine in the gradient by a class attribute `linear = True`, which is tried on
    numbers, or ask for the general path by `linear = False`; by default that is read off its jaxpr.
    """

    linear = None

    learning_rate: Array = eqx.field(converter=positive("learning_rate"))
    batch_size: int | None = eqx.field(
        default=None, static=True, converter=lambda value: integer("batch_size", value, maximum=LARGEST, optional=True)
    )
    sampling: str = eqx.field(
        default="with_replacement", static=True, converter=lambda value: choice("sampling", value, SAMPLINGS)
    )
    noise_model: AbstractGradientNoise = eqx.field(
        default_factory=Minibatch, kw_only=True, converter=noise_model("noise_model")
    )

    @abc.abstractmethod
    def velocity(self, t: Array, state: State, gradient: Params) -> State:
        """dY/dt when the gradient is `gradient`. Must not be random.

        t is read at the stages of a solver and should enter smoothly. What jumps with the training step, t/learning_rate,
        would be read across the jump, of which `solve` warns: put it into `scheduled`, or give `held` and `between`.
        """

    @abc.abstractmethod
    def twin(self) -> optax.GradientTransformation:
        """The discrete algorithm that this equation models."""

    @property
    def leapfrog(self) -> bool:
        """True if the gradient enters the velocities of the optimizer's memory only, not of the parameters.

        The whole gradient then belongs in the kick, as in a leapfrog scheme, and a step costs one weighted gradient.
        """
        return False

    @property
    def kicks(self) -> int:
        return 1 if self.leapfrog and not self._new("diffusion", "kick") else 2

    @property
    def has_series(self) -> bool:
        """Whether a training step is a function of the state with derivatives, so that `modified` has a series."""
        return True

    @property
    def gradient_noise(self) -> AbstractGradientNoise:
        """All the noise of a gradient: `noise_model`, and whatever the algorithm itself injects."""
        return self.noise_model

    def batches(self, signal: AbstractSignal) -> Batches:
        """The examples of a signal as this algorithm draws them."""
        return Batches(signal, self.batch_size, self.sampling)

    @property
    def random(self) -> bool:
        """Whether the equation has noise."""
        return self.gradient_noise.random(self.batch_size is not None and self.sampling != "shuffled")

    def rescaled(self, factor) -> "AbstractEquation":
        """The same algorithm at `learning_rate * factor`, its other hyperparameters moved along its scaling."""
        factor = number("factor", factor, allowed="a positive finite number", test=lambda x: x > 0)
        return eqx.tree_at(lambda equation: equation.learning_rate, self, self.learning_rate * factor)

    def time_per_step(self) -> Array:
        """A training step in the natural clock of the equation, the time in which its limit exists."""
        return self.learning_rate

    def learning_rate_at(self, step: Array) -> Array:
        """The learning rate of a training step, counted from 0; the recorded times are the sum of those before.

        It only tells them: a subclass whose rate changes has it in `velocity` and `twin` too, or is `scheduled`.
        """
        return self.learning_rate

    def variance_scale(self) -> Array:
        """How the variance of the parameters vanishes with the steps: as a step in the natural clock, or not at all (1)."""
        return self.time_per_step()

    def claim(self, measure: str) -> float:
        """The order that the equation claims in the natural time of a step: of the "mean", the "second moment" or
        "variance/eta"."""
        return 1.0

    def is_affine(self, state: State) -> bool:
        """Whether the velocity is affine in the gradient: as `linear` says, or else as read off its jaxpr."""
        if self.linear is not None:
            return self.linear
        return reads_affine(self, state)

    def drift(self, t, state, signal):
        """The mean velocity over the noise.

        Exact for velocities of at most second degree in the gradient, where E u(\\bar g + delta) is, for minibatches, the
        mean over the examples of (u(\\bar g + c_i) + u(\\bar g - c_i))/2 with c_i the deviation of example i, scaled to the
        covariance of delta; for others an approximation.
        """
        params = self.params(state)
        if not self.random or self.is_affine(state):
            return velocity_of(self, t, state, signal.gradient(params))
        return self.gradient_noise.mean(self.batches(signal), params, lambda g: velocity_of(self, t, state, g))

    def diffusion(self, t, state, signal):
        """A root of the diffusion as a Lineax operator, for plain Diffrax solvers; None without noise.

        It takes the K normals of one draw, for minibatches `(N,)`; where the velocity is of second degree in the gradient a
        pair of these and of shape `(K, K)`, the second for the noise of delta^2 (K squared backward passes: for small
        problems; Gaussian noise).
        """
        if not self.random:
            return None
        params = self.params(state)
        root = self.gradient_noise.root(self.batches(signal), params)
        scale = jnp.sqrt(self.learning_rate)
        normals = root.in_structure()
        if self.is_affine(state):
            return lx.FunctionLinearOperator(
                lambda xi: scaled_sum((scale, self._response(t, state, root.mv(xi)))), normals
            )
        if not self.gradient_noise.normal:
            raise ValueError(
                "Argument `noise_model` must be Gaussian for the diffusion of a rule that is not affine in the gradient, "
                f"but {self.gradient_noise!r} was given; the default solver does not need it."
            )
        mean = signal.gradient(params)
        velocity = lambda g: velocity_of(self, t, state, g)  # noqa: E731
        zeros, unravel = ravel_pytree(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), normals))

        def mv(inputs):
            linear, quadratic = inputs
            total = jax.jvp(velocity, (mean,), (root.mv(linear),))[1]

            def add(total, column):
                unit, row = column
                along = lambda g: jax.jvp(velocity, (g,), (root.mv(unravel(unit)),))[1]  # noqa: E731
                second = jax.jvp(along, (mean,), (root.mv(unravel(row)),))[1]
                return scaled_sum((1.0, total), (0.5**0.5, second)), None

            units = jnp.eye(zeros.size, dtype=zeros.dtype)
            return scaled_sum((scale, jax.lax.scan(add, total, (units, quadratic))[0]))

        square = jax.ShapeDtypeStruct((zeros.size, zeros.size), zeros.dtype)
        return lx.FunctionLinearOperator(mv, (normals, square))

    def flow(self, t, state, signal):
        """The velocity at the mean gradient; at no gradient where the kick carries all of it (`leapfrog`).

        Where a subclass gives another `drift` it is that drift, without what is the mean of the kick.
        """
        if self._new("diffusion", "kick"):  # whose kick has no mean
            return self.drift(t, state, signal)
        if not self._new("drift", "flow"):
            return self._flow(t, state, signal)
        drift = self.drift(t, state, signal)
        if not self.leapfrog and (not self.random or self.is_affine(state)):
            return drift
        mean = AbstractEquation.drift(self, t, state, signal)
        return scaled_sum((1.0, drift), (-1.0, mean), (1.0, self._flow(t, state, signal)))

    def _flow(self, t, state, signal) -> State:
        """The flow that goes with the velocity."""
        params = self.params(state)
        gradient = jax.tree.map(jnp.zeros_like, params) if self.leapfrog else signal.gradient(params)
        return velocity_of(self, t, state, gradient)

    def _new(self, name: str, than: str) -> bool:
        """Whether a user's class overrides `name` and not `than`."""
        return newer(type(self), name, than)

    def noise(self, state, signal, kicks_per_step):
        """One draw for each kick, for minibatches `(N,)`; two where a nonlinear rule is kicked more than once a step."""
        if self._new("diffusion", "kick"):
            return AbstractDynamics.noise(self, state, signal, kicks_per_step)
        if not self.random:
            return None
        normals = self.gradient_noise.structure(self.batches(signal), self.params(state))
        return normals if kicks_per_step == 1 or self.is_affine(state) else (normals, normals)

    def kick(self, t, state, signal, noise, dt):
        """u(\\bar g + delta) - flow over dt, with the mean and the covariance of the diffusion.

        An affine rule needs its linear response to delta, scaled by sqrt(learning_rate dt). Any other rule takes one draw
        if dt is a training step. Over a part of it one draw cannot have both moments; two independent ones can, as
        dt [(u1 + u2)/2 + r (u1 - u2)/2 - flow] with r^2 = 2 learning_rate/dt - 1.

        Where a subclass gives another `diffusion` it is the increment of that, without a mean.
        """
        if self._new("diffusion", "kick"):
            return AbstractDynamics.kick(self, t, state, signal, noise, dt)
        params = self.params(state)
        if self.is_affine(state):
            if self.leapfrog:
                gradient = self._gaussian(params, signal, noise, dt)
                return scaled_sum((dt, self._response(t, state, gradient)))
            if noise is None:
                return jax.tree.map(jnp.zeros_like, state)
            delta = self.gradient_noise.delta(self.batches(signal), params, noise)
            return scaled_sum((jnp.sqrt(self.learning_rate * dt), self._response(t, state, delta)))

        base = (self._flow if self._new("drift", "flow") else self.flow)(t, state, signal)

        def velocity(normals):
            return velocity_of(self, t, state, self.gradient(params, signal, normals))

        if not isinstance(noise, tuple):
            return scaled_sum((dt, velocity(noise)), (-dt, base))
        # The combination that a rule's linear part sees is the first of the pair, which is the Brownian motion that other
        # step lengths see too; the second is perpendicular to it.
        ratio = jnp.sqrt(2 * self.learning_rate / dt - 1)
        norm = jnp.sqrt(2 * (1 + ratio**2))
        along, across = (1 + ratio) / norm, (1 - ratio) / norm
        zeros = jax.tree.map(jnp.zeros_like, noise[0])
        first = velocity(add_scaled(zeros, (along, noise[0]), (across, noise[1])))
        second = velocity(add_scaled(zeros, (across, noise[0]), (-along, noise[1])))
        even = scaled_sum((0.5, first), (0.5, second), (-1.0, base))
        odd = scaled_sum((0.5, first), (-0.5, second))
        odd = scaled_sum((ratio, odd))
        return scaled_sum((dt, even), (dt, self.bounded(state, even, odd, dt)))

    def bounded(self, state: State, even: State, odd: State, dt: Array) -> State:
        """The noise `odd` of a kick dt (even + odd), cut where the state could not bear it; by default not at all.

        `even` is the same and `odd` changes sign when the two draws of the kick change places, so that any cut which is
        odd in `odd` leaves the mean of the kick untouched.
        """
        return odd

    def euler(self, t, state, signal, noise, dt):
        """One Euler-Maruyama step as one weighted gradient: mean and noise share the backward pass.

        A rule that is not affine in the gradient has the right noise only over a whole training step.
        """
        if isinstance(noise, tuple):
            raise ValueError(
                f"Argument `substeps` must be 1 for diffrax.Euler() with {type(self).__name__}, whose velocity is not "
                "affine in the gradient; the default solver takes any number."
            )
        if any(self._new(name, "euler") for name in ("drift", "diffusion", "flow", "kick")):
            return AbstractDynamics.euler(self, t, state, signal, noise, dt)
        params = self.params(state)
        if self.is_affine(state):
            gradient = self._gaussian(params, signal, noise, dt)
        else:
            gradient = self.gradient(params, signal, noise)
        return scaled_sum((dt, velocity_of(self, t, state, gradient)))

    def check(self, params, signal):
        self.check_sampling(signal)
        signal.check(params)
        check_linear(self, params)
        self.gradient_noise.check(signal)
        self.check_noise(signal)

    def check_noise(self, signal: AbstractSignal) -> None:
        """Raises a ValueError unless the rule can do with what is known of the noise."""
        self.gradient_noise.check_covariance()

    def check_sampling(self, signal: Any) -> None:
        """Raises a TypeError or ValueError unless minibatches can be drawn from the signal's examples."""
        if not isinstance(signal, AbstractSignal):
            raise TypeError(
                f"Argument `objective` must be a signal such as equations.Objective, but {signal!r} was given."
            )
        if self.batch_size is not None and self.sampling != "with_replacement" and self.batch_size > signal.size:
            raise ValueError(
                f"Argument `batch_size` must be at most the number of examples, {signal.size}, for "
                f"sampling={self.sampling!r}, but {self.batch_size} was given."
            )

    def gradient(self, params: Params, signal: AbstractSignal, normals: PyTree | None) -> Params:
        """The gradient of one training step from the normals of one draw; the full gradient if they are None."""
        if normals is None:
            return signal.gradient(params)
        return self.gradient_noise.draw(self.batches(signal), params, normals)

    def _gaussian(self, params, signal, normals, dt) -> Params:
        """mean gradient + Gaussian noise over dt, which for minibatches share the backward pass."""
        if normals is None:
            return signal.gradient(params)
        amplitude = jnp.sqrt(self.learning_rate / dt)
        return self.gradient_noise.gaussian(self.batches(signal), params, normals, amplitude)

    def _response(self, t, state, direction) -> State:
        """The linear part of an affine velocity, applied to a gradient."""
        zeros = jax.tree.map(jnp.zeros_like, direction)
        return jax.jvp(lambda g: velocity_of(self, t, state, g), (zeros,), (direction,))[1]
