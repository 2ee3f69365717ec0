"""What a run gave back for all its paths is not the parameters of one model."""

import weakref
from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import PyTree

from equations.internal import is_parameter, is_traced, leaf_name

_leaves: weakref.WeakValueDictionary = weakref.WeakValueDictionary()  # by identity
_seen: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # by loss: axes of its results, and shapes


_WORDING = "Argument `params` must be the parameters of one model, but "
_DO = (
    "a leading axis `paths`: take one path, as in jax.tree.map(lambda leaf: leaf[0], trajectory.final), or vmap over "
    "them."
)


def hand_out(objective: Any, params: PyTree, *results: PyTree) -> None:
    """Remembers the arrays of a trajectory, whose leading axis counts the paths, as long as they live.

    **Arguments:** `objective` and `params`, the parameters that the run began with; `results`, arrays `(paths, ...)`:
    parameters, states and observables.
    """
    arrays = [leaf for leaf in jax.tree.leaves(results) if is_parameter(leaf)]
    for leaf in arrays:
        _leaves[id(leaf)] = leaf
    loss, paths = _loss(objective), arrays[0].shape[0]
    if loss is None:
        return
    shapes = tuple(_shapes(params))
    if paths > 1:
        _seen.setdefault(loss, set()).add(((paths,), shapes))
    if is_traced(arrays[0]):
        _tell_axis(
            arrays[0], lambda size: _seen.setdefault(loss, set()).update({((size,), shapes), ((size, paths), shapes)})
        )


def _tell_axis(leaf: jax.Array, tell: Callable[[int], Any]) -> None:
    """Tells the size of the axis that a `vmap` around puts ahead of a traced array; it does so while that is traced."""

    @jax.custom_batching.custom_vmap
    def mark(leaf):
        return leaf

    @mark.def_vmap
    def batched(size, axes, leaf):
        if axes[0]:
            tell(size)
        return leaf, axes[0]

    mark(jax.lax.stop_gradient(leaf))


def check_one_model(params: PyTree) -> None:
    """Raises a ValueError where an array among the parameters is one that a trajectory handed out for all its paths."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if _leaves.get(id(leaf)) is leaf:
            raise ValueError(
                f"{_WORDING}{leaf_name('params', path)}, of shape {leaf.shape}, is what a run gave for all its paths, with "
                + _DO
            )


def check_axis(objective: Any, params: PyTree) -> None:
    """Raises a ValueError where parameters have an axis ahead that those of an earlier run of the very loss had not, as
    long as there were paths or runs under `vmap`, and the others are as they were: copies of what was handed out."""
    loss, shapes = _loss(objective), tuple(_shapes(params))
    if loss is None:
        return
    for axes, earlier in _seen.get(loss, ()):
        alike = len(shapes) == len(earlier) and all(
            shape in (old, (*axes, *old)) for shape, old in zip(shapes, earlier, strict=True)
        )
        if alike and shapes != earlier:
            paths = " x ".join(map(str, axes))
            raise ValueError(
                f"{_WORDING}the same loss was run before on parameters of shapes {list(earlier)} and {paths} paths, and "
                f"these have shapes {list(shapes)}, as if with {_DO} If they are meant so, give the loss in a function of "
                "its own."
            )


def _shapes(params: PyTree) -> list[tuple[int, ...]]:
    return [leaf.shape for leaf in jax.tree.leaves(params) if is_parameter(leaf)]


def _loss(objective: Any) -> Any:
    """The loss at the bottom of a signal; None where there is none that can be remembered."""
    loss = getattr(objective, "loss", None)
    try:
        hash(loss)
        weakref.ref(loss)
    except TypeError:
        return None
    return loss
