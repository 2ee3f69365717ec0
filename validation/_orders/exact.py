"""An order sweep by exact moments."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import PyTree

from dynamics.internal import record
from equations import AbstractEquation, AbstractSignal
from equations.internal import has_field, split, state_from

from .moment_equations import Linear, Polynomial, discrete, linear, polynomial, propagate
from .sides import MEASURES, Error, Outcome, Sides, gather

Closed = tuple[dict[str, Polynomial], list[tuple[Linear, Linear]]]


def closing(sides: Sides) -> Closed | None:
    """The observables as polynomials, and at every learning rate algorithm and equation as matrices; None unless their
    moments close."""
    first = sides.family[0]
    # Of several gradients of a batch the second moments are no function of its covariance.
    if first.sampling == "shuffled" or first.several_gradients or not has_field(first):
        return None
    observables: dict[str, Any] = _polynomials(sides)
    if None in observables.values():
        return None
    systems = []
    for place, equation in enumerate(sides.family):
        state, increment = equation.init(sides.dynamic), sides.increment(place)
        map_ = discrete(increment, sides.signal, increment.init(sides.dynamic))
        if map_ is None or not (sides.skips.any() or _regular(equation, sides.signal, state)):
            return None
        flow = linear(equation, sides.signal, state)
        if flow is None:
            return None
        systems.append((map_, flow))
    return observables, systems


def _regular(equation: AbstractEquation, signal: AbstractSignal, state: PyTree) -> bool:
    """Whether the equation needs no first step of its own."""
    return eqx.filter_eval_shape(lambda y: split(equation).start(y, signal, None), state) is None


def _polynomials(sides: Sides) -> dict[str, Polynomial | None]:
    """The observables as polynomials in the parameters, or where one of them asks for it in the state of the equation."""
    if not sides.see_state:
        return {name: polynomial(function, sides.static, sides.dynamic) for name, function in sides.observe.items()}
    equation = sides.family[0]
    state = equation.init(sides.dynamic)
    none = jax.tree.map(lambda leaf: None, state)

    def of_state(name):
        one = {name: sides.observe[name]}
        return lambda y: record(one, equation.params(y), sides.static, lambda: y)[name]

    return {name: polynomial(of_state(name), none, state) for name in sides.observe}


def _embedding(seen: Callable[[PyTree], PyTree], state: PyTree) -> np.ndarray:
    """The matrix from (state, 1) to (what is seen of it, 1), of entries 0 and 1."""
    base, unravel = ravel_pytree(state)
    places = unravel(jnp.arange(base.size, dtype=base.dtype))
    chosen = np.asarray(ravel_pytree(seen(places))[0]).astype(int)
    return np.eye(base.size + 1)[np.append(chosen, base.size)]


def _views(sides: Sides, place: int) -> tuple[Callable[[PyTree], PyTree], Callable[[PyTree], PyTree]]:
    """Of the state of the algorithm and of the equation what the observables are polynomials in."""
    equation = sides.family[place]
    if sides.see_state:
        return lambda y: state_from(equation, y), lambda y: y
    return sides.increment(place).params, equation.params


def _statistics(observable: Polynomial, second: np.ndarray, length: float) -> dict[str, np.ndarray]:
    """The measures from E z z^T, z = (parameters, 1)."""
    if observable.quadratic is not None:
        return {"mean": np.einsum("cij,ij->c", observable.quadratic, second)}
    mean = observable.linear @ second[:, -1]
    square = np.einsum("ci,ij,cj->c", observable.linear, second, observable.linear)
    centered = second - np.outer(second[:, -1], second[:, -1])
    variance = np.einsum("ci,ij,cj->c", observable.linear, centered, observable.linear)
    return dict(zip(MEASURES, (mean, square, variance / length), strict=True))


def by_moments(sides: Sides, closed: Closed) -> Outcome:
    """First and second moments of both sides, exactly."""
    observables, systems = closed
    errors, finals, failed = [], [], []
    origin = sides.family[0].init(sides.dynamic) if sides.see_state else sides.dynamic
    first = np.append(np.asarray(ravel_pytree(origin)[0], float), 1.0)
    first = np.outer(first, first)
    for place, (equation, (map_, flow)) in enumerate(zip(sides.family, systems, strict=True)):
        increment, eta = sides.increment(place), float(equation.learning_rate)
        states = increment.init(sides.dynamic), equation.init(sides.dynamic)
        embeddings = [_embedding(*pair) for pair in zip(_views(sides, place), states, strict=True)]
        start: Any = [
            np.outer(z, z) for z in (np.append(np.asarray(ravel_pytree(state)[0], float), 1.0) for state in states)
        ]
        if sides.skips[place]:
            same = start[0].shape == start[1].shape
            middle = propagate(map_, flow, tuple(start), eta, int(sides.skips[place]))[0]
            start = [middle, middle if same else embeddings[0] @ middle @ embeddings[0].T]
        seconds = [
            embedding @ second @ embedding.T
            for embedding, second in zip(
                embeddings, propagate(map_, flow, tuple(start), eta, int(sides.steps[place])), strict=True
            )
        ]
        at = {}
        for name, observable in observables.items():
            run, solved, before = (
                _statistics(observable, second, sides.spreads[place]) for second in (*seconds, first)
            )
            sizes = {measure: float(np.linalg.norm(value)) for measure, value in run.items()}
            if "variance/eta" in run:  # a difference of second moments
                sizes["variance/eta"] = sizes["second moment"] / sides.spreads[place]
            at[name] = {
                measure: Error(
                    (float(np.linalg.norm(solved[measure] - run[measure])), 0.0),
                    (0.0, 0.0),
                    sides.floor() * size,
                    float(np.linalg.norm(run[measure] - before[measure])),
                )
                for measure, size in sizes.items()
            }
        errors.append(at)
        size = np.sqrt(max(np.max(np.abs(np.diagonal(second)[:-1]), initial=0.0) for second in seconds))
        failed.append(not size <= sides.farthest())
        base, unravel = ravel_pytree(origin)
        last = unravel(jnp.asarray(seconds[0][:-1, -1], base.dtype))
        finals.append(equation.params(last) if sides.see_state else last)
    return gather(sides, errors, finals, failed)
