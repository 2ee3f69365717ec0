"""A derivative against quotients of differences, as far as these can be trusted."""

from typing import NamedTuple

import numpy as np

STEPS = (1e-6, 3e-4)  # relative to the size of the parameters, for double and for single precision
_TOLERANCE, _ROUGH = 1e-3, 1e-2  # of double and of single precision
_NOTHING = 1e-11  # of a typical gradient, which is rounding error


class _Try(NamedTuple):
    """A central difference, how far it is in doubt, how far the derivative is off it, and the size of both."""

    quotient: np.ndarray
    doubt: float
    off: float
    size: float


def offs(there: np.ndarray, along: np.ndarray, typical: np.ndarray) -> list[float]:
    """`off` by probe, along the first axis of all; without a loop where every step agrees, as it nearly always does."""
    values = there.reshape(*there.shape[:2], -1).astype(float)
    derivative = along.reshape(len(along), -1).astype(float)
    close = np.ones(len(there), bool)
    for place, step in enumerate(STEPS):
        quotient = (values[:, 2 * place + 1] - values[:, 2 * place + 2]) / (2 * step)
        difference, *sizes = (np.linalg.norm(x, axis=1) for x in (quotient - derivative, quotient, derivative))
        close &= difference <= _TOLERANCE * sum(sizes)
    return [0.0 if near else off(*one) for near, *one in zip(close, there, along, typical, strict=True)]


def off(there: np.ndarray, along: np.ndarray, typical: float) -> float:
    """How far a derivative is off its difference, over both, of one leaf, by the step whose forward and backward
    differences agree best. `there` are the values at a point, then at every step to either side of it; what they are sums
    of may be of the `typical` size and cancel.

    Zero where the difference itself is in doubt by a tenth of that, as at a kink or by rounding, or where another step
    says otherwise: what falls with the step, as of a cube at zero, is an error of the difference.
    """
    (here, *around), derivative = there.astype(float), along.astype(float)
    if not (np.all(np.isfinite(there)) and np.all(np.isfinite(along)) and np.isfinite(typical)):
        return 0.0
    scale = max(map(np.linalg.norm, there.astype(float)))
    if scale <= _NOTHING * typical:
        return 0.0
    single = np.all(there == there.astype(np.float32))  # as where the signal itself is of single precision
    rounding = 4 * np.finfo(np.float32 if single else float).eps * scale
    floor = 0.0 if single else 3 * rounding / STEPS[0]  # above it the finer step has something to say
    tries = []
    for place, step in enumerate(STEPS):
        forward, backward = (around[2 * place] - here) / step, (here - around[2 * place + 1]) / step
        quotient = (forward + backward) / 2
        size = float(np.linalg.norm(quotient) + np.linalg.norm(derivative))
        doubt = float(np.linalg.norm(forward - backward) + rounding / step)
        tries.append(_Try(quotient, doubt, float(np.linalg.norm(quotient - derivative)), size))
    best = min(tries, key=lambda one: one.doubt / one.size if one.size else np.inf)
    # Of single precision the finer step is no longer one.
    tolerance = _TOLERANCE if tries[0].doubt < _TOLERANCE * tries[0].size else _ROUGH
    if not best.off > max(10 * best.doubt, tolerance * best.size, floor):
        return 0.0
    if not all(_agree(best, other) for other in tries if other is not best):
        return 0.0
    return best.off / best.size


def _agree(best: _Try, other: _Try) -> bool:
    if other.doubt > max(0.1 * other.size, best.off / 3):
        return True  # it says nothing
    return other.off > best.off / 3 and float(np.linalg.norm(other.quotient - best.quotient)) < 3 * best.off
