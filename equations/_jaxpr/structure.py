"""Whether a function is affine in its argument, does not depend on it, or is even in it: from its jaxpr, and by trying."""

from collections.abc import Callable

import jax
import jax.extend.core
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from .interpreter import called

_LINEAR = {
    "add", "sub", "neg", "add_any", "copy", "copy_p", "convert_element_type", "reshape", "broadcast_in_dim", "transpose",
    "squeeze", "expand_dims", "reduce_sum", "slice", "split", "concatenate", "pad", "rev", "cumsum", "real",
    "imag", "conj", "complex", "fft", "sharding_constraint", "optimization_barrier",
}  # fmt: skip
_LINEAR_IN_FIRST = {"div", "dynamic_slice", "gather", "reduce_precision"}
# Linear in all arguments but these, by place.
_LINEAR_BUT = {"scatter-add": (1,), "scatter": (1,), "triangular_solve": (0,)}
_BILINEAR = {"mul", "dot_general", "conv_general_dilated"}
_EVEN_OF_ODD = {"abs", "square"}
# What is not affine where its arguments depend on the gradient: nobody need try.
_NONLINEAR = {
    "abs", "acos", "acosh", "and", "argmax", "argmin", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "ceil",
    "clamp", "cond", "convert_element_type", "cos", "cosh", "cummax", "cummin", "cumprod", "digamma", "div",
    "dot_general", "dynamic_slice", "eq", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "floor", "gather", "ge",
    "gt", "integer_pow", "is_finite", "le", "lgamma", "log", "log1p", "logistic", "lt", "max", "min", "mul", "ne",
    "nextafter", "not", "or", "pow", "reduce_and", "reduce_max", "reduce_min", "reduce_or", "reduce_prod", "rem",
    "round", "rsqrt", "select_n", "sign", "sin", "sinh", "sort", "sqrt", "square", "tan", "tanh", "top_k",
}  # fmt: skip


# How a value depends on the argument: not at all, affinely, or otherwise as far as is known.
FREE, AFFINE, OTHER = range(3)
# The same for parity.
_EVEN, _ODD = 1, 3


def propagate(rule: Callable, jaxpr, inputs: list[int]) -> list[int]:
    """The marks of a jaxpr's outputs, given those of its inputs; `rule(eqn, marks)` are those of what one equation gives,
    alike or one for each."""
    known = dict(zip(jaxpr.invars, inputs, strict=True))

    def of(atom):
        return FREE if isinstance(atom, jax.extend.core.Literal) else known.get(atom, FREE)

    for eqn in jaxpr.eqns:
        marks = [of(atom) for atom in eqn.invars]
        if not any(marks):
            continue
        if (inner := called(eqn)) is not None:
            outputs = propagate(rule, inner[0], marks)
        else:
            found = rule(eqn, marks)
            outputs = found if isinstance(found, list) else [found] * len(eqn.outvars)
        known.update(zip(eqn.outvars, outputs, strict=True))
    return [of(atom) for atom in jaxpr.outvars]


def dependence(eqn, marks: list[int]) -> int | list[int]:
    name = eqn.primitive.name
    if name == "scan":
        return _of_scan(eqn.params, marks)
    if name == "cond" and not marks[0]:
        branches = [propagate(dependence, branch.jaxpr, marks[1:]) for branch in eqn.params["branches"]]
        return [max(marks) for marks in zip(*branches, strict=True)]
    if name in _LINEAR:
        # A cast to integers rounds.
        linear = all(jnp.issubdtype(var.aval.dtype, jnp.inexact) for var in eqn.outvars)
    elif name in _LINEAR_IN_FIRST:
        linear = not any(marks[1:])
    elif name == "select_n":
        linear = not marks[0]
    elif name in _LINEAR_BUT:
        linear = not any(marks[place] for place in _LINEAR_BUT[name])
    elif name == "custom_linear_solve":  # linear in the right-hand sides, which follow the constants of the matrix
        linear = not any(marks[: sum(eqn.params["const_lengths"])])
    else:
        linear = name in _BILINEAR and not all(marks)
    return max(marks) if linear else OTHER


def _of_scan(params, marks: list[int]) -> list[int]:
    """A carry depends on all that it depends on in any pass."""
    constants, carries = params["num_consts"], params["num_carry"]
    carry = marks[constants : constants + carries]
    while True:
        found = propagate(
            dependence, params["jaxpr"].jaxpr, [*marks[:constants], *carry, *marks[constants + carries :]]
        )
        joined = [max(pair) for pair in zip(carry, found[:carries], strict=True)]
        if joined == carry:
            return [*carry, *found[carries:]]
        carry = joined


