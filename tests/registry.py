"""Every algorithm that the shared laws of laws.py hold for: one line enrols it."""

import dataclasses
import importlib
import pkgutil

import mutants
import optax
from oracles import laprop

from equations import SGD, AbstractEquation, AdaGrad, Adam, AdamW, AMSGrad, LaProp, Momentum, NAdam, RMSProp


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


AVERAGES = {"steps": 40, "factor": 0.4}  # smaller steps, until the first ones are a small part

EQUATIONS = {
    "sgd": Entry(SGD(learning_rate=0.05, batch_size=2), optax.sgd(0.05)),
    "momentum": Entry(Momentum(learning_rate=0.05, batch_size=2), optax.sgd(0.05, momentum=0.9)),
    "nesterov": Entry(
        Momentum(learning_rate=0.05, batch_size=2, nesterov=True), optax.sgd(0.05, momentum=0.9, nesterov=True)
    ),
    "adam": Entry(Adam(learning_rate=0.05, batch_size=2), optax.adam(0.05), orders=AVERAGES),
    "adamw": Entry(
        AdamW(learning_rate=0.05, batch_size=2, weight_decay=0.1), optax.adamw(0.05, weight_decay=0.1), orders=AVERAGES
    ),
    "nadam": Entry(NAdam(learning_rate=0.05, batch_size=2), optax.nadam(0.05), orders={"steps": 160, "factor": 0.1}),
    "amsgrad": Entry(AMSGrad(learning_rate=0.05, batch_size=2, b2=0.9), optax.amsgrad(0.05, b2=0.9), orders=AVERAGES),
    "laprop": Entry(LaProp(learning_rate=0.05, batch_size=2), laprop(0.05), orders=AVERAGES),
    "rmsprop": Entry(
        RMSProp(learning_rate=0.05, batch_size=2, initial_scale=1.0),
        optax.rmsprop(0.05, initial_scale=1.0),
        orders={"steps": 80, "factor": 0.2},
    ),
    "rmsprop_centered": Entry(
        RMSProp(learning_rate=0.05, batch_size=2, initial_scale=1.0, centered=True),
        optax.rmsprop(0.05, initial_scale=1.0, centered=True),
        orders={"steps": 80, "factor": 0.2},
    ),
    "adagrad": Entry(
        AdaGrad(learning_rate=0.05, batch_size=2),
        optax.adagrad(0.05),
        orders={"factor": 0.1, "steps": 16},
        moves=("initial_accumulator_value", "eps"),
    ),
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
