"""Both sides of an order sweep by sampling, driven by the same normal numbers, in antithetic groups of paths."""

from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from dynamics import Strang
from dynamics.internal import (
    Brownian,
    Clock,
    EulerTerm,
    Field,
    Increments,
    KickTerm,
    Sampler,
    is_good,
    path_keys,
    record,
)
from equations import AbstractEquation
from equations.internal import add_scaled, split

from .runs import closed, handover, largest


class _Numerics(eqx.Module):
    """The equation as solved with `substeps` steps of the solver in a training step."""

    equation: AbstractEquation
    signal: Any
    solver: dfx.AbstractSolver
    substeps: int = eqx.field(static=True)

    @property
    def kicks(self) -> int:
        """Kicks in a training step."""
        each = (self.solver.kicks or split(self.equation).kicks) if isinstance(self.solver, Strang) else 1
        return each * self.substeps

    def structure(self, state: PyTree) -> PyTree:
        """That of the normals of a kick; None without noise."""
        return split(self.equation).noise(state, self.signal, self.kicks)

    def step(self, k: Array, state: PyTree, normals: PyTree, brownian: Brownian | None) -> PyTree:
        """Training step k with the normals of its kicks, leaves `(kicks, ...)`."""
        drawn = None
        if brownian is not None:
            whole = isinstance(normals, tuple) and not isinstance(self.structure(state), tuple)
            normals = normals[0] if whole else normals  # one draw for the step of a rule that takes a pair for parts
            drawn = Increments(brownian, jax.tree.map(lambda leaf: leaf[None], normals), k)
        clock, held = Clock(k, self.equation.learning_rate / self.substeps, self.substeps), self.equation.held(k)
        if isinstance(self.solver, Strang):
            field = dfx.ODETerm(Field(held, self.signal, clock, whole=False))
            kick = KickTerm(held, self.signal, clock, drawn, self.kicks // self.substeps)
            terms = dfx.MultiTerm(field, kick)
        else:
            terms = EulerTerm(held, self.signal, clock, drawn)
        dtype = jnp.result_type(*jax.tree.leaves(state))

        def substep(state, j):
            t0, t1 = j.astype(dtype), (j + 1).astype(dtype)
            inner = self.solver.init(terms, t0, t1, state, None)
            return self.solver.step(terms, t0, t1, state, None, inner, made_jump=False)[0], None

        return jax.lax.scan(substep, state, jnp.arange(self.substeps))[0]


def _coarser(normals: PyTree, kicks: int) -> PyTree:
    """The same Brownian motion in fewer increments: leaves `(kicks, ...)`."""

    def leaf(x):
        return jnp.sum(x.reshape(kicks, -1, *x.shape[1:]), axis=1) / (x.shape[0] // kicks) ** 0.5

    return jax.tree.map(leaf, normals)


def patterns(kicks: int) -> np.ndarray:
    """The signs of the kicks of a training step on the paths of a group, shape `(group, kicks)`.

    Walsh functions, and the same with all signs changed: the group's mean is free of whatever is odd in the noise, and of
    products of different kicks (up to the eighth). These are what an equation's path has and its algorithm's has not.
    """
    signs = np.ones((1, 1))
    while len(signs) < min(kicks, 8):
        signs = np.block([[signs, signs], [signs, -signs]])
    signs = signs[:, np.arange(kicks) % len(signs)]
    return np.concatenate([signs, -signs])


def numerics(equation, signal, solver, substeps) -> list["_Numerics"]:
    """The equation as solved, and as refined."""
    return [_Numerics(equation, signal, solver, count) for count in (substeps, 2 * substeps)]


@eqx.filter_jit
def ensemble(
    equation, increment, signal, params, static, observe, steps, skip, key, groups, noise, solver, substeps, farthest
):  # fmt: skip
    """Records of the equation at `substeps` and twice as many steps of the solver per training step, and of the algorithm,
    after `skip + steps` training steps, the first `skip` of which are the algorithm's on both sides.

    With `noise="gaussian"` the normals of a training step of the algorithm are the sum of those of the equation's kicks,
    and those of the coarser solution sums of those of the finer one. The paths of a group differ in signs (`patterns`).

    **Returns:** three dicts of arrays `(groups, group, ...)`, the last parameters of the algorithm on the first path, and
    `(groups, group)`, whether all three stayed finite and within `farthest`.
    """
    if isinstance(solver, Strang):
        solver = eqx.tree_at(lambda s: s.flow, solver, closed(solver.flow))
    sides = numerics(equation, signal, solver, substeps)
    finest = sides[1].kicks
    eta, model = equation.learning_rate, equation.gradient_noise
    origin, memory = equation.init(params), increment.init(params)
    structure = sides[1].structure(origin)
    over = handover(equation, increment, params)

    def path(key, member, sign):
        brownian = None if structure is None else Brownian(key, structure, finest)
        batches = jax.random.fold_in(jax.random.fold_in(key, 2**31 - 1), member)
        sampler = None
        if noise == "minibatch" and equation.batch_size is not None:
            sampler = Sampler(batches, signal.size, equation.batch_size, equation.sampling)

        def draw(k):
            keys = jax.random.fold_in(key, k)
            leaves, treedef = jax.tree.flatten(structure)

            def signed(place, leaf):
                drawn = jax.random.normal(jax.random.fold_in(keys, place), (finest, *leaf.shape), leaf.dtype)
                return drawn * sign.reshape(finest, *[1] * len(leaf.shape)).astype(leaf.dtype)

            return jax.tree.unflatten(treedef, [signed(place, leaf) for place, leaf in enumerate(leaves)])

        def whole(normals):
            first = normals[0] if isinstance(normals, tuple) else normals
            return jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0) / finest**0.5, first)

        def gradient(k, state, normals, carried):
            at = increment.params(state)
            if noise == "gaussian":
                return equation.gradient(at, signal, None if normals is None else whole(normals)), carried
            batch = signal
            if sampler is not None:
                indices, carried = sampler.indices(k, carried)
                batch = signal.take(indices)
            drawn = None
            if model.injects:
                own = Brownian(jax.random.fold_in(batches, 2**31 - 1), model.injected(batch, at), 1)
                drawn = own.whole(k)
            return model.real(batch, at, drawn), carried

        def algorithm(k, run, carried, normals):
            grads, carried = gradient(k, run, normals, carried)
            return add_scaled(run, (eta, increment.held(k).velocity(eta * k.astype(eta.dtype), run, grads))), carried

        def alone(k, carry):
            return algorithm(k, *carry, None if structure is None else draw(k))

        def step(k, carry):
            states, run, carried = carry
            normals = None if structure is None else draw(k)
            new = [
                side.step(k, state, None if normals is None else _coarser(normals, side.kicks), brownian)
                for side, state in zip(sides, states, strict=True)
            ]
            if started is not None:
                new = [jax.tree.map(lambda a, b: jnp.where(k == 0, a, b), started, state) for state in new]
            return new, *algorithm(k, run, carried, normals)

        first = None if structure is None else jax.tree.map(lambda leaf: leaf[0], _coarser(draw(0), 1))
        if isinstance(first, tuple) and not isinstance(split(equation).noise(origin, signal, 1), tuple):
            first = first[0]
        started = split(equation.held(jnp.zeros((), jnp.int32))).start(
            origin, signal, first
        )  # the state after step 0, where the equation is singular before
        run, carried = jax.lax.fori_loop(0, skip, alone, (memory, None if sampler is None else sampler.init()))
        begin = origin
        if over is not None:
            begin = jax.tree.map(lambda new, old: jnp.where(skip > 0, new, old), over(run), origin)
        states, run, _ = jax.lax.fori_loop(skip, skip + steps, step, ([begin, begin], run, carried))
        finals = [*(equation.params(state) for state in states), increment.params(run)]
        good = jnp.all(jnp.stack([is_good(final) for final in finals])) & (largest(finals) <= farthest)
        return [record(observe, final, static) for final in finals], finals[2], good

    signs = jnp.asarray(patterns(finest))
    group = jax.vmap(path, in_axes=(None, 0, 0))
    records, finals, good = jax.vmap(lambda key: group(key, jnp.arange(len(signs)), signs))(path_keys(key, groups))
    return records, jax.tree.map(lambda leaf: leaf[0, 0], finals), good
