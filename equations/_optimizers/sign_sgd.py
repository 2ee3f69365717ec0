"""SignSGD."""

import jax
import jax.numpy as jnp
import lineax as lx
import optax

from .._noise.loss import check_loss_noise
from .sign import AbstractSignEquation


class SignSGD(AbstractSignEquation):
    r"""SignSGD, theta' = theta - eta sign(g_B).

        dX = -e(X) dt + sqrt(eta) Cov[sign(\bar g + delta)]^{1/2} dW,    e = E sign(\bar g + delta),    t = eta * step

    For Gaussian noise e = erf(\bar g/(sigma sqrt(2))), sigma^2 = diag(C)/B, for Student-t noise 2 F(\bar g/scale) - 1;
    where coordinates are independent the covariance is diag(1 - e^2) (Compagnoni et al. 2025, ICLR, "Adaptive methods
    through the lens of SDEs", recalled). Mean and covariance of one step are those of the algorithm, exactly, under the
    same noise; real batches are not Gaussian, so compare with `train(noise="gaussian")`. Where nothing is random the
    equation is dX = -sign(\bar g) dt, which stops in no minimum.

    Minibatch variances cost about a gradient where layers are dense, and more for other weights, whose gradients are
    squared example by example; `Isotropic` and `StudentT` cost nothing.

    Scaling: eta -> 0 at fixed noise. Natural clock: t. Weak order 1.

    **Arguments:** `learning_rate`, `batch_size`, `sampling`, `noise_model` as in `AbstractEquation`.
    """

    def velocity(self, t, state, gradient):
        return jax.tree.map(lambda g: -jnp.sign(g), gradient)

    def drift(self, t, state, signal):
        return jax.tree.map(jnp.negative, self.mean_sign(state, signal, signal.gradient(state)))

    def diffusion(self, t, state, signal):
        check_loss_noise(self, signal)
        if not self.random:
            return None
        structure, noise = self.sign_root(state, signal, signal.gradient(state))
        scale = jnp.sqrt(self.learning_rate)
        return lx.FunctionLinearOperator(
            lambda normals: jax.tree.map(lambda s: (-scale * s).astype(s.dtype), noise(normals)[0]), structure
        )

    def twin(self):
        return optax.sign_sgd(self.learning_rate)
