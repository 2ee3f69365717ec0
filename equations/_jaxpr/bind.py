"""A step of a jaxpr's interpreter, the one place that knows how JAX binds a primitive."""

from collections.abc import Sequence
from typing import Any


def bound(eqn, values: Sequence[Any]) -> list:
    """What an equation of a jaxpr gives on these values, a list also where it is one."""
    given = eqn.primitive.get_bind_params(eqn.params)
    functions, parameters = given if isinstance(given, tuple) else ((), given)  # JAX has had it both ways
    results = eqn.primitive.bind(*functions, *values, **parameters)
    return results if eqn.primitive.multiple_results else [results]
