"""`lyapunov`: how fast perturbations of a run grow or shrink, along the algorithm or its equation."""

import dataclasses
import functools
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PyTree

from equations import AbstractEquation, AbstractSignal
from equations.internal import choice, integer, normals_of, split, zeros_of

from .._paths.keys import path_keys
from .._paths.record import is_ok
from .._paths.training import Training
from .._problem import Problem
from .._train import draws
from .mean_square import growth_in_mean

_BATCHES = 32
_SIGNIFICANT = 3.0


@dataclasses.dataclass(frozen=True)
class Exponents:
    """What `lyapunov` returns. `print(result)` is a table.

    **Attributes:**

    - `exponents`, `standard_errors`: shape `(exponents,)`, per training step, the largest first; errors by batch means.
    - `in_mean`: ln of the spectral radius of the mean step linearized, per training step; None where that is not known:
        away from a point of zero mean gradient, or for a rule that is not affine in the gradient.
    - `in_mean_square`: half ln of that of the second-moment map, beside it; None too for states of more than 50 numbers.
    - `ok`: whether the run stayed finite.
    - `steps`: training steps that were averaged over, after `burn_in`.
    """

    exponents: Float[np.ndarray, " exponents"]
    standard_errors: Float[np.ndarray, " exponents"]
    in_mean: float | None
    in_mean_square: float | None
    ok: bool
    steps: int
    burn_in: int

    @property
    def verdicts(self) -> dict[str, str]:
        """Of a point: `"stable"`, `"unstable"` or `"cannot tell"`, by 3 standard errors, in probability (the largest
        exponent), in mean and in mean square, where these are known."""
        if not self.ok:
            return {"in probability": "cannot tell"}
        from scipy.special import ndtr, stdtrit  # here, for the time that the import of SciPy takes

        t = stdtrit(_BATCHES - 1, ndtr(_SIGNIFICANT))
        value, error = float(self.exponents[0]), t * float(self.standard_errors[0])
        found = {"in probability": "stable" if value < -error else "unstable" if value > error else "cannot tell"}
        for name, growth in (("in mean", self.in_mean), ("in mean square", self.in_mean_square)):
            if growth is not None:
                found[name] = "stable" if growth < 0 else "unstable"
        return found

    def __str__(self):
        pairs = zip(self.exponents, self.standard_errors, strict=True)
        rows = [f"exponent {index}: {value: .5g} ± {error:.2g}" for index, (value, error) in enumerate(pairs, 1)]
        told = "; ".join(f"{verdict} {sense}" for sense, verdict in self.verdicts.items())
        known = [("in mean", self.in_mean), ("in mean square", self.in_mean_square)]
        growths = [f"growth {sense}: {growth: .5g}" for sense, growth in known if growth is not None]
        lost = [] if self.ok else ["The run did not stay finite."]
        head = f"per training step, over {self.steps} steps after {self.burn_in}"
        return "\n".join([head, *rows, *growths, told, *lost])


def lyapunov(
    equation: AbstractEquation,
    objective: AbstractSignal,
    params: PyTree,
    *,
    steps: int,
    key: Array | None = None,
    exponents: int = 1,
    model: str = "algorithm",
    noise: str = "minibatch",
    substeps: int = 16,
    burn_in: int | None = None,
) -> Exponents:
    r"""Lyapunov exponents of training: the mean logarithmic growth of perturbations, by products of the linearized steps
    with a QR decomposition in each (Benettin et al. 1980, Meccanica 15).

    At a point where the gradient of every example vanishes, as a type-II saddle, the run stays, and the largest exponent
    says whether it converges there in probability, E ln|1 - eta h| < 0 in one dimension, which is neither what the mean
    says nor the mean square (Ziyin et al. 2023, arXiv:2303.13093).

    **Arguments:**

    - `equation`, `objective`, `params`, `key`, `noise`: as for `train`.
    - `steps`: training steps, of which the first tenth (`burn_in`) is left out; at least 320.
    - `exponents`: how many, the largest ones.
    - `model`: `"algorithm"`, the twin; or `"equation"`, linearized, by Euler-Maruyama in `substeps` steps for each
        training step, whose error falls as their length.

    **Returns:** `Exponents`, per training step.

    **Raises:** TypeError or ValueError before any compilation, naming the argument.
    """
    model = choice("model", model, ("algorithm", "equation"))
    problem = Problem.of(
        equation,
        objective,
        params,
        numbers_for="lyapunov",
        algorithm=model == "algorithm",
        reads="twin" if model == "algorithm" else "equation",
    )
    noise = choice("noise", noise, ("minibatch", "gaussian"))
    substeps = integer("substeps", substeps, maximum=1024)
    steps = integer("steps", steps, minimum=10 * _BATCHES)
    burn_in = steps // 10 if burn_in is None else integer("burn_in", burn_in, minimum=0, maximum=steps - _BATCHES)
    problem = problem.scheduled(steps, None, steps, None)
    random = problem.random if model == "equation" else draws(problem.equation, noise)
    key = path_keys(problem.check_key(key, random), 1)[0]
    exponents = integer("exponents", exponents, maximum=_size(problem, model))
    length = (steps - burn_in) // _BATCHES
    start = steps - length * _BATCHES
    make = _of_algorithm if model == "algorithm" else _of_equation
    begin = functools.partial(make, noise=noise, substeps=substeps)
    means, ok = _growth(
        begin,
        problem.equation,
        problem.signal,
        problem.dynamic,
        key=key,
        count=exponents,
        start=start,
        length=length,
    )
    means = np.asarray(means, float)
    in_mean, in_square = growth_in_mean(problem) if model == "algorithm" else (None, None)
    return Exponents(
        exponents=means.mean(axis=0),
        standard_errors=means.std(axis=0, ddof=1) / _BATCHES**0.5,
        in_mean=in_mean,
        in_mean_square=in_square,
        ok=bool(ok),
        steps=length * _BATCHES,
        burn_in=start,
    )


