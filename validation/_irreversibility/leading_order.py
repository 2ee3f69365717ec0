"""Whether the measures of `irreversibility` are of the leading order in the learning rate, as what is said of them is."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import PyTree

from equations.internal import add_scaled, warn

from .one_batch import square
from .result import VECTORS, Irreversibility

_OFF = 0.5  # of a measure from its limit, over the limit
_NOTHING_IN_COMMON = 1.0
_GOOD = 0.1
OF_EMPTY = (2, 16)  # parts of the learning rate at which steps from an empty memory are looked at


class Off(NamedTuple):
    """The measure that is furthest from what it tends to as the learning rate falls, and by what part of that."""

    measure: str
    part: float


def furthest(parts: dict[str, float]) -> Off:
    name = max(parts, key=lambda name: np.nan_to_num(parts[name], nan=-1.0))
    return Off(name, float(parts[name]))


def of_gradient_steps(ratios: dict, ratio_errors: dict, distances: dict, distance_errors: dict) -> Off:
    """Of plain gradient steps, whose limits are phi and -grad phi, beyond three errors of what is sampled."""
    scalars = {name: abs(ratio - 1) - 3 * ratio_errors[name] for name, ratio in ratios.items()}
    vectors = {f"force of {name}": value - 3 * distance_errors[name] for name, value in distances.items()}
    return furthest(scalars | vectors)


def of_others(whole: dict[str, np.ndarray], part: dict[str, np.ndarray], scale: float, n: int = 2) -> Off:
    """Of all others, from the measures at the learning rate and at an n-th of it, extrapolated to 0: vectors or numbers.

    What is small beside `scale` has no limit of its own.
    """
    parts = {}
    for name, value in whole.items():
        limit = (n * part[name] - value) / (n - 1)
        parts[name] = np.linalg.norm(value - limit) / max(np.linalg.norm(limit), scale) if scale > 0 else 0.0
    return furthest(parts)


def of_empty_memories(whole: dict[str, np.ndarray], parts: dict[int, dict[str, np.ndarray]], scale: float) -> Off:
    """Of steps from an empty memory, from the forces at the learning rate and at an n-th of it, for some n.

    Where the memory keeps a part of itself a displacement is a eta + b eta^2 + ..., and its force a/eta + b + ...: then
    eta times the force has a limit. A force is off by the less of the two, each the worst of all n, since normalized steps
    that are far too large look alike at half the rate.
    """
    found = {}
    for name, value in whole.items():
        force = [of_others({name: value}, {name: part[name]}, scale, n).part for n, part in parts.items()]
        times_eta = [
            of_others({name: value}, {name: part[name] / n}, 1e-9 * scale, n).part for n, part in parts.items()
        ]
        found[name] = min(np.max(force), np.max(times_eta))
    return furthest(found)


def warn_beyond(off: Off, gradient_steps: bool, distance: float, rate: float) -> None:
    """Where a measure is far from its limit; `distance` is that of the furthest force of plain steps."""
    if gradient_steps and not distance < _NOTHING_IN_COMMON:
        warn(
            f"Argument `equation`: a force is {distance:.3g} times |grad phi| off -grad phi, to which it tends as the "
            f"learning rate falls; a step of {rate:g} is too large for the leading order, or so small that rounding shows, "
            "and the measures mean little."
        )
    elif off.part > _OFF:
        measure = off.measure.replace("_", " ")
        limit = "phi or -grad phi" if gradient_steps else "its limit, estimated from a smaller learning rate"
        warn(
            f"Argument `equation`: a step of {rate:g} is beyond the leading order, since the {measure} is "
            f"{100 * off.part:.0f} % off {limit}; at about {rate * _GOOD / off.part:.1g} it would be 10 %."
        )


def check(result: Irreversibility, averages: dict[int, tuple[PyTree, list[PyTree]]]) -> None:
    """A warning where the forces are far from what those at an n-th of the learning rate let expect: by n, grad phi and the
    means less their leading terms."""
    flat = lambda tree: np.asarray(ravel_pytree(tree)[0], float)  # noqa: E731
    parts = {}
    for n, (gradient, mean) in averages.items():
        forces = [flat(add_scaled(jax.tree.map(jnp.negative, gradient), (1.0, vector))) for vector in mean]
        parts[n] = {f"force of {name}": force for name, force in zip(VECTORS, forces, strict=True)}
    whole = {f"force of {name}": flat(result.forces[name]) for name in VECTORS}
    scale = float(square(result.phi_gradient)) ** 0.5
    if result.memory == "empty":
        off = of_empty_memories(whole, parts, scale)
    else:
        off = of_others(whole, parts[2], scale)
    warn_beyond(off, False, 0.0, float(result.equation.learning_rate))
