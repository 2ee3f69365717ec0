"""The flows of the edge against gradient descent and Adam on a network: the table of the documentation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

from dynamics import solve, train
from equations import SGD, Adam, CentralFlow, EdgeFlow, Momentum, Objective, RMSProp, RodFlow, modified, sharpness
from equations._edge.rod_flow import RodSplitting

pytestmark = pytest.mark.slow

STEPS, LATE = 1000, slice(300, None)  # averages over steps 300 to 1000
KEYS = (0, 1, 2)


def loss(net, example):
    image, target = example
    hidden = jnp.tanh(image @ net["a"] + net["b"])
    return jnp.sum((hidden @ net["c"] + net["d"] - target) ** 2) / 2


def problem(key):
    images, digits = load_digits(return_X_y=True)
    data = jnp.asarray(images[:200] / 16, jnp.float32), jnp.asarray(np.eye(10)[digits[:200]], jnp.float32)
    first, second = jax.random.split(jax.random.key(key))
    shapes = {"a": (first, (64, 16)), "c": (second, (16, 10))}
    weights = {name: jax.random.normal(key, shape, jnp.float32) / 16 for name, (key, shape) in shapes.items()}
    return Objective(loss, data), weights | {"b": jnp.zeros(16, jnp.float32), "d": jnp.zeros(10, jnp.float32)}


def summary(run):
    """Mean sharpness in units of the threshold, mean loss over the oscillation, its mean square, and the first peak."""
    assert run.ok.all()
    values = {name: np.asarray(value, float)[0] for name, value in run.observables.items()}
    edge = values["edge"]
    means = edge[LATE].mean(), values["loss_average"][LATE].mean(), values["oscillation"][LATE].mean()
    return np.array([*means, edge.max(), max(edge.argmax(), 1)])


def errors(make, equation, keys=KEYS, steps=STEPS, **options):
    """Relative errors of the means over keys of all five."""
    ours, theirs = [], []
    for key in keys:
        objective, weights = problem(key)
        observe = {"loss": objective.value, "edge": sharpness(objective, equation)}
        flow = make(equation)
        drawn = jax.random.key(key) if flow.random else None
        shared = dict(steps=steps, observe=observe)
        ours.append(summary(solve(flow, objective, weights, key=drawn, **shared, **options)))
        theirs.append(summary(train(RodFlow(equation), objective, weights, **shared)))
    ours, theirs = np.mean(ours, axis=0), np.mean(theirs, axis=0)
    return np.abs(ours / theirs - 1)


def second(equation):
    return modified(RodFlow(equation), order=2)


# Sharpness, loss, mean square, peak, its step.
LIMITS = {
    "rod flow, order 1": (RodFlow, (0.01, 0.015, 0.06, 0.10, 0.05)),
    "rod flow, order 2": (second, (0.01, 0.01, 0.04, 0.04, 0.10)),
    "edge flow": (EdgeFlow, (0.04, 0.08, 0.35, 0.06, 0.10)),
    "central flow": (CentralFlow, (0.08, 0.01, 0.06, np.inf, np.inf)),
}


# Its first peak is eight percent early, where the limit is five: with x = eta lambda - 2 an alternation grows in a step by
# 1 + x in training, by exp(x) of first order, by exp(x - x^2/2) of second.
EARLY = {("rod flow, order 1", 0.4)}


@pytest.mark.parametrize("eta", [0.2, 0.3, 0.4])
@pytest.mark.parametrize("name", LIMITS)
def test_gradient_descent(name, eta):
    make, limits = LIMITS[name]
    found = errors(make, SGD(eta))
    print(name, eta, np.round(found, 4))
    assert np.all(found[:3] <= limits[:3]), found
    assert np.all(found <= limits) != ((name, eta) in EARLY), found


RULES = {
    "heavy ball .5": Momentum(0.2, momentum=0.5),
    "heavy ball .9": Momentum(0.05, momentum=0.9),
    "nesterov": Momentum(0.1, momentum=0.5, nesterov=True),
    "rmsprop": RMSProp(2e-3, decay=0.99),
    "adam": Adam(1e-3, b2=0.99),
}


@pytest.mark.parametrize("name", RULES)
def test_other_rules_in_units_of_their_thresholds(name):
    """Sharpness and loss within 4 %."""
    found = errors(second, RULES[name], keys=(0,), steps=1500)
    print(name, np.round(found, 4))
    assert np.all(found[:2] <= 0.04), found


def test_a_finer_solver_changes_less_than_a_quarter_of_the_model_error():
    limits = np.array(LIMITS["rod flow, order 1"][1][:3])
    objective, weights = problem(0)
    observe = {"loss": objective.value, "edge": sharpness(objective, SGD(0.3))}
    shared = dict(steps=STEPS, observe=observe, key=jax.random.key(0))
    coarse, fine = (summary(solve(RodFlow(SGD(0.3)), objective, weights, substeps=n, **shared)) for n in (4, 8))
    assert np.all(np.abs(coarse / fine - 1)[:3] <= limits / 4)


def test_what_alternates_at_the_start_is_what_the_onset_begins_from(monkeypatch):
    """Mutant: rounding alone, by which the second order has its peak a tenth later and higher at eta = .4."""
    objective, weights = problem(0)
    observe, key = {"edge": sharpness(objective, SGD(0.4))}, jax.random.key(0)
    edges = {}
    for name in ("training", "flow", "rounding alone"):
        if name == "rounding alone":
            monkeypatch.setattr(RodSplitting, "start", lambda self, state, signal, noise: None)
            jax.clear_caches()
        run, flow = (train, RodFlow(SGD(0.4))) if name == "training" else (solve, second(SGD(0.4)))
        edges[name] = np.asarray(
            run(flow, objective, weights, steps=120, observe=observe, key=key).observables["edge"]
        )[0]
    peak, step = ({name: one(edge) for name, edge in edges.items()} for one in (np.max, np.argmax))
    assert abs(peak["flow"] / peak["training"] - 1) < 0.04 < peak["rounding alone"] / peak["training"] - 1, peak
    assert abs(step["flow"] / step["training"] - 1) < 0.1 < step["rounding alone"] / step["training"] - 1, step
    jax.clear_caches()
