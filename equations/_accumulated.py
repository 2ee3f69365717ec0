"""Gradients that are accumulated over several batches before a step."""

from typing import Any

from ._base import AbstractEquation, check_contract
from ._checks.arguments import LARGEST, integer
from ._wrappers.scheduled import gathered


def accumulated(equation: AbstractEquation, every: int) -> AbstractEquation:
    """An equation whose gradients are means over `every` batches, as by `optax.MultiSteps(optimizer, every)`.

    With replacement these are one batch of `every * batch_size` examples, so that it is exactly the same equation with that
    batch size, and the same algorithm. One of its training steps is one update, and stands for `every` steps of Optax's
    wrapper; so do schedules, as inside of that, and a schedule of the batch size is one of `every` times as many examples.
    What a noise model injects, it injects once in an update.

    **Arguments:**

    - `equation`: any equation with a batch size, under `sampling="with_replacement"`, that takes one gradient in a step.
    - `every`: the number of batches in an update, at least 1.

    **Raises:** TypeError or ValueError, naming the argument.
    """
    check_contract(equation, twin=True)
    algorithm: Any = equation
    if algorithm.several_gradients:
        raise ValueError(
            "Argument `equation` must take one gradient of its batch in a step, since several gathered batches are not one "
            f"where each has a second gradient of its own, but {equation!r} was given."
        )
    if equation.batch_size is None:
        raise ValueError("Argument `equation` must have a batch size, but None was given.")
    if equation.sampling != "with_replacement":
        raise ValueError(
            "Argument `equation` must draw its batches with replacement, of which several are a larger one, but "
            f"sampling={equation.sampling!r} was given."
        )
    return gathered(equation, integer("every", every, maximum=LARGEST // equation.batch_size))
