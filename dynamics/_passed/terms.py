"""The diffusion as Diffrax's solvers take it."""

from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

from equations.internal import zeros_of

from .._paths.terms import IncrementTerm

_LINEAR = (lx.DiagonalLinearOperator, lx.MatrixLinearOperator)


class Entries(eqx.Module):
    """A linear operator by its entries: for every leaf of what it gives those of what it takes, whose axes come last."""

    blocks: list[list[Array]]
    treedef: Any = eqx.field(static=True)

    def mv(self, vector: PyTree) -> PyTree:
        """The product with a vector."""
        parts = jax.tree.leaves(vector)

        def row(blocks):
            return sum(jnp.tensordot(block, part, part.ndim) for block, part in zip(blocks, parts, strict=True))

        return self.treedef.unflatten([row(blocks) for blocks in self.blocks])


def explicit(operator: lx.AbstractLinearOperator) -> Any:
    """The operator by its entries, so that a sum of its leaves is that of operators.

    Solvers that carry a diffusion from step to step, or differentiate it, add up leaves, which is wrong for what a function
    closes over and for an identity, which has none.
    """
    if type(operator) in _LINEAR:
        return operator
    zeros = zeros_of(operator.in_structure())
    values, treedef = jax.tree.flatten(operator.out_structure())
    entries = jax.tree.leaves(jax.jacfwd(operator.mv)(zeros))
    width = len(entries) // len(values)
    return Entries([entries[width * i : width * (i + 1)] for i in range(len(values))], treedef)


class NoiseTerm(IncrementTerm):
    """Diffusion and Brownian path, in steps of the solver, as `diffrax.ControlTerm` has them.

    **Attributes:**

    - `path`: of Diffrax.
    - `fixed`: where the noise is additive, a state at which it is read; None where it is read where the solver is.
    - `steady`: whether additive noise is the same at all times too. Then nothing but a factor 1 goes through the arithmetic
        of solvers on vector fields, for which a diffusion may stay a function.
    - `flat`: the structure of normal numbers that the solver is to see as one array, None where it sees them as they are.
        Diffrax's Itô-Milstein takes one array alone.
    """

    path: dfx.AbstractBrownianPath
    fixed: PyTree | None
    steady: bool = eqx.field(static=True)
    flat: PyTree[jax.ShapeDtypeStruct] | None = eqx.field(static=True)

    def contr(self, t0, t1, **kwargs):
        control = self.path.evaluate(t0, t1, **kwargs)
        return control if self.flat is None else ravel_pytree(control)[0]

    def vf(self, t, y, args):
        if self.steady:
            return jnp.ones((), self._dtype)
        return explicit(self._operator(t, y))

    def prod(self, vf, control):
        if self.steady:
            noise = self._scaled(self._operator(jnp.zeros((), self._dtype), None).mv(self._shaped(control)))
            return jax.tree.map(lambda leaf: vf * leaf, noise)
        return self._scaled(vf.mv(self._shaped(control)))

    def vf_prod(self, t, y, args, control):
        return self._scaled(self._operator(t, y).mv(self._shaped(control)))

    def is_vf_expensive(self, t0, t1, y, args):
        return True  # a product needs no entries

    @property
    def _dtype(self) -> Any:
        return self.clock.dt.dtype

    def _operator(self, t, y) -> Any:
        state = y if self.fixed is None else self.fixed
        return self.dynamics.diffusion(self.clock.time(jnp.asarray(t, self._dtype)), state, self.signal)

    def _shaped(self, control):
        return control if self.flat is None else ravel_pytree(zeros_of(self.flat))[1](control)

    def _scaled(self, noise):
        root = jnp.sqrt(self.clock.dt)
        return jax.tree.map(lambda leaf: (root * leaf).astype(self._dtype), noise)
