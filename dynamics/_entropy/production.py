"""`entropy_production`: the entropy that each step of each path produces."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float

from equations import AbstractDynamics
from equations.internal import (
    Increment,
    check_class,
    check_derivatives,
    check_one_batch_size,
    choice,
    integer,
    is_parameter,
    learning_rate_of,
    nonnegative,
)

from .._arguments.checks import check_concrete, dynamic_numbers
from .._arguments.hooks import check_hooks
from .._described import hyperparameters, title
from .._problem import Problem
from .._trajectory import Trajectory, check_trajectory
from .local import Local, coordinates, flat_size
from .routes import ROUTES, check_route, chosen, noise_varies, warn_of_few_paths, warn_of_steps
from .stationary import Stationary


class EntropyProduction(eqx.Module):
    """What `entropy_production` returns, in units of Boltzmann's constant; arrays `(paths, steps)`, a number per step.

    - `medium`: ln P(forward)/P(backward), the entropy given to the noise.
    - `system`: -ln p(after) + ln p(before), with p the `density`; None without one.
    - `total`: medium + system, or None. With p the density that the paths have, its sum over a window obeys the integral
        fluctuation theorem, and the detailed one where p is stationary.
    - `housekeeping`, `excess`: medium - excess, and ln p(after) - ln p(before) with the *stationary* density: what upholds
        the stationary current, and what relaxes to it (Hatano and Sasa 2001, Phys. Rev. Lett. 86, 3463). Housekeeping and
        total - housekeeping obey the integral theorem each; the first is the total of a stationary process.
    - `ok`: `(paths,)`, False for a path that diverged; its numbers are NaN.
    """

    medium: Float[Array, "paths steps"]
    system: Float[Array, "paths steps"] | None
    total: Float[Array, "paths steps"] | None
    housekeeping: Float[Array, "paths steps"] | None
    excess: Float[Array, "paths steps"] | None
    ok: Bool[Array, " paths"]


def entropy_production(
    equation: AbstractDynamics,
    objective: Any,
    trajectory: Trajectory,
    *,
    route: str | None = None,
    reference: Stationary | Callable | None = None,
    density: str = "reference",
    regularization: float | Array = 0.0,
    burn_in: int = 0,
) -> EntropyProduction:
    r"""Entropy production along recorded paths.

    With b and S the drift and the noise (covariance of dY over dt) of the equation, or of its twin for a path of `train`,
    both at the time of the forward step, also for the way back (so at what the optimizer's memory counts before the step:
    counts are time and no coordinates),

    - `route="step"`: ln P(y'|y)/P(y|y') with the Gaussian step P(y'|y) = N(y + b dt, S dt + r^2 I), r the
        `regularization`. Exact for paths that make such steps (`train` with Gaussian noise, `solve` with diffrax.Euler()
        and one substep), at any dt; for other paths of an equation with state-dependent noise it is not even in the limit
        dt -> 0, since it sees their third cumulants. Nor is a chain of Euler steps under such noise as reversible as its
        equation, at any dt (Katsoulakis, Pantazis and Rey-Bellet 2014, ESAIM: M2AN 48, 1351).
    - `route="path"`: 2 S^{-1} (b - div S/2) at the midpoint, times the increment: the Stratonovich integral
        that the limit dt -> 0 gives for the equation (Seifert 2005, Phys. Rev. Lett. 95, 040602), with an error O(dt); it
        asks for no cumulant beyond the second. Here r^2/dt is added to S. For trajectories of `solve` only.
    - `route=None`: by path for a trajectory of `solve` along which S varies with the state, by steps for all others.

    **Arguments:**

    - `equation`, `objective`: as given to the run.
    - `trajectory`: from `solve` or `train` with `keep_states=True, save_every=1`.
    - `reference`: the stationary density where it is known: a `Stationary` of the same state, or a function from a state
        to ln p, one real number. It gives housekeeping and excess.
    - `density`: p of the system entropy: `"reference"`, for stationary paths; or `"ensemble"`, at every step the Gaussian
        with mean and covariance of the paths, for linear processes on their way; with few paths ln p is off by
        sqrt(d (d + 3)/(2 n)) from path to path.
    - `regularization`: r, standard deviation per step of isotropic noise thought on top of the equation's. Needed where S
        is singular: the medium entropy then grows as 1/r^2 if the motion is irreversible in a direction without noise.
    - `burn_in`: steps left out at the start.

    **Returns:** an `EntropyProduction`. Holds d x d matrices, d the size of the state, at most 512.

    **Raises:** TypeError or ValueError, naming the argument. Warns where the number is not that of the paths: real
    minibatches and noise that is not Gaussian, whose steps have another density or none; `route="step"` for paths of
    `solve` whose noise varies, with the size of the effect; and an ensemble too small for its Gaussian.
    """
    route = None if route is None else choice("route", route, ROUTES)
    density = choice("density", density, ("reference", "ensemble"))
    regularization = nonnegative("regularization")(regularization)
    check_trajectory("trajectory", trajectory)
    check_concrete("entropy_production", equation=equation, objective=objective, trajectory=trajectory)
    states = trajectory.states if trajectory.kind == "equation" else trajectory.twin_states
    if states is None or trajectory.steps.shape[0] < 2 or int(trajectory.steps[1]) != 1:
        raise ValueError(
            "Argument `trajectory` must be recorded with keep_states=True and save_every=1, but it holds "
            f"{'no states' if states is None else 'every step ' + str(np.asarray(trajectory.steps[:2]))}."
        )
    burn_in = integer("burn_in", burn_in, minimum=0, maximum=trajectory.steps.shape[0] - 2)
    gaussian = isinstance(reference, Stationary)
    if not (reference is None or gaussian or callable(reference)):
        raise TypeError(f"Argument `reference` must be a Stationary, a function or None, but {reference!r} was given.")
    varying, static = eqx.partition(trajectory.final, is_parameter)
    first = jax.tree.map(lambda leaf: leaf[0], varying)
    problem = Problem.of(equation, objective, eqx.combine(first, static), twin=False)
    equation, signal = problem.equation, problem.signal
    made = dynamic_numbers(trajectory.equation)
    if not (eqx.tree_equal(equation, made) or eqx.tree_equal(problem.given, made)):
        raise ValueError(
            f"Argument `equation` must be what the trajectory was made with, {title(trajectory.equation)}"
            f"{hyperparameters(trajectory.equation)}, but {title(equation)}{hyperparameters(equation)} was given."
        )
    if trajectory.kind == "discrete":
        check_one_batch_size(equation, "the entropy production of its algorithm")
        equation = Increment.of(problem.equation)
    check_class(equation, "field")
    check_hooks(equation, signal, first, ("drift", "diffusion"))
    states = jax.tree.map(lambda leaf: leaf[:, burn_in:], states)
    size = flat_size(coordinates(equation, jax.tree.map(lambda leaf: leaf[0, 0], states))[0])
    if gaussian and reference.mean.shape != (size,):
        raise ValueError(
            f"Argument `reference` must be of a state of {size} dimensions, but it has {reference.mean.shape[0]}."
        )
    if callable(reference) and not gaussian:
        _check_log_density(reference, jax.tree.map(lambda leaf: leaf[0, 0], states))
    route = check_route(route, trajectory)
    if route == "path":  # div S is a derivative
        check_derivatives(objective, eqx.combine(first, static), "`entropy_production` by route='path'")
    rate = learning_rate_of(equation)
    dt = trajectory.times[1] - trajectory.times[0] if rate is None else jnp.asarray(rate)
    times = trajectory.steps[burn_in:].astype(float) * dt  # the equation's own clock, also under a schedule
    whole = trajectory.steps[burn_in:]
    ok = np.asarray(trajectory.ok)
    varies = trajectory.kind == "equation" and noise_varies(equation, signal, states, (times, whole))
    route, wrong = chosen(route, trajectory.kind, dict(trajectory.details), varies)
    if route == "path" or wrong:
        check_derivatives(objective, eqx.combine(first, static), "`entropy_production` by route='path'")
    medium = _medium(equation, signal, states, (times, whole), dt, route, regularization)
    lost = np.flatnonzero(~np.isfinite(np.asarray(medium)[ok]).all(axis=0))
    if 0 < lost.size < medium.shape[1] and lost[-1] < lost.size:
        raise ValueError(
            f"Argument `burn_in` must be at least {burn_in + lost.size} for these paths, since before the drift is not "
            f"finite or the noise singular, as where a second moment is empty, but {burn_in} was given."
        )
    if lost.size:
        raise ValueError(
            "Argument `regularization` must be positive where the noise does not reach every direction of the state, but "
            f"{float(regularization):g} was given."
        )
    if wrong:
        warn_of_steps(
            medium, _medium(equation, signal, states, (times, whole), dt, "path", regularization), ok, float(dt)
        )
    excess = None if reference is None else _change(reference.log_density if gaussian else reference, states)
    change = excess if density == "reference" else _ensemble_change(equation, states, ok)
    parts: dict[str, Any] = dict(
        medium=medium,
        system=None if change is None else -change,
        total=None if change is None else medium - change,
        housekeeping=None if excess is None else medium - excess,
        excess=excess,
    )
    parts = {name: None if part is None else jnp.where(ok[:, None], part, jnp.nan) for name, part in parts.items()}
    return EntropyProduction(**parts, ok=trajectory.ok)


def _check_log_density(reference, state) -> None:
    """A TypeError or ValueError unless a function maps a state to a number."""
    wording = "Argument `reference` must be a function from a state to ln p, one real number, but for the state"
    given = jax.tree.map(lambda leaf: f"{leaf.dtype}{list(leaf.shape)}", state)
    try:
        value = jax.eval_shape(reference, state)
    except Exception as error:
        raise ValueError(f"{wording} {given} it raises {type(error).__name__}: {error}") from error
    if not (isinstance(value, jax.ShapeDtypeStruct) and jnp.issubdtype(value.dtype, jnp.floating)):
        raise TypeError(f"{wording} {given} it gives {value!r}.")
    if value.shape != ():
        raise ValueError(f"{wording} {given} it gives an array of shape {value.shape}.")


@eqx.filter_jit
def _medium(equation, signal, states, times, dt, route, regularization):
    """The medium entropy, `(paths, steps)`; `times` are the equation's own and whole steps."""
    between = stochastic_step if route == "step" else midpoint

    def one(item):
        before, after, (t, step) = item
        held = equation.held(step)

        def path(before, after):
            local, y = Local.at(held, signal, before)
            return between(local, t, y, local.flat(after), dt.astype(y.dtype), regularization)

        return jax.vmap(path)(before, after)

    steps = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 1, 0), states)
    before, after = (jax.tree.map(lambda leaf, s=s: leaf[s], steps) for s in (slice(-1), slice(1, None)))
    return jax.lax.map(one, (before, after, jax.tree.map(lambda leaf: leaf[:-1], times))).T


