"""Lion."""

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import optax
from jaxtyping import Array, PyTree

from .._checks.arguments import decay, nonnegative
from .._noise.loss import check_loss_noise
from .._scaling import ScalingLimit
from .sign import AbstractSignEquation, SignSplitting


class LionState(eqx.Module):
    """Parameters and first moment (Optax's name), alike in structure."""

    params: PyTree
    mu: PyTree


class Lion(AbstractSignEquation):
    r"""Lion (Chen et al. 2023, NeurIPS), theta' = theta - eta [sign(b1 mu + (1 - b1) g_B) + lambda theta], with the *old*
    average; mu' = b2 mu + (1 - b2) g_B.

        dX = -(E sign(b1 mu + (1 - b1)(\bar g + delta)) + lambda X) dt + its noise
        d mu = (1 - b2)/eta [(\bar g - mu) dt + sqrt(eta) delta dW],    t = eta * step

    The mean sign is that of SignSGD at \bar g + b1/(1 - b1) mu: erf for Gaussian noise, for Student-t noise its
    distribution function; both noises come from the same delta (derived). Weight decay is Optax's, beside the sign. Compare
    with `train` under the same noise, `noise="gaussian"`.

    Scaling: 1 - b2 ~ eta; b1, which remembers nothing, stays. Natural clock: t. Weak order 1 once
    (b1/(1 - b1))^2 (1 - b2) is small: the noise of mu against that of the gradient within the sign. At the defaults it is
    .8, and the slopes from eta = .1 to .025 are .98 for mean and variance over eta (measured, test_sign.py).

    **Arguments:** `learning_rate`, `batch_size`, `sampling`, `noise_model` as in `AbstractEquation`, then Optax's `b1=0.9`,
    `b2=0.99`, `weight_decay=1e-3`.
    """

    b1: Array = eqx.field(default=0.9, converter=decay("b1"))
    b2: Array = eqx.field(default=0.99, converter=decay("b2"))
    weight_decay: Array = eqx.field(default=1e-3, converter=nonnegative("weight_decay"))

    def init(self, params):
        return LionState(params, jax.tree.map(jnp.zeros_like, params))

    def params(self, state):
        return state.params

    def _rates(self, state, gradient, sign):
        rate = (1 - self.b2) / self.learning_rate
        return LionState(
            jax.tree.map(lambda p, s: -(s + self.weight_decay * p), state.params, sign),
            jax.tree.map(lambda mu, g: rate * (g - mu), state.mu, gradient),
        )

    def _inside(self, state, gradient):
        return jax.tree.map(lambda mu, g: g + self.b1 / (1 - self.b1) * mu, state.mu, gradient)

    def velocity(self, t, state, gradient):
        inside = jax.tree.map(lambda mu, g: self.b1 * mu + (1 - self.b1) * g, state.mu, gradient)
        return self._rates(state, gradient, jax.tree.map(jnp.sign, inside))

    def drift(self, t, state, signal):
        gradient = signal.gradient(state.params)
        return self._rates(
            state, gradient, self.mean_sign(state.params, signal, self._inside(state, gradient))
        )  # fmt: skip

    def diffusion(self, t, state, signal):
        check_loss_noise(self, signal)
        if not self.random:
            return None
        inside = self._inside(state, signal.gradient(state.params))
        structure, noise = self.sign_root(state.params, signal, inside)
        scale = jnp.sqrt(self.learning_rate)

        def mv(normals):
            sign, delta = noise(normals)
            rate = (1 - self.b2) / self.learning_rate
            return LionState(
                jax.tree.map(lambda s: (-scale * s).astype(s.dtype), sign),
                jax.tree.map(lambda d: (scale * rate * d).astype(d.dtype), delta),
            )

        return lx.FunctionLinearOperator(mv, structure)

    def twin(self):
        return optax.lion(self.learning_rate, b1=self.b1, b2=self.b2, weight_decay=self.weight_decay)

    def splitting(self):
        return LionSplitting(self, smooth=False)

    def scaling_limit(self):
        return ScalingLimit(self, decays={"b2": 1}, memory=("b2",))


class LionSplitting(SignSplitting):
    """The sign of one average, and another one that is linear in the gradient."""

    def check_noise(self, signal):
        super().check_noise(signal)
        self.dynamics.gradient_noise.check_covariance()
