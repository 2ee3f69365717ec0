"""The second moments of training near a point, linearized: their map, its spectral radius, and where that is one."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from equations import AbstractEquation, AbstractSignal
from equations.internal import Increment, add_scaled, at_infinity, noise_factor, velocity_of

from .._problem import Problem

LARGEST = 50  # numbers of a state
_OFF = 1e-6  # of a gradient that counts as none, relative to the root mean square of those of the examples and to one


def mean_square_radius(equation: AbstractEquation, objective: AbstractSignal, params: PyTree) -> float:
    r"""The spectral radius of the map of second moments of an algorithm, linearized at a point of zero mean gradient.

    With J = A + b H_B c the linearized step on parameters and memory, H_B the Hessian of a batch, it is that of

        E[J x J] = Jbar x Jbar + f mean_i [(b (H_i - Hbar) c) x (b (H_i - Hbar) c)],

    f = 1/B with replacement, (N - B)/((N - 1) B) without (derived): below one the variance of the parameters stays finite.
    Exact for the linearized algorithm, whatever the law of the examples.

    **Arguments:** `equation`: affine in the gradient, with a `batch_size` or without; `params`: up to 50 numbers, memory
    included.

    **Raises:** TypeError or ValueError, naming the argument; ValueError where the mean gradient is not zero, and above 50.
    """
    problem = Problem.of(equation, objective, params, algorithm=True, reads="twin", numbers_for="mean_square_radius")
    why = _obstacle(problem)
    if why is not None:
        raise ValueError(why)
    return float(_radius(*_parts(problem)))


def mean_square_threshold(equation: AbstractEquation, objective: AbstractSignal, params: PyTree) -> float:
    """The learning rate at which `mean_square_radius` is one, the other hyperparameters as they are.

    **Raises:** as `mean_square_radius`, and ValueError where there is no such learning rate within a factor of 2^20.
    """
    problem = Problem.of(equation, objective, params, algorithm=True, reads="twin", numbers_for="mean_square_threshold")
    why = _obstacle(problem)
    if why is not None:
        raise ValueError(why)
    limit = problem.equation.scaling_limit()

    def excess(log_factor: float) -> float:
        moved = problem.on(limit.at_fixed_memory(float(np.exp2(log_factor))), algorithm=True)
        return float(_radius(*_parts(moved))) - 1

    factors = np.arange(-20.0, 20.5, 1.0)
    values = [excess(factor) for factor in factors]
    crossings = [k for k in range(len(factors) - 1) if values[k] < 0 <= values[k + 1]]
    if not crossings:
        raise ValueError(
            "Argument `equation` must have a learning rate at which the second moments begin to grow, but from 2^-20 to "
            f"2^20 times {float(problem.equation.learning_rate):g} there is none."
        )
    low = crossings[0]
    from scipy.optimize import brentq  # here, for the time that the import of SciPy takes

    root: Any = brentq(excess, factors[low], factors[low + 1], xtol=1e-10)
    return float(problem.equation.learning_rate) * 2**root


def growth_in_mean(problem: Problem) -> tuple[float | None, float | None]:
    """ln of the spectral radius of the mean step, and half that of the second-moment map; None where not known."""
    if not _is_affine(problem) or not _is_at_rest(problem):
        return None, None
    size = _size(problem)
    if size > LARGEST:
        return (float(np.log(_spectral(_parts(problem)[0]))) if size <= 20 * LARGEST else None), None
    mean, changes, factor = _parts(problem)
    return float(np.log(_spectral(mean))), float(np.log(_radius(mean, changes, factor)) / 2)


def _obstacle(problem: Problem) -> str | None:
    name, size = type(problem.equation).__name__, _size(problem)
    if not _is_affine(problem):
        return f"Argument `equation` must be affine in the gradient, and of one gradient, but a {name} was given."
    if size > LARGEST:
        return f"Argument `params` must have a state of at most {LARGEST} numbers, memory included, but it has {size}."
    if not _is_at_rest(problem):
        return "Argument `params` must be a point of zero mean gradient, but at those that were given it is not zero."
    return None


def _begin(increment: Any, params: PyTree) -> tuple[Any, Any]:
    """The state of the algorithm at rest at the point, in two: what moves, and counts at infinity."""
    moves, counts = increment.split(increment.init(params))
    return moves, at_infinity(counts)


def _size(problem: Problem) -> int:
    moving = jax.eval_shape(lambda p: _begin(Increment.of(problem.equation), p)[0], problem.dynamic)
    return sum(leaf.size for leaf in jax.tree.leaves(moving))


def _is_affine(problem: Problem) -> bool:
    increment = Increment.of(problem.equation)
    return not increment.several_gradients and increment.is_affine(eqx.combine(*_begin(increment, problem.dynamic)))


def _is_at_rest(problem: Problem) -> bool:
    each = _gradients(problem.signal, problem.dynamic)
    size = jnp.sqrt(jnp.mean(jnp.sum(each**2, axis=1)))
    return bool(jnp.linalg.norm(jnp.mean(each, axis=0)) <= _OFF * (1 + size))


@eqx.filter_jit
def _gradients(signal: Any, params: PyTree) -> Float[Array, "examples parameters"]:
    """The gradient of every example."""
    one = lambda index: ravel_pytree(signal.take(index[None]).gradient(params))[0]  # noqa: E731
    return jax.lax.map(one, jnp.arange(signal.size))


def _parts(problem: Problem) -> tuple[np.ndarray, np.ndarray, float]:
    """The mean of the linearized step `(n, n)`, what each example changes in it `(N, n, n)`, and the factor of batches."""
    equation, signal = problem.equation, problem.signal
    mean, changes = _linearized(Increment.of(equation), signal, problem.dynamic)
    batches = equation.batch_size is not None
    factor = noise_factor(signal.size, equation.batch_size, equation.sampling) if batches else 0.0
    return np.asarray(mean), np.asarray(changes), float(factor)


@eqx.filter_jit
def _linearized(increment: Any, signal: Any, params: PyTree) -> tuple[Array, Array]:
    moving, counted = _begin(increment, params)
    flat, unravel = ravel_pytree(moving)
    zero = jax.tree.map(jnp.zeros_like, params)

    def step(vector, gradient):
        state = eqx.combine(unravel(vector), counted)
        rate = velocity_of(increment, jnp.zeros(()), state, gradient)
        new = add_scaled(state, (increment.learning_rate, rate))
        return ravel_pytree(increment.split(new)[0])[0]

    unit, spread = ravel_pytree(params)
    inside = jax.jacfwd(step)(flat, zero)  # A
    response = jax.jacfwd(lambda g: step(flat, spread(g)))(jnp.zeros_like(unit))  # b
    seen = jax.jacfwd(lambda v: ravel_pytree(unravel(v).params)[0])(flat)  # c
    hessians = jax.jacfwd(lambda w: _gradients(signal, spread(w)))(unit)
    mean = jnp.mean(hessians, axis=0)
    return inside + response @ mean @ seen, jnp.einsum("ab,ibc,cd->iad", response, hessians - mean, seen)


def _radius(mean: Float[np.ndarray, "n n"], changes: np.ndarray, factor: float) -> float:
    second = np.kron(mean, mean)
    size = len(mean)
    if factor:
        flat = changes.reshape(len(changes), -1)
        outer = flat.T @ flat / len(changes)  # [(a, c), (b, d)]
        second = second + factor * outer.reshape(size, size, size, size).transpose(0, 2, 1, 3).reshape(size**2, -1)
    return _spectral(second)


def _spectral(matrix: Array | np.ndarray) -> float:
    return float(np.max(np.abs(np.linalg.eigvals(np.asarray(matrix, float)))))
