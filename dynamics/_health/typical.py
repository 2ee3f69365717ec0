"""By what share the rate at which typical paths grow is off, by the noise of a solver's step.

For dX = a X dt + s X dW a typical path grows as exp[(a - s^2/2) t]. With A = s^2 dt a step multiplies it by 1 + x, and in
E ln(1 + x) = E[x - x^2/2 + x^3/3 - x^4/4 + ...] the terms in A^2, which the exact factor has not, leave -c A^2:

- one kick, x = sqrt(A) xi: c = 3/4;
- a pair of kicks of half the square each: c = 2 (3/4)/4 = 3/8;
- `Fused`, x = sqrt(A) (u1 xi1 + u2 xi2) + A xi1 xi2/sqrt 2: c = 3/4 + 1/4 - sqrt 2 u1 u2 = .457.

Higher orders add to c some multiple of A; c + c' A is the whole within a tenth up to A = .1 (quadrature).

The rule: c A^2 is at most 5 % of |a dt - A/2|, or of half of |a| dt + A/2, where these nearly cancel. Where the mean square
decays too, A < -2 a dt, it is what is asked for first; its moments are right to second order, and the rate of typical paths
may be off by 10 %: by this rule it is by about 9 % for single examples at eta lambda = .25 (regression, the worst of six
problems). The share falls as 1/substeps.
"""

from typing import Any

import numpy as np

from .._paths.strang import Steps

ALLOWED, ALLOWED_IN_DECAY = 0.05, 0.1
# c and c' of a step with one kick, with a pair of them, and of `Fused`.
ONE, PAIR, FUSED = (0.75, 4.0), (0.375, 1.0), (0.457, 3.0)
_ROOM = 0.9  # of what is allowed, for the number of substeps that is named


def law_of(solver: Any, dynamics: Any) -> tuple[float, float]:
    """c and c' of the steps of a solver."""
    steps = Steps(solver)
    return FUSED if steps.fused else PAIR if steps.kicks(dynamics) == 2 else ONE


def may_be_off(square: np.ndarray, law: tuple[float, float]) -> np.ndarray:
    """Whether noise of that A may be more than is allowed beside some drift: the worst is a dt = A/6."""
    return 3 * _lost(square, law) > ALLOWED * square


@np.errstate(all="ignore")  # of a state that is no longer one
def times_allowed(square: np.ndarray, drift: np.ndarray, law: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """By what the share that is lost is more than is allowed, 0 where it is not, and by what number the substeps are to be
    multiplied; `square` is A, `drift` a dt."""
    rate = np.maximum(np.abs(drift - square / 2), (np.abs(drift) + square / 2) / 2)
    rate = np.where(rate > 0, rate, np.inf) * np.where(square < -2 * drift, ALLOWED_IN_DECAY, ALLOWED)
    times = _lost(square, law) / rate
    # Of substeps that are n times as many the share is first/n + second/n^2.
    first, second = law[0] * square**2 / rate / _ROOM, law[1] * square**3 / rate / _ROOM
    more = (first + np.sqrt(first**2 + 4 * second)) / 2
    bad = times > 1
    return np.where(bad, times, 0), np.where(bad, more, 1)


def _lost(square: np.ndarray, law: tuple[float, float]) -> np.ndarray:
    return (law[0] + law[1] * square) * square**2
