"""`entropy_production`: the entropy that each step of each path produces."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from equations import AbstractDynamics, AbstractEquation, AbstractSignal
from equations._checks import choice, integer, number
from equations._increment import Increment
from equations._signal import is_parameter

from ._ensemble import check_equation, dynamic_numbers
from ._local import Local, flat_size
from ._stationary import Stationary
from ._trajectory import Trajectory


class EntropyProduction(eqx.Module):
    """What `entropy_production` returns, in units of Boltzmann's constant; arrays `(paths, steps)`, a number per step.

    - `medium`: ln P(forward)/P(backward), the entropy given to the noise.
    - `system`: -ln p(after) + ln p(before), with the density of the reference; None without one.
    - `total`: medium + system, or None. At p = the stationary density, its sum over a window obeys fluctuation theorems.
    - `housekeeping`, `excess`: medium - excess, and ln p(after) - ln p(before) with the *stationary* density: what upholds
        the stationary current, and what relaxes to it (Hatano and Sasa 2001, Phys. Rev. Lett. 86, 3463).
    - `ok`: `(paths,)`, False for a path that diverged; its numbers mean nothing.
    """

    medium: Array
    system: Array | None
    total: Array | None
    housekeeping: Array | None
    excess: Array | None
    ok: Array


def entropy_production(
    equation: AbstractDynamics,
    objective: Any,
    trajectory: Trajectory,
    *,
    route: str = "step",
    reference: Stationary | None = None,
    regularization: float = 0.0,
    burn_in: int = 0,
) -> EntropyProduction:
    r"""Entropy production along recorded paths.

    With b and S the drift and the noise (covariance of dY over dt) of the equation, or of its twin for a path of `train`,

    - `route="step"`: ln P(y'|y)/P(y|y') with the Gaussian step P(y'|y) = N(y + b dt, S dt + r^2 I), r the
        `regularization`. Exact for paths that make such steps (`train` with Gaussian noise, `solve` with diffrax.Euler()
        and one substep), at any dt; for other paths of an equation with state-dependent noise it is not even in the limit
        dt -> 0, since it sees their third cumulants.
    - `route="path"`: 2 S^{-1} (b - div S/2) at the midpoint, times the increment: the Stratonovich integral
        that the limit dt -> 0 gives for the equation (Seifert 2005, Phys. Rev. Lett. 95, 040602), with an error O(dt); it
        asks for no cumulant beyond the second. Here r^2/dt is added to S.

    **Arguments:**

    - `equation`, `objective`: as given to the run.
    - `trajectory`: from `solve` or `train` with `keep_states=True, save_every=1`.
    - `reference`: a `Stationary` of the same state, whose density gives system entropy, housekeeping and excess.
    - `regularization`: r, standard deviation per step of isotropic noise thought on top of the equation's. Needed where S
        is singular: the medium entropy then grows as 1/r^2 if the motion is irreversible in a direction without noise.
    - `burn_in`: steps left out at the start.

    **Returns:** an `EntropyProduction`. Holds d x d matrices, d the size of the state, at most 512.

    **Raises:** TypeError or ValueError, naming the argument.
    """
    check_equation(equation, AbstractDynamics)
    route = choice("route", route, ("step", "path"))
    regularization = number(
        "regularization", regularization, allowed="a finite number, zero or more", test=lambda x: x >= 0
    )
    if not isinstance(trajectory, Trajectory):
        raise TypeError(f"Argument `trajectory` must come from solve or train, but {trajectory!r} was given.")
    if trajectory.states is None or trajectory.steps.shape[0] < 2 or int(trajectory.steps[1]) != 1:
        raise ValueError(
            "Argument `trajectory` must be recorded with keep_states=True and save_every=1, but it holds "
            f"{'no states' if trajectory.states is None else 'every step ' + str(np.asarray(trajectory.steps[:2]))}."
        )
    burn_in = integer("burn_in", burn_in, minimum=0, maximum=trajectory.steps.shape[0] - 2)
    if reference is not None and not isinstance(reference, Stationary):
        raise TypeError(f"Argument `reference` must be a Stationary or None, but {reference!r} was given.")
    equation = dynamic_numbers(equation)
    if trajectory.kind == "discrete":
        check_equation(equation, AbstractEquation)
        equation = Increment.of(equation)
    static = eqx.partition(trajectory.final, is_parameter)[1]
    signal = objective.bind(static) if isinstance(objective, AbstractSignal) else objective
    states = jax.tree.map(lambda leaf: leaf[:, burn_in:], trajectory.states)
    size = flat_size(jax.tree.map(lambda leaf: leaf[0, 0], states))
    if reference is not None and reference.mean.shape != (size,):
        raise ValueError(
            f"Argument `reference` must be of a state of {size} dimensions, but it has {reference.mean.shape[0]}."
        )
    rate = getattr(equation, "learning_rate", None)
    dt = trajectory.times[1] - trajectory.times[0] if rate is None else jnp.asarray(rate)
    times = trajectory.steps[burn_in:].astype(float) * dt  # the equation's own clock, also under a schedule
    medium, change = _along(equation, signal, states, times, dt, route, reference, regularization)
    if not np.all(np.isfinite(np.asarray(medium)[np.asarray(trajectory.ok)])):
        raise ValueError(
            "Argument `regularization` must be positive where the noise does not reach every direction of the state, but "
            f"{float(regularization):g} was given."
        )
    if change is None:
        return EntropyProduction(medium, None, None, None, None, trajectory.ok)
    return EntropyProduction(medium, -change, medium - change, medium - change, change, trajectory.ok)


@eqx.filter_jit
def _along(equation, signal, states, times, dt, route, reference, regularization):
    """The medium entropy and the change of ln p, `(paths, steps)`."""
    unravel = ravel_pytree(jax.tree.map(lambda leaf: leaf[0, 0], states))[1]
    flat = jax.vmap(jax.vmap(lambda s: ravel_pytree(s)[0]))(states)
    local = Local(equation, signal, unravel)
    between = stochastic_step if route == "step" else midpoint

    def one(item):
        before, after, t = item
        return jax.vmap(lambda y, z: between(local, t, y, z, dt.astype(y.dtype), regularization))(before, after)

    steps = jnp.moveaxis(flat, 1, 0)
    medium = jax.lax.map(one, (steps[:-1], steps[1:], times[:-1].astype(flat.dtype))).T
    if reference is None:
        return medium, None
    density = jax.vmap(jax.vmap(reference.log_density))(flat)
    return medium, jnp.diff(density, axis=1)


def stochastic_step(local: Local, t, before, after, dt, regularization) -> Array:
    """ln N(after; before) - ln N(before; after), N the Gaussian step."""

    def log_density(y, z):
        covariance = local.covariance(t, y) * dt + regularization**2 * jnp.eye(y.size, dtype=y.dtype)
        root = jnp.linalg.cholesky(covariance)
        rest = jax.scipy.linalg.solve_triangular(root, z - y - local.drift(t, y) * dt, lower=True)
        return -0.5 * jnp.sum(rest**2) - jnp.sum(jnp.log(jnp.diagonal(root)))

    return log_density(before, after) - log_density(after, before)


def midpoint(local: Local, t, before, after, dt, regularization) -> Array:
    """2 S^{-1} (b - div S/2) at the midpoint times the increment."""
    middle = (before + after) / 2
    covariance = local.covariance(t, middle) + regularization**2 / dt * jnp.eye(before.size, dtype=before.dtype)
    force = local.drift(t, middle) - local.divergence(t, middle) / 2
    return 2 * jnp.dot(force, jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(covariance), after - before))
