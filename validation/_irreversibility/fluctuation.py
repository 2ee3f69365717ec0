"""Fluctuation theorems: what entropy productions of paths must obey, whatever the dynamics."""

import dataclasses
import math
from typing import Any

import numpy as np
from jaxtyping import Array, Shaped

from equations.internal import real_array

from .._compare.student import quantile

_NEWTON = 50
_LARGEST_ERROR = 1 / 3  # of <exp(-s)>: beyond it three errors reach from 1 to 0
_CHANCE = 1e-3  # of a sum of entropies so far below 0
_REFUTED = 4.0  # errors of a mean below 0
_ENOUGH = 20  # paths, of whose mean the error is known


@dataclasses.dataclass(frozen=True)
class FluctuationTheorem:
    """The result of `fluctuation_theorem`. `print(result)` is a line of text.

    - `slope`, `slope_error`: of ln p(s)/p(-s) against s, and its standard error; the detailed theorem says 1. It holds its
        error bars at any size of s, as long as some s have the other sign.
    - `integral`, `integral_error`: <exp(-s)> and its standard error; the theorem says 1. Rare paths with s < 0 make the
        mean, and without them it is far too small; the error is that which a slope of 1 implies, from all paths.
    - `tells`: whether the integral says anything. It does not where that error is above 1/3, for Gaussian s beyond
        <s> = ln(n)/2 - 1.1 with n paths; nor where the slope is above 1 by two errors.
    - `fails`: whether <s> is below 0 beyond chance, which refutes the integral theorem at any size: <exp(-s)> is at least
        exp(-<s>). Of n paths the product of exp(-s) has the mean 1, and is rarely large: the sum of s is below -6.9 with a
        chance of .001 at most, whatever s. Of 20 paths or more also a mean of four errors below 0, by Student's quantile.
    - `effective_samples`: (sum w)^2/sum w^2 with w = exp(-s): how many of the paths the integral rests on.
    - `mean`, `mean_error`: <s>, at least 0, and its standard error.
    """

    integral: float
    integral_error: float
    slope: float
    slope_error: float
    effective_samples: float
    mean: float
    mean_error: float
    paths: int

    @property
    def tells(self) -> bool:
        return bool(_tells(self.integral_error, self.slope, self.slope_error))

    @property
    def fails(self) -> bool:
        if self.paths * self.mean < math.log(_CHANCE):
            return True
        return self.paths >= _ENOUGH and self.mean < -float(quantile(_REFUTED, self.paths - 1)) * self.mean_error

    def __str__(self):
        slope = "slope of ln p(s)/p(-s) "
        known = not math.isnan(self.slope)
        slope += f"{self.slope:.4f} ± {self.slope_error:.4f}" if known else "not defined, all s being 0"
        mean = f"<s> = {self.mean:.4f} ± {self.mean_error:.4f}"
        if self.fails:
            integral = (
                "the integral theorem fails, since <s> is below 0 beyond chance and <exp(-s)> is at least exp(-<s>)"
            )
        elif self.tells:
            integral = (
                f"<exp(-s)> = {self.integral:.4f} ± {self.integral_error:.4f} on {self.effective_samples:.0f} effective "
                "samples"
            )
        else:
            rare = (
                "the paths that make this mean are too rare among them (shorter windows, or more paths)"
                if self.integral_error > _LARGEST_ERROR
                else "with a slope above 1 this mean rests on paths rarer than any of them"
            )
            integral = f"<exp(-s)>: {self.paths} paths cannot tell, since {rare}"
        return f"{slope}; {integral}; {mean}"


def fluctuation_theorem(entropies: Shaped[Array | np.ndarray, " paths"] | Any) -> FluctuationTheorem:
    r"""Tests the integral theorem <exp(-s)> = 1 and the detailed one p(s)/p(-s) = exp(s) on independent paths.

    Both hold for the total entropy production of a window of a stationary process, the integral one also from any other
    start with its own densities (Seifert 2005, Phys. Rev. Lett. 95, 040602). The slope a is that of a logistic regression,
    P(s > 0 | |s|) = 1/(1 + exp(-a |s|)), which is the detailed theorem without bins. Where all s have one sign it is
    infinite, and where all are zero it is NaN, either with an infinite error: such paths say nothing of it.

    The spread of exp(-s) in the sample is no measure of the error of its mean: both rest on the paths around s = -<s>, of
    which a sample smaller than exp(2 <s>) has hardly any. But where the slope is 1 as it should be, <exp(-2 s)> is
    <2 cosh(s) - 1>, to which all paths contribute, and the variance 2 <cosh(s) - 1> (derived). The error is the larger of
    the two. Where the slope is above 1, paths with s < 0 are rarer than that, and exp(-s) may have no variance.

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
    with np.errstate(over="ignore"):
        weights, scale = np.exp(-(s - s.min())), np.exp(-s.min())
    slope, slope_error = (float(x) for x in likeliest_slope(s))
    return FluctuationTheorem(
        integral=float(scale * weights.mean()),
        integral_error=float(_integral_error(s)),
        slope=slope,
        slope_error=slope_error,
        effective_samples=float(weights.sum() ** 2 / np.sum(weights**2)),
        mean=float(s.mean()),
        mean_error=float(s.std(ddof=1) / s.size**0.5),
        paths=s.size,
    )


def likeliest_slope(s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The maximum of the likelihood of a in P(s > 0 | |s|) = 1/(1 + exp(-a |s|)), by Newton's method, and its error.

    Of `(..., paths)`, one for each sample.
    """
    unit = np.abs(s).mean(axis=-1, keepdims=True)  # so that a step of Newton's method has a natural size
    size, slope = np.abs(s) / np.where(unit > 0, unit, 1), np.zeros(unit.shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        for _ in range(_NEWTON):
            right = 1 / (1 + np.exp(-np.clip(slope * size, -500, 500)))
            information = np.sum(size**2 * right * (1 - right), axis=-1, keepdims=True)
            change = np.clip(np.sum(size * ((s > 0) - right), axis=-1, keepdims=True) / information, -1, 1)
            slope = slope + change
            if not np.any(np.abs(change) >= 1e-12):
                break
        slope, error = (slope / unit)[..., 0], (information**-0.5 / unit)[..., 0]
    one_sign = np.all(s >= 0, axis=-1) | np.all(s <= 0, axis=-1)
    far = np.where(unit[..., 0] > 0, np.copysign(np.inf, s.sum(axis=-1)), np.nan)
    return np.where(one_sign, far, slope), np.where(one_sign, np.inf, error)


def _integral_error(s: np.ndarray) -> np.ndarray:
    """The standard error of the mean of exp(-s) over `(..., paths)`, where p(-s) = p(s) exp(-s)."""
    with np.errstate(over="ignore", invalid="ignore"):
        implied = 2 * np.mean(np.cosh(s) - 1, axis=-1)
        seen = np.var(np.exp(-s), axis=-1, ddof=1)
    return np.asarray(np.sqrt(np.fmax(implied, seen) / s.shape[-1]))


def _tells(error, slope, slope_error):
    """Whether a mean of exp(-s) says anything; with arrays for each of them."""
    return (error <= _LARGEST_ERROR) & ~(slope > 1 + 2 * slope_error)
