"""Extragradient, for games."""

import equinox as eqx
import jax

from .._checks.arguments import positive
from .._scaling import ScalingLimit
from .._tree import add_scaled
from .ahead import AbstractAhead


def _optional(value):
    return None if value is None else positive("extrapolation")(value)


class ExtraGradient(AbstractAhead):
    r"""Extragradient, z' = z - eta F_B(z - gamma F_B(z)), both signals of one batch.

        dZ = -E[F_B(Z - gamma F_B(Z))] dt + sqrt(eta) Cov[F_B(Z - gamma F_B(Z))]^{1/2} dW,    t = eta * step

    (Korpelevich 1976, Matecon 12; Compagnoni et al. 2024, AISTATS, for one batch), in mean and covariance that of Gaussian
    weights over the examples; to first order in gamma the mean is -E[F_B - gamma F_B' F_B], and what `drift` leaves out is
    O(gamma^3). F is the signal, which for a game is no gradient: players that descend losses of their own are a surrogate
    in which each is active in its own loss alone,

        class Game(AbstractSignal):    # x descends f, y ascends it
            def surrogate(self, active, frozen, example):
                return f(active["x"], frozen["y"], example) - f(frozen["x"], active["y"], example)

    Scaling: eta -> 0; gamma is eta unless it is given as `extrapolation`, which is ~ sqrt(eta). Natural clock: t.
    Weak order 1, at gamma ~ sqrt(eta) under the same noise (the covariance for real batches has 1/2, as that of `SAM`). At
    gamma = eta the extrapolation itself is of the order that this leaves out: on a bilinear game the equation contracts at
    twice the rate of the algorithm, and `modified(..., order=2)` at its rate.

    **Arguments:** `learning_rate`, `batch_size`, `sampling`, `noise_model` as in `AbstractEquation`, then
    `extrapolation=None`, gamma, by default the learning rate.
    """

    extrapolation: jax.Array | None = eqx.field(default=None, converter=_optional)

    def ahead(self, params, gradient):
        step = self.learning_rate if self.extrapolation is None else self.extrapolation
        return add_scaled(params, (-step, gradient))

    def scaling_limit(self):
        if self.extrapolation is None:
            return ScalingLimit(self, threshold=1.0)
        orders = {"variance/eta": 0.5} if self.random else {}  # third cumulants of real batches: see SAM
        return ScalingLimit(self, powers={"extrapolation": 0.5}, orders=orders)
