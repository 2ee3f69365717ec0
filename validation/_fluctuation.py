"""Fluctuation theorems: what entropy productions of paths must obey, whatever the dynamics."""

import dataclasses

import numpy as np
from jaxtyping import Array

from equations._checks import real_array

_NEWTON = 50


@dataclasses.dataclass(frozen=True)
class FluctuationTheorem:
    """The result of `fluctuation_theorem`. `print(result)` is a line of text.

    - `integral`, `integral_error`: <exp(-s)> and its standard error; the theorem says 1.
    - `slope`, `slope_error`: of ln p(s)/p(-s) against s, and its standard error; the detailed theorem says 1.
    - `effective_samples`: (sum w)^2/sum w^2 with w = exp(-s): how many paths the integral rests on.
    - `mean`, `mean_error`: <s>, at least 0, and its standard error.
    """

    integral: float
    integral_error: float
    slope: float
    slope_error: float
    effective_samples: float
    mean: float
    mean_error: float

    def __str__(self):
        return (
            f"<exp(-s)> = {self.integral:.4f} ± {self.integral_error:.4f} on {self.effective_samples:.0f} effective "
            f"samples; slope of ln p(s)/p(-s) {self.slope:.4f} ± {self.slope_error:.4f}; <s> = {self.mean:.4f} ± "
            f"{self.mean_error:.4f}"
        )


def fluctuation_theorem(entropies: Array | np.ndarray) -> FluctuationTheorem:
    r"""Tests the integral theorem <exp(-s)> = 1 and the detailed one p(s)/p(-s) = exp(s) on independent paths.

    Both hold for the total entropy production of a window of a stationary process, the integral one also from any other
    start with its own densities (Seifert 2005, Phys. Rev. Lett. 95, 040602). The slope a is that of a logistic regression,
    P(s > 0 | |s|) = 1/(1 + exp(-a |s|)), which is the detailed theorem without bins. Where all s have one sign it is
    infinite, and where all are zero it is NaN, either with an infinite error: such paths say nothing of it.

    **Arguments:**

    - `entropies`: one number per path, shape `(paths,)`, such as `production.total.sum(axis=1)`; at least 2, all finite.

    **Raises:** ValueError, naming the argument.
    """
    s = real_array("entropies", entropies, "one finite number for each of at least 2 paths")
    if s.ndim != 1 or s.size < 2 or not np.all(np.isfinite(s)):
        raise ValueError(
            "Argument `entropies` must hold one finite number for each of at least 2 paths, but an array of shape "
            f"{s.shape} was given" + ("." if np.all(np.isfinite(s)) else " that is not finite.")
        )
    weights = np.exp(-(s - s.min()))
    with np.errstate(over="ignore"):
        scale = np.exp(-s.min())
    slope, slope_error = _slope(s)
    root = s.size**0.5
    return FluctuationTheorem(
        integral=float(scale * weights.mean()),
        integral_error=float(scale * weights.std(ddof=1) / root),
        slope=slope,
        slope_error=slope_error,
        effective_samples=float(weights.sum() ** 2 / np.sum(weights**2)),
        mean=float(s.mean()),
        mean_error=float(s.std(ddof=1) / root),
    )


def _slope(s: np.ndarray) -> tuple[float, float]:
    """The maximum of the likelihood of a in P(s > 0 | |s|) = 1/(1 + exp(-a |s|)), by Newton's method, and its error."""
    if not np.any(s):
        return np.nan, np.inf
    if np.all(s >= 0) or np.all(s <= 0):
        return np.copysign(np.inf, s.sum()), np.inf
    unit = np.abs(s).mean()  # so that a step of Newton's method has a natural size
    size, slope = np.abs(s) / unit, 0.0
    for _ in range(_NEWTON):
        right = 1 / (1 + np.exp(-np.clip(slope * size, -500, 500)))
        information = np.sum(size**2 * right * (1 - right))
        change = np.clip(np.sum(size * ((s > 0) - right)) / information, -1, 1)
        slope += change
        if abs(change) < 1e-12:
            break
    return float(slope / unit), float(information**-0.5 / unit)
