"""What the equations of the edge of stability share: around an algorithm, seeded, observed at a center."""

import dataclasses
from dataclasses import InitVar
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import ArrayLike, PyTree

from .._base import check_contract
from .._checks.arguments import integer, nonnegative
from .._checks.derivatives import check_derivatives
from .._checks.facts import refined
from .._forwarder import AbstractForwarder, inner
from .._gradients import is_noisy
from .._modified.increment import AbstractIncrement, Increment
from .._modified.truncated import left_out
from .._series import Series
from .._splitting import Splitting
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

    def diffusion(self, t, state, signal):
        return None

    def is_affine(self, state):
        return False

    def series(self):
        name = type(self).__name__
        told = None if self.order == 1 else lambda params: left_out(self.order)
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
        if self.order > 1:
            check_derivatives(signal, params, f"the series of order {self.order}")


class AbstractNoiseless(AbstractEdgeFlow):
    """Of these what is a flow alone: nothing is drawn, and minibatches have no part in it."""

    @property
    def random(self):
        return False

    def check(self, params, signal):
        super().check(params, signal)
        if is_noisy(self.equation):
            name = type(self).__name__
            raise ValueError(
                f"Argument `batch_size` must be None for {'an' if name[0] in 'AEIOU' else 'a'} {name}, which has no noise, "
                f"but {self.batch_size!r} was given."
            )


class NoiselessSplitting(Splitting):
    """Without a kick."""

    def noise(self, state, signal, kicks_per_step):
        return None
