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


def flat(params, R):
    return ravel_pytree(rotated(params, R))[0]


def measure(key, full):
    keys = jax.random.split(key, 8)
    draw = lambda k, *shape: jax.random.normal(k, shape) / 2  # noqa: E731
    params = {"in": draw(keys[0], WIDTH, 4), "out": draw(keys[1], 2, WIDTH)}
    data = 2 * draw(keys[2], 12, 4), 2 * draw(keys[3], 12, 2)
    objective, matrix = Objective(linear, data), draw(keys[4], WIDTH, WIDTH)
    left, right, symmetric = identities(linear, data, params, matrix)

    R = jnp.linalg.qr(matrix)[0]
    options = dict(steps=300, save_every=300, key=keys[5])
    end, turned = (train(SGD(0.02, 1), objective, begin, **options).final for begin in (params, rotated(params, R)))
    charge = Symmetry.between(lambda p: [p["in"]], lambda p: [p["out"]], jnp.eye(WIDTH)).charge
    size = lambda p: sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(p))  # noqa: E731
    observe, changes = {"charge": charge, "size": size}, []
    for rate in RATES:
        runs = [run(SGD(rate), objective, params, steps=round(1 / rate), save_every=round(1 / rate), observe=observe)
                for run in (train, solve)]  # fmt: skip
        ends = [[float(run.observables[name][0, -1]) for name in observe] for run in runs]
        changes.append([abs(ends[0][0] - ends[1][0]), abs(ends[0][1] - float(size(params)))])
    kept, wrong = np.array(changes).T

    images, labels = load_digits(return_X_y=True)
    layers = {"in": draw(keys[6], 8, 64), "out": draw(keys[7], 10, 8)}
    neurons = identities(relu, (images[:16] / 16, jnp.array(labels[:16])), layers, jnp.diag(jnp.linspace(-1, 1, 8)))
    return Findings(
        claims=(
            judge_equality("identities on a linear network", left, right, mutant=symmetric, operations=100),
            judge_equality(
                "end of training from R theta", *(flat(*both) for both in ((turned, jnp.eye(WIDTH)), (end, R))),
                mutant=flat(end, R.T), operations=3000,
            ),
            judge_convergence("charge of training less that of the flow", RATES, kept, order=1, mutant=wrong),
        ),
        beyond=(
            judge_equality(
                "the same of ReLU neurons on digits", neurons[0], neurons[1], mutant=0 * neurons[1], operations=300
            ),
        ),
        data={"measured": left[:, 2:], "predicted": right[:, 2:], "mutant": symmetric[:, 2:]},
        note="Mutants: A for A^T, R^T for R, |W_in|^2 + |W_out|^2 for the charge, a Hessian that vanishes along the orbit.",
    )  # fmt: skip


def plot(ax, data):
    predicted, measured, mutant = (np.ravel(data[name]) for name in ("predicted", "measured", "mutant"))
    reach = np.array([predicted.min(), predicted.max()])
    ax.plot(mutant, measured, "x", color="#d55e00", ms=4, alpha=0.6, label="against -Ag")
    ax.plot(predicted, measured, "o", color="#1b1b1b", ms=3, label="against -Aᵀg")
    ax.plot(reach, reach, color="#0072b2", label="the identity")
    ax.set_xlabel("component predicted from the gradient")
    ax.set_ylabel("component of H Aθ (dimensionless)")
    ax.legend(frameon=False)
