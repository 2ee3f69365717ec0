"""Modified equations: what a discrete algorithm really follows, as a series in the learning rate."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import PyTree

from .._base import AbstractDynamics, AbstractEquation, with_batches_of
from .._checks.arguments import choice, flag, integer
from .._checks.derivatives import check_derivatives
from .._checks.overrides import check_class, check_series
from .._counts import around
from .._noise.base import noise_factor
from .._tree import add_scaled
from .increment import AbstractIncrement, Increment
from .series import by_derivatives, by_map
from .slow_manifold import Slaved, forgets_at_a_fixed_rate

_HIGHEST = {"derivatives": 3, "map": 6}


def modified(
    equation: AbstractDynamics,
    order: int = 2,
    *,
    fluctuations: bool = False,
    route: str = "derivatives",
    memory: str = "dynamic",
) -> AbstractDynamics:
    r"""The modified equation of a discrete algorithm, whose error is O(h^order), h the algorithm's step in natural time.

    Without noise, with the increment field f = (Phi_eta - 1)/eta of the twin on its whole state,

        dy = {f - (eta/2) f'f + eta^2 [f''(f, f)/12 + f'f'f/3] - ...} dt,

    the logarithm of the step (Hairer, Lubich and Wanner 2006, chapter IX); for gradient descent at order 2 that is the
    flow of L + (eta/4)|grad L|^2 (Barrett and Dherin 2021, ICLR), from order 3 on it is no gradient. With minibatches, b
    the mean and Sigma the covariance of the increment,

        dy = [b - (eta/2) b'b] dt + sqrt(eta) Sigma^{1/2} dW    (Itô),

    of weak order 2, for SGD that of Li, Tai and E 2019, JMLR 20(40). Its covariance, itself O(eta), keeps a relative error
    O(eta), a greater one than without the correction; with `fluctuations` the diffusion is corrected too, which makes it
    O(eta^2) (derived; for rules affine in the gradient):

        sigma(y)  ->  (1 - (eta/2) b') sigma(y - (eta/2) b),
        Sigma     ->  Sigma - (eta/2) [b . grad Sigma + b' Sigma + Sigma b'^T].

    Where the noise is of order one, as in Langevin dynamics, so is the covariance, and only with `fluctuations` is the
    equation of weak order 2.

    With `sampling="shuffled"` the mean over the orders of an epoch, compared at epoch ends, has the drift
    b - (eta/2) E[u_B' u_B], u_B the increment on an independent subset (Smith et al. 2021, ICLR), and no noise.

    The series is asymptotic: beyond eta * lambda_max of about 0.5 it stops helping.

    **Arguments:**

    - `equation`: an equation with a twin, which alone is what the series is of: a subclass that gives another `velocity` or
        `drift` to the same twin has the same modified equation, with a warning; or any other dynamics with a
        `learning_rate`, whose Euler step is then the discrete algorithm; or what `symbolic` gave.
    - `order`: 1 to 3 by derivatives, to 6 by the map and in symbols; with noise at most 2.
    - `fluctuations`: corrects the diffusion as well; order 2, with noise.
    - `route`: `"derivatives"`, nested Jacobian-vector products (about 2 and 4 gradients at orders 2 and 3), or `"map"`, the
        forward differences of `order` steps of the algorithm, without any derivative.
    - `memory`: `"dynamic"`, the optimizer's memory is part of the state, under the equation's own scaling; `"slaved"`, the
        hyperparameters are fixed as eta -> 0, the memory follows the parameters, and only these are left, in the
        clock eta * step. A run from an empty memory starts from the slow path that its initial layer leads to. There is
        such a path where the motion is overdamped, for momentum beta at eta * lambda_max < (1 - sqrt(beta))^2. Schedules
        of Optax run on, and span the same time at every learning rate; where one jumps the order is at most 2.

    **Returns:** a `Modified`, for `solve`, `train`, `compare` and `orders`.

    **Raises:** TypeError or ValueError, naming the argument.
    """
    if not isinstance(equation, AbstractDynamics):
        raise TypeError(f"Argument `equation` must be an equations.AbstractDynamics, but {equation!r} was given.")
    if isinstance(equation, Modified):
        raise ValueError("Argument `equation` must be an equation that is not modified yet, but a Modified was given.")
    check_class(equation, "twin" if isinstance(equation, AbstractEquation) else "equation")
    if isinstance(equation, AbstractEquation):
        check_series(equation)
    route = choice("route", route, ("derivatives", "map"))
    fluctuations = flag("fluctuations")(fluctuations)
    memory = choice("memory", memory, ("dynamic", "slaved"))
    if isinstance(equation, AbstractEquation) and not equation.has_series:
        raise ValueError(
            f"Argument `equation` must be smooth in the gradient to have a series, but {equation!r} was given."
        )
    if hasattr(equation, "modified"):  # it knows its own series
        if (route, memory) != ("derivatives", "dynamic"):
            raise ValueError(
                "Arguments `route` and `memory` must be left as they are for an equation in symbols, but "
                f"{route!r} and {memory!r} were given."
            )
        return equation.modified(integer("order", order, maximum=6), fluctuations=fluctuations)
    order = integer("order", order, maximum=_HIGHEST[route])
    if not isinstance(equation, AbstractEquation):
        if getattr(equation, "delay", 0.0):
            raise ValueError(
                f"Argument `equation` must act without a delay to have a series, but {equation!r} was given."
            )
        if memory == "slaved":
            raise ValueError(
                "Argument `memory` must be 'dynamic' for a dynamics without a twin, but 'slaved' was given."
            )
        if getattr(equation, "learning_rate", None) is None:
            raise ValueError(
                "Argument `equation` must have a learning rate, the step of the series, but "
                f"{type(equation).__name__} has none."
            )
        noisy = any(
            getattr(type(equation), name) is not getattr(AbstractDynamics, name) for name in ("diffusion", "kick")
        )
        _check_noise(order, fluctuations, noisy, memory)
        return Modified(equation.learning_rate, equation=equation, order=order, fluctuations=fluctuations, route=route)
    leading = Increment.of(equation)
    _check_noise(order, fluctuations, leading.random, memory)
    shuffled = equation.batch_size is not None and equation.sampling == "shuffled"
    if shuffled and (order > 2 or route == "map"):
        raise ValueError(
            "Argument `order` must be at most 2 by route='derivatives' for sampling='shuffled', but "
            f"order {order} by {route!r} was given."
        )
    if memory == "slaved":
        leading = Slaved.of(leading, order)
    return Modified(
        equation.learning_rate, equation.batch_size, equation.sampling,
        equation=leading, order=order, fluctuations=fluctuations, route=route,
    )  # fmt: skip


def _check_noise(order: int, fluctuations: bool, random: bool, memory: str) -> None:
    if random and order > 2:
        raise ValueError(f"Argument `order` must be at most 2 for an equation with noise, but {order} was given.")
    if fluctuations and not (random and order == 2 and memory == "dynamic"):
        raise ValueError(
            "Argument `fluctuations` must be False unless the equation has noise, `order` is 2 and `memory` 'dynamic', but "
            "True was given."
        )


class Modified(AbstractEquation):
    """What `modified` returns.

    **Attributes:**

    - `order`, `fluctuations`, `route`: as given.
    - `equation`: the leading equation whose series this is: an increment field, a slaved one, or the dynamics given.
    - `increment`: the increment field of the discrete algorithm, None for a dynamics without a twin.
    """

    equation: AbstractDynamics = eqx.field(kw_only=True)
    order: int = eqx.field(kw_only=True, static=True)
    fluctuations: bool = eqx.field(kw_only=True, static=True)
    route: str = eqx.field(kw_only=True, static=True)

    def __post_init__(self):
        if isinstance(self.equation, AbstractEquation):
            self.equation = with_batches_of(self, self.equation)

    @property
    def leading(self) -> AbstractDynamics:
        """The leading equation at the learning rate of this one."""
        return eqx.tree_at(lambda equation: equation.learning_rate, self.equation, self.learning_rate)

    @property
    def increment(self) -> AbstractIncrement | None:
        if isinstance(self.equation, Slaved):
            return self.leading.source
        return self.leading if isinstance(self.equation, AbstractIncrement) else None

    def init(self, params):
        return self.leading.init(params)

    def params(self, state):
        return self.leading.params(state)

    def velocity(self, t, state, gradient):
        """That of the leading equation."""
        return self.leading.velocity(t, state, gradient)

    def twin(self):
        if not isinstance(self.equation, AbstractEquation):
            raise TypeError(
                "Argument `equation` must have a discrete twin, but a modified "
                f"{type(self.equation).__name__} was given, which has none."
            )
        return self.leading.twin()

    @property
    def gradient_noise(self):
        leading = self.leading
        return leading.gradient_noise if isinstance(leading, AbstractEquation) else self.noise_model

    @property
    def random(self):
        leading = self.leading
        return leading.random if isinstance(leading, AbstractEquation) else True

    def is_affine(self, state):
        leading = self.leading
        return leading.is_affine(state) if isinstance(leading, AbstractEquation) else True

    def rescaled(self, factor):
        if not isinstance(self.equation, AbstractEquation):
            return super().rescaled(factor)
        scaled = self.leading.rescaled(factor)
        return eqx.tree_at(lambda e: (e.learning_rate, e.equation), self, (scaled.learning_rate, scaled))

    def claim(self, measure):
        if measure != "variance/eta":
            return float(self.order)
        if self.fluctuations:
            return 2.0
        return self.leading.claim(measure) if isinstance(self.equation, AbstractEquation) else 1.0

    def variance_scale(self):
        leading = self.leading
        return leading.variance_scale() if isinstance(leading, AbstractEquation) else self.time_per_step()

    def held(self, step):
        return around(self, "equation", self.equation.held(step))

    def between(self, low, high):
        return around(self, "equation", self.equation.between(low, high))

    def learning_rate_at(self, step):
        leading = self.leading
        return leading.learning_rate_at(step) if isinstance(leading, AbstractEquation) else self.learning_rate

    def time_per_step(self):
        leading = self.leading
        return leading.time_per_step() if isinstance(leading, AbstractEquation) else self.learning_rate

    def _corrected(self, t, state, signal):
        series = by_map if self.route == "map" else by_derivatives
        drift = series(lambda y: self.leading.drift(t, y, signal), state, self.learning_rate, self.order)
        if self.batch_size is not None and self.sampling == "shuffled" and self.order == 2:
            drift = add_scaled(drift, (-self.learning_rate / 2, self._epoch(t, state, signal)))
        return drift

    def _epoch(self, t, state, signal):
        """E[u_B' u_B] - b'b over independent subsets B: factor * (mean_i u_i' u_i - b'b), by one pass over the examples."""
        factor = noise_factor(signal.size, self.batch_size, "without_replacement")
        leading = self.leading

        def along_itself(field):
            return jax.jvp(field, (state,), (field(state),))[1]

        def add(total, index):
            one = signal.take(index[None])
            product = along_itself(lambda y: leading.velocity(t, y, one.gradient(leading.params(y))))
            return add_scaled(total, (factor / signal.size, product)), None

        mean = along_itself(lambda y: leading.drift(t, y, signal))
        begin = jax.tree.map(lambda leaf: (-factor * leaf).astype(leaf.dtype), mean)
        return jax.lax.scan(add, begin, jnp.arange(signal.size))[0]

    def _mean_of_kick(self, t, state, signal):
        """drift - flow of the leading equation, or None where it vanishes."""
        leading = self.leading
        if isinstance(leading, AbstractEquation):
            if not leading.random or leading.is_affine(state):
                return None
        elif type(leading).flow is AbstractDynamics.flow:
            return None
        return add_scaled(leading.drift(t, state, signal), (-1.0, leading.flow(t, state, signal)))

    def drift(self, t, state, signal):
        """The series in the leading equation's drift."""
        return self._corrected(t, state, signal)

    def flow(self, t, state, signal):
        drift, mean = self.drift(t, state, signal), self._mean_of_kick(t, state, signal)
        return drift if mean is None else add_scaled(drift, (-1.0, mean))

    @property
    def kicks(self):
        return self.leading.kicks

    def start(self, state, signal, noise):
        return self.leading.start(state, signal, noise)

    def noise(self, state, signal, kicks_per_step):
        return self.leading.noise(state, signal, kicks_per_step)

    def diffusion(self, t, state, signal):
        """A root of the diffusion; with `fluctuations` (1 - (eta/2) b') sigma(y - (eta/2) b)."""
        if not self.fluctuations:
            return self.leading.diffusion(t, state, signal)
        shifted, respond = self._response(t, state, signal)
        root = self.leading.diffusion(t, shifted, signal)
        if root is None:
            return None
        return lx.FunctionLinearOperator(lambda normals: respond(root.mv(normals)), root.in_structure())

    def kick(self, t, state, signal, noise, dt):
        if not self.fluctuations:
            return self.leading.kick(t, state, signal, noise, dt)
        shifted, respond = self._response(t, state, signal)
        kick = self.leading.kick(t, shifted, signal, noise, dt)
        mean = self._mean_of_kick(t, shifted, signal)
        if mean is None:
            return respond(kick)
        kick = add_scaled(kick, (-dt, mean))
        return add_scaled(respond(kick), (dt, self._mean_of_kick(t, state, signal)))

    def _response(self, t, state, signal) -> tuple[Any, Any]:
        """y - (eta/2) b, and the map v -> v - (eta/2) b'v."""
        value, derivative = jax.linearize(lambda y: self.leading.drift(t, y, signal), state)
        half = self.learning_rate / 2
        return add_scaled(state, (-half, value)), lambda v: add_scaled(v, (-half, derivative(v)))

    def euler(self, t, state, signal, noise, dt):
        return AbstractDynamics.euler(self, t, state, signal, noise, dt)

    def check_step(self, dt):
        self.leading.check_step(dt)

    def check(self, params, signal):
        self.leading.check(params, signal)
        shuffled = self.batch_size is not None and self.sampling == "shuffled" and self.order == 2
        if self.fluctuations or shuffled or (self.order > 1 and self.route == "derivatives"):
            check_derivatives(signal, params, f"the series of order {self.order}")
        if shuffled:
            if signal.size % self.batch_size:
                raise ValueError(
                    f"Argument `batch_size` must divide the number of examples, {signal.size}, for the modified equation "
                    f"of shuffled epochs, but {self.batch_size} was given: examples left over are noise at leading order."
                )
            memory = jax.eval_shape(lambda p: self.init(p).memory, eqx.filter(params, eqx.is_inexact_array))
            if jax.tree.leaves(memory):
                raise ValueError(
                    "Argument `sampling` must not be 'shuffled' for the modified equation of an algorithm with memory, "
                    "since its batches then depend on each other through it."
                )

    @property
    def remainder(self) -> str:
        """What the truncated series leaves out, in words, for an algorithm that takes any parameters."""
        return self.remainder_on(jnp.zeros(1))

    def remainder_on(self, params: PyTree) -> str:
        """What the truncated series leaves out, in words; not everything if a memory keeps a fixed part of itself."""
        leading = self.leading
        if isinstance(leading, AbstractIncrement) and forgets_at_a_fixed_rate(leading, params):
            return (
                "does not vanish as eta -> 0: a step forgets a fixed part of the memory, and is not near the identity; "
                "memory='slaved' is for fixed hyperparameters"
            )
        return f"O(h^{self.order}), h = natural time of a step"
