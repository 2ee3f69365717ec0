"""From the state of an equation to that of its discrete algorithm."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from ._handover import state_from
from ._modified.increment import TwinState


def twin_from(equation: Any, states: PyTree, step: int) -> TwinState | None:
    """The parameters and the memory of an algorithm after so many training steps, from states of its equation, leaves
    `(paths, ...)`; None where they are not known.

    What the algorithm remembers is read back from `state_from`: where this hands a part over as it is, or plus what other
    parts tell, it is that part of the state. What counts training steps counts these, and a number that the first step
    changes and no other, such as a flag of the first step, is what it is after it. That the algorithm's memory gives back
    the very state is tried on its numbers.
    """
    params = jax.vmap(equation.params)(states)
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), params)
    with jax.numpy_dtype_promotion("standard"):  # which Optax relies on
        empty = jax.eval_shape(lambda params: jax.tree.map(jnp.asarray, equation.twin().init(params)), one)
    if jax.eval_shape(lambda params, memory: state_from(equation, TwinState(params, memory)), one, empty) is None:
        return None
    given, treedef = jax.tree.leaves(states), jax.tree.structure(empty)
    paths = given[0].shape[0]
    taken = _taken(equation, one, empty)
    leaves: list[Any] = []
    for place, (path, leaf) in enumerate(jax.tree_util.tree_leaves_with_path(empty)):
        if place in taken:
            leaves.append(_as(given[taken[place]], leaf.dtype))
        elif jnp.issubdtype(leaf.dtype, jnp.integer) and jax.tree_util.keystr(path[-1:]) == ".count":
            leaves.append(jnp.full((paths, *leaf.shape), step, leaf.dtype))
        elif leaf.shape == () and (flag := _flag(equation, one, place, step)) is not None:
            leaves.append(jnp.full((paths,), flag, leaf.dtype))
        else:
            leaves.append(None)
    memory = _completed(equation, params, leaves, empty, given, set(taken.values()))
    if memory is None:
        return None
    twin = TwinState(params, jax.tree.unflatten(treedef, memory))
    return twin if _gives_back(equation, twin, states) else None


def _as(leaf: Any, dtype: Any) -> Any:
    """In the algorithm's precision; a count, which the equation has as a real number, as a whole one."""
    return jnp.rint(leaf).astype(dtype) if jnp.issubdtype(dtype, jnp.integer) else leaf.astype(dtype)


def _taken(equation: Any, params: PyTree, memory: PyTree) -> dict[int, int]:
    """For leaves of the memory, by number, the leaf of the state that is the same, but for its precision."""
    found = jax.make_jaxpr(lambda params, memory: state_from(equation, TwinState(params, memory)))(params, memory).jaxpr
    first = len(jax.tree.leaves(params))
    of_memory = {id(variable): place for place, variable in enumerate(found.invars[first:])}
    for made in found.eqns:
        if made.primitive.name == "convert_element_type" and id(made.invars[0]) in of_memory:
            of_memory[id(made.outvars[0])] = of_memory[id(made.invars[0])]
    return {of_memory[id(v)]: place for place, v in enumerate(found.outvars) if id(v) in of_memory}


def _flag(equation: Any, params: PyTree, place: int, step: int) -> Any:
    """A number of the memory that is the same after every training step but before the first, on any gradients."""
    twin, seen = equation.twin(), []
    for scale in (0.0, 1.0):
        at = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), params)
        gradient = jax.tree.map(lambda leaf, scale=scale: jnp.full(leaf.shape, scale, leaf.dtype), params)
        try:
            with jax.numpy_dtype_promotion("standard"):
                memories = [twin.init(at)]
                for _ in range(2):
                    memories.append(twin.update(gradient, memories[-1], at)[1])
        except TypeError:  # an algorithm of several gradients
            return None
        seen.append([float(jax.tree.leaves(memory)[place]) for memory in memories])
    return seen[0][min(step, 1)] if seen[0] == seen[1] and seen[0][1] == seen[0][2] else None


def _completed(equation, params, leaves: list, empty: PyTree, given: list, taken: set[int]) -> list | None:
    """With leaves that are a part of the state less what others tell of it."""
    missing = [place for place, leaf in enumerate(leaves) if leaf is None]
    if not missing:
        return leaves
    shapes, treedef = jax.tree.leaves(empty), jax.tree.structure(empty)
    paths = given[0].shape[0]
    known = [
        jnp.zeros((paths, *shape.shape), shape.dtype) if leaf is None else leaf
        for leaf, shape in zip(leaves, shapes, strict=True)
    ]
    told = jax.tree.leaves(_states(equation, TwinState(params, jax.tree.unflatten(treedef, known))))
    same = [np.array_equal(ours, theirs) for ours, theirs in zip(told, given, strict=True)]
    left = [place for place in range(len(given)) if place not in taken and not same[place]]
    if [given[place].shape[1:] for place in left] != [shapes[place].shape for place in missing]:
        return None
    for place, part in zip(missing, left, strict=True):
        known[place] = (given[part] - told[part]).astype(shapes[place].dtype)
    return known


def _states(equation: Any, twin: TwinState) -> PyTree:
    return jax.vmap(lambda params, memory: state_from(equation, TwinState(params, memory)))(twin.params, twin.memory)


def _gives_back(equation: Any, twin: TwinState, states: PyTree) -> bool:
    """To rounding, of which the algorithm's memory may have more."""
    coarse = max([1e-12, *(float(jnp.finfo(leaf.dtype).eps) for leaf in jax.tree.leaves(twin) if _real(leaf))])

    def near(ours, theirs):
        scale = np.max(np.abs(np.asarray(theirs, float)), initial=0.0)
        return np.allclose(np.asarray(ours, float), np.asarray(theirs, float), rtol=0, atol=16 * coarse * scale)

    return jax.tree.all(jax.tree.map(near, _states(equation, twin), states))


def _real(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.floating)
