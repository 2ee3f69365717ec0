"""Runs with the words of their warnings."""

import warnings

from dynamics import solve


def solved(equation, objective, params, **settings):
    """The trajectory of `solve` and the messages of its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trajectory = solve(equation, objective, params, **settings)
    return trajectory, [str(one.message) for one in caught]
