"""Where a function in an equation has no value: named, for a message."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from .._checks.lineage import inside
from .symbolic import Symbolic
from .to_jax import to_jax


def undefined_at(dynamics: Any, state: Any) -> str | None:
    """The smallest call of a function in a symbolic equation that is not finite at a state where its arguments are.

    None for other dynamics, and where there is none, as of 1/x at 0.
    """
    import sympy

    while dynamics is not None and not isinstance(dynamics, Symbolic):
        dynamics = inside(dynamics)
    if dynamics is None:
        return None
    expressions = (*dynamics.drift_expressions, *(dynamics.diffusion_expressions or ()))
    calls = {node for e in expressions for node in e.atoms(sympy.core.function.Application) if node.free_symbols}
    calls = [call for call in calls if not call.is_Boolean and not call.has(sympy.Derivative, sympy.Subs)]
    calls = [call for call in calls if call.free_symbols <= {*dynamics.state_symbols, *dynamics.parameters}]
    for call in sorted(calls, key=lambda call: (call.count_ops(), str(call))):
        if not np.all(np.isfinite(_value(dynamics, call, state))):
            return str(call)
    return None


def _value(dynamics, call, state):
    values = [jnp.asarray(value).astype(state.dtype) for value in dynamics.values]
    return to_jax((call,), (*dynamics.state_symbols, *dynamics.parameters), dynamics.functions)(*state, *values)[0]
