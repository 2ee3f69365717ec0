"""Mutants of Adam."""

import equinox as eqx
import jax
import jax.numpy as jnp
from changed import changed

from equations import Adam, ScalingLimit


def noise_variance(equation, params, signal):
    """diag(C)/B."""

    def gradient(index):
        return signal.take(index[None]).gradient(params)

    gradients = jax.vmap(gradient)(jnp.arange(signal.size))
    return jax.tree.map(lambda g: jnp.var(g, axis=0) / equation.batch_size, gradients)


def noiseless(s, t, state, signal, noise, dt):
    kick = s.kick(t, state, signal, noise, dt)
    rate = dt * (1 - s.dynamics.b2) / s.dynamics.learning_rate
    gradient, variance = signal.gradient(state.params), noise_variance(s.dynamics, state.params, signal)
    return eqx.tree_at(lambda k: k.nu, kick, jax.tree.map(lambda g, v: rate * (g**2 + v), gradient, variance))


def shiftless(s, t, state, signal, noise, dt):
    kick = s.kick(t, state, signal, noise, dt)
    rate = dt * (1 - s.dynamics.b2) / s.dynamics.learning_rate
    shift = noise_variance(s.dynamics, state.params, signal)
    return eqx.tree_at(lambda k: k.nu, kick, jax.tree.map(lambda nu, v: nu - rate * v, kick.nu, shift))


class WithoutNoise(Adam):
    """The second moment follows the mean of the squared gradient, without noise."""

    splitting = changed(kick=noiseless)


class WithoutShift(Adam):
    """The second moment is driven by the square of the mean gradient; its noise stays."""

    splitting = changed(kick=shiftless)


class EpsilonInside(Adam):
    """eps inside the root."""

    def direction(self, steps, state, gradient):
        inside = eqx.tree_at(lambda e: (e.eps, e.eps_root), self, (0.0 * self.eps, self.eps))
        return Adam.direction(inside, steps, state, gradient)


class NoBiasCorrection(Adam):
    """The moments as they are."""

    def direction(self, steps, state, gradient):
        return super().direction(jnp.full((), jnp.inf), state, gradient)


class FixedRates(Adam):
    """Another learning rate at the same b1 and b2."""

    scaling_limit = changed(rescaled=lambda s, factor: ScalingLimit(s.equation).rescaled(factor))


class FromZero(Adam):
    """Bias correction with the exponent t/eta + 1 from t = 0, in place of a first discrete step."""

    def velocity(self, t, state, gradient):
        return super().velocity(t + self.learning_rate, state, gradient)

    splitting = changed(start=lambda s, state, signal, noise: None)
