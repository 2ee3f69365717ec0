"""How a slow motion is stepped, and how it moves with the learning rate."""

import types

import jax.numpy as jnp

from .._checks.arguments import number
from .._scaling import ForwardedLimit
from .._splitting import GradientSplitting, split
from .._tree import add_scaled


class SlowSplitting(GradientSplitting):
    """From the slow path; the kick is the response of the whole memory to a gradient."""

    def flow(self, t, state, signal):
        return self.dynamics.drift(t, state, signal)

    def start(self, state, signal, noise):
        """The slow path after its first step."""
        equation = self.dynamics
        start, zero = equation.slow_start(state, signal), jnp.zeros(())
        first = equation.held(jnp.zeros((), jnp.int32))
        after = add_scaled(start, (equation.learning_rate, first.drift(zero, start, signal)))
        return add_scaled(after, (1.0, split(first).kick(zero, start, signal, noise, equation.learning_rate)))


class SlowLimit(ForwardedLimit):
    """The hyperparameters stay, but for those of schedules, which span the same time; clock eta * step."""

    time, decays, powers, batch, heat = None, types.MappingProxyType({}), types.MappingProxyType({}), 0, False

    def time_per_step(self):
        return self.equation.learning_rate

    def variance_scale(self):
        return self.equation.learning_rate

    def claimed_order(self, measure):
        return 1.0

    def rescaled(self, factor):
        factor = number("factor", factor, allowed="a positive finite number", test=lambda x: x > 0)
        return self.at_fixed_memory(factor)
