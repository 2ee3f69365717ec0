"""Models of gradient noise beside the exact one: approximations of it, and noise that the algorithm is given."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from .._checks.arguments import nonnegative, positive
from .._checks.once import is_traced
from .._signals.base import is_parameter, parameter_dtype
from .._tree import add_scaled
from .base import AbstractGradientNoise, AbstractOfBatches, Minibatch, like_parameters
from .injected import AbstractInjected, on_top
from .labels import check_label_derivative, check_labels


class Diagonal(AbstractOfBatches):
    r"""Minibatch noise without its correlations: delta_j = sqrt(C_jj/B) z_j, z ~ N(0, I).

    What many analyses of adaptive methods assume. The variances cost about a gradient where layers are dense.
    """

    def structure(self, batches, params):
        return {"coordinates": like_parameters(params)}

    def delta(self, batches, params, normals):
        variance = self.variance(batches, params)
        return jax.tree.map(lambda v, z: jnp.sqrt(v) * z, variance, normals["coordinates"])

    def variance(self, batches, params):
        return Minibatch(_size=self._size).variance(batches, params)


class Isotropic(AbstractInjected):
    """`scale` times independent standard normals added to every coordinate of the gradient.

    **Arguments:**

    - `scale`: zero or more, in units of the gradient. Traced.
    - `on`: the noise on top of which it comes; by default that of minibatches, if there are any.
    """

    scale: Array = eqx.field(converter=nonnegative("scale"))
    on: AbstractGradientNoise = on_top()

    @classmethod
    def traced(cls, scale: Array, on: AbstractGradientNoise) -> "Isotropic":
        """With a scale that an equation has computed, which is not checked again in every step."""
        return eqx.tree_at(lambda noise: noise.scale, cls(scale=0.0, on=on), scale)

    def own_structure(self, batches, params):
        return like_parameters(params)

    def own(self, batches, params, normals):
        return jax.tree.map(lambda z: (self.scale * z).astype(z.dtype), normals)

    def real(self, batch, params, normals):
        return add_scaled(self.below(batch, params, normals), (self.scale, normals["own"]))

    def variance(self, batches, params):
        square = jax.tree.map(
            lambda leaf: jnp.full(leaf.shape, self.scale**2, leaf.dtype), like_parameters(params)
        )  # fmt: skip
        if not self.on.random(batches.noisy):
            return square
        return add_scaled(square, (1.0, self.on.variance(batches, params)))


class StudentT(AbstractInjected):
    r"""`scale` times independent Student-t numbers of `df` degrees of freedom added to every coordinate of the gradient.

    An equation whose velocity is affine in the gradient knows no more of it than the covariance,
    scale^2 df/(df - 2) (df > 2; its Brownian motion is Gaussian). A rule that is not, such as SignSGD, is kicked with the
    very numbers, and the algorithm is given them (Compagnoni et al. 2025, ICLR, recalled).

    **Arguments:**

    - `df`: above 0, real. - `scale`: zero or more, in units of the gradient. Both traced.
    - `on`: the noise on top of which it comes; by default that of minibatches, if there are any.
    """

    df: Array = eqx.field(converter=positive("df"))
    scale: Array = eqx.field(converter=nonnegative("scale"))
    on: AbstractGradientNoise = on_top()

    def own_structure(self, batches, params):
        like = like_parameters(params)
        return {"numerator": like, "denominator": like}

    def own(self, batches, params, normals):
        sigma = self.scale * jnp.sqrt(self.df / (self.df - 2))  # NaN where there is no variance
        return jax.tree.map(lambda z: (sigma * z).astype(z.dtype), normals["numerator"])

    def numbers(self, normals: PyTree) -> PyTree:
        """Student-t numbers from two standard normals x, y each: x sqrt(df (exp(r^2/df) - 1)) / r, r^2 = x^2 + y^2.

        Bailey's polar method (1994, Mathematics of Computation 62, 779), with exp(-r^2/2) as its uniform number.
        """

        def leaf(x, y):
            square = (x**2 + y**2) / self.df.astype(x.dtype)
            return x * jnp.sqrt(jnp.where(square > 0, jnp.expm1(square) / jnp.where(square > 0, square, 1.0), 1.0))

        return jax.tree.map(leaf, normals["numerator"], normals["denominator"])

    def draw(self, batches, params, normals):
        gradient = self._base(batches, params, normals, self.on.draw)
        return add_scaled(gradient, (self.scale, self.numbers(normals["own"])))

    def real(self, batch, params, normals):
        return add_scaled(self.below(batch, params, normals), (self.scale, self.numbers(normals["own"])))

    @property
    def normal(self):
        return False

    def check_covariance(self):
        super().check_covariance()
        if not is_traced(self.df) and not float(self.df) > 2:
            raise ValueError(
                "Argument `df` must exceed 2, for the noise to have a covariance, unless the rule takes only the sign of "
                f"the gradient, but {float(self.df):g} was given."
            )

    def check_sign(self, noisy_batches):
        if self.on.random(noisy_batches):
            super().check_sign(noisy_batches)

    def expected_sign(self, batches, params, gradient):
        """2 F(x) - 1 = sign(x) I_{x^2/(df + x^2)}(1/2, df/2), x = gradient/scale, F the Student-t distribution function.

        The sign itself at scale 0.
        """
        self.check_sign(batches.noisy)

        def leaf(g):
            scale, df = (jnp.broadcast_to(number.astype(g.dtype), g.shape) for number in (self.scale, self.df))
            larger = jnp.maximum(jnp.abs(g), scale)  # the ratio is that of both in units of the larger one
            unit = jnp.where(larger > 0, larger, 1.0)
            square = (g / unit) ** 2
            ratio = square / jnp.where(larger > 0, df * (scale / unit) ** 2 + square, 1.0)
            return jnp.sign(g) * jax.scipy.special.betainc(jnp.full_like(g, 0.5), df / 2, ratio)

        return jax.tree.map(leaf, gradient)


def _second(data):
    return data[1]


def _callable(value):
    if not callable(value):
        raise TypeError(f"Argument `labels` must be callable as labels(data), but {value!r} was given.")
    return value


class LabelNoise(AbstractInjected):
    r"""Labels y + scale * zeta, zeta ~ N(0, 1) afresh in every training step, in the examples of the batch.

    With h_i = d g_i/dy, of covariance (scale^2/B) mean_i h_i h_i^T whatever the sampling, B = N for the full batch
    (Blanc et al. 2020, COLT; HaoChen et al. 2021, COLT). Exact where the gradient is affine in the label, as for squared
    error; else of leading order in `scale`.

    **Arguments:**

    - `scale`: zero or more, in units of the label. Traced.
    - `labels`: where they are in the data, by default `data[1]`; an array of floating-point numbers.
    - `on`: the noise on top of which it comes; by default that of minibatches, if there are any.
    """

    scale: Array = eqx.field(converter=nonnegative("scale"))
    labels: Callable = eqx.field(default=_second, static=True, converter=_callable)
    on: AbstractGradientNoise = on_top()

    def own_structure(self, batches, params):
        label = self.labels(batches.signal.data)  # of a random loss one for each of its fixed keys
        return jax.ShapeDtypeStruct(
            (label.shape[0] * batches.signal.samples, *label.shape[1:]), parameter_dtype(params)
        )

    def own(self, batches, params, normals):
        """The derivative of the full gradient along the labels."""
        signal = batches.signal.drawn()
        labels = self.labels(signal.data)
        direction = (self.scale * normals / (batches.count / signal.size) ** 0.5).astype(labels.dtype)
        active, static = eqx.partition(params, is_parameter)

        def value(active, labels):
            model = eqx.combine(active, static)
            examples = signal.with_data(eqx.tree_at(self.labels, signal.data, labels)).examples
            return jnp.mean(jax.vmap(lambda example: signal.surrogate(model, params, example))(examples))

        def change_with_labels(active):
            return jax.jvp(lambda y: value(active, y), (labels,), (direction,))[1]

        return jax.grad(change_with_labels)(active)

    def injected(self, batch, params):
        label = jax.ShapeDtypeStruct(self.labels(batch.data).shape, parameter_dtype(params))
        return super().injected(batch, params) | {"own": label}

    def real(self, batch, params, normals):
        labels = self.labels(batch.data)
        noisy = labels + (self.scale * normals["own"]).astype(labels.dtype)
        return self.below(batch.with_data(eqx.tree_at(self.labels, batch.data, noisy)), params, normals)

    def of_size(self, size):
        return AbstractGradientNoise.of_size(self, size)

    def check_derivatives(self, signal, params):
        super().check_derivatives(signal, params)
        check_label_derivative(signal, params, self.labels, self.scale)

    def check(self, signal):
        super().check(signal)
        check_labels(signal, self.labels)
