"""Both sides of an order sweep by sampling, driven by the same normal numbers, in antithetic groups of paths."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from dynamics.internal import Brownian, Increments, Layout, Path, Training, apart, is_ok, path_keys, record
from equations import AbstractEquation
from equations.internal import TwinState, split, state_from

from .._runaway import largest
from .runs import handover


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


class _Pair(eqx.Module):
    """A path of the equation at two numbers of substeps and one of the algorithm, step by step.

    With `noise="gaussian"` the normals of a training step of the algorithm are the sum of those of the equation's kicks;
    those of the coarser solution are always sums of those of the finer one, which have `sign`, `(kicks,)`.
    """

    sides: tuple[Path, Path]
    training: Training
    brownian: Brownian | None
    sign: Array

    @classmethod
    def of(
        cls, sides: tuple[Path, Path], params: PyTree, key: Array, member: Array, sign: Array, noise: str
    ) -> "_Pair":
        """Path number `member` of the group with this key, whose members have batches of their own."""
        equation: Any = sides[1].dynamics
        signal, finest = sides[1].signal, sides[1].kicks_per_step
        structure = sides[1].noise(equation.init(params))
        brownian = None if structure is None else Brownian(key, structure, finest, longest=1)
        training = Training.of(equation, signal, params, key if noise == "gaussian" else apart(key, member), noise)
        return cls(sides, training, brownian, sign)

    def draw(self, step: Array) -> PyTree | None:
        """The normals of the kicks of a training step of the finer side, leaves `(kicks, ...)`."""
        if self.brownian is None:
            return None

        def signed(leaf):
            return leaf[0] * self.sign.reshape(-1, *[1] * (leaf.ndim - 2)).astype(leaf.dtype)

        return jax.tree.map(signed, self.brownian.block(step))

    def start(self, state: PyTree) -> PyTree | None:
        """The state of the equation after training step 0 where it is singular before; None for all others."""
        noise = None
        if self.brownian is not None:
            one = split(self.sides[0].dynamics).noise(state, self.sides[0].signal, 1)
            noise = jax.tree.map(lambda leaf: leaf[0], _coarser(self.draw(jnp.zeros((), jnp.int32)), 1))
            noise = _as_wanted(noise, one)
        return self.sides[0].started(state, noise)

    def equation(self, step: Array, states: list[PyTree], normals: PyTree | None) -> list[PyTree]:
        """A training step of the equation on both sides."""

        def one(side, state):
            increments = None
            if normals is not None and self.brownian is not None:
                drawn = _as_wanted(_coarser(normals, side.kicks_per_step), side.noise(state))
                increments = Increments(self.brownian, jax.tree.map(lambda leaf: leaf[None], drawn), step)
            return side.step(step, state, increments)

        return [one(*pair) for pair in zip(self.sides, states, strict=True)]

    def algorithm(self, step: Array, run: tuple, normals: PyTree | None) -> tuple:
        """A training step of the algorithm."""
        if self.training.noise != "gaussian":
            normals = self.training.normals(step)
        elif normals is not None:
            normals = jax.tree.map(lambda leaf: leaf[0], _coarser(_first(normals), 1))
        return self.training.step(step, run, normals)


def _first(normals: PyTree) -> PyTree:
    """The draw that stands for a whole training step, where there is a pair for its parts."""
    return normals[0] if isinstance(normals, tuple) else normals


def _as_wanted(normals: PyTree, structure: PyTree) -> PyTree:
    """A pair of draws, or the first of it where one is wanted."""
    return normals if isinstance(structure, tuple) else _first(normals)


def _coarser(normals: PyTree, kicks: int) -> PyTree:
    """The same Brownian motion in fewer increments: leaves `(kicks, ...)`."""

    def leaf(x):
        return jnp.sum(x.reshape(kicks, -1, *x.shape[1:]), axis=1) / (x.shape[0] // kicks) ** 0.5

    return jax.tree.map(leaf, normals)


@eqx.filter_jit
def ensemble(
    sides: tuple[Path, Path],
    increment: AbstractEquation,
    params: PyTree,
    key: Array,
    *,
    steps: Array,
    skip: Array,
    groups: int,
    noise: str,
    farthest: Array,
    layout: Layout,
):
    """Records of the equation at `substeps` and twice as many steps of the solver per training step, and of the algorithm,
    after `skip + steps` training steps, the first `skip` of which are the algorithm's on both sides.

    The paths of a group differ in signs (`patterns`); groups are laid out as `layout` says.

    **Returns:** three dicts of arrays `(groups, group, ...)`, the last parameters of the algorithm on the first path, and
    `(groups, group)`, whether all three stayed finite and within `farthest`.
    """
    equation: Any = sides[1].dynamics
    finest = sides[1].kicks_per_step
    over = handover(equation, increment, params)

    def path(key, member, sign):
        pair = _Pair.of(sides, params, key, member=member, sign=sign, noise=noise)
        origin = equation.init(params)
        started = pair.start(origin)

        def alone(k, run):
            return pair.algorithm(k, run, pair.draw(k) if noise == "gaussian" else None)

        def step(k, carry):
            states, run = carry
            normals = pair.draw(k)
            new = pair.equation(k, states, normals)
            if started is not None:
                new = [jax.tree.map(lambda a, b: jnp.where(k == 0, a, b), started, state) for state in new]
            return new, pair.algorithm(k, run, normals)

        run = jax.lax.fori_loop(0, skip, alone, pair.training.init(params))
        begin = origin
        if over is not None:
            state = over(TwinState.of(*run[:2]))
            begin = jax.tree.map(lambda new, old: jnp.where(skip > 0, new, old), state, origin)
        states, run = jax.lax.fori_loop(skip, skip + steps, step, ([begin, begin], run))
        finals = [*(equation.params(state) for state in states), run[0]]
        ok = jnp.all(jnp.stack([is_ok(final) for final in finals])) & (largest(finals) <= farthest)
        seen = [*(lambda state=state: state for state in states), lambda: state_from(equation, TwinState.of(*run[:2]))]
        records = [
            record(sides[0].observe, final, sides[0].static, state) for final, state in zip(finals, seen, strict=True)
        ]
        return records, finals[2], ok

    signs = jnp.asarray(patterns(finest))
    group = jax.vmap(path, in_axes=(None, 0, 0))
    records, finals, ok = layout.vmap(
        lambda key: group(key, jnp.arange(len(signs)), signs), (0,), path_keys(key, groups)
    )
    return records, jax.tree.map(lambda leaf: leaf[0, 0], finals), ok
