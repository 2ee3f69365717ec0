"""Maxima behind `stop_gradient` that are taken off what they are the maxima of, which keeps a softmax from overflow."""

from jax.extend.core import Literal, jaxprs_in_params

_SHAPES = {"broadcast_in_dim", "convert_element_type", "copy", "expand_dims", "reshape", "squeeze"}
_KEPT_FINITE = _SHAPES | {"is_finite", "max", "pmax", "reduce_max", "select_n", "stop_gradient"}


def stops_a_part(jaxpr) -> bool:
    """Whether a `stop_gradient` in a jaxpr may keep a part of its inputs from what comes of them.

    Not where all that is stopped is a maximum over something from which it is then subtracted: each number of which passes
    there.
    """
    made = {var: eqn for eqn in jaxpr.eqns for var in eqn.outvars}
    differences = [eqn for eqn in jaxpr.eqns if eqn.primitive.name == "sub"]
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "stop_gradient":
            source, maximal = _source(eqn.invars[0], made)
            if not maximal or not any(_passes(one, source, eqn.outvars[0], made) for one in differences):
                return True
    return any(stops_a_part(inner) for eqn in jaxpr.eqns for inner in jaxprs_in_params(eqn.params))


def _source(atom, made):
    """The one variable that a maximum is over, and whether there is a maximum, and only one such variable."""
    sources, maximal, pending = set(), False, [atom]
    while pending:
        atom = pending.pop()
        if isinstance(atom, Literal):
            continue
        eqn = made.get(atom)
        if eqn is None or eqn.primitive.name not in _KEPT_FINITE:
            sources.add(atom)
            continue
        if eqn.primitive.name == "reduce_max":
            maximal = True
            sources.add(eqn.invars[0])
            continue
        pending.extend(eqn.invars)
    return (next(iter(sources)), maximal) if len(sources) == 1 else (None, False)


def _passes(difference, source, stopped, made) -> bool:
    whole, taken = difference.invars
    while not isinstance(taken, Literal) and taken is not stopped:
        eqn = made.get(taken)
        if eqn is None or eqn.primitive.name not in _SHAPES:
            return False
        taken = eqn.invars[0]
    return whole is source and taken is stopped
