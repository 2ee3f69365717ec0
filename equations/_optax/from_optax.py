"""Any Optax optimizer as an equation: its increment field."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from .._base import AbstractDynamics
from .._checks.arguments import decay, number
from .._checks.once import is_traced
from .._modified.increment import AbstractIncrement
from .._noise.base import AbstractGradientNoise, Minibatch
from .._scaling import ScalingLimit, ratio
from .._signals.base import is_parameter
from .checks import check_made, check_step, instead_of
from .ignored import check_uses
from .probe import check_nearness
from .rate import rate_at, takes_any_parameters

# How an optimizer's decay rates move with the learning rate unless the user says otherwise: 1 - rate ~ eta^exponent.
_EXPONENTS = {"b1": 1.0, "b2": 1.0, "b3": 1.0, "decay": 1.0, "momentum": 0.5}

Rule = float | int | Callable[[Any, Array], Any]


class OptaxEquation(AbstractIncrement):
    """What `from_optax` returns: the increment field of `factory(learning_rate, **hyperparameters)`."""

    factory: Callable = eqx.field(kw_only=True, static=True)
    hyperparameters: dict[str, Any] = eqx.field(kw_only=True)
    scaling: tuple[tuple[str, Rule], ...] = eqx.field(kw_only=True, static=True)
    # Shapes of the parameters, for factories that take trees like these only.
    _like: tuple | None = eqx.field(default=None, kw_only=True, static=True, repr=False)

    def twin(self):
        return self.factory(learning_rate=self.learning_rate, **self.hyperparameters)

    def scaling_limit(self):
        """Clock: eta^(smallest exponent of the decay rates, at most 1)."""
        exponents = [rule for _, rule in self.scaling if not callable(rule) and rule > 0]
        return OptaxLimit(self, self.learning_rate ** min([1.0, *exponents]))

    def check(self, params, signal):
        check_step(self, eqx.filter(params, is_parameter))
        super().check(params, signal)


class OptaxLimit(ScalingLimit):
    """Every hyperparameter moves by its rule."""

    def rescaled(self, factor):
        scaled = super().rescaled(factor)
        values = dict(self.equation.hyperparameters)
        for name, rule in self.equation.scaling:
            if callable(rule):
                # A count that the factory wants as a plain number stays one.
                is_python_number = not (eqx.is_array(values[name]) or is_traced(factor))
                values[name] = rule(values[name], float(factor) if is_python_number else factor)
            else:
                values[name] = decay(name)(1 - (1 - values[name]) * factor**rule)
        return eqx.tree_at(lambda e: e.hyperparameters, scaled, values)

    def at_fixed_memory(self, factor):
        """Decay rates stay; the rules that are functions hold for everything else, such as the length of a schedule."""
        return self._along(lambda name, rule: callable(rule) and name not in _EXPONENTS, factor)

    def at_batch_size(self, rule, batch_size):
        """By the linear rule, where 1 - rate ~ eta moves by kappa and any other memory stays, as momentum's does."""
        kappa = ratio(self.equation, rule, batch_size)
        if rule == "square_root":
            raise ValueError(
                "Argument `equation` must not be one of `from_optax` for rule='square_root', in which eps and decay rates "
                f"move in ways that its `scaling` does not say, but {self.equation!r} was given: take one by its "
                "name, such as equations.Adam."
            )
        moved = self._along(lambda name, rule: callable(rule) or rule == 1, kappa)
        return dataclasses.replace(moved, batch_size=batch_size)

    def _along(self, kept: Callable, factor):
        """With those hyperparameters alone moved whose rules are kept."""
        equation = self.equation
        moving = tuple((name, rule) for name, rule in equation.scaling if kept(name, rule))
        scaled = dataclasses.replace(equation, scaling=moving).scaling_limit().rescaled(factor)
        return dataclasses.replace(scaled, scaling=equation.scaling)

    def learning_rate_at(self, step):
        """Where there is a schedule inside, what it makes of the learning rate."""
        return rate_at(self.equation, step, self.equation._like)


def on_parameters(equation: AbstractDynamics, params: PyTree) -> AbstractDynamics:
    """`equation`, in which factories that take labels or masks like the parameters know the shapes of these."""

    def know(node):
        if not isinstance(node, OptaxEquation) or takes_any_parameters(node):
            return node
        leaves, treedef = jax.tree.flatten(eqx.filter(params, is_parameter))
        like = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves), treedef
        return dataclasses.replace(node, _like=like)

    return jax.tree.map(know, equation, is_leaf=lambda node: isinstance(node, OptaxEquation))


def check_model(equation: AbstractDynamics, params: PyTree, rescales: bool = False) -> None:
    """Raises or warns where what `from_optax` gave, alone or inside `equation`, is no equation of its algorithm.

    `rescales`: whether what follows goes by other learning rates too.
    """
    for inner in jax.tree.leaves(equation, is_leaf=lambda node: isinstance(node, OptaxEquation)):
        if isinstance(inner, OptaxEquation):
            check_nearness(inner, eqx.filter(params, is_parameter))
            check_uses(inner, eqx.filter(params, is_parameter), rescales)


