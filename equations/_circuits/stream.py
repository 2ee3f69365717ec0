"""Streams of stimuli: the signal of a dynamics that lives in time and knows no training steps."""

import abc

import equinox as eqx
from jaxtyping import Array, PyTree


class Stimulus(eqx.Module):
    """What reaches a dynamics at a moment: the input and the target that are held, and what arrives with a delay.

    - `x`: shape `(n_in,)`, the input.
    - `y`: shape `(n_out,)`, the target.
    - `past`: what `AbstractCircuit.delayed` gave a delay ago, zeros before the first arrival; None without a delay.
    """

    x: Array
    y: Array
    past: PyTree = None


class AbstractStream(eqx.Module):
    """A sequence of stimuli, each held for `duration` seconds; `solve` gives a dynamics one `Stimulus` at a time.

    What the sequence must remember, such as the permutation of an epoch, is carried from stimulus to stimulus.
    """

    duration: eqx.AbstractVar[float]

    @property
    @abc.abstractmethod
    def random(self) -> bool:
        """Whether every path draws a sequence of its own, from its own key."""

    @abc.abstractmethod
    def begin(self, key: Array) -> PyTree:
        """What is carried before the first stimulus of the path with this key."""

    @abc.abstractmethod
    def stimulus(self, index: Array, carried: PyTree) -> tuple[Stimulus, PyTree]:
        """Stimulus number `index`, counted from 0, and what is carried on."""
