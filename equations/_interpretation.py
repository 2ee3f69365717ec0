"""Itô and Stratonovich: one stochastic differential equation in the two forms, whose drifts differ."""

import dataclasses
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

from ._base import AbstractDynamics, check_contract
from ._checks.derivatives import check_derivatives
from ._checks.facts import refined, told_by
from ._checks.lineage import inside, overrides
from ._counts import around
from ._scaling import ForwardedLimit, learning_rate_of
from ._tree import add_scaled, zeros_of

INTERPRETATIONS = ("ito", "stratonovich", "additive")
_COLUMNS = 16  # of the diffusion at once


def spurious_drift(dynamics: AbstractDynamics, t: Array, state: PyTree, signal: Any) -> PyTree:
    """sum_k (D sigma_k) sigma_k over the columns of the diffusion, half of which is the drift in the Itô sense without that
    in the Stratonovich sense. Two Jacobian-vector products for every normal number of the noise."""

    def root(y, normals):
        operator: Any = dynamics.diffusion(t, y, signal)
        return operator.mv(normals)

    operator = dynamics.diffusion(t, state, signal)
    zero = jax.tree.map(jnp.zeros_like, state)
    if operator is None:
        return zero
    flat, unravel = ravel_pytree(zeros_of(operator.in_structure()))

    def column(number):
        unit = unravel(jax.nn.one_hot(number, flat.size, dtype=flat.dtype))  # beyond the last one zeros
        along = jax.tree.map(lambda leaf, y: leaf.astype(y.dtype), root(state, unit), state)
        return jax.jvp(lambda y: root(y, unit), (state,), (along,))[1]

    def add(total, numbers):
        return add_scaled(total, (1.0, jax.tree.map(lambda leaf: leaf.sum(0), jax.vmap(column)(numbers)))), None

    width = min(_COLUMNS, flat.size)
    numbers = jnp.arange(-(-flat.size // width) * width).reshape(-1, width)
    return jax.lax.scan(add, zero, numbers)[0]


class AbstractConverted(AbstractDynamics):
    """The dynamics `equation` in the other interpretation; all but its drift is the same."""

    _facts = refined(AbstractDynamics, reads="field")

    equation: AbstractDynamics

    form: ClassVar[str]

    @property
    def learning_rate(self) -> Any:
        """That of the equation inside, None where it has none."""
        return learning_rate_of(self.equation)

    def init(self, params):
        return self.equation.init(params)

    def params(self, state):
        return self.equation.params(state)

    def diffusion(self, t, state, signal):
        return self.equation.diffusion(t, state, signal)

    def held(self, low, high=None):
        return around(self, "equation", self.equation.held(low, high))

    def check(self, params, signal):
        self.equation.check(params, signal)
        check_derivatives(signal, params, f"{self.form} of the equation")

    def scaling_limit(self):
        return ForwardedLimit(self)

    def series(self):
        return dataclasses.replace(self.equation.series(), discrete=False)

    def sees(self, signal):
        return self.equation.sees(signal)

    def around_moved(self, equation: AbstractDynamics, clock: Any) -> "AbstractConverted":
        """Around `equation`, the inner one with other hyperparameters."""
        return eqx.tree_at(lambda e: e.equation, self, equation)


class Stratonovich(AbstractConverted):
    """An Itô equation in its Stratonovich form, with the drift less half the `spurious_drift`."""

    interpretation = "stratonovich"
    form = "the Stratonovich form"

    def drift(self, t, state, signal):
        drift = self.equation.drift(t, state, signal)
        return add_scaled(drift, (-0.5, spurious_drift(self.equation, t, state, signal)))


class Ito(AbstractConverted):
    """A Stratonovich equation in its Itô form, with half the `spurious_drift` more."""

    form = "the Itô form"

    def drift(self, t, state, signal):
        drift = self.equation.drift(t, state, signal)
        return add_scaled(drift, (0.5, spurious_drift(self.equation, t, state, signal)))


def stratonovich(equation: AbstractDynamics) -> AbstractDynamics:
    r"""The same equation in its Stratonovich form, for Diffrax's Stratonovich solvers.

        dY = [b - (1/2) sum_k (D sigma_k) sigma_k] dt + sum_k sigma_k o dW_k,

    sigma_k the columns of the diffusion (Kloeden and Platen 1992, section 4.9), exact and equal in law. For minibatches the
    correction is -(eta/4) grad tr(C/B), and the drift -grad(L + (eta/4B) tr C). It costs two Jacobian-vector products for
    every normal number of the noise, for minibatches two for every example; a step of a Stratonovich solver takes it at
    each of its stages.

    **Arguments:** `equation`: an `equations.AbstractDynamics` read in the Itô sense, such as SGD; one that is in the
    Stratonovich form already is returned as it is.

    **Returns:** a dynamics for `solve`, with `interpretation` "stratonovich". It has no twin: for `train`, `compare` and
    `orders` give the equation itself.

    **Raises:** TypeError for anything else, and ValueError for an equation that is singular at t = 0, such as Adam's, whose
    first step is the algorithm's.
    """
    check_contract(equation)
    if is_stratonovich(equation):
        return equation
    part = equation
    while told_by(type(part)).singular is None:
        part = inside(part)
    if told_by(type(part)).singular:
        raise ValueError(
            "Argument `equation` must not be singular at the start, where its first step is that of the algorithm and of "
            f"no drift and diffusion, but {equation!r} was given."
        )
    return Stratonovich(equation)


def as_ito(equation: AbstractDynamics) -> AbstractDynamics:
    """The same dynamics to be read in the Itô sense: itself, unless its class says that it is in the Stratonovich form."""
    if not is_stratonovich(equation):
        return equation
    if isinstance(equation, Stratonovich):
        return equation.equation
    if overrides(type(equation), "splitting"):
        raise TypeError(
            "Argument `equation` must not have a splitting of its own where its `interpretation` is 'stratonovich', since "
            f"a kick is an Itô increment, but {type(equation).__name__}.splitting was given."
        )
    return Ito(equation)


def is_stratonovich(equation: AbstractDynamics) -> bool:
    """Whether drift and diffusion of a dynamics are to be read in the Stratonovich sense.

    **Raises:** ValueError where its `interpretation` is none, and for an algorithm, whose equation is read as Itô.
    """
    given, kind = equation.interpretation, type(equation)
    if not isinstance(given, str) or given not in INTERPRETATIONS:
        raise ValueError(
            f"Argument `equation` must have an `interpretation` of 'ito', 'stratonovich' or 'additive', but "
            f"{kind.__name__} has {given!r}."
        )
    if given == "stratonovich" and equation.series().discrete:
        raise ValueError(
            "Argument `equation` must be read in the Itô sense where it is a training algorithm's, but the "
            f"`interpretation` of {kind.__name__} is 'stratonovich': `equations.stratonovich(equation)` is its "
            "Stratonovich form."
        )
    return given == "stratonovich"
