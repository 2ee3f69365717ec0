"""What the methods of `Symmetry` return."""

import dataclasses

import numpy as np
from jaxtyping import PyTree


@dataclasses.dataclass(frozen=True)
class SymmetryCheck:
    """Relative errors of what the symmetry says of single examples, the largest over them.

    - `gradient`: g . A theta = 0, over |g| |A theta|.
    - `hessian`: H A theta = -A^T g, over |A^T g|.
    - `curvature`: A theta . H A theta = -g . A^2 theta.
    - `symmetric`: |A v + A^T v|/(2 |A v|) on a random v: 1 for a symmetric A, 0 for an antisymmetric one.
    - `precision`: that of the parameters' dtype.
    """

    gradient: float
    hessian: float
    curvature: float
    symmetric: float
    precision: float

    @property
    def holds(self) -> bool:
        """Whether gradient and Hessian identities hold to 10^4 times the precision of the parameters."""
        return max(self.gradient, self.hessian) < 1e4 * self.precision


@dataclasses.dataclass(frozen=True)
class ChargeStep:
    """`before`, `after`: the charge; `predicted`: what the exact rule says of it; `size`: the sum of the moduli of its
    terms before, which a balanced network has although its charge is zero; `precision`: of the dtype."""

    before: float
    after: float
    predicted: float
    size: float
    precision: float

    @property
    def error(self) -> float:
        """|after - predicted| over `size`."""
        return abs(self.after - self.predicted) / max(self.size, np.finfo(float).tiny)

    @property
    def holds(self) -> bool:
        """Whether the rule holds to rounding: 300 times the precision of the parameters' dtype."""
        return self.error < 300 * self.precision


@dataclasses.dataclass(frozen=True)
class Balance:
    """The Noether flow and the master balance, eta E[g_B . A g_B] = 4 gamma (1 - eta gamma) C in a stationary state.

    - `rate`: dC/dt; `gain`: eta E[g_B . A g_B]; `loss`: 4 gamma (1 - eta gamma) C; rate = gain - loss.
    - `noise`, `mean`: the parts eta Tr[Sigma A] and eta g . A g of the gain.
    """

    rate: float
    gain: float
    loss: float
    noise: float
    mean: float


@dataclasses.dataclass(frozen=True)
class OrbitSlope:
    """`measured` and `predicted` d phi/d lambda, and `phi`."""

    measured: float
    predicted: float
    phi: float


@dataclasses.dataclass(frozen=True)
class Least:
    """`amount`: lambda of the least phi; `phi` there; `found`: False if it lies beyond the bound; `params` there."""

    amount: float
    phi: float
    found: bool
    params: PyTree


@dataclasses.dataclass(frozen=True)
class Invariance:
    """`loss`: the largest change of an example's loss; `gradient`: |g(R theta) - R g(theta)|/|g(theta)|; `phi_ratio`:
    phi(R theta)/phi(theta), which is 1 for an orthogonal symmetry."""

    loss: float
    gradient: float
    phi_ratio: float
