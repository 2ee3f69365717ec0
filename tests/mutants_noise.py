"""Mutants of the noise models: name -> (the model it stands for, the check that rejects it, the mutant).

Those of the exact minibatch noise are in test_noise and in the folder mutants/.
"""

import jax
import jax.numpy as jnp

from equations import Diagonal, Isotropic, LabelNoise, Minibatch, StudentT
from equations._noise.base import like_parameters

SCALE, DF = 0.3, 5.0


class OneNumber(Diagonal):
    """The same normal for all coordinates: the variances are right."""

    def structure(self, batches, params):
        return jax.ShapeDtypeStruct((), jax.tree.leaves(like_parameters(params))[0].dtype)

    def delta(self, batches, params, normals):
        return jax.tree.map(lambda v: jnp.sqrt(v) * normals, Minibatch().variance(batches, params))


class Uncentered(Diagonal):
    """The second moment of the per-example gradients in place of their variance."""

    def delta(self, batches, params, normals):
        def add(total, index):
            one = batches.signal.take(index[None]).gradient(params)
            return jax.tree.map(lambda t, g: t + g**2 / batches.signal.size, total, one), None

        zero = jax.tree.map(jnp.zeros_like, params)
        square = jax.lax.scan(add, zero, jnp.arange(batches.signal.size))[0]
        scale = batches.factor**0.5
        return jax.tree.map(lambda s, z: scale * jnp.sqrt(s) * z, square, normals["coordinates"])


class ScaleIsVariance(Isotropic):
    """`scale` taken for the variance."""

    def own(self, batches, params, normals):
        return jax.tree.map(lambda z: jnp.sqrt(self.scale) * z, normals)


class InPlaceOfBatches(Isotropic):
    """The noise of the minibatches forgotten beneath it."""

    def delta(self, batches, params, normals):
        return self.own(batches, params, normals["own"])


class NotIntoRealBatches(Isotropic):
    """Nothing is added to the gradients of real batches."""

    def real(self, batch, params, normals):
        return self.below(batch, params, normals)


class WholeDataSet(LabelNoise):
    """Divided by N where a batch has B labels."""

    def own(self, batches, params, normals):
        return jax.tree.map(
            lambda g: g * (batches.count / batches.signal.size) ** 0.5, super().own(batches, params, normals)
        )


class OneLabel(LabelNoise):
    """The same deviation for all labels of a step."""

    def own(self, batches, params, normals):
        return super().own(batches, params, jnp.full_like(normals, normals[0]))


class CleanBatches(LabelNoise):
    """The labels of real batches are as they were."""

    def real(self, batch, params, normals):
        return self.below(batch, params, normals)


class VarianceOfNormals(StudentT):
    """df/(df - 2) lost."""

    def own(self, batches, params, normals):
        return jax.tree.map(lambda z: self.scale * z, normals["numerator"])


class NormalNumbers(StudentT):
    """Normal numbers of the same variance."""

    def numbers(self, normals):
        return jax.tree.map(lambda z: jnp.sqrt(self.df / (self.df - 2)) * z, normals["numerator"])


class UniformNotHalved(StudentT):
    """exp(-r^2) in place of exp(-r^2/2) as the uniform number of the polar method."""

    def numbers(self, normals):
        return super().numbers(jax.tree.map(lambda z: 2**0.5 * z, normals))


class NormalDistribution(StudentT):
    """The normal distribution function in place of Student's."""

    def expected_sign(self, batches, params, gradient):
        return Isotropic(self.scale).expected_sign(batches, params, gradient)


MUTANTS = {
    "OneNumber": ("diagonal", "covariance", OneNumber()),
    "Uncentered": ("diagonal", "covariance", Uncentered()),
    "ScaleIsVariance": ("isotropic", "covariance", ScaleIsVariance(SCALE)),
    "InPlaceOfBatches": ("isotropic", "covariance", InPlaceOfBatches(SCALE)),
    "NotIntoRealBatches": ("isotropic", "real batches", NotIntoRealBatches(SCALE)),
    "WholeDataSet": ("label", "covariance", WholeDataSet(SCALE)),
    "OneLabel": ("label", "covariance", OneLabel(SCALE)),
    "CleanBatches": ("label", "real batches", CleanBatches(SCALE)),
    "VarianceOfNormals": ("student", "covariance", VarianceOfNormals(DF, SCALE)),
    "NormalNumbers": ("student", "numbers", NormalNumbers(DF, 1.0)),
    "UniformNotHalved": ("student", "numbers", UniformNotHalved(DF, 1.0)),
    "NormalDistribution": ("student", "expected sign", NormalDistribution(3.0, SCALE)),
}
