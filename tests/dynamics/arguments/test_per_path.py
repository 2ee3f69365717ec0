"""Parameters of its own for every path."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics import solve, train
from equations import SGD, Adam, Objective

OBJECTIVE = Objective(lambda w, x: jnp.sum((w - x) ** 2), jnp.arange(4.0)[:, None] * jnp.ones(2))
STARTS = jnp.array([[0.0, 1.0], [2.0, -1.0], [5.0, 5.0]])
KEY = jax.random.key(0)


@pytest.mark.slow
@pytest.mark.parametrize("run", [pytest.param(solve, marks=pytest.mark.slow), train])
def test_every_path_begins_with_its_own(run):
    """And has the noise that it has anyway: a path alone, with the others' keys, is the same."""
    found = run(Adam(0.1, 2), OBJECTIVE, STARTS, steps=3, key=KEY, per_path=True, observe={"w": lambda w: w})
    np.testing.assert_array_equal(found.observables["w"][:, 0], STARTS)
    same = run(Adam(0.1, 2), OBJECTIVE, STARTS[1], steps=3, key=KEY, paths=3)
    np.testing.assert_allclose(found.final[1], same.final[1], rtol=1e-12)
    assert np.abs(found.final[0] - same.final[0]).max() > 0.1


def test_without_noise():
    found = solve(SGD(0.1), OBJECTIVE, STARTS, steps=2, per_path=True).final
    rest = 1.5 + (STARTS - 1.5) * np.exp(-0.4)
    np.testing.assert_allclose(found, rest, rtol=1e-5)
    again = solve(SGD(0.1), OBJECTIVE, found, steps=2, per_path=True)  # what a run gave for all its paths
    np.testing.assert_allclose(again.final, 1.5 + (STARTS - 1.5) * np.exp(-0.8), rtol=1e-5)


def test_goes_on():
    half = train(SGD(0.1), OBJECTIVE, STARTS, steps=2, per_path=True)
    whole = train(SGD(0.1), OBJECTIVE, STARTS, steps=4, per_path=True)
    np.testing.assert_array_equal(train(SGD(0.1), OBJECTIVE, start=half, steps=2).final, whole.final)


def test_refused():
    for options, words in (
        (dict(paths=2), "Argument `paths` must be left out, or be the leading axis of `params`, 3"),
        (dict(params=STARTS.at[1].set(jnp.nan)), "Argument `params` must be finite"),
        (dict(params=jnp.ones(())), "Argument `params` must hold arrays with one leading axis"),
        (dict(frozen=lambda w: w), "keeps all"),
    ):
        with pytest.raises(ValueError, match=words):
            train(**(dict(equation=SGD(0.1), objective=OBJECTIVE, params=STARTS, steps=2, per_path=True) | options))


def test_one_start_for_all_is_rejected(monkeypatch):
    """The mutant: all paths begin where the first does."""
    same = lambda every, dynamic, stays: jax.tree.map(lambda leaf: jnp.broadcast_to(leaf[:1], leaf.shape), every)  # noqa: E731
    monkeypatch.setattr("dynamics._arguments.model.of_all", same)
    with pytest.raises(AssertionError):
        test_every_path_begins_with_its_own(train)
