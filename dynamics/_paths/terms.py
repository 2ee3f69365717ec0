"""The terms that Diffrax sees. Its time counts steps of the solver, so that no float32 clock ever loses one."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from equations import AbstractDynamics
from equations.internal import long_kick, split

from .brownian import Increments
from .lanes import row


def add(state: PyTree, increment: PyTree) -> PyTree:
    """state + increment in the state's dtypes."""
    return jax.tree.map(lambda y, dy: (y + dy).astype(y.dtype), state, increment)


class Clock(eqx.Module):
    """Turns the solver's time tau, counted in substeps from substep `base` of training step `offset`, into the dynamics'.

    Where a step of the solver begins is `base` (`at`), and tau is the place within it, so that the time of a stage is a
    function of the step and of the stage alone, not of where a call of Diffrax began.
    """

    offset: Array
    dt: Array
    substeps: int = eqx.field(static=True)
    base: Array | int = 0
    stride: int | float = eqx.field(static=True, default=1)  # training steps in what is a training step here

    def span(self, substep: Array, dtype: Any) -> tuple[Array, Array]:
        """The training steps, as real numbers, between which a whole substep lies, with others of the same `step`."""
        low = self.step(substep).astype(dtype) * self.stride
        return low, low + self.stride

    def time(self, tau: Any) -> Array:
        """The dynamics' time at tau."""
        return ((self.offset * self.substeps + self.base).astype(tau.dtype) + tau) * self.dt

    def step(self, substep: Array) -> Array:
        """The training step, counted from 0, to which a whole substep belongs."""
        return self.offset + (self.base + substep) // self.substeps

    def place(self, substep: Array) -> Array:
        """The place of a whole substep in its training step."""
        return (self.base + substep) % self.substeps

    def at(self, substep: Array) -> "Clock":
        """The same, with tau counted from that substep."""
        return dataclasses.replace(self, base=self.base + substep)


def _now(signal, tau, args):
    """The signal at tau: always the same, or where it changes with time, a function of it in Diffrax's `args`."""
    return signal if args is None else args(tau)


def as_state(increment: PyTree, state: PyTree) -> PyTree:
    """An increment in the state's dtypes."""
    return jax.tree.map(lambda dy, y: dy.astype(y.dtype), increment, state)


class Field(eqx.Module):
    """The vector field of a noise-free dynamics, or of the flow of a splitting, per substep."""

    dynamics: AbstractDynamics
    signal: Any
    clock: Clock
    unsplit: bool = eqx.field(static=True)

    def __call__(self, tau, state, args):
        field = self.dynamics.drift if self.unsplit else split(self.dynamics).flow
        velocity = field(self.clock.time(tau), state, _now(self.signal, tau, args))
        return as_state(jax.tree.map(lambda v: self.clock.dt * v, velocity), state)


class IncrementTerm(dfx.AbstractTerm):
    """A term given by its increment over one substep; `vf` and `prod` have no meaning of their own."""

    dynamics: AbstractDynamics
    signal: Any
    clock: Clock
    increments: Increments | None

    def contr(self, t0, t1, **kwargs):
        return t0  # the substep; a float, since Diffrax multiplies a control by the direction of time

    def vf(self, t, y, args):
        return y

    def prod(self, vf, control):
        return vf

    def noise(self, control, kicks: int) -> list:
        """The normals of the `kicks` kicks of a substep."""
        if self.increments is None:
            return [None] * kicks
        substep = jnp.rint(control).astype(self.clock.offset.dtype)
        rows = self.increments(self.clock.step(substep))
        place = self.clock.place(substep) * kicks
        return [jax.tree.map(lambda leaf, j=j: row(leaf, place + j), rows) for j in range(kicks)]


class EulerTerm(IncrementTerm):
    """The whole Euler-Maruyama step: with `diffrax.Euler()` one weighted gradient."""

    def vf_prod(self, t, y, args, control):
        (noise,) = self.noise(control, 1)
        signal = _now(self.signal, t, args)
        return as_state(split(self.dynamics).euler(self.clock.time(t), y, signal, noise, self.clock.dt), y)


class KickTerm(IncrementTerm):
    """The kick in the middle of a substep, of `kicks` evaluations.

    Two evaluations, K1 = kick(y, xi1, dt/2) and K2 = kick(y + sqrt(2) K1, xi2, dt/2), have the covariance of a pure
    diffusion to second order in dt (for a kick linear in the state exactly so: the second lies a whole kick away from
    the first, at half its weight). One evaluation leaves the noise that the noise itself has changed to first order.
    """

    kicks: int = eqx.field(static=True)

    def vf_prod(self, t, y, args, control):
        time, dt = self.clock.time(t), self.clock.dt / self.kicks
        noise, kick = self.noise(control, self.kicks), self._kick(y)
        first = kick(time, y, self.signal, noise[0], dt)
        if self.kicks == 1:
            return as_state(first, y)
        moved = add(y, jax.tree.map(lambda k: 2**0.5 * k, first))
        second = kick(time, moved, self.signal, noise[1], dt)
        return as_state(jax.tree.map(jnp.add, first, second), y)

    def _kick(self, state) -> Callable:
        """That of the splitting, which rules that are not affine have for no more than a training step."""
        dynamics: Any = self.dynamics
        if self.clock.stride == 1 or not dynamics.series().discrete or dynamics.is_affine(state):
            return split(dynamics).kick
        return functools.partial(long_kick, dynamics)


def with_dynamics(terms: PyTree, change: Callable) -> PyTree:
    """The terms with the dynamics `change(term)` in each part that has one."""
    return _changed(terms, lambda term: eqx.tree_at(lambda term: term.dynamics, term, change(term)))


def from_step(terms: PyTree, t0: Any) -> PyTree:
    """The terms with the time counted from t0, a whole number of steps of the solver."""

    def moved(term):
        substep = jnp.rint(t0).astype(term.clock.offset.dtype)
        return dataclasses.replace(term, clock=term.clock.at(substep))

    return _changed(terms, moved)


def _changed(terms: PyTree, change: Callable) -> PyTree:
    def is_term(node):
        return isinstance(node, Field | IncrementTerm)

    return jax.tree.map(lambda node: change(node) if is_term(node) else node, terms, is_leaf=is_term)
