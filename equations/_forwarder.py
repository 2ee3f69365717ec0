"""An equation around another one, which forwards all of the contract."""

import dataclasses
from dataclasses import InitVar
from typing import TYPE_CHECKING, Any

import equinox as eqx
from jaxtyping import ArrayLike

from ._base import AbstractEquation
from ._counts import around
from ._scaling import ForwardedLimit
from ._splitting import ForwardedSplitting
from ._velocity import velocity_of


def inner(name: str) -> property:
    """An attribute that is that of the equation inside."""
    return property(lambda self: getattr(self.equation, name), doc="That of the equation inside.")


def hand_on(self, learning_rate, batch_size, sampling, noise_model) -> None:
    """Gives the equation inside what was given to the one around it."""
    given = dict(learning_rate=learning_rate, batch_size=batch_size, sampling=sampling, noise_model=noise_model)
    given = {name: value for name, value in given.items() if not isinstance(value, property)}
    if any(value is not getattr(self.equation, name) for name, value in given.items()):
        self.equation = dataclasses.replace(self.equation, **given)


class AbstractForwarder(AbstractEquation):
    """Everything is that of `equation`, unless a subclass says otherwise.

    Learning rate, batches and noise are held by the equation inside alone; where they are given to the forwarder, as by
    `dataclasses.replace`, they are handed on to it.
    """

    equation: AbstractEquation = eqx.field(kw_only=True)
    if TYPE_CHECKING:  # to a type checker an argument of the constructor alone would be no attribute
        learning_rate: Any = inner("learning_rate")
        batch_size: Any = inner("batch_size")
        sampling: Any = inner("sampling")
        noise_model: Any = inner("noise_model")
    else:
        learning_rate: InitVar[Any] = inner("learning_rate")
        batch_size: InitVar[Any] = inner("batch_size")
        sampling: InitVar[Any] = inner("sampling")
        noise_model: InitVar[Any] = inner("noise_model")

    __post_init__ = hand_on

    def init(self, params):
        return self.equation.init(params)

    def params(self, state):
        return self.equation.params(state)

    def velocity(self, t, state, gradient):
        return velocity_of(self.equation, t, state, gradient)

    def drift(self, t, state, signal):
        return self.equation.drift(t, state, signal)

    def diffusion(self, t, state, signal):
        return self.equation.diffusion(t, state, signal)

    def twin(self):
        return self.equation.twin()

    interpretation = inner("interpretation")
    linear = inner("linear")
    several_gradients = inner("several_gradients")
    gradient_noise = inner("gradient_noise")
    random = inner("random")

    def batches(self, signal):
        return self.equation.batches(signal)

    def sees(self, signal):
        return self.equation.sees(signal)

    def gradient(self, params, signal, normals):
        return self.equation.gradient(params, signal, normals)

    def is_affine(self, state):
        return self.equation.is_affine(state)

    def splitting(self):
        return ForwardedSplitting.of(self)

    def scaling_limit(self):
        return ForwardedLimit(self)

    def series(self):
        return self.equation.series()

    def held(self, low, high=None):
        return around(self, "equation", self.equation.held(low, high))

    def check(self, params, signal):
        self.equation.check(params, signal)

    def around_moved(self, equation: AbstractEquation, clock: ArrayLike) -> "AbstractForwarder":
        """Around `equation`, the inner one with other hyperparameters and a step of `clock` times its natural time."""
        return eqx.tree_at(lambda e: e.equation, self, equation)
