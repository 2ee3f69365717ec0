"""The truncated series in a leading drift and diffusion, and what of them a solver takes."""

from typing import Any

import equinox as eqx
import jax
import lineax as lx
from jaxtyping import Array, ArrayLike, PyTree

from .._base import AbstractDynamics
from .._checks.derivatives import check_derivatives
from .._checks.lineage import as_of
from .._counts import around
from .._scaling import ForwardedLimit
from .._series import Series
from .._splitting import ForwardedSplitting
from .._tree import add_scaled
from .series import by_derivatives, by_map


def left_out(order: int) -> str:
    """The remainder of a series in words."""
    return f"O(h^{order}), h = natural time of a step"


class AbstractTruncated(AbstractDynamics):
    """A truncated series in the drift of `equation`, its leading order, and in its diffusion."""

    interpretation = "ito"

    equation: AbstractDynamics = eqx.field(kw_only=True)
    order: int = eqx.field(kw_only=True, static=True)
    fluctuations: bool = eqx.field(kw_only=True, static=True)
    route: str = eqx.field(kw_only=True, static=True)

    def truncated(self, t: Array, state: PyTree, signal: Any) -> PyTree:
        """The series in the leading drift."""
        series = by_map if self.route == "map" else by_derivatives
        return series(lambda y: self.equation.drift(t, y, signal), state, self.equation.learning_rate, self.order)

    def diffusion(self, t, state, signal):
        """A root of the diffusion; with `fluctuations` (1 - (eta/2) b') sigma(y - (eta/2) b)."""
        if not self.fluctuations:
            return self.equation.diffusion(t, state, signal)
        shifted, respond = self.responding(t, state, signal)
        root = self.equation.diffusion(t, shifted, signal)
        if root is None:
            return None
        return lx.FunctionLinearOperator(lambda normals: respond(root.mv(normals)), root.in_structure())

    def responding(self, t, state, signal) -> tuple[Any, Any]:
        """y - (eta/2) b, and the map v -> v - (eta/2) b'v."""
        value, derivative = jax.linearize(lambda y: self.equation.drift(t, y, signal), state)
        half = self.equation.learning_rate / 2
        return add_scaled(state, (-half, value)), lambda v: add_scaled(v, (-half, derivative(v)))

    def splitting(self):
        return TruncatedSplitting.of(self)


class TruncatedSplitting(ForwardedSplitting):
    """The kick of the leading order, with its response where fluctuations are corrected; the flow has the series."""

    def flow(self, t, state, signal):
        drift = as_of(type(self.dynamics), "drift", "splitting")(self.dynamics, t, state, signal)
        mean = self._mean_of_kick(t, state, signal)
        return drift if mean is None else add_scaled(drift, (-1.0, mean))

    def kick(self, t, state, signal, noise, dt):
        if not self.dynamics.fluctuations:
            return self.inner.kick(t, state, signal, noise, dt)
        shifted, respond = self.dynamics.responding(t, state, signal)
        kick = self.inner.kick(t, shifted, signal, noise, dt)
        mean = self._mean_of_kick(t, shifted, signal)
        if mean is None:
            return respond(kick)
        kick = add_scaled(kick, (-dt, mean))
        return add_scaled(respond(kick), (dt, self._mean_of_kick(t, state, signal)))

    def _mean_of_kick(self, t, state, signal):
        """drift - flow of the leading equation, or None where it vanishes."""
        if not self.inner.kicks_have_a_mean(state):
            return None
        leading = self.dynamics.equation
        return add_scaled(leading.drift(t, state, signal), (-1.0, self.inner.flow(t, state, signal)))


class TruncatedLimit(ForwardedLimit):
    """That of the leading equation, at a higher order."""

    def claimed_order(self, measure):
        if measure != "variance/eta":
            return float(self.equation.order)
        return 2.0 if self.equation.fluctuations else super().claimed_order(measure)


class ModifiedDynamics(AbstractTruncated):
    """What `modified` returns for a dynamics without a twin, whose Euler step is the discrete algorithm."""

    @property
    def learning_rate(self) -> Array:
        return self.equation.learning_rate

    def init(self, params):
        return self.equation.init(params)

    def params(self, state):
        return self.equation.params(state)

    def drift(self, t, state, signal):
        return self.truncated(t, state, signal)

    def twin(self):
        """None: raises a TypeError, for the Euler step is the algorithm."""
        raise TypeError(
            "Argument `equation` must have a discrete twin, but a modified "
            f"{type(self.equation).__name__} was given, which has none."
        )

    def scaling_limit(self):
        return TruncatedLimit(self)

    def around_moved(self, equation: AbstractDynamics, clock: ArrayLike) -> "ModifiedDynamics":
        """Around `equation`, the one inside with other hyperparameters."""
        return eqx.tree_at(lambda e: e.equation, self, equation)

    def series(self):
        return Series(self.order, self.fluctuations, remainder=lambda params: left_out(self.order))

    def sees(self, signal):
        return self.equation.sees(signal)

    def held(self, low, high=None):
        return around(self, "equation", self.equation.held(low, high))

    def check(self, params, signal):
        self.equation.check(params, signal)
        if self.fluctuations or (self.order > 1 and self.route == "derivatives"):
            check_derivatives(signal, params, f"the series of order {self.order}")
