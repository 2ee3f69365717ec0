"""Which `stop_gradient` may keep a part of a leaf: none of those that keep a softmax from overflow."""

import jax
import jax.numpy as jnp
import optax
import pytest

from equations import Objective
from equations._checks import frozen_parts
from equations._checks.frozen import frozen_entries
from equations._jaxpr.maxima import stops_a_part

stop = jax.lax.stop_gradient
Z = jnp.arange(1.0, 5.0)

HARMLESS = {
    "logsumexp": jax.nn.logsumexp,
    "log_softmax": jax.nn.log_softmax,
    "softmax": lambda z: jax.nn.softmax(z * z),
    "optax": lambda z: optax.losses.softmax_cross_entropy_with_integer_labels(z, jnp.asarray(1)),
    "by hand": lambda z: jnp.exp(z - stop(jnp.max(z))),
    "by rows": lambda z: jax.nn.log_softmax(z.reshape(2, 2), axis=0),
    "inside": jax.checkpoint(lambda z: jax.lax.scan(lambda c, x: (c + jax.nn.logsumexp(x * z), x), 0.0, z)[0]),
}
STOPPING = {  # mutants of the pattern
    "a number": lambda z: stop(z[0]) * z[1],
    "the maximum alone": lambda z: stop(jnp.max(z[2:])) * z[0],
    "the maximum of something else": lambda z: z[:2] - stop(jnp.max(z[2:])),
    "no maximum": lambda z: z - stop(z),
    "a sum": lambda z: z - stop(jnp.sum(z)),
    "of a part": lambda z: z[:2] - stop(jnp.max(z)),
    "taken from the maximum": lambda z: stop(jnp.max(z)) - z[1:],
    "of two": lambda z: z - stop(jnp.maximum(jnp.max(z), z[0] * 2)),
    "another beside it": lambda z: jax.nn.logsumexp(z) + stop(z[0]),
    "inside": jax.jit(lambda z: jax.nn.logsumexp(z * stop(z))),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless(name):
    assert not stops_a_part(jax.make_jaxpr(HARMLESS[name])(Z).jaxpr)


@pytest.mark.parametrize("name", STOPPING)
def test_stopping(name):
    assert stops_a_part(jax.make_jaxpr(STOPPING[name])(Z).jaxpr)


def test_nothing_is_compiled(monkeypatch):
    """For a cross entropy, whose gradients would take as long to compile as the run."""
    monkeypatch.setattr(frozen_parts, "_moved", None)
    objective = Objective(lambda w, x: jax.nn.logsumexp(w * x) - w[0], jnp.ones((3, 4)))
    assert frozen_entries(objective, Z) is None
