"""The experiment of a sweep that has none of its own: a tanh network on scikit-learn's digits, or another problem."""

import functools
from typing import Any


def digits(
    *,
    problem: str = "digits",
    equation: str = "sgd",
    learning_rate: float | None = None,
    batch_size: int | None = 32,
    sampling: str = "with_replacement",
    noise: str = "minibatch",
    weight_decay: float = 0.0,
    schedule: str = "constant",
    hidden: int = 32,
    seed: int = 0,
    steps: int = 200,
    paths: int = 4,
    save_every: int = 10,
    substeps: int = 1,
    run: str = "train",
    folder: str = ".",
) -> dict[str, Any]:
    """The arguments of a run.

    `problem`: `"digits"`, or the `file.py:function` of a function of a key that gives an objective, parameters, and what is
    observed. `noise` is for `train`, `substeps` for `solve`; all else is as of `traindyn compare`.
    """
    import jax

    from equations.internal import choice, integer

    from .algorithm import LEARNING_RATES, composed, lookup

    kind = lookup(equation)
    rate = LEARNING_RATES.get(kind.__name__.lower(), 1e-3) if learning_rate is None else learning_rate
    schedule = choice("schedule", schedule, ("constant", "cosine", "warmup"))
    key = jax.random.key(integer("seed", seed, minimum=0, maximum=2**32 - 1))
    objective, params, observe = _problem(problem, hidden, seed, folder)
    return {
        "equation": composed(kind(rate, batch_size, sampling), weight_decay, schedule, steps),
        "objective": objective,
        "params": params,
        "observe": observe,
        "steps": steps,
        "paths": paths,
        "save_every": save_every,
        "key": jax.random.fold_in(key, 1),
        **({"noise": noise} if run == "train" else {"substeps": substeps}),
    }


@functools.lru_cache(maxsize=64)
def _problem(name: str, hidden: int, seed: int, folder: str):
    """Objective, parameters and observables; made once, so that settings share what they can."""
    import jax

    from equations.internal import integer

    from .digits import digits_problem
    from .function import load_function

    key = jax.random.fold_in(jax.random.key(seed), 0)
    if name == "digits":
        return digits_problem(key, integer("hidden", hidden))
    return load_function(name, folder)(key)
