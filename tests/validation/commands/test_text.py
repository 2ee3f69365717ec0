"""The problem of language: windows of text, and a transformer that learns their next character."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics import train
from equations import SGD
from validation._commands.text import LENGTH, LETTERS, characters, text_problem


def test_windows_follow_each_other():
    windows, following = characters(50)
    assert windows.shape == (50, LENGTH) and following.shape == (50,)
    np.testing.assert_array_equal(following[:-1], windows[1:, 0])
    text = "".join(LETTERS[code] for code in windows.ravel())
    assert "  " not in text and " the " in text


def test_more_than_there_is():
    with pytest.raises(ValueError, match="Argument `examples` must be an integer from 1 to"):
        characters(10**9)


@pytest.mark.slow
def test_it_learns():
    objective, network = text_problem(jax.random.key(0), 40)
    run = train(SGD(0.05), objective, network, steps=60, observe={"loss": objective.value}, save_every=60)
    first, last = np.asarray(run.observables["loss"][0])
    assert last < 0.8 * first


@pytest.mark.slow
def test_it_reads_the_order_of_what_came_before():
    _, network = text_problem(jax.random.key(0), 4)
    tokens = jnp.arange(LENGTH)
    swapped = tokens.at[jnp.array([0, 1])].set(jnp.array([1, 0]))
    assert np.max(np.abs(network(tokens) - network(swapped))) > 1e-4
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(eqx.filter(network, eqx.is_inexact_array)))
