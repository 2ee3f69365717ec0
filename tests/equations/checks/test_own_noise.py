"""A user's own model of noise: all it is made of acts, or it is refused; what it draws has the shape of the parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics import solve, train
from equations import SGD, AbstractGradientNoise, Isotropic, Minibatch, Objective, StudentT, decayed

CASES = [
    ("an override that is ignored", "instance", "delta of Minibatch", "test_ignored[delta]"),
    ("an override that is ignored", "brother", "draw of Minibatch", "test_ignored[draw]"),
    ("an override that is ignored", "brother", "draw of Isotropic", "test_ignored[isotropic]"),
    ("an override that is ignored", "brother", "variance of StudentT, inside a wrapper", "test_ignored[inside]"),
    ("an override that is ignored", "brother", "one of all acts", "test_all_of_it_acts"),
    ("noise of a wrong shape", "instance", "delta of one number", "test_shapes[delta]"),
    ("noise of a wrong shape", "brother", "draw of a scalar", "test_shapes[draw]"),
    ("noise of a wrong shape", "brother", "delta of one number, on which other noise comes", "test_shapes[below]"),
]

W = jnp.zeros(3)
OBJECTIVE = Objective(lambda w, e: jnp.sum((w - e) ** 2) / 2, jax.random.normal(jax.random.key(0), (6, 3)))


class Delta(Minibatch):
    def delta(self, batches, params, normals):
        return 100 * super().delta(batches, params, normals)


class Draw(Minibatch):
    def draw(self, batches, params, normals):
        return jnp.zeros(3)


class Still(Isotropic):
    def draw(self, batches, params, normals):
        return 0 * params


class Wide(StudentT):
    def variance(self, batches, params):
        return 4 * super().variance(batches, params)


class Twice(AbstractGradientNoise):
    def structure(self, batches, params):
        return jax.ShapeDtypeStruct((3,), params.dtype)

    def delta(self, batches, params, normals):
        return 2 * normals

    def random(self, noisy_batches):
        return True


class Short(Twice):
    def delta(self, batches, params, normals):
        return jnp.sum(normals)[None]


class Scalar(Twice):
    def draw(self, batches, params, normals):
        return jnp.sum(normals)


def run(which, equation):
    options = {"noise": "gaussian"} if which is train else {}
    return which(equation, OBJECTIVE, W, steps=3, key=jax.random.key(1), **options)


@pytest.mark.parametrize("which", [solve, train], ids=["solve", "train"])
@pytest.mark.parametrize(
    "noise, words",
    [
        (Delta(), "Delta.delta was given, of which .*`gaussian`"),
        (Draw(), "Draw.draw was given, of which .*`delta`"),
        (Still(0.1), "Still.draw was given"),
        (Isotropic(0.1, on=Wide(5.0, 0.1)), "Wide.variance was given"),
    ],
    ids=["delta", "draw", "isotropic", "inside"],
)
def test_ignored(noise, words, which):
    with pytest.raises(TypeError, match=f"Argument `noise_model` must derive from .*, but {words}"):
        run(which, decayed(SGD(0.1, 2, noise_model=noise), 0.1))


def test_all_of_it_acts():
    """Gaussian steps of the algorithm, by the normals that it draws: covariance 4 (0.1)^2 a step on a flat loss."""
    flat = Objective(lambda w, e: 0 * jnp.sum(w * e), OBJECTIVE.data)
    options = dict(steps=4, key=jax.random.key(1), paths=2000, save_every=4, observe={"w": lambda w: w})
    for which, more in ((solve, {}), (train, {"noise": "gaussian"})):
        found = which(SGD(0.1, noise_model=Twice()), flat, W, **options, **more).observables["w"][:, -1]
        variance = np.var(np.asarray(found), axis=0)
        assert np.all(np.abs(variance / 0.16 - 1) < 4 * np.sqrt(2 / 2000))


@pytest.mark.parametrize("which", [solve, train], ids=["solve", "train"])
@pytest.mark.parametrize(
    "noise, words",
    [
        (Short(), "`delta` like the parameters, of shape .3,., but Short.delta gives an array of shape .1,."),
        (Scalar(), "`draw` like the parameters, of shape .3,., but Scalar.draw gives an array of shape .."),
        (Isotropic(0.1, on=Short()), "`delta` like the parameters, of shape .3,., but Short.delta"),
    ],
    ids=["delta", "draw", "below"],
)
def test_shapes(noise, words, which):
    with pytest.raises(ValueError, match=f"Argument `noise_model` must have a {words}"):
        run(which, SGD(0.1, 2, noise_model=noise))
