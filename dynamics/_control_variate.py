"""What a run by control variates says of its noise."""

from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PyTree

from equations.internal import silent

from ._paths.control_variate import covariance_error
from ._paths.progress import Progress
from ._paths.sampler import Sampler
from ._paths.strang import Steps
from ._problem import Problem

_NUMBERS = 2**27  # that the gradients of two batches may hold, one by one


def told_of_anchors(
    problem: Problem, solver: Any, substeps: int, progress: Progress, state: PyTree
) -> tuple[tuple[str, str], ...]:
    """For the details: the noise of the correction, over paths, and by how much a step's covariance is off at `state`."""
    if not Steps(solver).anchored or silent((progress, state, problem.dynamic)):
        return ()
    equation, size = problem.equation, solver.batch_size
    factor = float(equation.gradient_noise.factor(equation.batches(problem.signal)))
    ratio = np.asarray(progress.peak.quotient, float) / (substeps * size * factor)
    extra = f"{np.mean(ratio):.3g} of the equation's just before a full gradient, in a training step"
    rows = (("extra_noise", extra),)
    if 2 * size * sum(leaf.size for leaf in jax.tree.leaves(problem.dynamic)) > _NUMBERS:
        return rows
    sampler = Sampler(jax.random.key(0), problem.signal.size, size, "with_replacement")
    error = float(_covariance_error(equation.sees(problem.signal), equation.params(state), sampler))
    off = f"that of {size} examples in a step, off by {error:.2g} in each and by nothing in their mean"
    return (*rows, ("covariance", off))


_covariance_error = eqx.filter_jit(covariance_error)
