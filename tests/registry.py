"""Every algorithm that the shared laws of laws.py hold for: one line enrols it."""

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable

import jax.numpy as jnp
import mutants
import optax
from oracles import averaging, laprop, volumized_adam

from equations import (
    SAM,
    SGD,
    AbstractEquation,
    AdaGrad,
    Adam,
    AdamW,
    AMSGrad,
    ExtraGradient,
    Langevin,
    LaProp,
    Lion,
    Momentum,
    NAdam,
    OptimisticGradient,
    RMSProp,
    SignSGD,
    UnderdampedLangevin,
    averaged,
    clipped,
    decayed,
    scheduled,
    volumized,
)


@dataclasses.dataclass(frozen=True)
class Entry:
    """An equation under the laws.

    - `equation`: at some learning rate and batch size.
    - `optax`: the same algorithm, at the same numbers, as one writes it with Optax and nothing of ours.
    - `orders`: what the order law takes in place of its defaults (see `laws.order`).
    - `moves`: hyperparameters that its scaling moves beside the learning rate and what is forgotten in a step.
    - `forgets`: decay rates that are not in its scaling limit's `decays`, by name.
    - `degrees`: the powers of 1/eta with which parts of its memory grow (see `laws.natural_limit`).
    - `memory`: the one that a training step moves along, "new" or, as Lion's, "old".
    - `by_example`: whether the algorithm as one writes it takes the gradient of each example, and not their mean.
    - `average`: a function of parameters and Optax's memory, where the laws of the twin and of order look at an average.
    - `sizes`: of its batches by training step, where they are not all of one.
    - `counts`: whether its rates are those of a limit after many steps only.
    - `exempt`: laws that cannot hold for it, with the reason.
    """

    equation: AbstractEquation
    optax: optax.GradientTransformation
    orders: dict = dataclasses.field(default_factory=dict)
    moves: tuple[str, ...] = ()
    forgets: tuple[str, ...] = ()
    degrees: dict[str, float] = dataclasses.field(default_factory=dict)
    memory: str = "new"
    by_example: bool = False
    average: Callable | None = None
    sizes: Callable | None = None
    counts: bool = False
    exempt: dict[str, str] = dataclasses.field(default_factory=dict)


AVERAGES = {"steps": 40, "factor": 0.4}  # smaller steps, until the first ones are a small part

EQUATIONS = {
    "sgd": Entry(SGD(learning_rate=0.05, batch_size=2), optax.sgd(0.05)),
    "momentum": Entry(
        Momentum(learning_rate=0.05, batch_size=2), optax.sgd(0.05, momentum=0.9), degrees={"trace": 0.5}
    ),
    "nesterov": Entry(
        Momentum(learning_rate=0.05, batch_size=2, nesterov=True),
        optax.sgd(0.05, momentum=0.9, nesterov=True),
        exempt={"natural_limit": "the look-ahead is of the next order, and kept for what it does there"},
    ),
    "adam": Entry(Adam(learning_rate=0.05, batch_size=2), optax.adam(0.05), orders=AVERAGES),
    "adamw": Entry(
        AdamW(learning_rate=0.05, batch_size=2, eps=1e-3, eps_root=1e-3, weight_decay=0.1),
        optax.adamw(0.05, eps=1e-3, eps_root=1e-3, weight_decay=0.1),
        orders=AVERAGES,
    ),
    "nadam": Entry(NAdam(learning_rate=0.05, batch_size=2), optax.nadam(0.05), orders={"steps": 160, "factor": 0.1}),
    "amsgrad": Entry(AMSGrad(learning_rate=0.05, batch_size=2, b2=0.9), optax.amsgrad(0.05, b2=0.9), orders=AVERAGES),
    "laprop": Entry(
        LaProp(learning_rate=0.05, batch_size=2, eps=1e-2), laprop(0.05, eps=1e-2), orders=AVERAGES, degrees={"mu": 0}
    ),
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
    "rmsprop_corrected": Entry(
        RMSProp(learning_rate=0.05, batch_size=2, eps=1e-2, eps_in_sqrt=False, bias_correction=True),
        optax.rmsprop(0.05, eps=1e-2, eps_in_sqrt=False, bias_correction=True),
        orders={"steps": 80, "factor": 0.2},
    ),
    "adagrad": Entry(
        AdaGrad(learning_rate=0.05, batch_size=2, eps=1e-2),
        optax.adagrad(0.05, eps=1e-2),
        degrees={"nu": 2},
        orders={"factor": 0.1, "steps": 16},
        moves=("initial_accumulator_value", "eps"),
    ),
}