def check_algorithm(equation: AbstractDynamics, params: PyTree) -> None:
    """Warns where a factory of `from_optax` does not use what it is given, for the algorithm alone."""
    for inner in jax.tree.leaves(equation, is_leaf=lambda node: isinstance(node, OptaxEquation)):
        if isinstance(inner, OptaxEquation):
            check_uses(inner, eqx.filter(params, is_parameter), measured=False)


def from_optax(
    factory: Callable[..., optax.GradientTransformation],
    learning_rate,
    batch_size: int | None = None,
    sampling: str = "with_replacement",
    *,
    noise_model: AbstractGradientNoise | None = None,
    scaling: Mapping[str, Rule] | None = None,
    **hyperparameters,
) -> OptaxEquation:
    r"""An Optax optimizer as an equation, without a line of mathematics: dy = f_eta(y) dt, f_eta = (Phi_eta - 1)/eta.

    The state y is the parameters and the optimizer's memory. The field is that of the algorithm at this learning rate, not
    of a limit; to leading order it is the equation that the algorithm models, and `modified` continues it to higher ones.

        own = from_optax(optax.adamw, learning_rate=1e-3)
        warm = from_optax(
            lambda learning_rate, decay_steps: optax.sgd(optax.cosine_decay_schedule(learning_rate, decay_steps)),
            learning_rate=0.1, decay_steps=100, scaling={"decay_steps": lambda steps, factor: steps / factor},
        )

    **Arguments:**

    - `factory`: called as `factory(learning_rate=..., **hyperparameters)`, such as `optax.adamw`.
    - `learning_rate`, `batch_size`, `sampling`, `noise_model`: as in `AbstractEquation`.
    - `scaling`: how hyperparameters move as eta -> 0, by name: a number p for a decay rate with 1 - rate ~ eta^p (0: it
        stays), or a function `(value, factor) -> value`. By default b1, b2, b3 and decay have p = 1 and
        momentum p = 1/2, also where the factory's own default stands; everything else stays.
    - `hyperparameters`: the optimizer's own. Floats are traced, so that a new value does not recompile; whole numbers and
        everything else are handed on as they are.

    Where a schedule inside multiplies the step, `times` are the sums of its rates: the learning rate of a step is what the
    schedule gives, times `learning_rate` where that is multiplied beside it. Where schedules do something else to the
    gradient, times are sums of `learning_rate`, and a warning says so.

    Not every transformation is one: its memory must be real numbers (no random keys, no flags), it must need nothing but
    the gradient and the parameters (no line search), and its step must be near the identity where the learning rate is
    small. Gradients gathered over several steps and sharpness-aware ascent are refused, others such as Rprop warned of, by
    what both sides do on a few parameters; `train` runs them all the same. Labels and masks are trees like the parameters,
    and are checked where these are given. A schedule that asks for the value of its peak, as
    `warmup_cosine_decay_schedule` does, goes beside the learning rate: `optax.scale_by_schedule` with peak 1.

    **Raises:** TypeError or ValueError, naming the argument.
    """
    if not callable(factory):
        raise TypeError(
            f"Argument `factory` must be callable, such as optax.adamw, but {factory!r} was given.{instead_of(factory)}"
        )
    if scaling is not None and not isinstance(scaling, Mapping):
        raise TypeError(f"Argument `scaling` must be a dict from hyperparameters to rules, but {scaling!r} was given.")
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        parameters = {}
    named = {name: p.default for name, p in parameters.items() if p.default is not inspect.Parameter.empty}
    values = {name: value for name, value in named.items() if name in _EXPONENTS} | hyperparameters
    rules = {name: p for name, p in _EXPONENTS.items() if name in values} | dict(scaling or {})
    for name, rule in rules.items():
        if name not in values and name in named:
            values[name] = named[name]
        if name not in values:
            raise ValueError(
                f"Argument `scaling` must name hyperparameters of the factory, {sorted(values)}, but {name!r} was given."
            )
        if not callable(rule):
            number(f"scaling[{name!r}]", rule, allowed="a number of at least 0 or a function", test=lambda p: p >= 0)
    rules = {name: rule for name, rule in rules.items() if values[name] is not None}
    values = {name: jnp.asarray(v) if isinstance(v, float) else v for name, v in values.items()}
    equation = OptaxEquation(
        learning_rate, batch_size, sampling, noise_model=Minibatch() if noise_model is None else noise_model,
        factory=factory, hyperparameters=values, scaling=tuple(sorted(rules.items())),
    )  # fmt: skip
    try:
        twin = equation.twin()
    except Exception as error:
        names = ", ".join(["learning_rate", *sorted(values)])
        instead = instead_of(factory)
        raise ValueError(
            f"Argument `factory` must take {names}, but {type(error).__name__}: {error}.{instead}"
        ) from error
    check_made(twin)
    check_step(equation, {"w": jnp.ones((2, 2))}, invented=True)
    return equation
