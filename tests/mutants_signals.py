"""Mutants of the penalties and reparametrizations: name -> (what it stands for, the mutant), rejected in test_signals."""

import equinox as eqx
import jax
import jax.numpy as jnp
from typing_extensions import override

from equations import Spred, syre
from equations._signals.base import is_parameter
from equations._signals.regularized import Regularized
from equations._signals.syre import Distance


class KappaHalved(Spred):
    """(kappa/2) (|u|^2 + |w|^2)."""

    @override
    def _decay(self, factors):
        return super()._decay(factors) / 2


class SquareLost(Spred):
    """kappa (|u| + |w|)."""

    @override
    def _decay(self, factors):
        return self.kappa * sum(jnp.sum(jnp.abs(leaf)) for leaf in jax.tree.leaves(factors) if is_parameter(leaf))


class DecayOfTheProduct(Spred):
    """kappa |u w|^2: a ridge, no L1 norm."""

    @override
    def _decay(self, factors):
        return self.kappa * sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(factors.product()))


class DecayUnseen(Spred):
    """The decay in the value and not in the gradient."""

    def surrogate(self, active, frozen, example):
        return self.signal.surrogate(active.product(), frozen.product(), example)


class PenaltyDoubled(Regularized):
    """Twice the gradient of the penalty."""

    def surrogate(self, active, frozen, example):
        return super().surrogate(active, frozen, example) + self.penalty(active)


class PenaltyFrozen(Regularized):
    """A penalty without a gradient."""

    def surrogate(self, active, frozen, example):
        return self.signal.surrogate(active, frozen, example) + self.penalty(frozen)


class ValueWithout(Regularized):
    """The value is that of the signal alone."""

    def value(self, params):
        return self.signal.value(params)


class PenaltyPerBatch(Regularized):
    """A penalty in the sum over the examples, divided by their number once more."""

    def surrogate(self, active, frozen, example):
        return self.signal.surrogate(active, frozen, example) + self.penalty(active) / self.signal.size


def _parts(params, key):
    """The leaves that `syre` takes, and its keys of the center and of the weights."""
    leaves, treedef = jax.tree.flatten(eqx.filter(params, is_parameter))
    return leaves, treedef, jax.random.split(key, (2, len(leaves)))


def half_strength(params, key, strength, spread, diagonal=False):
    """(strength/2) |theta - theta_0|^2."""
    return syre(params, key, strength / 2, spread, diagonal)


def spread_squared(params, key, strength, spread, diagonal=False):
    """theta_0 ~ N(0, spread^4)."""
    return syre(params, key, strength, spread**2, diagonal)


def weights_by_the_keys_of_the_center(params, key, strength, spread, diagonal=False):
    """Weights that are a function of the center."""
    right = syre(params, key, strength, spread, diagonal)
    if not diagonal:
        return right
    leaves, treedef, keys = _parts(params, key)
    weight = [jax.random.uniform(k, p.shape, p.dtype, 0.5, 1.5) for k, p in zip(keys[0], leaves, strict=True)]
    return Distance(right.center, jax.tree.unflatten(treedef, weight), right.strength)


def one_key_for_all_leaves(params, key, strength, spread, diagonal=False):
    """The same center in leaves of the same shape."""
    right = syre(params, key, strength, spread, diagonal)
    leaves, treedef, keys = _parts(params, key)
    center = [spread * jax.random.normal(keys[0][0], p.shape, p.dtype) for p in leaves]
    return Distance(jax.tree.unflatten(treedef, center), right.weight, right.strength)


def wide_weights(params, key, strength, spread, diagonal=False):
    """Weights uniform on [0, 2]."""
    right = syre(params, key, strength, spread, diagonal)
    weight = jax.tree.map(lambda w: 2 * w - 1, right.weight)
    return Distance(right.center, weight, right.strength)


class NoSquare(Distance):
    """strength * sum_j weight_j |theta_j - center_j|."""

    def __call__(self, params):
        parts = jax.tree.map(lambda p, c, w: jnp.sum(w * jnp.abs(p - c)), params, self.center, self.weight)
        return self.strength * sum(jax.tree.leaves(parts))


def square_lost(params, key, strength, spread, diagonal=False):
    """A distance and not its square."""
    right = syre(params, key, strength, spread, diagonal)
    return NoSquare(right.center, right.weight, right.strength)


MUTANTS = {
    **{kind.__name__: ("spred", kind) for kind in (KappaHalved, SquareLost, DecayOfTheProduct, DecayUnseen)},
    **{kind.__name__: ("regularized", kind) for kind in (PenaltyDoubled, PenaltyFrozen, PenaltyPerBatch, ValueWithout)},
    **{
        function.__name__: ("syre", function)
        for function in (half_strength, spread_squared, weights_by_the_keys_of_the_center, one_key_for_all_leaves,
                         wide_weights, square_lost)
    },
}  # fmt: skip
