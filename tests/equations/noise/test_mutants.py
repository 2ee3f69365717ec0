"""Mutants of SGD's noise, each rejected by the covariance of an ensemble, with its distance in standard errors.

Their means are right (the equation is linear), and so a check of means accepts all of them: only second moments reject.
Adam's mutants are in test_adam, the moments of the solver's in test_solver_moments.
"""

import jax
import numpy as np
import pytest
from mutants.sgd import BatchSizeLost, NoiseByLearningRate, NoNoise
from oracles import LeftPoint, LinearRegression

from dynamics import Strang, solve
from equations import SGD

ETA, BATCH, STEPS, PATHS = 0.1, 4, 16, 4000
PROBLEM = LinearRegression()


def ensemble(equation, **options):
    flow = solve(equation, PROBLEM.objective, PROBLEM.start, steps=STEPS, key=jax.random.key(0), paths=PATHS,
                 save_every=STEPS, **options)  # fmt: skip
    return np.asarray(flow.final)


def distances(samples):
    """Of mean and covariance from the equation's closed form, the largest component in standard errors.

    The standard errors are those of a normal ensemble with the right covariance; samples without any spread have none.
    """
    means, covariances = PROBLEM.trace(PROBLEM.sde_map(ETA, BATCH), STEPS, STEPS)
    mean, covariance = means[-1], covariances[-1]
    variance = np.diag(covariance)
    spread = np.sqrt((np.outer(variance, variance) + covariance**2) / PATHS)
    off = np.cov(samples.T) - covariance
    return np.abs((samples.mean(0) - mean) / np.sqrt(variance / PATHS)).max(), np.abs(off / spread).max()


def test_the_equation_passes():
    of_mean, of_covariance = distances(ensemble(SGD(ETA, BATCH)))
    print(f"\nSGD: mean {of_mean:.1f}, covariance {of_covariance:.1f} s.e.")
    assert of_mean < 4 and of_covariance < 4


@pytest.mark.parametrize(  # the law kick_moments rejects them all, exactly
    "mutant", [NoiseByLearningRate, *(pytest.param(m, marks=pytest.mark.slow) for m in (NoNoise, BatchSizeLost))]
)
def test_rejected_by_the_covariance_but_not_by_the_mean(mutant):
    of_mean, of_covariance = distances(ensemble(mutant(ETA, BATCH)))
    print(f"\n{mutant.__name__}: mean {of_mean:.1f}, rejected by the covariance at {of_covariance:.0f} s.e.")
    assert of_covariance > 8
    if mutant is not BatchSizeLost:  # its greater spread carries its sample mean further
        assert of_mean < 4


def refinement(solver):
    """Change of the total variance from one to two substeps on the same Brownian paths, relative, and its paired error."""
    squares = []
    for substeps in (1, 2):
        final = ensemble(SGD(ETA, BATCH), solver=solver, substeps=substeps)
        squares.append(((final - final.mean(0)) ** 2).sum(1))
    difference, scale = squares[0] - squares[1], squares[1].mean()
    return difference.mean() / scale, difference.std() / len(difference) ** 0.5 / scale


@pytest.mark.slow  # test_compare has it with all of `compare`
def test_left_point_noise_is_seen_in_the_solver_error():
    left, left_error = refinement(LeftPoint())
    real, real_error = refinement(Strang())
    model = PROBLEM.trace(PROBLEM.sgd_map(ETA, BATCH), STEPS, STEPS)[1][-1]
    truth = PROBLEM.trace(PROBLEM.sde_map(ETA, BATCH), STEPS, STEPS)[1][-1]
    relative = np.trace(model - truth) / np.trace(truth)
    print(f"\nsolver error of the variance by refinement: left point {left:.4f} +- {left_error:.4f} "
          f"({abs(left) / left_error:.0f} s.e.), Strang {real:.4f} +- {real_error:.4f}; "
          f"model error {relative:.4f}")  # fmt: skip
    assert abs(left) > 8 * left_error
    assert abs(real) + 4 * real_error < abs(left) / 4
