"""Adam."""

import optax

from .adaptive import AbstractAdam


class Adam(AbstractAdam):
    r"""Adam with bias correction, as Optax has it: eps outside the root, the *new* second moment in the denominator.

        d theta = -mu_hat / (sqrt(nu_hat + eps_root) + eps) dt
        d mu = (1 - b1)/eta [(\bar g - mu) dt + sqrt(eta) delta dW]
        d nu = (1 - b2)/eta [(\bar g^2 + diag(C)/B - nu) dt + sqrt(eta) (2 \bar g delta + delta^2 - diag(C)/B) dW]

    with mu_hat = mu/(1 - b1^(t/eta)), nu_hat likewise, t = eta * step, and the *same* delta ~ N(0, C/B) in both noises.
    Drift: Compagnoni et al. 2025, ICLR ("Adaptive methods through the lens of SDEs"), recalled; the noise of the second
    moment is ours (derived): without it the variance of the parameters is wrong at leading order.

    The bias corrections are 0/0 at t = 0, so the first training step is taken as the algorithm takes it (on Gaussian
    gradients) and the equation starts from there, at t = eta.

    Scalings: 1 - b1, 1 - b2 ~ eta in the clock t (`"ballistic"`, the default); ~ eta^2 with noise ~ 1/eta in the clock
    eta^2 * step (`"batch_equivalent"`, where this is the SDE of Malladi et al. 2022, NeurIPS); `"fixed"`. Weak order 1 in
    the clock. Order 2, with the new second moment: `modified`.

    **Arguments:** `learning_rate`, `batch_size`, `sampling` as in `AbstractEquation`, then Optax's `b1=0.9`, `b2=0.999`,
    `eps=1e-8`, `eps_root=0.0` (inside the root), and `scaling="ballistic"`.
    """

    def twin(self):
        return optax.adam(**self.optax())
