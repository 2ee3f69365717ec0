"""What can be wrong with a second moment `nu`, for any equation that has one: to be mixed into it."""

import dataclasses

import jax
from changed import changed


def noiseless(s, t, state, signal, noise, dt):
    drift, flow = s.dynamics.drift(t, state, signal).nu, s.flow(t, state, signal).nu
    nu = jax.tree.map(lambda d, f: dt * (d - f), drift, flow)
    return dataclasses.replace(s.kick(t, state, signal, noise, dt), nu=nu)


def shiftless(s, t, state, signal, noise, dt):
    kick = s.kick(t, state, signal, noise, dt)
    drift = s.dynamics.drift(t, state, signal).nu
    square = s.dynamics.velocity(t, state, signal.gradient(state.params)).nu
    return dataclasses.replace(kick, nu=jax.tree.map(lambda k, d, s: k - dt * (d - s), kick.nu, drift, square))


class Noiseless:
    """The second moment follows the mean of the squared gradient, without noise."""

    splitting = changed(kick=noiseless)


class Shiftless:
    """The second moment is driven by the square of the mean gradient; its noise stays."""

    splitting = changed(kick=shiftless)
