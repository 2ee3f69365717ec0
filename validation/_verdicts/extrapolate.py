"""The limit of a measured quantity as a step goes to zero."""

from typing import Any

import numpy as np

from equations.internal import real_array

from .._compare.statistics import Estimate
from .._compare.student import quantile

_LEAST = 3


def extrapolated(steps: Any, measured: Estimate, *, order: float = 1.0, terms: int = 1) -> Estimate:
    """The limit as the step goes to zero, by weighted least squares: limit + a step^order + b step^(2 order) + ...

    For quantities at rest at several learning rates, whose finite-time errors `orders` cannot tell. Where the points
    scatter about the curve by more than their errors say, these are widened until they do not (Birge 1932, Physical
    Review 40, 207), by Student's t for the few points; where nothing is random, the scatter is the error.

    **Arguments:**

    - `steps`: learning rates, time steps or 1/widths, `(n,)`.
    - `measured`: an `Estimate` of independent values, `(n, ...)`.
    - `order`: of the first term.
    - `terms`: powers of the step, at most n - 2.

    **Returns:** the limit with its standard error, `(...)`.

    **Raises:** ValueError, naming the argument.
    """
    steps = real_array("steps", steps, "step sizes")
    values, errors = (real_array("measured", part, "real numbers") for part in (measured.value, measured.error))
    if steps.ndim != 1 or values.shape[:1] != steps.shape or values.shape != errors.shape or not np.all(steps > 0):
        raise ValueError(
            f"Argument `steps` must hold a positive number for each of the measurements, but shape {steps.shape} was given "
            f"for {values.shape}."
        )
    if not 1 <= terms <= len(steps) - 2:
        raise ValueError(
            f"Argument `terms` must be from 1 to the number of steps less two, {len(steps) - 2}, but {terms} was given."
        )
    design = steps[:, None] ** (order * np.arange(terms + 1))
    design = design / np.max(design, axis=0)
    found = [_limit(design, value, error) for value, error in zip(values.reshape(len(steps), -1).T,
             errors.reshape(len(steps), -1).T, strict=True)]  # fmt: skip
    value, error = (np.reshape(part, values.shape[1:]) for part in zip(*found, strict=True))
    return Estimate(value, error)


def _limit(design: np.ndarray, values: np.ndarray, errors: np.ndarray) -> tuple[float, float]:
    known = bool(np.all(errors > 0))
    weights = 1 / errors if known else np.ones(len(values))
    left, right = design * weights[:, None], values * weights
    solution = np.linalg.lstsq(left, right)[0]
    freedom = len(values) - design.shape[1]
    scatter = float(np.sum((right - left @ solution) ** 2) / freedom)
    spread = float(np.sqrt(np.linalg.inv(left.T @ left)[0, 0]))
    widened = float(quantile(1.0, freedom)) * np.sqrt(scatter)
    return float(solution[0]), spread * (max(1.0, widened) if known and scatter > 1 else 1.0 if known else widened)
