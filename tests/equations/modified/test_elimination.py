"""A memory that lasts longer than the parameters take to move is not eliminated."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from marks import some

from dynamics import solve, train
from equations import Adam, AdamW, Momentum, Objective, modified, scheduled
from equations._modified import elimination
from validation import compare

CASES = [
    (
        "a memory that does not follow",
        "instance",
        "Adam of a cosine, 100 steps: -4.79 for .244",
        "test_refused[cosine]",
    ),
    ("a memory that does not follow", "brother", "Adam", "test_refused[adam]"),
    ("a memory that does not follow", "brother", "AdamW", "test_refused[adamw]"),
    ("a memory that does not follow", "brother", "momentum that oscillates", "test_refused[momentum]"),
    ("a memory that does not follow", "brother", "by `compare` and `train`", "test_other_doors"),
    ("a memory that does not follow", "brother", "memories that follow pass", "test_passes"),
    ("a memory that does not follow", "brother", "one answer for all hyperparameters", "test_hyperparameters_count"),
    ("a memory that does not follow", "brother", "nothing is looked at under a trace", "test_traced"),
]
QUADRATIC = Objective(lambda w, e: 0.5 * w**2 - e * w, jnp.array([1.0, -1.0]))
LASTING = {
    "cosine": lambda: scheduled(Adam(0.01), optax.cosine_decay_schedule(1.0, 400, 0.2)),
    "adam": lambda: Adam(0.01),
    "adamw": lambda: AdamW(0.01),
    "momentum": lambda: Momentum(0.05, momentum=0.9),
}
FOLLOWING = {
    "adam": Adam(0.01, b1=0.3, b2=0.75, eps_root=0.1),
    "momentum": Momentum(0.002, momentum=0.8),
    "at the minimum": Momentum(0.01, momentum=0.5),
}


def eliminated(rule):
    return modified(rule, order=2, memory="adiabatic")


@pytest.mark.parametrize("name", some(LASTING, ["cosine"]))
def test_refused(name):
    with pytest.raises(ValueError, match=r"`memory` must be 'dynamic' for \w+ at the learning rate .* lasts longer"):
        solve(eliminated(LASTING[name]()), QUADRATIC, jnp.array(1.0), steps=100)


@pytest.mark.slow
@pytest.mark.parametrize("door", [compare, train])
def test_other_doors(door):
    with pytest.raises(ValueError, match="`memory` must be 'dynamic'"):
        door(eliminated(Adam(0.01)), QUADRATIC, jnp.array(1.0), steps=10)


@pytest.mark.slow
@pytest.mark.parametrize("name", FOLLOWING)
def test_passes(name):
    """And the slow motion is that of training, at the minimum too, where the memory is empty for ever."""
    start, rule = jnp.array(0.0 if name == "at the minimum" else 1.0), FOLLOWING[name]
    slow = solve(eliminated(rule), QUADRATIC, start, steps=100, save_every=100)
    run = train(rule, QUADRATIC, start, steps=100, save_every=100)
    np.testing.assert_allclose(slow.final, run.final, atol=2e-3)


@pytest.mark.slow
def test_hyperparameters_count():
    """Mutant: an answer that is remembered by shapes refuses what follows after what does not."""
    corrections = [
        elimination._correction(eliminated(rule).equation, QUADRATIC, jnp.array(1.0))
        for rule in (Adam(0.01), FOLLOWING["adam"], Momentum(0.05, momentum=0.9), FOLLOWING["momentum"])
    ]
    np.testing.assert_allclose(corrections, [19.9, 0.0759, 5.0, 0.05], rtol=1e-3)  # momentum: eta lambda/(1 - b)^2


@pytest.mark.slow
def test_traced():
    """A learning rate that is traced is not looked at."""
    final = jax.jit(
        lambda rate: solve(eliminated(Momentum(rate, momentum=0.5)), QUADRATIC, jnp.array(1.0), steps=2).final
    )
    assert np.isfinite(final(0.01)).all()
