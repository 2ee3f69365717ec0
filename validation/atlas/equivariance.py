"""A symmetry of the loss fixes gradient and Hessian along its orbit, and orthogonal symmetries carry training along.

Source: Ziyin et al. (arXiv:2512.21447), a toolbox of equivariance identities of first and second order; recalled from the
abstract, derived here.

L(exp(lambda A) theta) = L(theta): g . A theta = 0, H A theta = -A^T g and (A theta) . H A theta = -g . A^2 theta, whence
|H| >= |A^T g|/|A theta|. An orthogonal R with L(R theta) = L(theta): H(R theta) = R H(theta) R^T, and training from
R theta is R times training from theta. The flow conserves theta . A theta, which a step changes by eta^2 g . A g.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from sklearn.datasets import load_digits

from dynamics import solve, train
from equations import SGD, Objective
from validation import Symmetry, judge_convergence, judge_equality

from . import Findings

WIDTH = 3
RATES = (0.04, 0.02, 0.01)


def linear(params, example):
    return 0.5 * jnp.sum((params["out"] @ params["in"] @ example[0] - example[1]) ** 2)


def relu(params, example):
    logits = params["out"] @ jax.nn.relu(params["in"] @ example[0])
    return jax.nn.logsumexp(logits) - logits[example[1]]


def identities(loss, data, params, matrix):
    """Both sides of the identities on each example, flat; and what a symmetric A would say of the second."""
    symmetry = Symmetry.between(lambda p: [p["in"]], lambda p: [p["out"]], matrix)
    flat, unravel = ravel_pytree(params)
    along = lambda v: ravel_pytree(symmetry.apply(unravel(v)))[0]  # noqa: E731
    back = lambda v: ravel_pytree(symmetry.transpose(unravel(v)))[0]  # noqa: E731

    def one(example):
        g, H = (d(lambda v: loss(unravel(v), example))(flat) for d in (jax.grad, jax.hessian))
        moved = along(flat)
        left = jnp.concatenate([jnp.array([g @ moved, moved @ H @ moved]), H @ moved])
        rest = lambda image: jnp.concatenate([jnp.array([0, -g @ along(moved)]), -image])  # noqa: E731
        return left, rest(back(g)), rest(along(g))

    return jax.jit(jax.vmap(one))(data)


def rotated(params, R):
    return {"in": R @ params["in"], "out": params["out"] @ R.T}


def measure(key, full):
    keys = jax.random.split(key, 8)
    draw = lambda k, *shape: jax.random.normal(k, shape) / 2  # noqa: E731
    params = {"in": draw(keys[0], WIDTH, 4), "out": draw(keys[1], 2, WIDTH)}
    data = 2 * draw(keys[2], 12, 4), 2 * draw(keys[3], 12, 2)
    objective, matrix = Objective(linear, data), draw(keys[4], WIDTH, WIDTH)
    left, right, symmetric = identities(linear, data, params, matrix)

    R, stretch = jnp.linalg.qr(matrix)[0], jnp.diag(jnp.array([2.0, 1.0, 0.5]))
    options = dict(steps=300, save_every=300, key=keys[5])
    end = train(SGD(0.02, 1), objective, params, **options).final
    (turned, moved), (other, stretched) = (
        (train(SGD(0.02, 1), objective, rotated(params, M), **options).final, rotated(end, M)) for M in (R, stretch)
    )  # fmt: skip
