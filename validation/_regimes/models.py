"""The models of an algorithm that are held against its run."""

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import diffrax as dfx

from dynamics import Trajectory, solve
from equations import AbstractEquation, CentralFlow, EdgeFlow, RodFlow, modified
from equations.internal import split

FLOW = "gradient flow"


@dataclasses.dataclass(frozen=True)
class Model:
    """One model by its name.

    - `make`: gives its equation, or raises a TypeError or ValueError where the algorithm has none.
    - `stiff`: solver steps in a training step of one that is not stepped as it asks for itself; None for those that are.
    """

    name: str
    make: Callable[[AbstractEquation], Any]
    stiff: int | None = None

    def of(self, equation: AbstractEquation) -> Any:
        """The equation of the model, or the reason why there is none, a string."""
        try:
            return self.make(equation)
        except (TypeError, ValueError) as error:
            return str(error)

    def run(self, equation: Any, objective: Any, params: Any, key: Any, **options: Any) -> Trajectory | str:
        """Its run; a string where this problem has none. What it warns of is what the map of errors shows."""
        if self.stiff is not None and not equation.random:
            options |= dict(substeps=self.stiff, solver=dfx.Tsit5())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return solve(equation, objective, params, key=key if equation.random else None, **options)
            except (TypeError, ValueError) as error:
                return str(error)


def _leading(equation: AbstractEquation) -> AbstractEquation:
    if equation.random:
        raise ValueError("with noise it is the SDE")
    return equation


def _stochastic(equation: AbstractEquation) -> AbstractEquation:
    if not equation.random:
        raise ValueError("without noise it is the flow")
    return equation


def _series(order: int) -> Callable[[AbstractEquation], Any]:
    route = "derivatives" if order < 4 else "map"
    return lambda equation: modified(equation, order=order, route=route)


MODELS = (
    Model(FLOW, _leading, stiff=4),
    Model("SDE", _stochastic),
    *(Model(f"modified, order {order}", _series(order), stiff=4) for order in (2, 3, 4)),
    Model("rod flow, order 1", lambda equation: RodFlow(equation=equation)),
    Model("rod flow, order 2", lambda equation: modified(RodFlow(equation=equation), order=2)),
    Model("edge flow", lambda equation: EdgeFlow(equation=equation)),
    Model("central flow", lambda equation: CentralFlow(equation=equation)),
)


def alternates(equation: Any) -> bool:
    """Whether a model knows an average over the oscillation."""
    return split(equation).alternating is not None
