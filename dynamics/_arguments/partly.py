"""A dynamics without a signal of examples, such as a circuit, some of whose parameters nothing moves."""

from typing import Any

import equinox as eqx
import jax
import lineax as lx
from jaxtyping import PyTree

from equations import AbstractCircuit, AbstractDynamics
from equations.internal import acts_late, learning_rate_of, users


class Partly(AbstractDynamics):
    """The dynamics `dynamics` on a state without the parameters that stay, which its drift and its diffusion see where they
    were: no rate, noise or decay of theirs is left."""

    dynamics: AbstractDynamics
    stays: PyTree

    def init(self, params):
        return self._without(self.dynamics.init(eqx.combine(params, self.stays)))

    def params(self, state):
        return self.dynamics.params(state)

    def drift(self, t, state, signal):
        return self._without(self.dynamics.drift(t, self.whole(state), signal))

    def diffusion(self, t, state, signal):
        root = self.dynamics.diffusion(t, self.whole(state), signal)
        if root is None:
            return None
        return lx.FunctionLinearOperator(lambda normals: self._without(root.mv(normals)), root.in_structure())

    def held(self, low, high=None):
        return eqx.tree_at(lambda e: e.dynamics, self, self.dynamics.held(low, high))

    def sees(self, signal):
        return self.dynamics.sees(signal)

    def check(self, params, signal):
        self.dynamics.check(eqx.combine(params, self.stays), signal)

    def scaling_limit(self):
        return self.dynamics.scaling_limit()

    def series(self):
        return self.dynamics.series()

    @property
    def interpretation(self):
        """That of the dynamics inside."""
        return self.dynamics.interpretation

    def whole(self, state: PyTree) -> PyTree:
        """A state with what stays."""
        params = eqx.combine(self.dynamics.params(state), self.stays)
        return eqx.tree_at(self.dynamics.params, state, params)

    def _without(self, state: PyTree) -> PyTree:
        params = self.dynamics.params(state)
        moves = jax.tree.map(lambda leaf, stays: leaf if stays is None else None, params, self.stays)
        return eqx.tree_at(self.dynamics.params, state, moves)


class PartlyCircuit(Partly, AbstractCircuit):
    """The same of a circuit."""

    @property
    def delay(self):
        """That of the circuit inside."""
        return self.dynamics.delay

    def delayed(self, state, signal):
        return self.dynamics.delayed(self.whole(state), signal)

    def check_step(self, dt):
        self.dynamics.check_step(dt)


def partly(equation: Any, stays: PyTree, params: PyTree) -> Any:
    """A dynamics on the rest of its parameters; itself, where all are moved.

    **Raises:** ValueError, naming `frozen`, where its state does not hold them as they are, or a rule needs examples.
    """
    if not jax.tree.leaves(stays):
        return equation
    name = type(equation).__name__
    if learning_rate_of(equation) is not None:
        raise ValueError(
            f"Argument `frozen` must be None for {name} unless the objective is a signal of examples, such as "
            "equations.Objective."
        )
    if users(type(equation), "splitting"):
        raise ValueError(
            f"Argument `frozen` must be None for {name}, which solvers split in a way of its own: hold in its drift and "
            "its diffusion what is to stay."
        )
    kind: Any = PartlyCircuit if acts_late(type(equation)) else Partly
    found = kind(equation, stays)
    try:
        eqx.filter_eval_shape(lambda params: found.whole(found.init(params)), eqx.filter(params, eqx.is_array))
    except Exception as error:
        raise ValueError(
            f"Argument `frozen` must be None for {name}, whose state does not hold its parameters as a part, of which "
            "some could be taken out: hold in its drift and its diffusion what is to stay. "
            f"({type(error).__name__}: {error})"
        ) from error
    return found


def wholly(equation: Any) -> Any:
    """What was given."""
    return equation.dynamics if isinstance(equation, Partly) else equation