@eqx.filter_jit
def _change(log_density, states):
    """The change of ln p in each step, `(paths, steps)`."""
    return jnp.diff(jax.vmap(jax.vmap(log_density))(states), axis=1)


def _ensemble_change(equation, states, ok) -> Array:
    """The change of ln p in each step, p the Gaussian of the paths that are ok, `(paths, steps)`."""
    flat = np.asarray(jax.vmap(jax.vmap(lambda s: ravel_pytree(coordinates(equation, s)[0])[0]))(states))
    good, size = flat[ok], flat.shape[-1]

    def without_density(save):
        return ValueError(
            "Argument `density` must not be 'ensemble' where the paths have no density, as at their common start "
            f"(`burn_in` leaves steps out): {len(good)} paths in {size} dimensions, {save} steps after the burn-in."
        )

    if len(good) <= 2 * size:
        raise without_density(0)
    centered = np.moveaxis(flat - good.mean(axis=0), 0, -1)  # (saves, size, paths)
    some = centered[..., ok]
    covariance = some @ np.swapaxes(some, 1, 2) / (len(good) - 1)
    spread = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    unit = np.where(spread > 0, spread, 1)
    values = np.linalg.eigvalsh(covariance / (unit[:, :, None] * unit[:, None, :]))
    thin = ~(values.min(axis=1) > 1e2 * size * np.finfo(flat.dtype).eps)
    if np.any(thin):
        raise without_density(np.argmax(thin))
    warn_of_few_paths(len(good), size)
    rest = np.linalg.solve(np.linalg.cholesky(covariance), centered)
    densities = -0.5 * np.sum(rest**2, axis=1) - np.linalg.slogdet(covariance)[1][:, None] / 2
    return jnp.asarray(np.diff(densities, axis=0).T)


