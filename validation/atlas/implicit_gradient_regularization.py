"""Gradient descent follows the flow of a loss with the squared gradient added, eta/4 |grad L|^2.

Source: Barrett and Dherin, "Implicit Gradient Regularization" (arXiv:2009.11162), theorem on backward error; Smith,
Dherin, Barrett and De, "On the Origin of Implicit Regularization in Stochastic Gradient Descent" (arXiv:2101.12176);
recalled, verified here.

Full batch: the iterates are those of the gradient flow of L + (eta/4) |grad L|^2 up to O(eta^2). Shuffled epochs of m
batches with losses C_k: their mean is that of L + (eta/4m) sum_k |grad C_k|^2, more by (eta/4) tr Cov grad C_k.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from sklearn.datasets import load_digits

from dynamics import solve, train
from equations import SGD, Objective, regularized
from validation import Estimate, extrapolated, judge_convergence, judge_number

from . import Findings

RATES, TIME, STEPS = np.array([0.08, 0.04, 0.02]), 3.2, 160


def neuron(w, example):
    return (w[0] * jnp.tanh(w[1] * example[0] + w[2]) - example[1]) ** 2 / 2


class SquaredGradient(eqx.Module):
    """factor x mean over groups of examples of |gradient of their mean loss|^2, a function of the parameters."""

    loss: Callable = eqx.field(static=True)
    groups: Any
    factor: Any

    def __call__(self, w):
        mean = lambda w, group: jnp.mean(jax.vmap(self.loss, (None, 0))(w, group))  # noqa: E731
        squares = lambda group: jnp.sum(ravel_pytree(jax.grad(mean)(w, group))[0] ** 2)  # noqa: E731
        return self.factor * jnp.mean(jax.lax.map(squares, self.groups))


def at(time, run, equation, signal, start, **options):
    """Parameters at a time. As many steps at every rate, so that one compilation serves them all."""
    found = run(equation, signal, start, steps=STEPS, observe={"w": lambda w: ravel_pytree(w)[0]}, **options)
    return found.observables["w"][:, round(time / float(equation.learning_rate))]


def flows(loss, data, groups, start, rate, time, factors):
    """At a time, the parameters of the flows of L + factor x eta x mean over groups of the squared gradient."""
    objective = Objective(loss, data)
    added = (SquaredGradient(loss, groups, jnp.asarray(factor * rate)) for factor in factors)
    return [at(time, solve, SGD(rate), regularized(objective, one), start)[0] for one in added]


def full_batch(loss, data, start, rates, time):
    """How far gradient descent is from the flows with 1/4 and without the squared gradient."""
    whole = jax.tree.map(lambda part: part[None], data)
    return np.array([
        [
            float(jnp.linalg.norm(at(time, train, SGD(rate), Objective(loss, data), start)[0] - flow))
            for flow in flows(loss, data, whole, start, rate, time, (0.25, 0.0))
        ]
        for rate in rates
    ])  # fmt: skip


def measure(key, full):
    x, noise = jax.random.normal(key, (2, 8))
    data, start = (x, jnp.tanh(1.5 * x) + 0.5 * noise), jnp.array([0.5, 0.4, 0.2])
    off = full_batch(neuron, data, start, RATES, TIME)

    # Shuffled epochs, in which every pair of examples is a batch as often as any other.
    first, second = np.triu_indices(8, 1)
    pairs = jax.tree.map(lambda part: jnp.stack([part[first], part[second]], 1), data)
    shares, rivals = [], []
    for rate in RATES:
        sgd = SGD(rate, batch_size=2, sampling="shuffled")
        paths = at(TIME, train, sgd, Objective(neuron, data), start, key=key, paths=2048)
        plain, shifted = flows(neuron, data, pairs, start, rate, TIME, (0.0, 0.25))
        (whole,) = flows(neuron, data, jax.tree.map(lambda part: part[None], data), start, rate, TIME, (0.25,))
        along = (shifted - plain) / jnp.sum((shifted - plain) ** 2)
        share = np.asarray((paths - plain) @ along)
        shares.append((share.mean(), share.std() / np.sqrt(len(share))))
        rivals.append(float((whole - plain) @ along))
    limit = extrapolated(RATES, Estimate(*np.array(shares).T))

    images, labels = load_digits(return_X_y=True)
    images, labels = jnp.asarray(images[:100] / 16), jnp.asarray(labels[:100])
    net, static = eqx.partition(eqx.nn.MLP(64, 10, 8, 1, jnp.tanh, key=key), eqx.is_inexact_array)
    cross = lambda w, example: -jax.nn.log_softmax(eqx.combine(w, static)(example[0]))[example[1]]  # noqa: E731
    digits = full_batch(cross, (images, labels), net, 4 * RATES, TIME)
    return Findings(
        claims=(
            judge_convergence("gradient descent off the modified flow", RATES, off[:, 0], order=2, mutant=off[:, 1]),
            judge_number("shift of the mean of shuffled epochs, of that predicted", limit, 1.0, mutant=rivals[-1]),
        ),
        data={"rates": RATES, "off": off},
        beyond=(judge_convergence("a network on digits", 4 * RATES, digits[:, 0], order=2, mutant=digits[:, 1]),),
        note="The mutants leave the squared gradient out, and take it of the full batch for shuffled epochs.",
    )


def plot(ax, data):
    rates, (modified, plain) = data["rates"], data["off"].T
    ax.loglog(rates, plain[-1] * rates / rates[-1], "--", color="#d55e00", lw=1, label="order 1")
    ax.loglog(rates, modified[-1] * (rates / rates[-1]) ** 2, color="#0072b2", lw=1, label="order 2")
    ax.loglog(rates, plain, "s", color="#d55e00", ms=5, label="off the flow of L")
    ax.loglog(rates, modified, "o", color="#1b1b1b", ms=5, label="off that of L + η|∇L|²/4")
    ax.set_xlabel("learning rate η")
    ax.set_ylabel("distance of gradient descent")
    ax.legend(frameon=False)
