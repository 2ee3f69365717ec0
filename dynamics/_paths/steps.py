"""Fixed steps of a Diffrax solver, one after another."""

from typing import Any

import diffrax as dfx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from .lanes import loop_in_lanes


def take_steps(
    terms: PyTree,
    solver: dfx.AbstractSolver,
    begin: PyTree,
    *,
    count: Array,
    most: int,
    adjoint: dfx.AbstractAdjoint | None,
    first: Array | None = None,
    inner: PyTree = None,
    args: PyTree = None,
    lanes: bool = False,
) -> tuple[PyTree, Any]:
    """The state after `count` steps from `begin` on a clock that counts them, and the solver's own.

    By `diffrax.diffeqsolve`, whose adjoints are for reverse-mode differentiation. A run that is not differentiated so
    (`adjoint` is None, or ForwardMode) takes the same steps in a plain loop: `diffeqsolve` takes more than half of the time
    to trace and to compile a run, a part of it for a hundred `nextafter` that Diffrax 0.7.2 writes out before its loop.

    **Arguments:**

    - `count`: a whole number in the dtype of the clock, at most `most`.
    - `first`: what the clock begins with; None: zero.
    - `inner`: the solver's state, where it goes on; None: it begins.
    - `args`: of the terms.
    - `lanes`: whether many paths, in a plain loop, are the last axis of their arrays.
    """
    start = jnp.zeros_like(count) if first is None else first
    stop = start + count
    if isinstance(adjoint, None | dfx.ForwardMode):
        if inner is None:
            inner = solver.init(terms, start, stop, begin, args)

        if lanes and adjoint is None:

            def one(given, t, carry):
                terms, solver, args = given
                y, _, _, inner, _ = solver.step(terms, t, t + 1, carry[0], args, carry[1], made_jump=False)
                return y, inner

            return loop_in_lanes(one, (terms, solver, args), start, stop, (begin, inner))

        def step(carry):
            t, y, inner = carry
            y, _, _, inner, _ = solver.step(terms, t, t + 1, y, args, inner, made_jump=False)
            return t + 1, y, inner

        return jax.lax.while_loop(lambda carry: carry[0] < stop, step, (start, begin, inner))[1:]
    solution: Any = dfx.diffeqsolve(
        terms,
        solver,
        t0=start,
        t1=stop,
        dt0=jnp.ones_like(count),
        y0=begin,
        args=args,
        # As a list, since Diffrax cannot save a tree with an empty tuple in it.
        saveat=dfx.SaveAt(t1=True, solver_state=True, fn=lambda t, y, args: jax.tree.leaves(y)),
        adjoint=adjoint,
        max_steps=most,
        throw=False,
        solver_state=inner,
        made_jump=None if inner is None else False,
    )
    end = jax.tree.unflatten(jax.tree.structure(begin), [leaf[-1] for leaf in solution.ys])
    return end, solution.solver_state
