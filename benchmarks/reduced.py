"""Problem B1 by moments alone: what memory an ensemble takes whose paths are not kept, and that its moments are right."""

import resource

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np

from dynamics import solve

from ._timing import Figure
from .b1 import RATE, START, Quadratic, closed_form

STEPS, FEW, MANY = 200, 2**16, 2**20


def moments(paths: int):
    """Mean and variance of both coordinates over `paths`, at the end."""
    return solve(
        Quadratic(jnp.asarray(RATE)), None, jnp.asarray(START), steps=STEPS, key=jax.random.key(0), paths=paths,
        solver=dfx.Euler(), save_every=STEPS // 4, observe={"x": lambda x: x}, reduce=("mean", "variance"),
    )  # fmt: skip


def off(found) -> float:
    """The largest deviation from the closed form, in standard errors."""
    mean, covariance = closed_form(STEPS)
    variance = np.diag(covariance)
    errors = [
        (found.mean["x"][-1] - mean) / found.standard_error["x"][-1],
        (found.variance["x"][-1] - variance) / (variance * (2 / found.paths) ** 0.5),
    ]
    return float(np.max(np.abs(errors)))


def run() -> list[Figure]:
    moments(FEW)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = moments(MANY)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    note = f"{after / 2**20:.2f} GiB at most"
    return [
        Figure(f"reduced: memory of {MANY} paths / of {FEW}", after / before, 1.1, note),
        Figure(f"reduced: mean and variance of {MANY} paths, standard errors", off(found), 4.0),
    ]