def stochastic_step(local: Local, t, before, after, dt, regularization) -> Array:
    """ln N(after; before) - ln N(before; after), N the Gaussian step; NaN where it is singular."""

    def log_density(y, z):
        root = _root(local.covariance(t, y) * dt + regularization**2 * jnp.eye(y.size, dtype=y.dtype))
        rest = jax.scipy.linalg.solve_triangular(root, z - y - local.drift(t, y) * dt, lower=True)
        return -0.5 * jnp.sum(rest**2) - jnp.sum(jnp.log(jnp.diagonal(root)))

    return log_density(before, after) - log_density(after, before)


def midpoint(local: Local, t, before, after, dt, regularization) -> Array:
    """2 S^{-1} (b - div S/2) at the midpoint times the increment; NaN where S is singular."""
    middle = (before + after) / 2
    root = _root(local.covariance(t, middle) + regularization**2 / dt * jnp.eye(before.size, dtype=before.dtype))
    force = local.drift(t, middle) - local.divergence(t, middle) / 2
    return 2 * jnp.dot(force, jax.scipy.linalg.cho_solve((root, True), after - before))


def _root(covariance: Array) -> Array:
    """The Cholesky factor; NaN where a coordinate is fixed by those before it up to rounding."""
    root = jnp.linalg.cholesky(covariance)
    left = jnp.diagonal(root) ** 2 / jnp.diagonal(covariance)
    singular = ~(jnp.min(left) > 10 * len(root) * jnp.finfo(root.dtype).eps)
    return jnp.where(singular, jnp.nan, root)
