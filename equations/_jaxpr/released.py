"""A jaxpr without its `stop_gradient`: the same values, and derivatives as if none had been stopped."""

from typing import Any

import jax.extend.core
from jax.extend.core.primitives import copy_p

_JAXPRS = jax.extend.core.Jaxpr, jax.extend.core.ClosedJaxpr


def released(jaxpr: Any) -> Any:
    """A jaxpr, closed or not, with the identity in place of every `stop_gradient`, in what it calls as well.

    Within a custom derivative it changes nothing: that is another function.
    """
    if isinstance(jaxpr, jax.extend.core.ClosedJaxpr):
        return jaxpr.replace(jaxpr=released(jaxpr.jaxpr))
    return jaxpr.replace(eqns=[_released(eqn) for eqn in jaxpr.eqns])


def _released(eqn):
    if eqn.primitive.name == "stop_gradient":
        return eqn.replace(primitive=copy_p, params={})

    def inner(value):
        if isinstance(value, tuple | list):
            return type(value)(map(inner, value)) if any(isinstance(one, _JAXPRS) for one in value) else value
        return released(value) if isinstance(value, _JAXPRS) else value

    return eqn.replace(params={name: inner(value) for name, value in eqn.params.items()})
