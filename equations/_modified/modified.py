"""Modified equations: what a discrete algorithm really follows, as a series in the learning rate."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from .._base import AbstractDynamics, check_contract
from .._checks.arguments import choice, flag, integer
from .._checks.batch_sizes import check_one_batch_size
from .._checks.derivatives import check_derivatives
from .._checks.lineage import overrides
from .._checks.overrides import check_class, check_series
from .._forwarder import AbstractForwarder
from .._interpretation import as_ito
from .._modified.slow_manifold import eliminated
from .._noise.batches import noise_factor
from .._scaling import learning_rate_of
from .._series import Series
from .._signals.base import is_parameter
from .._splitting import split
from .._tree import add_scaled
from .._velocity import velocity_of
from .elimination import check_elimination
from .increment import AbstractIncrement, Increment
from .slow_manifold import SlowManifold, forgets_at_a_fixed_rate
from .truncated import AbstractTruncated, ModifiedDynamics, TruncatedLimit, left_out

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
    - `memory`: `"dynamic"`, the optimizer's memory is part of the state, under the equation's own scaling;
        `"adiabatic"`, for adiabatic elimination (or Haken's `"slaved"`), the hyperparameters are fixed as eta -> 0, the
        memory follows the parameters, and only these are left, in the clock eta * step. A run from an empty memory starts
        from the slow path that its initial layer leads to. There is such a path where the motion is overdamped, for
        momentum beta at eta * lambda_max < (1 - sqrt(beta))^2. Schedules of Optax run on, and span the same time at every
        learning rate; where one jumps the order is at most 2.

    **Returns:** a `Modified`, for `solve`, `train`, `compare` and `orders`; of a dynamics without a twin a series for
    `solve` alone.

    **Raises:** TypeError or ValueError, naming the argument.
    """
    check_contract(equation)
    equation = as_ito(equation)
    series = equation.series()
    if series.remainder is not None:
        raise ValueError("Argument `equation` must be an equation that is not modified yet, but a Modified was given.")
    check_class(equation, "twin" if series.discrete else "equation")
    route = choice("route", route, ("derivatives", "map"))
    fluctuations = flag("fluctuations")(fluctuations)
    memory = eliminated(memory, ("dynamic", "adiabatic"))
    if not series.discrete:
        return _of_dynamics(equation, order, fluctuations, route, memory)
    algorithm: Any = equation
    if memory == "adiabatic" and algorithm.several_gradients:
        raise ValueError(
            f"Argument `memory` must be 'dynamic' for {type(equation).__name__}, which asks for several gradients of a "
            "batch, but 'adiabatic' was given."
        )
    check_series(equation)
    if not split(equation).smooth:
        raise ValueError(
            f"Argument `equation` must be smooth in the gradient to have a series, but {equation!r} was given."
        )
    order = integer("order", order, maximum=_HIGHEST[route])
    check_one_batch_size(equation, "a series")
    if series.refusal is not None and order > 1:
        raise ValueError(f"Argument `equation` must {series.refusal} to have a series, but {equation!r} was given.")
    if memory == "adiabatic" and series.average:
        raise ValueError(
            f"Argument `memory` must be 'dynamic' for {type(equation).__name__}, of whose average nothing else is left, "
            "but 'adiabatic' was given."
        )
    if series.continued is not None:
        if (route, memory) != ("derivatives", "dynamic"):
            raise ValueError(
                f"Arguments `route` and `memory` must be left as they are for a {type(equation).__name__}, but "
                f"{route!r} and {memory!r} were given."
            )
        return series.continued(order, fluctuations)
    leading = Increment.of(algorithm)
    _check_noise(order, fluctuations, leading.random, memory)
    shuffled = equation.batch_size is not None and equation.sampling == "shuffled"
    if shuffled and (order > 2 or route == "map"):
        raise ValueError(
            "Argument `order` must be at most 2 by route='derivatives' for sampling='shuffled', but "
            f"order {order} by {route!r} was given."
        )
    if memory == "adiabatic":
        leading = SlowManifold.of(leading, order)
    return Modified(equation=leading, order=order, fluctuations=fluctuations, route=route)


