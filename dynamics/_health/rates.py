"""Where a learning rate that changes is the largest."""

from typing import NamedTuple

import numpy as np

from .._times import learning_rates

_MORE, _NEAR = 1.02, 0.95


class Top(NamedTuple):
    """The training step, from 0, of the largest rate, and how many of a run's have nearly that."""

    step: int
    near: int


def top(path) -> Top | None:
    """The top of the learning rate of a run; None where it is at one of the ends, or no rate changes."""
    rates = learning_rates(path.dynamics, int(path.end))
    if rates is None:
        return None
    rates = np.asarray(rates)[int(path.first) :]
    step = int(np.argmax(rates))
    if not rates[step] > _MORE * max(rates[0], rates[-1]):
        return None
    return Top(int(path.first) + step, int(np.sum(rates >= _NEAR * rates[step])))