def _size(problem: Problem, model: str) -> int:
    """The numbers of a state that move."""

    def begin(params):
        equation = problem.equation
        return equation.init(params) if model == "equation" else (params, equation.twin().init(params))

    shapes = jax.tree.leaves(jax.eval_shape(begin, problem.dynamic))
    return sum(leaf.size for leaf in shapes if jnp.issubdtype(leaf.dtype, jnp.inexact))


Step = Callable[[Array, PyTree], PyTree]


def _of_algorithm(equation, signal, params, key, noise, substeps) -> tuple[Step, PyTree]:
    """A training step of the twin and where it begins."""
    training = Training.of(equation, signal, params, key, noise)

    def step(index, state):
        return training.step(index, state, training.normals(index))

    return step, training.init(params)


def _of_equation(equation, signal, params, key, noise, substeps) -> tuple[Step, PyTree]:
    """A training step of the equation, by Euler-Maruyama, and where it begins."""
    splitting, begin, eta = split(equation), equation.init(params), equation.learning_rate
    structure = splitting.noise(begin, signal, substeps)
    dt = eta / substeps

    def step(index, state):
        def part(state, place):
            t = eta * index.astype(eta.dtype) + dt * place.astype(eta.dtype)
            drawn = jax.random.fold_in(jax.random.fold_in(key, index), place)
            normals = None if structure is None else normals_of(structure, drawn)
            change = splitting.euler(t, state, signal, normals, dt)
            return jax.tree.map(lambda y, d: (y + d).astype(y.dtype), state, change), None

        return jax.lax.scan(part, state, jnp.arange(substeps))[0]

    started = splitting.start(begin, signal, None if structure is None else zeros_of(structure))
    return step, begin if started is None else started


@eqx.filter_jit
def _growth(
    make, equation, signal, params, *, key, count, start, length
) -> tuple[Float[Array, "batches exponents"], Bool[Array, ""]]:
    """The mean growth in each batch of steps."""
    step, begin = make(equation, signal, params, key)
    moves = jax.tree.map(lambda leaf: jnp.issubdtype(leaf.dtype, jnp.inexact), begin)
    flat, unravel = ravel_pytree(eqx.filter(begin, moves))
    first = jnp.eye(flat.size, count, dtype=flat.dtype) + 0.01 * jax.random.normal(
        jax.random.key(5), (flat.size, count), flat.dtype
    )

    def body(carry, index):
        state, frame = carry
        varying, counted = eqx.partition(state, moves)

        def varied(vector):
            new = step(index, eqx.combine(unravel(vector), counted))
            return ravel_pytree(eqx.filter(new, moves))[0], new

        _, along, new = jax.linearize(varied, ravel_pytree(varying)[0], has_aux=True)
        frame, triangle = jnp.linalg.qr(jax.vmap(along, in_axes=1, out_axes=1)(frame))
        growth = jnp.log(jnp.maximum(jnp.abs(jnp.diag(triangle)), jnp.finfo(frame.dtype).tiny))
        return (new, frame), growth

    carry = begin, jnp.linalg.qr(first)[0]
    carry, _ = jax.lax.scan(body, carry, jnp.arange(start, dtype=jnp.int32))

    def batch(carry, index):
        steps = start + index * length + jnp.arange(length, dtype=jnp.int32)

        def add(carry, step):
            inner, total = carry
            inner, growth = body(inner, step)
            return (inner, total + growth), None

        (carry, total), _ = jax.lax.scan(add, (carry, jnp.zeros(count, flat.dtype)), steps)
        return carry, total / length

    carry, means = jax.lax.scan(batch, carry, jnp.arange(_BATCHES, dtype=jnp.int32))
    return means, is_ok(ravel_pytree(eqx.filter(carry[0], moves))[0])
