"""Trees of a file as what they were: by the public names of their classes and by parameters like those of the run, or by
the equation. A file holds no code: no class is looked for but in `equations` and Optax."""

import dataclasses
from collections import OrderedDict
from typing import Any

import equinox as eqx
import jax
import optax
from jaxtyping import PyTree

import equations
from equations import internal

from ._paths.progress import names_of

_PUBLIC: dict[str, Any] = {"equations": equations, "optax": optax, "optax.contrib": optax.contrib, "internal": internal}


def describe(tree: PyTree, params: PyTree) -> Any:
    """What a tree is made of, as JSON has it: classes by name, and parts like the arrays of `params`, or some of them.

    None where that is not all that there is to say, as of a class of one's own.
    """
    if type(tree) is OrderedDict:  # in which others come from a file
        return None
    try:
        found = _describe(tree, params)
        shapes = [jax.ShapeDtypeStruct((), leaf.dtype) for leaf in jax.tree.leaves(tree)]
        again = jax.tree.structure(rebuilt(found, shapes, params))
    except (LookupError, TypeError, ValueError):
        return None
    return found if again == jax.tree.structure(tree) else None


def rebuilt(description: Any, leaves: list, params: PyTree) -> PyTree:
    """The tree that was described, from its leaves, and parameters like those with which it was."""
    rest = iter(leaves)

    def build(described):
        (kind, inside), *more = described.items()
        if more:
            raise ValueError("A description says one thing.")
        if kind == "none":
            return None
        if kind == "leaf":
            return next(rest)
        if kind == "params":
            return _like(params, inside, rest)
        if kind == "dict":
            return {name: build(part) for name, part in inside}
        if kind in ("tuple", "list"):
            return {"tuple": tuple, "list": list}[kind](build(part) for part in inside)
        cls = _class(kind)
        return cls(**{name: build(part) for name, part in inside})

    tree = build(description)
    if next(rest, None) is not None:
        raise ValueError("A description has a place for every leaf.")
    return tree


def by_names(found: PyTree, structure: PyTree, ahead: int) -> PyTree | None:
    """Leaves by name in a structure of `jax.ShapeDtypeStruct`, with so many axes ahead; None where they are others."""
    expected = dict(zip(names_of(structure), jax.tree.leaves(structure), strict=True))
    own = dict(zip(names_of(found), jax.tree.leaves(found), strict=True))
    alike = own.keys() == expected.keys() and all(
        (own[name].shape[ahead:], own[name].dtype) == (leaf.shape, leaf.dtype) for name, leaf in expected.items()
    )
    return jax.tree.unflatten(jax.tree.structure(structure), [own[name] for name in expected]) if alike else None


def _describe(node: PyTree, params: PyTree) -> dict[str, Any]:
    if node is None:
        return {"none": None}
    own, names = set(names_of(node)), names_of(params)
    if own:
        held = [name in own for name in names]
        like = _like(params, held, iter(jax.tree.leaves(params)), skip=True)
        if jax.tree.structure(like) == jax.tree.structure(node):
            return {"params": None if all(held) else held}
    if jax.tree.structure(node) == jax.tree.structure(0):
        return {"leaf": None}
    if type(node) in (tuple, list):
        return {type(node).__name__: [_describe(part, params) for part in node]}
    if type(node) is dict:
        return {"dict": [[name, _describe(node[name], params)] for name in sorted(node)]}
    return {_name(type(node)): [[name, _describe(getattr(node, name), params)] for name in _fields(node)]}


def _like(params: PyTree, held: list[bool] | None, leaves: Any, skip: bool = False) -> PyTree:
    """Leaves in the place of those of `params` that are held; `skip`: there are leaves for the others too."""
    treedef = jax.tree.structure(params)
    held = [True] * treedef.num_leaves if held is None else held
    if len(held) != treedef.num_leaves:
        raise ValueError("There are other parameters.")
    found = []
    for holds in held:
        leaf = next(leaves) if holds or skip else None
        found.append(leaf if holds else None)
    return jax.tree.unflatten(treedef, found)


def _fields(node: Any) -> list[str]:
    named: Any = node
    if isinstance(node, tuple):
        return list(named._fields)
    if not isinstance(node, eqx.Module) or any(field.metadata.get("static") for field in dataclasses.fields(node)):
        raise TypeError("Neither named tuple nor module of arrays.")
    return [field.name for field in dataclasses.fields(node)]


def _name(cls: type) -> str:
    """Of a class, by which it is found again."""
    for place, library in _PUBLIC.items():
        if getattr(library, cls.__name__, None) is cls:
            return f"{place}.{cls.__name__}"
    raise LookupError(cls.__name__)


def _class(name: str) -> type:
    place, _, own = name.rpartition(".")
    cls = getattr(_PUBLIC[place], own)
    if not (isinstance(cls, type) and (issubclass(cls, eqx.Module | tuple))):
        raise LookupError(name)
    return cls
