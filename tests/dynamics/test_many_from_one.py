"""Many paths that begin at the end of one, with noise of their own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics import Trajectory, solve, train
from equations import SGD, Adam, Momentum, Objective
from validation import compare

CASES = [
    ("many paths from one", "instance", "compare at a checkpoint of one path", "test_compare"),
    ("many paths from one", "brother", "the algorithm", "test_runs[train]"),
    ("many paths from one", "brother", "the equation", "test_runs[solve]"),
    ("many paths from one", "brother", "their law, in closed form", "test_the_law"),
    ("many paths from one", "brother", "an epoch that is under way", "test_epochs"),
    ("arguments beside `start`", "instance", "other numbers of paths", "test_numbers_of_paths"),
    ("arguments beside `start`", "brother", "parameters for every path", "test_numbers_of_paths"),
    ("arguments beside `start`", "brother", "of parameters for every path", "test_numbers_per_path"),
]
DATA = jnp.array([1.0, -1.0, 3.0, 0.5])
OBJECTIVE = Objective(lambda p, e: 0.5 * (p - e) ** 2, DATA)
W0, KEY, NEW = jnp.array(0.2), jax.random.key(0), jax.random.key(7)
ETA = 0.1


@pytest.fixture(scope="module")
def half():
    return train(Momentum(ETA, 2), OBJECTIVE, W0, steps=3, key=KEY)


@pytest.mark.parametrize("run", [train, solve])
def test_runs(run, half, tmp_path):
    """All from one state, at the absolute steps, apart after the first; from disk to the bit."""
    rule, options = Momentum(ETA, 2), dict(steps=2, paths=4, observe={"w": lambda w: w}, keep_states=True)
    found = run(rule, OBJECTIVE, start=half, key=NEW, **options)
    w = np.asarray(found.observables["w"])
    assert w.shape == (4, 3) and found.final.shape == (4,) and list(found.steps) == [3, 4, 5]
    np.testing.assert_array_equal(w[:, 0], np.repeat(half.final, 4))
    assert len(set(w[:, 1])) > 1 and len(set(w[:, 2])) == 4
    half.save(tmp_path / "half.nc")
    again = run(rule, OBJECTIVE, start=Trajectory.load(tmp_path / "half.nc", like=W0), key=NEW, **options)
    np.testing.assert_array_equal(again.final, found.final)
    on = run(rule, OBJECTIVE, start=found, steps=1)  # which all go on
    assert on.final.shape == (4,) and np.array_equal(jax.random.key_data(on.checkpoint.key), jax.random.key_data(NEW))
    with pytest.raises(ValueError, match="Argument `key` must be a key such as"):
        run(rule, OBJECTIVE, start=half, **options)
    with pytest.raises(ValueError, match="Argument `key` must be another than that of the run"):
        run(rule, OBJECTIVE, start=half, key=KEY, **options)


def test_the_law():
    """Of one step of SGD, whose mean and variance are those of a batch of two; mutant: noise that all share."""
    half = train(SGD(ETA, 2), OBJECTIVE, W0, steps=3, key=KEY)
    found = train(SGD(ETA, 2), OBJECTIVE, start=half, steps=1, paths=4000, key=NEW)
    w, mean = np.asarray(found.final), (1 - ETA) * half.final[0] + ETA * DATA.mean()
    variance = ETA**2 * DATA.var() / 2
    assert abs(w.mean() - mean) < 4 * (variance / w.size) ** 0.5
    error = np.std((w - w.mean()) ** 2) / w.size**0.5
    assert abs(w.var() - variance) < 4 * error < variance


def test_compare(half):
    """64 paths of each by default, from the memory of the one."""
    found = compare(Momentum(ETA, 2), OBJECTIVE, start=half, steps=2, key=NEW)
    begin = {np.asarray(side.observables["loss"][:, 0]).tobytes() for side in (found.flow, found.run)}
    assert len(begin) == 1 and found.flow.ok.size == found.run.ok.size == 64 and list(found.steps) == [3, 4, 5]
    ends = [np.asarray(side.observables["loss"][:, -1]) for side in (found.flow, found.run)]
    assert min(np.std(end) for end in ends) > 0 and abs(np.corrcoef(*ends)[0, 1]) < 0.5
    with pytest.raises(ValueError, match="Argument `key` must be a key such as"):
        compare(Momentum(ETA, 2), OBJECTIVE, start=half, steps=2)


def test_epochs():
    """What is left of one would be shared; at its end there is nothing."""
    rule = SGD(ETA, 2, "shuffled")
    within, whole = (train(rule, OBJECTIVE, W0, steps=steps, key=KEY) for steps in (3, 4))
    with pytest.raises(ValueError, match="Argument `paths` must be left out where `start` ended within an epoch"):
        train(rule, OBJECTIVE, start=within, steps=1, paths=3, key=NEW)
    assert len(set(np.asarray(train(rule, OBJECTIVE, start=whole, steps=1, paths=20, key=NEW).final))) > 1


def test_numbers_of_paths(half):
    two = train(Adam(ETA, 2), OBJECTIVE, W0, steps=2, key=KEY, paths=2)
    assert train(Adam(ETA, 2), OBJECTIVE, start=two, steps=1, paths=2).final.shape == (2,)
    for paths, words in (
        (1, "or be those of `start`, 2"),
        (3, "or be those"),
        (True, "an integer"),
        (2.0, "an integer"),
    ):
        with pytest.raises((ValueError, TypeError), match=f"Argument `paths` must be .*{words}"):
            train(Adam(ETA, 2), OBJECTIVE, start=two, steps=1, paths=paths)
    with pytest.raises(ValueError, match="Argument `per_path` must be left out where `start` is given"):
        train(Adam(ETA, 2), OBJECTIVE, start=two, steps=1, per_path=True)


def test_numbers_per_path():
    options = dict(steps=1, per_path=True, key=KEY)
    assert train(SGD(ETA, 2), OBJECTIVE, jnp.ones(2), **options).final.shape == (2,)
    for paths in (1, 3, True, 2.0):
        with pytest.raises((ValueError, TypeError), match="Argument `paths` must be "):
            train(SGD(ETA, 2), OBJECTIVE, jnp.ones(2), paths=paths, **options)
