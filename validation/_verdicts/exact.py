"""Measurements in which nothing is random: equal to rounding, or with an error that falls with a step."""

from typing import Any

import numpy as np

from equations.internal import integer, real_array

from .judgment import Judgment, by_size

_MARGIN = 0.15  # by which a slope may stay below the claim, as in `orders`


def judge_equality(
    what: str, measured: Any, prediction: Any, *, mutant: Any, operations: float | int, scale: float | None = None
) -> Judgment:
    """Whether numbers are the predicted ones to rounding.

    **Arguments:**

    - `what`: is measured, in words.
    - `measured`, `prediction`, `mutant`: numbers, or arrays of one shape.
    - `operations`: how many roundings one after the other may have gone into a number: training steps, or terms of a sum.
    - `scale`: the size of what was rounded; None: the largest number in `measured` and `prediction`.

    **Returns:** a `Judgment`, whose unit is `operations` roundings of `scale` in the precision of `measured`.

    **Raises:** ValueError, naming the argument.
    """
    integer("operations", operations)
    given = {"measured": measured, "prediction": prediction, "mutant": mutant}
    found, expected, rival = (real_array(name, value, "real numbers").ravel() for name, value in given.items())
    dtype = np.asarray(measured).dtype
    eps = np.finfo(dtype if np.issubdtype(dtype, np.floating) else float).eps
    if not (found.shape == expected.shape == rival.shape and found.size):
        raise ValueError(
            f"Argument `prediction` must have as many numbers as `measured` and `mutant`, {found.size}, but "
            f"{expected.size} and {rival.size} were given."
        )
    size = max(np.max(np.abs(found)), np.max(np.abs(expected))) if scale is None else scale
    allowed = operations * eps * size
    off, mutant_off = np.abs(found - expected), np.abs(found - rival)
    place = int(np.argmax(off))
    return by_size(
        what,
        off[place] / allowed,
        np.max(mutant_off) / allowed,
        f"x {operations:g} roundings",
        prediction=expected[place],
        measured=found[place],
        standard_error=0,
        mutant=rival[place],
    )


def judge_convergence(what: str, steps: Any, errors: Any, *, order: float, mutant: Any) -> Judgment:
    """Whether the error of a prediction falls with a step as it should, and is a tenth of the mutant's in the end.

    **Arguments:**

    - `what`: is measured, in words.
    - `steps`: learning rates, time steps, 1/width or whatever the error falls with, three of them or more, `(n,)`.
    - `errors`: sizes of the error of the right prediction, `(n,)`.
    - `order`: the power of the step with which it falls.
    - `mutant`: sizes of the error of the mutant at the same steps, `(n,)`.

    **Returns:** a `Judgment` whose numbers are the order: predicted, as measured between the two smallest steps, and the
    mutant's. Its `z` is how much the order falls short in units of what it may, .15, and `mutant_z` how many times the
    right error the mutant's is at the smallest step.

    **Raises:** ValueError, naming the argument.
    """
    given = {"steps": steps, "errors": errors, "mutant": mutant}
    steps, errors, wrong = (real_array(name, values, "real numbers") for name, values in given.items())
    if not (steps.ndim == 1 and steps.shape == errors.shape == wrong.shape and len(steps) >= 3 and np.all(steps > 0)):
        raise ValueError(
            f"Argument `steps` must hold three positive numbers or more, one for each error, but shape {steps.shape} was "
            f"given for {errors.shape} and {wrong.shape}."
        )
    order_of = np.argsort(steps)[::-1]
    steps, errors, wrong = steps[order_of], errors[order_of], wrong[order_of]
    with np.errstate(divide="ignore", invalid="ignore"):
        shown, mutants = (np.diff(np.log(sizes[-2:]))[0] / np.diff(np.log(steps[-2:]))[0] for sizes in (errors, wrong))
        ratio = wrong[-1] / errors[-1]
    short = max(0.0, order - shown) / _MARGIN
    return by_size(
        what, short, ratio, "of the margin of the order; the mutant: times the error",
        prediction=order, measured=shown, standard_error=0, mutant=mutants,
    )  # fmt: skip
