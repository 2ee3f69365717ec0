"""The sharpness of a loss: the largest eigenvalues of its Hessian, plain and in the units of an algorithm's threshold."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from .._base import AbstractEquation
from .._checks.arguments import integer
from .._modified.increment import AbstractIncrement, Increment, at_infinity
from .._signals.base import AbstractSignal, check_signal, is_parameter
from .lanczos import largest
from .threshold import at_rest, check_by_coordinate, increment_of, reaches

_PRODUCTS = 30


def sharpness(objective: AbstractSignal, equation: AbstractEquation | None = None, *, top: int = 1) -> "Sharpness":
    r"""An observable: the largest eigenvalues of the Hessian of the mean loss.

    With an `equation` those of the Hessian as the algorithm is preconditioned, in the units of its threshold of stability:
    at 1 the linearized step, second moments frozen where they are, has an eigenvalue -1 (`stability_threshold`). For
    gradient descent that is eta lambda/2. Where the second moment changes it is read off the state, in `solve` and `train`.

    **Arguments:**

    - `objective`: a signal whose gradient has a symmetric derivative, such as an `Objective`.
    - `equation`: of an algorithm that acts coordinate by coordinate.
    - `top`: how many. By 30 Hessian-vector products of Lanczos' method, or as many as there are parameters.

    **Returns:** a function of the parameters, with an `equation` of parameters and state, that gives a number, or for `top`
    above 1 an array `(top,)`, the largest first.

    **Raises:** TypeError or ValueError, naming the argument.
    """
    check_signal(objective, "objective")
    top = integer("top", top, maximum=_PRODUCTS)
    if equation is None:
        return Sharpness(objective, top)
    increment = increment_of(equation)
    check_by_coordinate(increment, at_rest(increment, jnp.zeros((2, 2))))
    return RelativeSharpness(objective, top, equation)


def hessian_eigenpairs(
    objective: AbstractSignal, params: PyTree, *, top: int = 1, products: int = _PRODUCTS, begin: PyTree = None
) -> tuple[Float[Array, " top"], PyTree]:
    """The `top` largest eigenvalues of the Hessian of the mean loss and their eigenvectors, leaves `(top, ...)`.

    **Arguments:** `products`: Hessian-vector products, at most; `begin`: a direction to start from, as the eigenvector at
        parameters near by. Traced or not.

    **Raises:** TypeError or ValueError, naming the argument.
    """
    check_signal(objective, "objective")
    integer("top", top, maximum=integer("products", products, maximum=10_000))
    dynamic, static = eqx.partition(params, is_parameter)
    signal = objective.bind(static)

    def product(direction):
        return jax.jvp(signal.gradient, (dynamic,), (direction,))[1]

    return largest(product, direction_like(dynamic) if begin is None else begin, top, products)


def direction_like(params: PyTree) -> PyTree:
    """A fixed direction, orthogonal to nothing but by chance."""
    flat, unravel = ravel_pytree(params)
    return unravel(jax.random.normal(jax.random.key(7), flat.shape, flat.dtype))


class Sharpness(eqx.Module):
    """What `sharpness` returns."""

    objective: AbstractSignal
    top: int = eqx.field(static=True)

    def __call__(self, params: PyTree) -> Array:
        return self._values(hessian_eigenpairs(self.objective, params, top=self.top)[0])

    def _values(self, values: Array) -> Array:
        return values[0] if self.top == 1 else values


class RelativeSharpness(Sharpness):
    """That of an algorithm, in the units of its threshold."""

    equation: AbstractEquation

    def __call__(self, params: PyTree, state: PyTree) -> Array:
        dynamic, static = eqx.partition(params, is_parameter)
        signal = self.objective.bind(static)
        increment = Increment.of(self.equation)
        reach = reaches(increment, at_rest(increment, dynamic, _memory(increment, dynamic, state)))
        root = jax.tree.map(lambda leaf: jnp.sqrt(jnp.maximum(leaf, 0)), reach)

        def product(direction):
            scaled = jax.tree.map(jnp.multiply, root, direction)
            return jax.tree.map(jnp.multiply, root, jax.jvp(signal.gradient, (dynamic,), (scaled,))[1])

        return self._values(largest(product, direction_like(dynamic), self.top, _PRODUCTS)[0])


def _memory(increment: AbstractIncrement, params: PyTree, state: PyTree) -> PyTree:
    """The memory of the twin in a state, with counts at infinity where it does not hold them; None where nothing of it
    matters."""
    empty = increment.init(params)
    try:
        memory = state.memory
    except AttributeError:
        memory = None
    if jax.tree.structure(memory) == jax.tree.structure(empty.memory):
        return memory
    if not any(jax.tree.leaves(increment.squares(empty))):
        return None
    names = [field.name for field in dataclasses.fields(state)] if dataclasses.is_dataclass(state) else []
    known = {name: getattr(state, name) for name in names if optax.tree_utils.tree_get(empty.memory, name) is not None}
    if not known:
        raise ValueError(
            f"Argument `equation` must be that of the run, in whose state its second moment is, but the state of this one "
            f"is a {type(state).__name__}."
        )
    moves, counts = increment.split(empty)
    return optax.tree_utils.tree_set(eqx.combine(moves, at_infinity(counts)).memory, **known)