# Several gradients of one batch, or of two.
AHEAD = optax.contrib.sam
EQUATIONS |= {
    "sam": Entry(
        SAM(0.05, 2, rho=0.1, normalized=False),
        AHEAD(optax.sgd(0.05), optax.sgd(0.1), opaque_mode=True),
        moves=("rho",),
    ),
    "extra_gradient": Entry(ExtraGradient(0.05, 2), AHEAD(optax.sgd(0.05), optax.sgd(-0.05), opaque_mode=True)),
    "optimistic_gradient": Entry(
        OptimisticGradient(0.05, 2, alpha=0.8, beta=0.5),
        optax.optimistic_gradient_descent(0.05, alpha=0.8, beta=0.5),
        memory="old",
        exempt={
            "natural_limit": "its memory is forgotten in every step: tests/equations/optimizers/test_games.py",
            "euler_is_the_twin": "no signal is before the first step: tests/equations/optimizers/test_games.py",
        },
    ),
}

# Those that live from noise.
NO_FLOW = {"order": "without noise its flow is discontinuous: tests/equations/optimizers/test_sign.py"}
HEAT = {"order": "its heat stays without batches: tests/equations/optimizers/test_langevin.py"}
EQUATIONS |= {
    "sign_sgd": Entry(SignSGD(0.05, 2), optax.sign_sgd(0.05), exempt=NO_FLOW),
    "lion": Entry(Lion(0.05, 2, b1=0.3), optax.lion(0.05, b1=0.3), memory="old", exempt=NO_FLOW),
    "langevin": Entry(Langevin(0.05, 2, temperature=0.3), optax.sgd(0.05), exempt=HEAT),
    "underdamped_langevin": Entry(
        UnderdampedLangevin(0.05, 2, temperature=0.3),
        optax.sgd(0.05, momentum=1 - 0.05**0.5),
        degrees={"trace": 0.5},
        exempt=HEAT,
    ),
}

# Around others.
COSINE = optax.cosine_decay_schedule(1.0, 40, 0.2)
_WARM = optax.warmup_cosine_decay_schedule(0.1, 1.0, 4, 40, 0.2)
WARM = lambda step: _WARM(jnp.asarray(step, float))  # noqa: E731  (at a count Optax computes in float32)
SIZES = lambda step: jnp.where(step < 8, 2, 3)  # noqa: E731
DECAY = optax.add_decayed_weights(-0.05 * 0.1)
EQUATIONS |= {
    "scheduled": Entry(
        scheduled(SGD(0.05, 2), COSINE), optax.sgd(lambda step: 0.05 * COSINE(step)), moves=("stretch",)
    ),
    "scheduled_adam": Entry(
        scheduled(Adam(0.05, 2), WARM),
        optax.chain(optax.adam(0.05), optax.scale_by_schedule(WARM)),
        orders=EQUATIONS["adam"].orders,
        moves=("stretch",),
        exempt={"euler_is_the_twin": "the bias correction of a step is that after it, the schedule that before it"},
    ),
    "scheduled_batches": Entry(
        scheduled(SGD(0.05), batch_size=SIZES),
        optax.sgd(0.05),
        moves=("stretch",),
        sizes=SIZES,
        exempt={
            "twin_is_plain_optax": "its batches are not all of one size: tests/equations/wrappers/test_batch_sizes.py"
        },
    ),
    "decayed": Entry(
        decayed(Momentum(0.05, 2), 0.1),
        optax.chain(optax.sgd(0.05, momentum=0.9), DECAY),
        degrees={"trace": 0.5},
        moves=("weight_decay",),
    ),
    "volumized": Entry(
        volumized(Adam(0.05, 2), volume=0.3, alpha=0.9),
        volumized_adam(0.05, 0.3, 0.9),
        forgets=("alpha",),
        orders=EQUATIONS["adam"].orders,
        exempt={"euler_is_the_twin": "what the step itself carries out of the box comes back in the next Euler step"},
    ),
}

# On the gradients of single examples.
PRIVATE = optax.contrib.differentially_private_aggregate
EQUATIONS |= {
    "clipped": Entry(
        clipped(SGD(0.05, 2), norm=0.3, noise=0.3),
        optax.chain(PRIVATE(0.3, 0.0, 0), optax.sgd(0.05)),
        orders={"equation": clipped(SGD(0.05, 2), norm=1.0)},
        by_example=True,
    ),
}

# With an average of the weights.
LAST = {"average": lambda params, memory: memory[1]}
EQUATIONS |= {
    "averaged": Entry(
        averaged(SGD(0.05, 2), decay=0.9), averaging(optax.sgd(0.05), lambda step: 0.1), moves=("decay",), **LAST
    ),
    "averaged_adam": Entry(
        averaged(Adam(0.05, 2), decay=0.9),
        averaging(optax.adam(0.05), lambda step: 0.1),
        moves=("decay",),
        orders=EQUATIONS["adam"].orders,
        **LAST,
    ),
    "polyak_averaged": Entry(
        averaged(Momentum(0.05, 2), decay="polyak"),
        averaging(optax.sgd(0.05, momentum=0.9), lambda step: 1 / (step + 2.0)),
        degrees={"trace": 0.5},
        counts=True,
        **LAST,
    ),
}

# Smooth, and refused by `modified` all the same: tests/equations/wrappers say why.
WITHOUT_SERIES = ("polyak_averaged", "scheduled_batches")


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
