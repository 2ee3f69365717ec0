"""Label noise where the derivative of the gradient in the labels is not how the gradient moves with them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics import solve, train
from equations import SGD, Isotropic, LabelNoise, Objective

CASES = [
    ("a derivative of one's own", "instance", "stop_gradient at the label", "test_refused[stopped]"),
    ("a derivative of one's own", "instance", "a rounded label", "test_refused[rounded]"),
    ("a derivative of one's own", "brother", "a custom derivative in the label", "test_refused[custom]"),
    ("a derivative of one's own", "brother", "a sign of the label, with other noise on top", "test_refused[on top]"),
    ("a derivative of one's own", "brother", "right ones pass: squares, logistic, a kink", "test_passes"),
]

X = jnp.linspace(-1.0, 1.0, 8)
stop = jax.lax.stop_gradient


@jax.custom_jvp
def twice(y):
    return 2 * y


twice.defjvp(lambda primals, tangents: (2 * primals[0], tangents[0]))
LOSSES = {
    "stopped": lambda w, e: (w * e[0] - stop(e[1])) ** 2,
    "rounded": lambda w, e: (w * e[0] - jnp.round(e[1])) ** 2,
    "custom": lambda w, e: (w * e[0] - twice(e[1])) ** 2,
    "on top": lambda w, e: jnp.log1p(jnp.exp(-w * e[0] * jnp.sign(e[1]))),
}
PASSES = [
    lambda w, e: (w * e[0] - e[1]) ** 2,
    lambda w, e: jnp.log1p(jnp.exp(-w * e[0] * e[1])),
    lambda w, e: jax.nn.relu(w * e[0] - e[1]) ** 2,
    lambda w, e: (w * e[0] - e[1]) ** 2 + stop(w) * w,
]


@pytest.mark.parametrize("name", LOSSES)
def test_refused(name):
    noise = LabelNoise(0.7, on=Isotropic(0.1)) if name == "on top" else LabelNoise(0.7)
    for run in (solve, train):
        with pytest.raises(ValueError, match="Argument `noise_model`: LabelNoise goes by the derivative"):
            run(
                SGD(0.1, 2, noise_model=noise), Objective(LOSSES[name], (X, 2 * X)), 1.0, steps=2, key=jax.random.key(0)
            )


def test_passes():
    for loss in PASSES:
        run = train(
            SGD(0.1, 2, noise_model=LabelNoise(0.5)), Objective(loss, (X, 2 * X)), 1.0, steps=2, key=jax.random.key(0)
        )
        assert np.all(run.ok)
