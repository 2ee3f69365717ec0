"""Malformed input to what is public: one line that names the argument, and nothing from inside of JAX or NumPy."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import equations
from dynamics import entropy_production, lyapunov, solve, stationary, sweep, time_average, train
from equations import SGD, Objective, RodFlow, averaged, clipped, decayed, from_optax, modified, scheduled
from validation import (
    compare,
    corrected,
    fluctuation_theorem,
    irreversibility,
    judge_bound,
    judge_curve,
    judge_density,
    judge_equality,
    judge_number,
    orders,
    regimes,
    short_time_bound,
    tail_index,
    tail_scan,
)

KEY, W0 = jax.random.key(0), jnp.ones(2)
OBJECTIVE = Objective(lambda w, e: 0.5 * jnp.sum((w - e) ** 2), np.random.default_rng(0).normal(size=(8, 2)))
RULE, SEEN = SGD(0.05, 2), {"w": lambda w: w}
SAMPLES = np.random.default_rng(0).normal(1.0, 1.4, 500)
PATHS = np.random.default_rng(0).normal(size=(64, 200, 2)).cumsum(axis=1)
RUN = dict(equation=RULE, objective=OBJECTIVE, params=W0)
LONG = RUN | dict(steps=4, key=KEY, paths=2, observe=SEEN, save_every=2)

RULES = (
    "SGD",
    "Momentum",
    "Adam",
    "RMSProp",
    "AdaGrad",
    "Lion",
    "Langevin",
    "UnderdampedLangevin",
    "SAM",
    "ExtraGradient",
)
CALLS = {
    **{name: (getattr(equations, name), {"learning_rate": 0.1}) for name in RULES},
    "Objective": (Objective, dict(loss=OBJECTIVE.loss, data=np.ones((4, 2)))),
    "modified": (modified, dict(equation=RULE, order=2)),
    "scheduled": (scheduled, dict(equation=RULE, schedule=lambda k: 1.0)),
    "decayed": (decayed, dict(equation=RULE, weight_decay=0.1)),
    "averaged": (averaged, dict(equation=RULE, decay=0.9)),
    "clipped": (clipped, dict(equation=RULE, norm=1.0, noise=0.1)),
    "corrected": (corrected, dict(equation=RULE)),
    "RodFlow": (RodFlow, dict(equation=SGD(0.1))),
    "from_optax": (from_optax, dict(factory=optax.sgd, learning_rate=0.1)),
    "judge_number": (judge_number, dict(what="a", measured=SAMPLES, prediction=1.0, mutant=2.0)),
    "judge_curve": (judge_curve, dict(what="a", measured=SAMPLES.reshape(-1, 2), prediction=[1.0, 1.0], mutant=[2.0, 1.0])),
    "judge_density": (judge_density, dict(what="a", samples=SAMPLES, log_density=lambda x: -x**2, mutant=lambda x: -x)),
    "judge_equality": (judge_equality, dict(what="a", measured=1.0, prediction=1.0, mutant=2.0, operations=1)),
    "judge_bound": (judge_bound, dict(what="a", measured=SAMPLES, at_least=0.0, mutant=3.0)),
    "tail_scan": (tail_scan, dict(samples=SAMPLES)),
    "tail_index": (tail_index, dict(multipliers=SAMPLES)),
    "fluctuation_theorem": (fluctuation_theorem, dict(entropies=SAMPLES)),
    "short_time_bound": (short_time_bound, dict(states=PATHS, dt=0.01)),
    "solve": (solve, LONG | dict.fromkeys(("substeps", "reduce", "frozen", "devices", "block", "increments", "start"))),
    "train": (train, LONG | dict(noise="minibatch", order=None, start=None, frozen=None)),
    "stationary": (stationary, RUN),
    "compare": (compare, LONG | dict(substeps=1, noise="minibatch")),
    "orders": (orders, RUN | dict(time=0.4, learning_rates=[0.2, 0.1, 0.05], key=KEY, observe=SEEN, paths=64)),
    "irreversibility": (irreversibility, RUN | dict(key=KEY)),
    "regimes": (regimes, dict(equations=[SGD(0.1)], objective=OBJECTIVE, params=W0, learning_rates=[0.1], steps=10)),
    "lyapunov": (lyapunov, dict(equation=SGD(0.3, 1), objective=OBJECTIVE, params=W0, steps=50, key=KEY)),
    "time_average": (time_average, RUN | dict(steps=320, key=KEY, paths=4, observe=SEEN)),
    "entropy_production": (entropy_production, dict(equation=RULE, objective=OBJECTIVE, trajectory=None)),
    "sweep": (sweep, dict(experiment=lambda learning_rate: LONG, axes={"learning_rate": [0.1, 0.2]}, run=train)),
}  # fmt: skip
# Hardly ever right.
WRONG = ("x", b"x", object(), 1j, np.array(["a"]), [[1], [2, 3]], {1: 2}, float, np.int64(-5), jnp.full((3, 3), np.nan))
ROWS = [
    (name, argument) for name, (_, given) in CALLS.items() for argument in given if argument not in ("what", "observe")
]


def test_there_are_enough():
    assert len(ROWS) * len(WRONG) > 600


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "argument"), ROWS)
def test_every_argument(name, argument):
    function, given = CALLS[name]
    told = 0
    for wrong in WRONG:
        try:
            function(**given | {argument: wrong})
        except (TypeError, ValueError) as error:
            text = str(error)
            assert "Argument `" in text.partition("\n")[0] or "`" in text.partition("\n")[0], (wrong, text)
            told += 1
    assert told >= 5, "hardly anything is wrong here"
    assert argument in inspect.signature(function).parameters
