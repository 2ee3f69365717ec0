"""What the equations of the edge of stability share: around an algorithm, seeded, observed at a center."""

import dataclasses
from dataclasses import InitVar
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import ArrayLike, PyTree

from .._base import check_contract
from .._checks.arguments import integer, nonnegative
from .._checks.derivatives import check_derivatives
from .._checks.facts import refined
from .._forwarder import AbstractForwarder, inner
from .._gradients import is_noisy
from .._modified.increment import AbstractIncrement, Increment
from .._series import Series
from .._splitting import Splitting, split
from .._wrappers.base import check_inside
from .states import Window


def _of_training(equation: Any) -> AbstractIncrement:
    """The increment field of an algorithm, from which these equations are made."""
    check_contract(equation, twin=True)
    check_inside(equation)
    return Increment.of(equation)


def _seed(value: Any) -> float | None:
    return None if value is None else float(nonnegative("seed_scale")(value))


class AbstractEdgeFlow(AbstractForwarder):
    r"""An equation of training in which the algorithm alternates about a center, from its twin alone.

    A state without alternation is invariant: what seeds it in training is rounding. In every training step the alternating
    part of the parameters receives numbers of the size `seed_scale * |center|`, uniform in training, of the same variance
    here; two paths of one key differ by nothing else. Without them the alternation begins hundreds of steps too late.

    **Attributes:**

    - `equation`: the increment field of the algorithm.
    - `seed_scale`: of the rounding, relative; None: half the spacing of floating-point numbers in the parameters'
        precision. A flow in float64 that models a run in float32 takes 2**-24. 0: no seed.
    - `order`: of the series, see `modified`.
    """

    _facts = refined(AbstractForwarder, reads="twin")

    equation: AbstractIncrement = eqx.field(converter=_of_training)  # pyright: ignore[reportGeneralTypeIssues]
    seed_scale: float | None = eqx.field(default=None, static=True, converter=_seed, kw_only=True)
    order: int = eqx.field(
        default=1, static=True, converter=lambda value: integer("order", value, maximum=3), kw_only=True
    )
    if not TYPE_CHECKING:  # by name only, so that the equation comes first
        learning_rate: InitVar[Any] = dataclasses.field(default=inner("learning_rate"), kw_only=True)
        batch_size: InitVar[Any] = dataclasses.field(default=inner("batch_size"), kw_only=True)
        sampling: InitVar[Any] = dataclasses.field(default=inner("sampling"), kw_only=True)
        noise_model: InitVar[Any] = dataclasses.field(default=inner("noise_model"), kw_only=True)

    @property
    def seeded(self) -> bool:
        """Whether anything seeds the alternation."""
        return self.seed_scale != 0

    @property
    def random(self):
        return self.seeded or self.equation.random

    def gradient_of(self, signal: Any, state: PyTree) -> PyTree:
        """The full gradient at a state of the algorithm, in the form its velocity takes."""
        increment = self.equation
        return increment.gradient(state.params, increment.sees(signal), None)

    def seed(self, center: PyTree, normals: PyTree, steps: ArrayLike) -> PyTree:
        """What rounding adds to the alternating part in so many training steps, of the variance of uniform numbers."""

        def one(leaf, normal):
            scale = float(jnp.finfo(leaf.dtype).eps) / 2 if self.seed_scale is None else self.seed_scale
            return (scale * jnp.sqrt(steps / 3) * jnp.abs(leaf) * normal).astype(leaf.dtype)

        return jax.tree.map(one, center, normals)

    def twin(self):
        """The algorithm, which remembers where it was."""
        inside = optax.with_extra_args_support(self.equation.twin())

        def init(params):
            params = jax.tree.map(jnp.asarray, params)
            return Window(inside.init(params), params, params)

        def update(updates, state, params: Any = None, **more):
            if params is None:
                raise ValueError(f"Argument `params` must be given to the twin of {type(self).__name__}, but None was.")
            updates, memory = inside.update(updates, state.inner, params, **more)
            return updates, Window(memory, params, state.previous)

        return optax.GradientTransformationExtraArgs(init, update)

    def is_affine(self, state):
        return False

    def held(self, low, high=None):
        return eqx.tree_at(
            lambda e: e.equation, self, self.equation.held(low, high), is_leaf=lambda node: node is self.equation
        )

    def around_moved(self, equation, clock):
        return dataclasses.replace(self, equation=equation)

    def series(self):
        name = type(self).__name__
        told = None if self.order == 1 else lambda params: f"O(h^{self.order}), h = natural time of a step"
        return Series(
            self.order, continued=self.continued, remainder=told, maker=name, kind=f"a {name}", discrete=True
        )  # fmt: skip

    def continued(self, order: int, fluctuations: bool = False) -> "AbstractEdgeFlow":
        """To another order of the series."""
        raise ValueError(
            f"Argument `equation` must be a RodFlow or the equation of an algorithm to have a series, but a "
            f"{type(self).__name__} was given, which is no map of a training step."
        )

    def check(self, params, signal):
        self.equation.check(params, signal)
        if is_noisy(self.equation):
            self._check_noise(params)
        if self.order > 1:
            check_derivatives(signal, params, f"the series of order {self.order}")

    def _check_noise(self, params: PyTree) -> None:
        inside = self.equation
        affine = inside.is_affine(inside.init(eqx.filter(params, eqx.is_inexact_array)))
        if not affine or inside.several_gradients:
            raise ValueError(
                "Argument `batch_size` must be None, with no noise, for the equations of the edge of stability of a rule "
                f"that is not affine in the gradient, but that of {type(inside.algorithm).__name__} is "
                f"{inside.batch_size!r}."
            )


class EdgeSplitting(Splitting):
    """The kick is what seeds the alternation, and where there are minibatches their noise.

    Both the center and the alternating part receive it, each as if it were all of the parameters: a mode of multiplier
    m = 1 - eta lambda has the variance Sigma/(1 - m^2) = Sigma/(2 eta lambda) + Sigma/(2 (2 - eta lambda)) of training, of
    which the first part is the center's, the second that of the alternation (derived; by the stationary states of both).
    """

    @property
    def kicks(self):
        return 1

    def noise(self, state, signal, kicks_per_step):
        edge = self.dynamics
        inside = edge.equation
        flat = jax.eval_shape(lambda tree: ravel_pytree(tree)[0], edge.params(state))
        # One vector: the program that draws it is compiled for each leaf anew.
        seed = jax.ShapeDtypeStruct(flat.shape, flat.dtype) if edge.seeded else None
        batches = split(inside).noise(edge.at_center(state), signal, kicks_per_step) if is_noisy(inside) else None
        return None if seed is None and batches is None else (seed, batches, batches)

    def kick(self, t, state, signal, noise, dt):
        edge = self.dynamics
        if noise is None:
            return jax.tree.map(jnp.zeros_like, state)
        seed, first, second = noise
        center = edge.at_center(state)
        zero = jax.tree.map(jnp.zeros_like, center)
        inside = split(edge.equation)
        moves, turns = (
            zero if normals is None else inside.kick(t, center, signal, normals, dt) for normals in (first, second)
        )
        if seed is not None:
            numbers = ravel_pytree(center.params)[1](seed)
            more = edge.seed(center.params, numbers, dt / edge.learning_rate)
            turns = eqx.tree_at(lambda s: s.params, turns, jax.tree.map(jnp.add, turns.params, more))
        return edge.kicked(state, moves, turns)

    def kicks_have_a_mean(self, state):
        return False
