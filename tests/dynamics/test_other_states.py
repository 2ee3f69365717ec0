"""A state goes on as what it is: its names, its rule, its noise; all else is refused, from disk as in memory."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import some

from dynamics import Trajectory, solve, train
from equations import (
    SGD,
    AdaGrad,
    Adam,
    Momentum,
    Objective,
    RMSProp,
    SignSGD,
    UnderdampedLangevin,
    averaged,
    decayed,
    scheduled,
)

CASES = [
    ("parameters from a file", "instance", "a module whose fields come in another order", "test_names[order]"),
    ("parameters from a file", "instance", "other keys of a dict", "test_names[keys]"),
    ("parameters from a file", "instance", "a tuple for a dict", "test_names[tuple]"),
    ("parameters from a file", "brother", "an attribute for a key", "test_names[attribute]"),
    ("parameters from a file", "brother", "shapes in another order", "test_names[shapes]"),
    ("parameters from a file", "brother", "a module by the same names", "test_a_module_by_the_same_names"),
    ("kind of memory", "instance", "a trace for second moments", "test_another_memory[rmsprop]"),
    ("kind of memory", "instance", "a trace for a sum of squares", "test_another_memory[adagrad]"),
    ("kind of memory", "instance", "one transformation more", "test_another_memory[decayed]"),
    ("kind of memory", "instance", "a trace for a velocity", "test_another_memory[langevin]"),
    ("kind of memory", "brother", "an average on top", "test_another_memory[averaged]"),
    ("kind of memory", "brother", "to the equation", "test_another_memory_of_an_equation"),
    ("kind of memory", "brother", "a class of one's own by the same names", "test_an_adam_is_no_other_adam"),
    ("kind of memory", "brother", "what may differ", "test_what_may_differ"),
    ("crossing", "instance", "SGD", "test_from_an_equation_to_an_algorithm_without_memory[sgd]"),
    ("crossing", "brother", "a schedule", "test_from_an_equation_to_an_algorithm_without_memory[scheduled]"),
    ("crossing", "brother", "signs", "test_from_an_equation_to_an_algorithm_without_memory[sign]"),
    ("noise", "instance", "an algorithm without batches", "test_noise_that_begins[train]"),
    ("noise", "brother", "an equation without noise", "test_noise_that_begins[solve]"),
    ("noise", "brother", "noise that pauses", "test_noise_that_pauses"),
    ("noise", "instance", "a key of another implementation", "test_a_key_of_another_implementation"),
    ("parameters from a file", "instance", "float64 without x64", "test_without_x64"),
]
DATA = jnp.array([[1.0, 0.5], [-1.0, 0.5], [0.5, -1.0], [-0.5, 0.0]])
W0 = {"p": jnp.array([1.0, 2.0]), "q": jnp.array([3.0, 4.0])}
OBJECTIVE = Objective(lambda w, x: jnp.sum((w["p"] - x) ** 2 + 0.5 * (w["q"] - x) ** 2), DATA)
KEY = jax.random.key(0)


class Ordered(eqx.Module):
    q: jax.Array
    p: jax.Array


def both(run, folder):
    """In memory and from disk."""
    run.save(folder / "run.nc")
    return run, Trajectory.load(folder / "run.nc", like=W0)


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    run = train(Momentum(0.05, 2), OBJECTIVE, W0, steps=2, key=KEY)
    return both(run, tmp_path_factory.mktemp("momentum"))


LIKE = {
    "order": (Ordered(*W0.values()), r"\['p'\]: float64\[2\], \['q'\]: .* but it has q: float64\[2\], p: "),
    "keys": ({"x": W0["p"], "y": W0["q"]}, r"it has \['x'\]"),
    "tuple": (tuple(W0.values()), r"it has \[0\]"),
    "attribute": (eqx.tree_at(lambda w: w.q, Ordered(*W0.values()), None), r"it has p: "),
    "shapes": ({"p": W0["p"], "q": jnp.ones(3)}, r"\['q'\]: float64\[3\]"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", LIKE)
def test_names(kind, halves, tmp_path):
    like, words = LIKE[kind]
    halves[0].save(tmp_path / "run.nc")
    with pytest.raises(ValueError, match=f"Argument `like` must be parameters like those of the run.*{words}"):
        Trajectory.load(tmp_path / "run.nc", like=like)


def test_a_module_by_the_same_names(tmp_path):
    """Of another class; mutants compare the shapes alone, or sort them."""

    class Other(eqx.Module):
        q: jax.Array
        p: jax.Array

    class Swapped(eqx.Module):
        p: jax.Array
        q: jax.Array

    loss = Objective(lambda w, x: jnp.sum((w.p - x) ** 2) + w.q @ w.q, DATA)
    train(SGD(0.05), loss, Ordered(jnp.ones(3), jnp.ones(2)), steps=1).save(tmp_path / "run.nc")
    found = Trajectory.load(tmp_path / "run.nc", like=Other(jnp.zeros(3), jnp.zeros(2))).final
    assert found.q.shape == (1, 3) and isinstance(found, Other)
    for like in (Swapped(jnp.zeros(2), jnp.zeros(3)), Other(jnp.zeros(2), jnp.zeros(3))):
        with pytest.raises(ValueError, match="Argument `like`"):
            Trajectory.load(tmp_path / "run.nc", like=like)


RULES = {
    "rmsprop": (RMSProp(0.05, 2), "that of Momentum and not of RMSProp"),
    "adagrad": (AdaGrad(0.05, 2), "that of Momentum and not of AdaGrad"),
    "langevin": (UnderdampedLangevin(0.05, 2), "that of Momentum and not of UnderdampedLangevin"),
    "decayed": (decayed(Momentum(0.05, 2), 0.1), r"it has \[.*memory\[0\].trace\['p'\].* where that of the run has \["),
    "averaged": (averaged(Momentum(0.05, 2)), "where that of the run has .*averaged"),
}


@pytest.mark.parametrize("name", RULES)
def test_another_memory(name, halves):
    rule, words = RULES[name]
    for half in halves:
        with pytest.raises(
            ValueError, match=f"`start` must have ended with the state that the run goes on with.*{words}"
        ):
            train(rule, OBJECTIVE, start=half, steps=1)


def test_another_memory_of_an_equation(halves):
    for half in halves:
        with pytest.raises(ValueError, match="that of Momentum and not of UnderdampedLangevin"):
            solve(UnderdampedLangevin(0.05, 2), OBJECTIVE, start=half, steps=1)


def test_what_may_differ(halves, tmp_path):
    """Hyperparameters; without a memory the rule."""
    for half in halves:
        run = train(Momentum(0.02, 3, momentum=0.5), OBJECTIVE, start=half, steps=1)
        assert run.steps[-1] == 3
    for half in both(train(SGD(0.05, 2), OBJECTIVE, W0, steps=2, key=KEY), tmp_path):
        assert train(SignSGD(0.01, 2), OBJECTIVE, start=half, steps=1).ok[0]


@pytest.mark.slow
@pytest.mark.parametrize("run", [train, solve])
def test_noise_that_begins(run, tmp_path):
    """A run that drew nothing has no key that would go on."""
    for half in both(run(SGD(0.05), OBJECTIVE, W0, steps=2), tmp_path):
        with pytest.raises(ValueError, match="Argument `key` must be a key .* because the run is random"):
            run(SGD(0.05, 2), OBJECTIVE, start=half, steps=2)
        ends = [run(SGD(0.05, 2), OBJECTIVE, start=half, steps=2, key=jax.random.key(n)) for n in (5, 6)]
        assert not np.array_equal(ends[0].final["p"], ends[1].final["p"])
        assert run(SGD(0.05), OBJECTIVE, start=half, steps=2).ok[0]


def test_noise_that_pauses():
    """The key of the first noise goes on, through steps that draw nothing."""
    noisy = train(SGD(0.05, 2), OBJECTIVE, W0, steps=2, key=KEY)
    still = train(SGD(0.05), OBJECTIVE, start=noisy, steps=2)
    run = train(SGD(0.05, 2), OBJECTIVE, start=still, steps=2)
    np.testing.assert_array_equal(jax.random.key_data(run.checkpoint.key), jax.random.key_data(KEY))
    with pytest.raises(ValueError, match="Argument `key` must be left out"):
        train(SGD(0.05, 2), OBJECTIVE, start=still, steps=2, key=jax.random.key(1))


def test_a_key_of_another_implementation(halves):
    for half in halves:
        with pytest.raises(ValueError, match="Argument `key` must be left out, or that of the run"):
            train(Momentum(0.05, 2), OBJECTIVE, start=half, steps=1, key=jax.random.key(0, impl="rbg"))


def test_without_x64(halves, tmp_path):
    halves[0].save(tmp_path / "run.nc")
    with jax.enable_x64(False):
        like = {name: jnp.ones(2, jnp.float32) for name in W0}
        with pytest.raises(ValueError, match="`path` must hold numbers as JAX has them here, but it holds float64"):
            Trajectory.load(tmp_path / "run.nc", like=like)


def test_an_adam_is_no_other_adam(tmp_path):
    """By its class: two rules with the same names."""

    class Mine(Adam):
        """Another rule."""

    for half in both(train(Adam(0.05, 2), OBJECTIVE, W0, steps=1, key=KEY), tmp_path):
        with pytest.raises(ValueError, match="that of Adam and not of Mine"):
            train(Mine(0.05, 2), OBJECTIVE, start=half, steps=1)


CROSSING = {"sgd": SGD(0.05, 2), "sign": SignSGD(0.05, 2), "scheduled": scheduled(SGD(0.05, 2), lambda k: 1 / (1 + k))}


@pytest.mark.parametrize("name", some(CROSSING, ["sgd", "scheduled"]))
def test_from_an_equation_to_an_algorithm_without_memory(name, tmp_path):
    """As from the parameters, but for the steps that schedules count; mutant: a count that begins anew."""
    rule = CROSSING[name]
    half = solve(rule, OBJECTIVE, W0, steps=2, key=KEY, paths=2)
    ends = [train(rule, OBJECTIVE, start=start, steps=2) for start in both(half, tmp_path)]
    np.testing.assert_array_equal(ends[0].final["p"], ends[1].final["p"])
    np.testing.assert_array_equal(ends[0].steps, [2, 3, 4])
    for path in range(2):
        w = jax.tree.map(lambda leaf, path=path: leaf[path], half.final)
        key = jax.random.fold_in(KEY, path)
        for step in (2, 3):
            batch = jax.random.randint(jax.random.fold_in(key, step), (2,), 0, 4)
            gradient = OBJECTIVE.take(batch).gradient(w)
            rate = 0.05 * float(np.float32(1) / np.float32(1 + step) if name == "scheduled" else 1.0)  # as JAX has it
            move = jnp.sign if name == "sign" else lambda g: g
            w = jax.tree.map(lambda p, g, rate=rate, move=move: p - rate * move(g), w, gradient)
        np.testing.assert_allclose(ends[0].final["p"][path], w["p"], rtol=1e-12)
