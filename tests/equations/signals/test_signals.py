"""What spred, syre and `regularized` add to value and gradient, by formulas written out; every mutant is rejected."""

import jax
import jax.numpy as jnp
import laws
import numpy as np
import pytest
from mutants_signals import MUTANTS

from equations import Factors, Spred, syre
from equations._signals.regularized import Regularized

KAPPA = 0.3


def spred_is_what_it_says(kind):
    """L(u w) + kappa (u^2 + w^2): dL/du = w g + 2 kappa u with g the gradient at the product."""
    factors = Factors(laws.PARAMS, jax.tree.map(lambda p: 0.5 - 2 * p, laws.PARAMS))
    signal, product = kind(laws.OBJECTIVE, KAPPA), factors.product()
    u, w, g = (np.asarray(laws.flat(tree)) for tree in (factors.u, factors.w, laws.OBJECTIVE.gradient(product)))
    found = signal.gradient(factors)
    laws.close("product", laws.flat(product), u * w, 1e-15)
    laws.close("value", signal.value(factors), laws.OBJECTIVE.value(product) + KAPPA * np.sum(u**2 + w**2), 1e-13)
    laws.close("gradient by u", laws.flat(found.u), w * g + 2 * KAPPA * u, 1e-13)
    laws.close("gradient by w", laws.flat(found.w), u * g + 2 * KAPPA * w, 1e-13)


def cubes(params):
    return sum(jnp.sum(leaf**3) for leaf in jax.tree.leaves(params))


def regularized_is_what_it_says(kind):
    """L + sum theta^3, with the gradient of either."""
    signal = kind(laws.OBJECTIVE, cubes)
    theta, g = (np.asarray(laws.flat(tree)) for tree in (laws.PARAMS, laws.OBJECTIVE.gradient(laws.PARAMS)))
    laws.close("value", signal.value(laws.PARAMS), laws.OBJECTIVE.value(laws.PARAMS) + np.sum(theta**3), 1e-13)
    laws.close("gradient", laws.flat(signal.gradient(laws.PARAMS)), g + 3 * theta**2, 1e-13)


def syre_is_what_it_says(kind):
    """2 strength weight (theta - center), center and weights independent: of each other and of leaf and leaf."""
    count, strength, spread = 4000, 0.3, 0.02
    params = {"a": jnp.ones(count), "b": jnp.full(count, 2.0)}
    bound = 5 / count**0.5
    for diagonal in (False, True):
        penalty = kind(params, jax.random.key(1), strength, spread, diagonal)
        at = lambda x, penalty=penalty: jax.grad(penalty)(jax.tree.map(lambda p: 0 * p + x, params))  # noqa: E731
        zero, one = at(0.0), at(1.0)
        weights = {n: np.asarray(one[n] - zero[n]) / (2 * strength) for n in params}
        for name in params:
            laws.close("mean of the weights", np.mean(weights[name]), 1.0, 0, bound)
        centers = {n: -np.asarray(zero[n]) / (2 * strength * weights[n]) for n in params}
        value = sum(strength * np.sum(weights[n] * (np.asarray(params[n]) - centers[n]) ** 2) for n in params)
        laws.close("value", penalty(params), value, 1e-10)
        for name in params:
            laws.close("spread of the center", np.std(centers[name]) / spread, 1.0, 0, bound)
            laws.close("variance of the weights", np.var(weights[name]), diagonal / 12, 0, bound / 12 + 1e-12)
        pairs = [(centers["a"], centers["b"])]
        if diagonal:
            pairs += [(weights["a"], weights["b"]), *((weights[m], centers[n]) for m in params for n in params)]
        for x, y in pairs:
            laws.close("correlation", np.corrcoef(x, y)[0, 1], 0.0, 0, bound)


CHECKS = {
    "spred": (spred_is_what_it_says, Spred),
    "regularized": (regularized_is_what_it_says, Regularized),
    "syre": (syre_is_what_it_says, syre),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKS)
def test_the_signal_is_what_it_says(name):
    check, kind = CHECKS[name]
    check(kind)
    assert sum(of == name for of, _ in MUTANTS.values()) >= 2


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_rejected(name):
    of, mutant = MUTANTS[name]
    assert mutant.__doc__
    with pytest.raises(AssertionError, match=" in place of ") as rejected:
        CHECKS[of][0](mutant)
    print(f"\n{name:<34} as {of:<12} {rejected.value}", end="")
