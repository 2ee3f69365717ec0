"""The limit in which an equation is that of its algorithm: what moves with the learning rate, and what follows."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike

from ._checks.arguments import LARGEST, choice, decay, integer, number
from ._checks.facts import Facts
from ._checks.lineage import overrides
from ._checks.once import is_traced

RULES = ("linear", "square_root")
MEASURES = ("mean", "second moment", "variance/eta")


def learning_rate_of(dynamics: Any) -> Any:
    """The length of a training step in time, None for a dynamics that has none of its own."""
    return getattr(dynamics, "learning_rate", None)


@dataclasses.dataclass(frozen=True)
class ScalingLimit:
    r"""How hyperparameters move as the learning rate eta goes to zero, and in which time there is then a limit.

    **Arguments:**

    - `equation`: whose limit it is.
    - `time`: a training step in the natural clock, the time in which the limit exists; None: the learning rate.
    - `decays`: decay rates by name, with 1 - rate ~ eta^p.
    - `powers`: other hyperparameters by name, which are ~ eta^p.
    - `batch`: p where the batch size is ~ eta^p.
    - `heat`: whether the noise stays of order one; else the variance vanishes as a step in the natural clock.
    - `orders`: by measure, where the claimed order is not 1; measures are "mean", "second moment" and "variance/eta".
    - `memory`: decay rates that a rule for the batch size moves so that they span the same examples.
    - `threshold`: the largest eta lambda at which the algorithm is stable on a parabola of curvature lambda, None where it
        depends on more than these.
    """

    _facts = Facts("scaling_limit", contract=True)

    equation: Any
    time: ArrayLike | None = None
    decays: Mapping[str, float | int] = dataclasses.field(default_factory=dict)
    powers: Mapping[str, float | int] = dataclasses.field(default_factory=dict)
    batch: int = 0
    heat: bool = False
    orders: Mapping[str, float | int] = dataclasses.field(default_factory=dict)
    memory: tuple[str, ...] = ()
    threshold: ArrayLike | None = None

    def time_per_step(self) -> ArrayLike:
        """A training step in the natural clock of the equation."""
        return self.equation.learning_rate if self.time is None else self.time

    def variance_scale(self) -> Any:
        """How the variance of the parameters vanishes with the steps: as a step in the natural clock, or not at all (1)."""
        return jnp.ones(()) if self.heat else self.time_per_step()

    def claimed_order(self, measure: str) -> float:
        """The order in the natural time of a step of the "mean", the "second moment" or "variance/eta"."""
        return float(self.orders.get(measure, 1.0))

    def learning_rate_at(self, step: Array) -> Any:
        """The learning rate of a training step, counted from 0; the recorded times are the sum of those before.

        It only tells them: an equation whose rate changes has it in `velocity` and `twin` too, or is `scheduled`.
        """
        rate = learning_rate_of(self.equation)
        return jnp.ones(()) if rate is None else rate

    def rescaled(self, factor: Array | float) -> Any:
        """The same algorithm at `learning_rate * factor`, its other hyperparameters moved along.

        **Raises:** TypeError or ValueError, naming the argument.
        """
        factor = number("factor", factor, allowed="a positive finite number", test=lambda x: x > 0)
        equation = self.equation
        values = {name: getattr(equation, name) for name in (*self.decays, *self.powers)}
        for name, power in self.decays.items():
            values[name] = decay(name)(1 - (1 - values[name]) * factor**power)
        for name, power in self.powers.items():
            values[name] = values[name] * factor**power
        names = ["learning_rate", *values]
        moved = [equation.learning_rate * factor, *values.values()]
        scaled = eqx.tree_at(lambda e: [getattr(e, name) for name in names], equation, moved)
        return dataclasses.replace(scaled, batch_size=self._batch_size(factor)) if self.batch else scaled

    def untold(self) -> tuple[str, ...]:
        """The numbers that stay as they are for want of a scaling limit in the class of the equation."""
        if overrides(type(self.equation), "scaling_limit"):
            return ()
        kept = [field.name for field in dataclasses.fields(self.equation) if field.name != "learning_rate"]
        return tuple(name for name in kept if eqx.is_inexact_array(getattr(self.equation, name)))

    def at_fixed_memory(self, factor: Array | float) -> Any:
        """At `learning_rate * factor` with the memory's hyperparameters as they are; what counts steps moves along."""
        return eqx.tree_at(lambda e: e.learning_rate, self.equation, self.equation.learning_rate * factor)

    def at_batch_size(self, rule: str, batch_size: int) -> Any:
        """The equation at another batch size, by a rule of `RULES` for its learning rate: see `validation.scaling_rule`.

        **Raises:** ValueError where the rule is none, or not one for this equation, and where it has no batch size;
        TypeError or ValueError for a `batch_size` that is none.
        """
        kappa = ratio(self.equation, rule, batch_size)
        moved = self.rescaled(kappa if rule == "linear" else kappa**0.5)
        rates = {name: decay(name)(1 - (1 - getattr(self.equation, name)) * kappa) for name in self.memory}
        return dataclasses.replace(moved, batch_size=batch_size, **rates)

    def _batch_size(self, factor) -> int:
        equation = self.equation
        if equation.batch_size is None or not equation.random or equation.gradient_noise.beside_loss.injects:
            raise ValueError(
                "Argument `scaling` must not be 'batch_equivalent' unless the noise is that of minibatches."
            )
        if is_traced(factor):
            raise TypeError(
                "Argument `factor` must be a plain number for scaling='batch_equivalent', for it changes the batch size, "
                "but a traced one was given."
            )
        size = equation.batch_size * float(factor) ** self.batch
        if abs(size - round(size)) > 1e-6 * size or round(size) < 1:
            raise ValueError(
                "Argument `factor` must make batch_size * factor**2 an integer for scaling='batch_equivalent', but with "
                f"{float(factor):g} it is {size:g}."
            )
        return round(size)


