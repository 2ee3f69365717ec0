"""Spred: the L1 penalty by any optimizer, as weight decay of two factors."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from .._checks.arguments import leaf_name, nonnegative, positive
from .base import AbstractPenalized, check_signal, is_parameter


class Factors(eqx.Module):
    """Parameters as products u * w, leaf by leaf. `product()` is what they stand for."""

    u: PyTree
    w: PyTree

    @classmethod
    def of(cls, params: PyTree, imbalance=1.0) -> "Factors":
        """The factors of parameters with u^2 - w^2 = imbalance > 0 everywhere.

        Gradient flow keeps u^2 - w^2 but for the decay, e^{-4 kappa t}; equal factors could not change the sign of their
        product.

        **Raises:** TypeError or ValueError, naming the argument.
        """
        imbalance = positive("imbalance")(imbalance)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params):
            if eqx.is_array(leaf) and not is_parameter(leaf):
                name = leaf_name("params", path)
                raise TypeError(
                    f"Argument `params` must hold floating-point arrays, but {name} has dtype {leaf.dtype}."
                )

        def large(p):
            if not is_parameter(p):
                return p
            c = imbalance.astype(p.dtype)
            return jnp.sqrt((c + jnp.sqrt(c**2 + 4 * p**2)) / 2)

        u = jax.tree.map(large, params)
        return cls(u, jax.tree.map(lambda p, u: p / u if is_parameter(p) else p, params, u))

    def product(self) -> PyTree:
        """u * w."""
        return jax.tree.map(lambda u, w: u * w if is_parameter(u) else u, self.u, self.w)


def _check_factors(params):
    if not isinstance(params, Factors):
        raise TypeError(
            f"Argument `params` must be equations.Factors, such as Factors.of(params), but {params!r} was given."
        )


class Spred(AbstractPenalized):
    r"""A signal in the factors u, w of its parameters, with weight decay: L(u * w) + kappa (|u|^2 + |w|^2).

    Its minima are those of L(v) + 2 kappa |v|_1, one to one up to signs of the factors, since the decay is least, with
    |u| = |w|, at 2 kappa |u w|; it has no others (Ziyin and Wang 2023, ICML). Unlike |v| it is smooth, so that any
    optimizer takes it, and zeros are reached exponentially fast.

    **Arguments:**

    - `signal`: any signal, such as an `Objective`.
    - `kappa`: the decay, zero or more: half the factor of the L1 norm.

    The parameters are `Factors`, for example `Factors.of(params)`; `value` is the objective with its decay.

    **Raises:** TypeError or ValueError, naming the argument.
    """

    kappa: Array = eqx.field(converter=nonnegative("kappa"))

    def __check_init__(self):
        check_signal(self.signal)

    def _decay(self, factors):
        squares = [jnp.sum(leaf**2) for leaf in jax.tree.leaves(factors) if is_parameter(leaf)]
        return self.kappa.astype(squares[0].dtype) * sum(squares)

    def surrogate(self, active, frozen, example):
        value = self.signal.surrogate(active.product(), frozen.product(), example)
        return value + self._decay(active).astype(value.dtype)

    def value(self, factors: Factors) -> Array:
        """The mean loss at the product and the decay, where the signal is that of a loss."""
        _check_factors(factors)
        return self.signal.value(factors.product()) + self._decay(factors)

    def without_penalty(self, params):
        signal, inner, back = self.signal.without_penalty(params.product())

        def both(marks):
            marks = back(marks)
            return Factors(marks, marks)

        return signal, inner, both

    def check(self, params):
        _check_factors(params)
        super().check(params)
