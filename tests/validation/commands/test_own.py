"""Commands on a user's own equation and problem."""

import json

import jax
import pytest
from command import traindyn

from equations import Objective
from validation._commands.algorithm import lookup
from validation._commands.function import load_problem

OWN = """
import jax, jax.numpy as jnp, optax
from equations import AbstractEquation, Objective

class MyRule(AbstractEquation):
    \"\"\"dX = -2 grad L dt.\"\"\"

    def velocity(self, t, state, gradient):
        return jax.tree.map(lambda g: -2 * g, gradient)

    def twin(self):
        return optax.sgd(2 * self.learning_rate)

def make_problem(key):
    x = jax.random.normal(key, (32, 3))
    return Objective(lambda w, e: jnp.sum((w - e) ** 2) / 2, x), jnp.zeros(3)

def wrong(key):
    return 3

class NoRule:
    pass
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "users_own.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_found_by_file_and_by_module(folder):
    assert (
        lookup("users_own.py:MyRule") is lookup("users_own:MyRule") and lookup("users_own:MyRule").__name__ == "MyRule"
    )
    objective, params, observe = load_problem("users_own.py:make_problem", jax.random.key(0))
    assert isinstance(objective, Objective) and params.shape == (3,) and list(observe) == ["loss"]


@pytest.mark.parametrize(
    "name, words",
    [
        ("users_own:MyRul", "Argument `equation` must name something .* Did you mean 'MyRule'"),
        ("users_own:NoRule", "Argument `equation` must name a class of `equations.AbstractEquation`"),
        ("nowhere:MyRule", "Argument `equation` must be a file or module"),
        ("nowhere.py:MyRule", "Argument `equation` must be a file or module"),
        (":MyRule", "Argument `equation` must be a file or module"),
        ("users_own:", "Argument `equation` must be a file or module"),
    ],
)
def test_wrong_equations(folder, name, words):
    with pytest.raises(ValueError, match=words):
        lookup(name)


def test_wrong_problems(folder):
    with pytest.raises(TypeError, match="Argument `problem` must be a function of a key"):
        load_problem("users_own:wrong", jax.random.key(0))
    with pytest.raises(ValueError, match="Argument `problem` must be a file or module"):
        load_problem("nowhere:x", jax.random.key(0))


@pytest.mark.slow
def test_compare(folder):
    options = ("--learning-rate", 0.05, "--steps", 20, "--paths", 16, "--batch-size", 4)
    done = traindyn(
        "compare", "--equation", "users_own:MyRule", "--problem", "users_own.py:make_problem", *options, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    document = json.loads((folder / "traindyn-compare" / "results.json").read_text())
    assert set(document["comparisons"]) == {"myrule"}