def ratio(equation: Any, rule: str, batch_size: int) -> float:
    """`batch_size` over that of an equation, which is to move by a rule, all of them checked."""
    choice("rule", rule, RULES)
    integer("batch_size", batch_size, maximum=LARGEST)
    if not equation.series().discrete or equation.batch_size is None:
        raise ValueError("Argument `equation` must have a batch size, but None was given.")
    return batch_size / equation.batch_size


def _of_inner(name: str) -> property:
    return property(lambda self: getattr(self.equation.equation.scaling_limit(), name), doc="That of the limit inside.")


def _orders(self: Any) -> dict[str, float]:
    claims = {measure: self.claimed_order(measure) for measure in MEASURES}
    return {measure: claim for measure, claim in claims.items() if claim != 1}


@dataclasses.dataclass(frozen=True)
class ForwardedLimit(ScalingLimit):
    """That of the equation inside another one, which `around_moved(inner, clock)` puts around what has moved.

    `clock` is what the natural time of a step has become, over what it was. All that the limit inside says of itself is
    read off it; whoever says something else overrides it.
    """

    time: Any = dataclasses.field(init=False, default=_of_inner("time"))
    decays: Any = dataclasses.field(init=False, default=_of_inner("decays"))
    powers: Any = dataclasses.field(init=False, default=_of_inner("powers"))
    batch: Any = dataclasses.field(init=False, default=_of_inner("batch"))
    heat: Any = dataclasses.field(init=False, default=_of_inner("heat"))
    orders: Any = dataclasses.field(init=False, default=property(_orders, doc="By what `claimed_order` says."))
    memory: Any = dataclasses.field(init=False, default=_of_inner("memory"))
    threshold: Any = dataclasses.field(init=False, default=_of_inner("threshold"))

    def _inner(self) -> ScalingLimit:
        return self.equation.equation.scaling_limit()

    def time_per_step(self):
        return self._inner().time_per_step()

    def variance_scale(self):
        return self._inner().variance_scale()

    def claimed_order(self, measure):
        return self._inner().claimed_order(measure)

    def learning_rate_at(self, step):
        return self._inner().learning_rate_at(step)

    def rescaled(self, factor):
        inner = self._inner()
        scaled = inner.rescaled(factor)
        return self.equation.around_moved(scaled, scaled.scaling_limit().time_per_step() / inner.time_per_step())

    def untold(self):
        return ()

    def at_fixed_memory(self, factor):
        return self.equation.around_moved(self._inner().at_fixed_memory(factor), factor)

    def at_batch_size(self, rule, batch_size):
        kappa = ratio(self.equation, rule, batch_size)  # the natural clock of both rules counts examples
        return self.equation.around_moved(self._inner().at_batch_size(rule, batch_size), kappa)
