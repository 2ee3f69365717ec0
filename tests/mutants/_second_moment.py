"""What can be wrong with a second moment `nu`, for any equation that has one: to be mixed into it."""

import dataclasses

import jax


class Noiseless:
    """The second moment follows the mean of the squared gradient, without noise."""

    def kick(self, t, state, signal, noise, dt):
        drift, flow = (f(t, state, signal).nu for f in (self.drift, self.flow))
        nu = jax.tree.map(lambda d, f: dt * (d - f), drift, flow)
        return dataclasses.replace(super().kick(t, state, signal, noise, dt), nu=nu)


class Shiftless:
    """The second moment is driven by the square of the mean gradient; its noise stays."""

    def kick(self, t, state, signal, noise, dt):
        kick = super().kick(t, state, signal, noise, dt)
        drift = self.drift(t, state, signal).nu
        square = self.velocity(t, state, signal.gradient(state.params)).nu
        return dataclasses.replace(kick, nu=jax.tree.map(lambda k, d, s: k - dt * (d - s), kick.nu, drift, square))
