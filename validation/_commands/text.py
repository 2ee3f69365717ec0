"""A problem of language: the next character of English text by a transformer of one block."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from equations import Objective

from .digits import squared_error

LENGTH, LETTERS = 12, "abcdefghijklmnopqrstuvwxyz "


class Transformer(eqx.Module):
    """Attention with two heads and a tanh layer, each with a residual connection, read at the last character."""

    letters: Float[Array, "letters width"]
    places: Float[Array, "length width"]
    attention: eqx.nn.MultiheadAttention
    up: eqx.nn.Linear
    down: eqx.nn.Linear
    out: eqx.nn.Linear

    def __init__(self, key, width: int = 16):
        keys, single = jax.random.split(key, 6), jnp.float32
        self.letters = jax.random.normal(keys[0], (len(LETTERS), width), single)
        self.places = 0.3 * jax.random.normal(keys[1], (LENGTH, width), single)
        self.attention = eqx.nn.MultiheadAttention(2, width, dtype=single, key=keys[2])
        self.up = eqx.nn.Linear(width, 2 * width, dtype=single, key=keys[3])
        self.down = eqx.nn.Linear(2 * width, width, dtype=single, key=keys[4])
        self.out = eqx.nn.Linear(width, len(LETTERS), dtype=single, key=keys[5])

    def __call__(self, tokens: Int[Array, " length"]) -> Float[Array, " letters"]:
        states = self.letters[tokens] + self.places
        last = states[-1] + self.attention(states[-1:], states, states)[0]
        return self.out(last + self.down(jnp.tanh(self.up(last))))


def characters(examples: int) -> tuple[np.ndarray, np.ndarray]:
    """Windows of text that follow each other, and the character after each: `(examples, LENGTH)` and `(examples,)`.

    The text is Python's own documentation, in lower case without all but letters and spaces.

    **Raises:** ValueError for a number of examples that there are not.
    """
    from pydoc_data.topics import topics

    words = " ".join(
        "".join(c if c in LETTERS else " " for c in topics[name].lower()) for name in sorted(topics)
    ).split()
    codes = np.array([LETTERS.index(c) for c in " ".join(words)], np.int32)
    most = (len(codes) - 1) // LENGTH
    if not 1 <= examples <= most:
        raise ValueError(f"Argument `examples` must be an integer from 1 to {most}, but {examples} was given.")
    ends = LENGTH * np.arange(1, examples + 1)
    return codes[: ends[-1]].reshape(examples, LENGTH), codes[ends]


def text_problem(key, examples: int):
    """Objective and network for full-batch training: squared error of the next character, one-hot."""
    windows, following = characters(examples)
    targets = jnp.asarray(np.eye(len(LETTERS))[following], jnp.float32)
    return Objective(squared_error, (jnp.asarray(windows), targets)), Transformer(key)