def _parity(eqn, marks: list[int]) -> int:
    name = eqn.primitive.name
    if not set(marks) - {FREE, _EVEN}:
        return _EVEN  # whatever is done to what does not see the sign
    if OTHER in marks:
        return OTHER
    if name in _BILINEAR | {"div"}:
        return _ODD if marks.count(_ODD) == 1 else _EVEN
    if name in {"abs", "square"} or (name == "integer_pow" and eqn.params["y"] % 2 == 0):
        return _EVEN
    return _ODD if name in _LINEAR and set(marks) == {_ODD} else OTHER


def _gain(eqn, marks: list[int]) -> int:
    name, known = eqn.primitive.name, set(marks) - {FREE}
    itself = name == "mul" and eqn.invars[0] is eqn.invars[1]
    if name in _EVEN_OF_ODD or itself or (name == "integer_pow" and eqn.params["y"] % 2 == 0):
        return _EVEN
    keeps = name in _LINEAR | {"mul", "div", "max", "select_n"}
    return _EVEN if known == {_EVEN} and keeps else OTHER


def is_affine(function: Callable, argument: PyTree) -> bool:
    """Whether `function` is provably affine in `argument`; only shapes and dtypes of the argument matter.

    Conservative: primitives that are not known to be linear (a square root, a sign, a new one) count as not affine.
    """
    jaxpr = jax.make_jaxpr(function)(argument).jaxpr
    return OTHER not in propagate(dependence, jaxpr, [AFFINE] * len(jaxpr.invars))


def obstacles(function: Callable, argument: PyTree) -> set[str]:
    """The primitives at which `function` stops being provably affine, those apart that are known not to be."""
    found = set()

    def rule(eqn, marks):
        outputs = dependence(eqn, marks)
        if OTHER not in marks and OTHER in (outputs if isinstance(outputs, list) else [outputs]):
            found.add(eqn.primitive.name)
        return outputs

    jaxpr = jax.make_jaxpr(function)(argument).jaxpr
    propagate(rule, jaxpr, [AFFINE] * len(jaxpr.invars))
    return found - _NONLINEAR


def departure(function: Callable, argument: PyTree, decades: int | Array = 6) -> Array:
    """How far `function` departs from its tangent at zero, over the sizes of both, at random arguments of sizes from
    10^-decades to 10^decades; NaN where there is no tangent. A clip that is reached beyond these is not seen."""
    leaves, treedef = jax.tree.flatten(jax.tree.map(jnp.zeros_like, argument))
    zero = jax.tree.unflatten(treedef, leaves)

    def one(item):
        key, size = item
        keys = jax.random.split(key, len(leaves))
        normals = [jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True)]
        there = jax.tree.unflatten(treedef, [(size * z).astype(z.dtype) for z in normals])
        base, along = jax.jvp(function, (zero,), (there,))
        off = total = 0.0
        for value, start, slope in zip(*map(jax.tree.leaves, (function(there), base, along)), strict=True):
            off += jnp.sum((value - start - slope) ** 2)
            total += jnp.sum(value**2 + start**2 + slope**2)
        return jnp.sqrt(off / jnp.where(total > 0, total, 1.0))

    sizes = 10 ** (jnp.linspace(-1, 1, 7) * decades)
    return jnp.max(jax.lax.map(one, (jax.random.split(jax.random.key(0), len(sizes)), sizes)))


def is_free(function: Callable, argument: PyTree) -> bool:
    """Whether `function` provably does not depend on `argument`."""
    jaxpr = jax.make_jaxpr(function)(argument).jaxpr
    return not any(propagate(dependence, jaxpr, [AFFINE] * len(jaxpr.invars)))


def squares(function: Callable, argument: PyTree) -> PyTree[int]:
    """For every leaf of the function's value 1 if it provably depends on `argument`, but not on its sign; 2 if it sees it
    through other squares only, such as that of a deviation from a mean; 0 for all others.

    Squares are added, with factors that do not depend on the argument; the signs of these are not looked at.
    """
    jaxpr, value = jax.make_jaxpr(function, return_shape=True)(argument)
    inputs = len(jaxpr.jaxpr.invars)
    even = propagate(_parity, jaxpr.jaxpr, [_ODD] * inputs)
    gain = propagate(_gain, jaxpr.jaxpr, [OTHER] * inputs)
    marks = [1 if e == _EVEN else 2 if g == _EVEN else 0 for e, g in zip(even, gain, strict=True)]
    return jax.tree.unflatten(jax.tree.structure(value), marks)
