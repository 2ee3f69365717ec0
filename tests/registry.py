"""Every algorithm that the shared laws of laws.py hold for: one line enrols it."""

import dataclasses
import importlib
import pkgutil

import mutants
import optax

from equations import SGD, AbstractEquation, Adam, Momentum


@dataclasses.dataclass(frozen=True)
class Entry:
    """An equation under the laws.

    - `equation`: at some learning rate and batch size.
    - `plain`: the same algorithm, at the same numbers, as one writes it with Optax and nothing of ours.
    - `orders`: what the order law takes in place of its defaults (see `laws.order`).
    - `moves`: hyperparameters that its scaling moves beside the learning rate and what is forgotten in a step.
    - `spared`: laws that cannot hold for it, with the reason.
    """

    equation: AbstractEquation
    plain: optax.GradientTransformation
    orders: dict = dataclasses.field(default_factory=dict)
    moves: tuple[str, ...] = ()
    spared: dict[str, str] = dataclasses.field(default_factory=dict)


EQUATIONS = {
    "sgd": Entry(SGD(learning_rate=0.05, batch_size=2), optax.sgd(0.05)),
    "momentum": Entry(Momentum(learning_rate=0.05, batch_size=2), optax.sgd(0.05, momentum=0.9)),
    "nesterov": Entry(
        Momentum(learning_rate=0.05, batch_size=2, nesterov=True), optax.sgd(0.05, momentum=0.9, nesterov=True)
    ),
    "adam": Entry(Adam(learning_rate=0.05, batch_size=2), optax.adam(0.05), orders={"steps": 40, "factor": 0.4}),
}


def all_mutants() -> dict[str, type[AbstractEquation]]:
    """Every class in the folder mutants/: subclasses of exported equations, with their fields, wrong in one thing."""
    found = {}
    for module in pkgutil.iter_modules(mutants.__path__):
        for name, kind in vars(importlib.import_module(f"mutants.{module.name}")).items():
            if isinstance(kind, type) and issubclass(kind, AbstractEquation) and kind.__module__.startswith("mutants."):
                found[f"{module.name}.{name}"] = kind
    return found


def entries_of(mutant: type[AbstractEquation]) -> dict[str, Entry]:
    """The entries whose equation a mutant stands in for."""
    return {name: entry for name, entry in EQUATIONS.items() if type(entry.equation) in mutant.__mro__}


def fields(equation: AbstractEquation) -> dict:
    """The fields of an equation by name."""
    return {field.name: getattr(equation, field.name) for field in dataclasses.fields(equation)}
