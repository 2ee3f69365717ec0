"""Sharpness-aware minimization."""

import equinox as eqx
import jax
import jax.numpy as jnp

from .._checks.arguments import choice, flag, integer, nonnegative
from .._scaling import ScalingLimit
from .._tree import add_scaled
from .ahead import AbstractAhead


class SAM(AbstractAhead):
    r"""Sharpness-aware minimization, theta' = theta - eta g_B(theta + rho g_B/|g_B|), both gradients of one batch.

        dX = -E[g_B(X + rho g_B(X)/|g_B(X)|)] dt + sqrt(eta) Cov[g_B(X + rho g_B(X)/|g_B(X)|)]^{1/2} dW,    t = eta * step

    (Foret et al. 2021, ICLR); with `normalized=False` the ascent is rho g_B. In mean and covariance the batch is one of
    Gaussian weights over the examples, the same at both places (without the norm). On the full batch the drift is
    -\bar g(X + rho \bar g/|\bar g|). With minibatches and without the norm it is -grad[L + (rho/2) E|g_B|^2] to first order
    in rho, E|g_B|^2 = |\bar g|^2 + tr C/B (Compagnoni et al. 2023, ICML; derived); what `drift` leaves out is O(rho^3).

    With minibatches and the norm there is no closed form. The default solver needs none: its kicks draw real batches, of
    the algorithm's mean and covariance. `drift` is a mean over `draws` fixed batches, of which `sampled_drift` tells the
    standard error; there is no `diffusion`. Compare with real batches, not with `noise="gaussian"`: under Gaussian weights
    the mean differs at first order in rho (at B = 2 by half of what the ascent adds to it, measured).

    Scaling: `"square_root"` (the default), rho ~ sqrt(eta); `"linear"`, rho ~ eta. Natural clock: t. Weak order 1; without
    the norm at rho ~ sqrt(eta) in the covariance under Gaussian weights only, and for real batches 1/2: their third
    cumulants are in it at first order in rho.

    A step is two gradients. In the default solver minibatches cost twice what they do for SGD.

    **Arguments:** `learning_rate`, `batch_size`, `sampling`, `noise_model` as in `AbstractEquation`, then `rho=0.05`, the
    length of the ascent, over that of the gradient where `normalized` (the default), `scaling` and `draws=64`.
    """

    rho: jax.Array = eqx.field(default=0.05, converter=nonnegative("rho"))
    normalized: bool = eqx.field(default=True, static=True, converter=flag("normalized"))
    scaling: str = eqx.field(
        default="square_root",
        static=True,
        kw_only=True,
        converter=lambda value: choice("scaling", value, ("square_root", "linear")),
    )
    draws: int = eqx.field(
        default=64, static=True, kw_only=True, converter=lambda value: integer("draws", value, minimum=2)
    )

    def ahead(self, params, gradient):
        if not self.normalized:
            return add_scaled(params, (self.rho, gradient))
        square = sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(gradient))
        still = square == 0  # nowhere is up
        length = jnp.sqrt(jnp.where(still, 1, square))
        return add_scaled(params, (jnp.where(still, 0, self.rho / length), gradient))

    @property
    def sampled(self):
        return self.normalized and self.random

    def scaling_limit(self):
        if self.scaling == "linear":
            return ScalingLimit(self, powers={"rho": 1})
        orders = {"variance/eta": 0.5} if self.random and not self.sampled else {}
        return ScalingLimit(self, powers={"rho": 0.5}, orders=orders)
