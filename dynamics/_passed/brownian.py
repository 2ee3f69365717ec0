"""Brownian paths for Diffrax's solvers, in the time of a path: steps of the solver, each of length one.

Solvers that see increments alone take those of `_paths.brownian`, which are the same for any number of steps in a training
step. Those that need Lévy areas too take the numbers of Diffrax's own `UnsafeBrownianPath`.
"""

from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from .._paths.brownian import Increments
from .._paths.terms import Clock

# Diffrax keys its numbers by the times as float32, which are exact up to here.
_BLOCK = 1 << 15


class AbstractInTime(dfx.AbstractBrownianPath):
    """A Brownian motion in steps of the solver, without a begin or an end."""

    @property
    def t0(self):
        return -jnp.inf

    @property
    def t1(self):
        return jnp.inf


class Stepwise(AbstractInTime):
    """The increments that our own solvers take."""

    increments: Increments
    clock: Clock
    levy_area: Any = eqx.field(static=True, default=dfx.BrownianIncrement)

    def evaluate(self, t0, t1=None, left=True, use_levy=False):
        substep = jnp.rint(t0).astype(self.clock.offset.dtype)
        rows = self.increments(self.clock.step(substep))
        normals = jax.tree.map(lambda leaf: leaf[substep % self.clock.substeps], rows)
        return dfx.BrownianIncrement(dt=jnp.ones_like(t0), W=normals) if use_levy else normals


class Fresh(AbstractInTime):
    """Diffrax's numbers for the step in which it is; `long` where there are more steps than its clock tells apart."""

    key: Array
    clock: Clock
    structure: PyTree[jax.ShapeDtypeStruct] = eqx.field(static=True)
    levy_area: Any = eqx.field(static=True)
    long: bool = eqx.field(static=True)

    def evaluate(self, t0, t1=None, left=True, use_levy=False):
        step = self.clock.offset * self.clock.substeps + jnp.rint(t0).astype(self.clock.offset.dtype)
        key, dtype = self.key, jnp.result_type(t0)
        if self.long:
            key, step = jax.random.fold_in(key, step // _BLOCK), step % _BLOCK
        path = dfx.UnsafeBrownianPath(self.structure, key, self.levy_area)
        return path.evaluate(step.astype(dtype), (step + 1).astype(dtype), use_levy=use_levy)

    @staticmethod
    def is_long(steps: int) -> bool:
        return steps > _BLOCK


def innermost(solver: Any) -> Any:
    """The solver that makes the steps, inside of those around it such as `diffrax.HalfSolver`."""
    while isinstance(solver, dfx.AbstractWrappedSolver):
        solver = solver.solver
    return solver


def levy_area_of(solver: dfx.AbstractSolver) -> Any:
    """What a solver needs to know of a Brownian path, as the class of Diffrax that holds it."""
    solver = innermost(solver)
    if isinstance(solver, dfx.AbstractSRK | dfx.AbstractFosterLangevinSRK):
        for known, needed in (
            (dfx.SpaceTimeTimeLevyArea, dfx.AbstractSpaceTimeTimeLevyArea),
            (dfx.SpaceTimeLevyArea, dfx.AbstractSpaceTimeLevyArea),
        ):
            if issubclass(solver.minimal_levy_area, needed):
                return known
    return dfx.BrownianIncrement
