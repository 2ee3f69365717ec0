"""What in a jaxpr may make a derivative another than that of the values."""

import jax.extend.core


def suspects(jaxpr) -> set[str]:
    """`stop_gradient` and custom derivatives in a jaxpr, in words."""
    found = set()
    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        if name == "stop_gradient":
            found.add("`stop_gradient`")
        elif name.startswith("custom_") and name != "custom_linear_solve":
            found.add("a custom derivative")
        for inner in jax.extend.core.jaxprs_in_params(eqn.params):
            found |= suspects(inner)
    return found
