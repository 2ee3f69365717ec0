"""Mutants of Volumized."""

import equinox as eqx
import jax
import jax.numpy as jnp
from changed import changed
from typing_extensions import override

from equations import Volumized
from equations._wrappers.base import WrappedSplitting


class MomentKept(Volumized):
    """The first moment is not scaled back."""

    def added(self, t, state):
        rates = jax.tree.map(jnp.zeros_like, state)
        return self.with_params(rates, self.params(super().added(t, state)))


class ToTheOrigin(Volumized):
    """Outside the box a weight decays to zero, not to the wall."""

    @override
    def _beyond(self, parameter):
        return jnp.where(self._outside(parameter), parameter, 0.0)


class FixedAlpha(Volumized):
    """Another learning rate at the same alpha."""

    scaling_limit = changed(
        rescaled=lambda s, factor: eqx.tree_at(lambda e: e.alpha, s.rescaled(factor), s.equation.alpha)
    )


class FirstStepUnbounded(Volumized):
    """What the first step carries out of the box stays there."""

    splitting = changed(start=lambda s, *args: WrappedSplitting.of(s.dynamics).start(*args))
