"""What a dynamics under a stream of stimuli adds to the contract."""

import abc
from typing import Any

import equinox as eqx
from jaxtyping import PyTree

from .._base import AbstractDynamics
from .._checks.facts import refined
from .._series import Series


class AbstractCircuit(AbstractDynamics):
    """A dynamics that lives in time under a stream of stimuli, part of which may act late.

    What is delayed reaches the drift as `signal.past`, a PyTree like what `delayed` gives, which is zero before anything
    arrives, and None where there is no delay.

    **Attributes:** `delay`, seconds, known before tracing; zero or more.
    """

    _facts = refined(AbstractDynamics, contract=True, late=True)

    delay: eqx.AbstractVar[float]

    @abc.abstractmethod
    def delayed(self, state: PyTree, signal: Any) -> PyTree:
        """What of a state under a stimulus acts after the delay only."""

    def series(self):
        return Series(refusal="act without a delay" if self.delay else None)

    def check_step(self, dt: float) -> None:
        """Warns where a solver's steps of this length cannot resolve the dynamics."""