def _of_dynamics(equation: AbstractDynamics, order, fluctuations: bool, route: str, memory: str) -> AbstractDynamics:
    """The series of the Euler step of a dynamics without a twin."""
    series = equation.series()
    if series.refusal is not None:
        raise ValueError(f"Argument `equation` must {series.refusal} to have a series, but {equation!r} was given.")
    if series.continued is not None:
        if (route, memory) != ("derivatives", "dynamic"):
            raise ValueError(
                "Arguments `route` and `memory` must be left as they are for an equation in symbols, but "
                f"{route!r} and {memory!r} were given."
            )
        return series.continued(integer("order", order, maximum=6), fluctuations=fluctuations)
    order = integer("order", order, maximum=_HIGHEST[route])
    if memory == "adiabatic":
        raise ValueError(
            "Argument `memory` must be 'dynamic' for a dynamics without a twin, but 'adiabatic' was given."
        )
    if learning_rate_of(equation) is None:
        raise ValueError(
            "Argument `equation` must have a learning rate, the step of the series, but "
            f"{type(equation).__name__} has none."
        )
    noisy = any(overrides(type(equation), name) for name in ("diffusion", "splitting"))
    _check_noise(order, fluctuations, noisy, memory)
    return ModifiedDynamics(equation=equation, order=order, fluctuations=fluctuations, route=route)


def _check_noise(order: int, fluctuations: bool, random: bool, memory: str) -> None:
    if random and order > 2:
        raise ValueError(f"Argument `order` must be at most 2 for an equation with noise, but {order} was given.")
    if fluctuations and not (random and order == 2 and memory == "dynamic"):
        raise ValueError(
            "Argument `fluctuations` must be False unless the equation has noise, `order` is 2 and `memory` 'dynamic', but "
            "True was given."
        )


class Modified(AbstractTruncated, AbstractForwarder):
    """What `modified` returns for an algorithm.

    **Attributes:**

    - `order`, `fluctuations`, `route`: as given.
    - `equation`: the leading equation whose series this is: an increment field, or that of its slow manifold.
    """

    @property
    def increment(self) -> AbstractIncrement:
        """The increment field of the discrete algorithm."""
        return self.equation.increment

    @property
    def remainder(self) -> str:
        """What the truncated series leaves out, in words, for an algorithm that takes any parameters."""
        return self.remainder_on(jnp.zeros(1))

    def drift(self, t, state, signal):
        """The series in the leading equation's drift."""
        drift = self.truncated(t, state, signal)
        if self._of_epochs():
            drift = add_scaled(drift, (-self.learning_rate / 2, self._epoch(t, state, signal)))
        return drift

    def _of_epochs(self) -> bool:
        return self.batch_size is not None and self.sampling == "shuffled" and self.order == 2

    def _epoch(self, t, state, signal):
        """E[u_B' u_B] - b'b over independent subsets B: factor * (mean_i u_i' u_i - b'b), by one pass over the examples."""
        factor = noise_factor(signal.size, self.batch_size, "without_replacement")
        leading = self.equation

        def along_itself(field):
            return jax.jvp(field, (state,), (field(state),))[1]

        def add(total, index):
            one = signal.take(index[None])
            product = along_itself(lambda y: velocity_of(leading, t, y, leading.gradient(leading.params(y), one, None)))
            return add_scaled(total, (factor / signal.size, product)), None

        mean = along_itself(lambda y: leading.drift(t, y, signal))
        begin = jax.tree.map(lambda leaf: (-factor * leaf).astype(leaf.dtype), mean)
        return jax.lax.scan(add, begin, jnp.arange(signal.size))[0]

    def scaling_limit(self):
        return ModifiedLimit(self)

    def series(self):
        return Series(
            self.order, self.fluctuations, self.increment, remainder=self.remainder_on, maker="modified", discrete=True
        )

    def remainder_on(self, params: PyTree) -> str:
        """The same for these parameters; not everything if a memory keeps a fixed part of itself."""
        leading: Any = self.equation
        if leading.memory == "dynamic" and forgets_at_a_fixed_rate(leading, params):
            return (
                "does not vanish as eta -> 0: a step forgets a fixed part of the memory, and is not near the identity; "
                "memory='adiabatic' is for fixed hyperparameters"
            )
        return left_out(self.order)

    def check(self, params, signal):
        self.equation.check(params, signal)
        if self.equation.memory == "adiabatic":
            check_elimination(self.equation, signal, eqx.filter(params, is_parameter))
        if self.fluctuations or self._of_epochs() or (self.order > 1 and self.route == "derivatives"):
            check_derivatives(signal, params, f"the series of order {self.order}")
        if not self._of_epochs():
            return
        if signal.random:
            raise ValueError(
                "Argument `sampling` must not be 'shuffled' for the modified equation of a loss with `random` True, whose "
                "keys are not shuffled."
            )
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


class ModifiedLimit(TruncatedLimit):
    """Rules for the batch size are those of the algorithm."""

    def at_batch_size(self, rule, batch_size):
        """The series of the algorithm at another batch size, under the same options."""
        series = self.equation
        return modified(
            series.increment.algorithm.scaling_limit().at_batch_size(rule, batch_size),
            series.order,
            fluctuations=series.fluctuations,
            route=series.route,
            memory=series.equation.memory,
        )
