"""The two sides of an order sweep at one learning rate without noise, and their sharpness."""

from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from dynamics.internal import record
from equations import AbstractEquation
from equations.internal import add_scaled, split, state_from

from .._runaway import largest


def same_form(a: PyTree, b: PyTree) -> bool:
    """Whether two states have the same structure and shapes."""
    shapes = [[jnp.shape(leaf) for leaf in jax.tree.leaves(tree)] for tree in (a, b)]
    return jax.tree.structure(a) == jax.tree.structure(b) and shapes[0] == shapes[1]


def handover(equation: AbstractEquation, increment: AbstractEquation, params: PyTree):
    """The function from the state of the discrete algorithm to that of the equation, or None where there is none.

    An equation may say it itself (`resumed`). Else a state of the same form is the same state; the other form that is known
    is the parameters alone.
    """
    splitting = split(equation)
    state, discrete = (eqx.filter_eval_shape(side.init, params) for side in (equation, increment))
    if eqx.filter_eval_shape(splitting.resumed, discrete.params, discrete.memory) is not None:
        return lambda y: splitting.resumed(y.params, y.memory)
    if same_form(state, discrete):
        return lambda y: y
    return increment.params if same_form(state, params) else None


def closed(solver: dfx.AbstractSolver) -> dfx.AbstractSolver:
    """A Runge-Kutta method with a loop over its stages that needs no `diffeqsolve` around it."""
    return eqx.tree_at(lambda s: s.scan_kind, solver, "lax", is_leaf=lambda x: x is None)


@eqx.filter_jit
def deterministic(equation, increment, signal, params, *, static, observe, steps, skip, solver, substeps):
    """Observables of the equation at `substeps` steps of the solver per training step and at twice as many, and of the
    algorithm, after `skip + steps` training steps, the first `skip` of which are the algorithm's on both sides.

    **Returns:** the three records, the parameters of the algorithm at the end, whether all states were finite, and the
    largest size of a parameter at the end of all three.
    """
    eta = equation.learning_rate

    def algorithm(k, y):
        t, gradient = eta * k.astype(eta.dtype), increment.gradient(increment.params(y), signal, None)
        return add_scaled(y, (eta, increment.held(k).velocity(t, y, gradient)))

    origin = increment.init(params)
    middle = jax.lax.fori_loop(0, skip, algorithm, origin)
    end = jax.lax.fori_loop(skip, skip + steps, algorithm, middle)

    fresh, begin = equation.init(params), jnp.asarray(skip)
    started = split(equation.held(jnp.zeros((), jnp.int32))).start(fresh, signal, None)
    if started is not None:  # singular at t = 0: the first step is the algorithm's
        fresh, begin = started, jnp.maximum(begin, 1)
    over = handover(equation, increment, params)
    if over is not None:
        fresh = jax.tree.map(lambda new, old: jnp.where(skip > 0, new, old), over(middle), fresh)

    clock = jnp.result_type(*jax.tree.leaves(fresh))  # a clock of another dtype would promote the state
    method = closed(solver)

    def flow(parts):
        def step(j, y):
            t0, t1 = (((j + i).astype(eta.dtype) * (eta / parts)).astype(clock) for i in (0, 1))
            held = equation.held(j // parts)
            term = dfx.ODETerm(lambda t, y, args: held.drift(t, y, signal))
            state = method.init(term, t0, t1, y, None)
            new = method.step(term, t0, t1, y, None, state, made_jump=False)[0]
            return jax.tree.map(lambda leaf, old: leaf.astype(old.dtype), new, y)

        return jax.lax.fori_loop(begin * parts, (skip + steps) * parts, step, fresh)

    both = jax.lax.map(flow, jnp.stack([substeps, 2 * substeps]))
    solved = [jax.tree.map(lambda leaf, place=place: leaf[place], both) for place in (0, 1)]
    finals = [*(equation.params(state) for state in solved), increment.params(end)]
    finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves((solved, end))]))
    states = [*(lambda state=state: state for state in solved), lambda: state_from(equation, end)]
    records = [record(observe, *pair) for pair in zip(finals, [static] * 3, states, strict=True)]
    return records, finals[2], finite, largest(finals)


@eqx.filter_jit
def sharpness(signal: Any, params: PyTree) -> Array:
    """The largest modulus of an eigenvalue of the Hessian (the Jacobian of the gradient), by power iteration."""
    leaves, treedef = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    draws = [jax.random.normal(key, leaf.shape, leaf.dtype) for key, leaf in zip(keys, leaves, strict=True)]

    def length(tree):
        return jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree)))

    def body(_, carry):
        vector, size = carry
        scale = jnp.where(size > 0, size, 1)
        vector = jax.tree.map(lambda leaf: leaf / scale, vector)
        vector = jax.jvp(signal.gradient, (params,), (vector,))[1]
        return vector, length(vector)

    start = jax.tree.unflatten(treedef, draws)
    return jax.lax.fori_loop(0, 200, body, (start, length(start)))[1]
