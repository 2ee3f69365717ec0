"""Brownian paths for Diffrax's solvers, in the time of a path: steps of the solver, each of length one.

Solvers that see increments alone take those of `_paths.brownian`, which are the same for any number of steps in a training
step. Those that need Lévy areas too take the numbers of Diffrax's own `UnsafeBrownianPath`.
"""

import dataclasses
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
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
    """Diffrax's numbers for the step in which it is, which its clock tells apart by blocks of steps."""

    key: Array
    clock: Clock
    structure: PyTree[jax.ShapeDtypeStruct] = eqx.field(static=True)
    levy_area: Any = eqx.field(static=True)

    def evaluate(self, t0, t1=None, left=True, use_levy=False):
        step = self.clock.offset * self.clock.substeps + jnp.rint(t0).astype(self.clock.offset.dtype)
        block, step, own = step // _BLOCK, step % _BLOCK, self.key
        key = jax.lax.cond(block > 0, lambda: jax.random.fold_in(own, block), lambda: own)
        dtype = jnp.result_type(t0)
        path = dfx.UnsafeBrownianPath(self.structure, key, self.levy_area)
        return path.evaluate(step.astype(dtype), (step + 1).astype(dtype), use_levy=use_levy)


class Forest(AbstractInTime):
    """Diffrax's Brownian trees of unit length, one for each of the times 0 to 1, 1 to 2, 2 to 4, 4 to 8, ... of training
    steps: a path without an end, of which runs of any length see the same. No step goes over the border of two."""

    key: Array
    smallest: Array
    structure: PyTree[jax.ShapeDtypeStruct] = eqx.field(static=True)
    levy_area: Any = eqx.field(static=True)

    @staticmethod
    def between(begin: Array, end: Array) -> Array:
        """The borders between two times; the end in place of others."""
        borders = jnp.asarray(2.0 ** np.arange(31), end.dtype)
        return jnp.where((borders > begin) & (borders < end), borders, end)

    def evaluate(self, t0: Any, t1: Any = None, left=True, use_levy=False):
        exponent = jnp.frexp(jnp.maximum(t0, 0.5))[1]  # t0 is in [2^(exponent - 1), 2^exponent)
        tree = jnp.where(t0 < 1, 0, exponent)
        length = jnp.where(t0 < 1, 1.0, jnp.ldexp(jnp.ones_like(t0), exponent - 1)).astype(t0.dtype)
        begin = jnp.where(t0 < 1, 0.0, length).astype(t0.dtype)
        path = dfx.VirtualBrownianTree(
            0.0, 1.0, self.smallest / length / 2, self.structure, jax.random.fold_in(self.key, tree), self.levy_area
        )
        found: Any = path.evaluate((t0 - begin) / length, (t1 - begin) / length, use_levy=use_levy)
        root = jnp.sqrt(length)
        scaled = jax.tree.map(lambda leaf: (root * leaf).astype(leaf.dtype), found)
        if not use_levy:
            return scaled
        return dataclasses.replace(scaled, dt=jax.tree.map(lambda leaf: length * leaf, found.dt))


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
