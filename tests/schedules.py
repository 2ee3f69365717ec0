"""Problems with schedules whose answers are closed: shared by tests of what is counted."""

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from dynamics import solve
from equations import SGD, Objective, Scheduled, scheduled

ETA, STEPS = 0.05, 12
STILL = Objective(lambda w, e: 0.5 * (w - e) ** 2, jnp.zeros(2))
VECTOR = Objective(lambda w, e: jnp.sum(0.5 * (w - e) ** 2), jnp.zeros(2))  # of another shape, for what is patched
NOISY = Objective(lambda w, e: 0.5 * (w - e) ** 2, jnp.array([1.0, -1.0]))


def cosine_of(rate, steps):
    return optax.cosine_decay_schedule(rate, steps, 0.2)


SCHEDULES = {
    "piecewise": optax.piecewise_constant_schedule(1.0, {4: 0.1, 8: 0.1}),
    "staircase": optax.exponential_decay(1.0, 3, 0.4, staircase=True),
    "restarts": optax.sgdr_schedule(
        [dict(init_value=0.1, peak_value=1.0, warmup_steps=2, decay_steps=4, end_value=0.0)] * 3
    ),
    "then_zero": optax.join_schedules([optax.constant_schedule(1.0), optax.constant_schedule(0.0)], [5]),
    "warm_up": optax.join_schedules([optax.linear_schedule(0.0, 1.0, 4), optax.constant_schedule(1.0)], [4]),
}
PIECEWISE = SCHEDULES["piecewise"]


class AtStages(Scheduled):
    """Mutant: read at whatever time a stage has."""

    def held(self, low, high=None):
        return self


def rates_of(schedule):
    """eta s(k), as Optax gives it at a count, `(STEPS,)`."""
    with jax.numpy_dtype_promotion("standard"):
        return ETA * np.asarray(jax.vmap(schedule)(jnp.arange(STEPS)), float)


def final(rule, start=1.0, objective=STILL, steps=STEPS, **options):
    """The last parameter of a run without noise: what noise there is has no size."""
    options = {"adjoint": dfx.ForwardMode()} | options  # which compiles faster
    run = solve(rule, objective, jnp.asarray(start), steps=steps, save_every=steps, key=jax.random.key(0), **options)
    return run.final[0], run


def assert_held(rule, wanted, start=1.0, rtol=1e-8, **options):
    last, run = final(rule, start, **options)
    np.testing.assert_allclose(last, wanted, rtol=rtol)
    assert ("counts", "held within a training step") in run.details
    return run


QUARTIC = Objective(lambda w, e: 0.5 * (w - e) ** 2 + 0.1 * w**4, jnp.zeros(1))
RULE = scheduled(SGD(0.2), optax.cosine_decay_schedule(1.0, 16, 0.1))
