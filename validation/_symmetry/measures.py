"""What the methods of `Symmetry` compute."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from equations.internal import (
    add_scaled,
)

from .._irreversibility.batches import covariance_factor, potential
from .._irreversibility.one_batch import dot, square
from .results import Balance


def precision(theta) -> float:
    return float(jnp.finfo(jnp.result_type(*jax.tree.leaves(theta))).eps)


@eqx.filter_jit
def identities(symmetry, signal, theta):
    image = symmetry.apply(theta)
    twice = symmetry.apply(image)

    def one(index):
        example = signal.take(index[None])
        gradient, hessian = jax.jvp(example.gradient, (theta,), (image,))
        turned = symmetry.transpose(gradient)
        off = add_scaled(hessian, (1.0, turned))
        tiny = jnp.finfo(jnp.result_type(*jax.tree.leaves(theta))).tiny
        curvature = dot(image, hessian) + dot(gradient, twice)
        return (
            jnp.abs(dot(gradient, image)) / jnp.maximum(jnp.sqrt(square(gradient) * square(image)), tiny),
            jnp.sqrt(square(off) / jnp.maximum(square(turned), tiny)),
            jnp.abs(curvature) / jnp.maximum(jnp.sqrt(square(gradient) * square(twice)), tiny),
        )

    worst = [jnp.max(values) for values in jax.lax.map(one, jnp.arange(signal.size))]
    return (*worst, asymmetry(symmetry, theta))


@eqx.filter_jit
def asymmetry(symmetry, theta):
    """|A v + A^T v|/(2 |A v|) for a random v."""
    flat, unravel = ravel_pytree(theta)
    v = unravel(jax.random.normal(jax.random.key(0), flat.shape, flat.dtype))
    av = symmetry.apply(v)
    return jnp.sqrt(square(add_scaled(av, (1.0, symmetry.transpose(v)))) / square(av)) / 2


@eqx.filter_jit
def charge_step(symmetry, increment, signal, state, eta, gamma):
    theta = state.params
    gradient = signal.gradient(theta)
    after = add_scaled(state, (eta, increment.velocity(jnp.zeros(()), state, add_scaled(gradient, (2 * gamma, theta)))))
    before = symmetry.charge(theta)
    predicted = (1 - 2 * eta * gamma) ** 2 * before + eta**2 * dot(gradient, symmetry.apply(gradient))
    terms = jax.tree.map(lambda p, moved: jnp.sum(jnp.abs(p * moved)), theta, symmetry.apply(theta))
    return after, before, symmetry.charge(after.params), predicted, sum(jax.tree.leaves(terms))


@eqx.filter_jit
def generator_moments(symmetry, equation, signal, theta):
    """g . A g of the mean gradient, and its mean over minibatches."""
    gradient = signal.gradient(theta)
    mean = dot(gradient, symmetry.apply(gradient))
    if equation.batch_size is None:
        return mean, mean

    def one(index):
        single = signal.take(index[None]).gradient(theta)
        return dot(single, symmetry.apply(single))

    factor = covariance_factor(equation, signal.size)
    singles = jnp.mean(jax.lax.map(one, jnp.arange(signal.size)))
    return mean, mean + factor * (singles - mean)


def balance(symmetry, equation, signal, theta, gamma) -> Balance:
    eta, gamma = float(equation.learning_rate), float(gamma)
    mean, both = (float(x) for x in generator_moments(symmetry, equation, signal, theta))
    loss = 4 * gamma * (1 - eta * gamma) * float(symmetry.charge(theta))
    return Balance(eta * both - loss, eta * both, loss, eta * (both - mean), eta * mean)


@eqx.filter_jit
def orbit_slope(symmetry, equation, signal, theta):
    phi, gradient = potential(equation, signal, theta)
    predicted = -generator_moments(symmetry, equation, signal, theta)[1] / 2
    return dot(gradient, symmetry.apply(theta)), predicted, phi


@eqx.filter_jit
def least_on_orbit(symmetry, equation, signal, theta, bound):
    def value(amount):
        return potential(equation, signal, symmetry.transported(theta, amount))[0]

    def slope(amount):
        there = symmetry.transported(theta, amount)
        return dot(potential(equation, signal, there)[1], symmetry.apply(there))

    def body(_, bracket):
        low, high = bracket
        middle = (low + high) / 2
        rising = slope(middle) > 0
        return jnp.where(rising, low, middle), jnp.where(rising, middle, high)

    # By halves and not by Brent's rule of SciPy: the loop is one compiled program, where each of its steps is a pass over
    # all examples, and where there is no root within the bound it ends there.
    low, high = jax.lax.fori_loop(0, 60, body, (-bound, bound))
    amount = (low + high) / 2
    return amount, value(amount), slope(amount)
