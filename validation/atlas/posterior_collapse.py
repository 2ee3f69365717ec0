"""A linear variational autoencoder collapses mode by mode, where the data's singular value is below the noise.

Source: Wang and Ziyin, "Posterior collapse of a linear latent variable model" (arXiv:2205.04009), theorem 2; read.

z = W^T x + noise of variances s_i^2, decoder of variance 1/2 |y - Uz|^2/h^2, prior of variance e^2, KL weight beta. With
the singular values zeta_i of E[yx^T] E[xx^T]^{-1/2} the decoder has at the minimum

    lambda_i = (zeta_i^2 - beta h^2)_+^{1/2}/e,    s_i = sqrt(beta) h e/zeta_i  (e where lambda_i = 0),

or with fixed s_i = e: lambda_i^2 = sqrt(beta) h (zeta_i - sqrt(beta) h)_+/e^2. All collapses iff max zeta_i^2 <= beta h^2, for
either and for any e.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from dynamics import solve, train
from equations import SGD, Objective
from validation import judge_equality

from . import Findings

BETA, DECODER, PRIOR = 0.8, 1.0, 0.7  # beta, h, e
SQUARES = (4.0, 2.0, 1.0, 0.5, 0.1)  # eigenvalues of E[xx^T], so zeta_i^2 where y = x
LATENT = 4


def evidence(p, x, learned):
    """-ELBO of an example, times h^2 and without constants, in closed form over the noise: squared error and KL."""
    log_variance = p["log_variance"] if learned else jnp.full(LATENT, 2 * np.log(PRIOR))
    variance = jnp.exp(log_variance)
    z = x @ p["W"]
    error = jnp.sum((x - p["U"] @ z) ** 2) + jnp.sum(p["U"] ** 2 @ variance)
    kl = jnp.sum((z**2 + variance) / PRIOR**2 - log_variance)
    return error / (2 * DECODER**2) + BETA * kl / 2


def singular_values(p):
    return jnp.linalg.svd(p["U"], compute_uv=False)
