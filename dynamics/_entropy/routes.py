"""The route by which recorded steps have their entropy, and what to say of steps that it takes for something else."""

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, PyTree

from equations import AbstractDynamics
from equations.internal import warn

from .._trajectory import Trajectory
from .local import Local

ROUTES = ("step", "path")
_STATES = 32  # at which the noise is compared
_SMALL = 0.02  # a sampling error of ln p, in its own unit


def check_route(route: str | None, trajectory: Trajectory) -> str | None:
    """A ValueError unless the route is for such a trajectory; a warning where its steps have no Gaussian density."""
    if trajectory.kind != "discrete":
        if dict(trajectory.details).get("solver", "").startswith("SVAG("):
            warn(
                "Argument `trajectory`: the steps of SVAG are on real minibatches and have no density, so that no step can "
                "be taken back and the entropy is that of Gaussian steps of the same mean and covariance. The default "
                "solver makes such steps."
            )
        return route
    if route == "path":
        raise ValueError(
            "Argument `route` must be 'step' for a trajectory of `train`, whose steps have no limit dt -> 0, but 'path' "
            "was given."
        )
    equation, noise = trajectory.equation, dict(trajectory.details)["noise"]
    if noise == "minibatch" and (equation.batch_size is not None or equation.gradient_noise.of_loss):
        warn(
            "Argument `trajectory`: steps on real minibatches have no density, so that no step can be taken back and the "
            "entropy is that of Gaussian steps of the same mean and covariance: its mean is close where the noise hardly "
            "changes, fluctuation theorems need not hold. train(noise='gaussian') makes such steps."
        )
    elif not equation.gradient_noise.normal:
        warn(
            f"Argument `trajectory`: steps with the noise of {type(equation.gradient_noise).__name__} are not Gaussian, "
            "but the entropy is that of Gaussian steps of the same mean and covariance: fluctuation theorems need not hold."
        )
    return "step"


def chosen(route: str | None, kind: str, details: dict, varies: bool) -> tuple[str, bool]:
    """The route, and whether it sees something else than the equation in these paths."""
    if route is None:
        return ("path" if varies else "step"), False
    gaussian = details.get("solver", "") == "Euler()" and details.get("substeps") == "1"
    return route, route == "step" and varies and kind == "equation" and not gaussian


def warn_of_steps(by_steps: Array, by_path: Array, ok: np.ndarray, dt: float) -> None:
    """Says what the third cumulants of the noise make of the entropy, `(paths, steps)` by either route."""
    with np.errstate(invalid="ignore"):
        rates = [np.asarray(medium, float)[ok].mean() / dt for medium in (by_steps, by_path)]
    warn(
        "Argument `route` must be 'path' for paths of `solve` whose noise varies with the state, since the third cumulants "
        f"of such steps are not those of Gaussian ones; by 'step' the medium entropy grows by {rates[0]:.4g} per unit of "
        f"time, by 'path' by {rates[1]:.4g}."
    )


def noise_varies(equation: AbstractDynamics, signal, states: PyTree, times: tuple[Array, Array]) -> bool:
    """Whether the covariance of the noise differs, beyond rounding, between states, leaves `(paths, saves, ...)`.

    Along the whole run, since a schedule or time itself may switch the dependence on and off: some states are compared with
    others, each pair at the time of its first; `times` are the equation's own and whole steps, `(saves,)` each.
    """
    paths, saves = jax.tree.leaves(states)[0].shape[:2]
    count = min(_STATES, paths * saves)
    path = np.linspace(0, paths - 1, count).round().astype(int)
    along = np.linspace(0, saves - 2, count).round().astype(int)  # a step begins at all saves but the last
    some = jax.tree.map(lambda leaf: leaf[path, along], states)
    others = jax.tree.map(lambda leaf: leaf[np.roll(path, count // 2), saves - 1 - along], states)
    covariances = _covariances(equation, signal, some, others, jax.tree.map(lambda leaf: leaf[along], times))
    covariances = np.moveaxis(np.asarray(covariances, float), 0, 1)
    covariances = covariances[np.isfinite(covariances).all(axis=(1, 2, 3))]
    eps = np.finfo(jax.tree.leaves(some)[0].dtype).eps
    off = np.abs(covariances[:, 1] - covariances[:, 0]).max(axis=(1, 2))
    return bool(np.any(off > 1e3 * eps * np.abs(covariances).max(axis=(1, 2, 3))))


@eqx.filter_jit
def _covariances(equation, signal, states, others, times):
    """At either state of each pair and the time of the first, `(2, pairs, d, d)`."""

    def one(item):
        *pair, (t, step) = item
        held = equation.held(step)

        def covariance(state):
            local, y = Local.at(held, signal, state)
            return local.covariance(t.astype(y.dtype), y)

        return tuple(map(covariance, pair))

    return jax.lax.map(one, (states, others, times))


def warn_of_few_paths(paths: int, size: int) -> None:
    """Says how well so few paths fix a Gaussian.

    To leading order in 1/n the divergence of the true density from the fitted one is e = d (d + 3)/(4 n), half a unit over
    n for each of the d + d (d + 1)/2 numbers that are fitted, and ln p is off by the root of 2 e in the root mean square.
    """
    error = size * (size + 3) / (4 * paths)
    if error > _SMALL:
        enough = int(np.ceil(size * (size + 3) / (4 * _SMALL)))
        warn(
            f"Argument `density`: {paths} paths in {size} dimensions do not fix a Gaussian: ln p is off by "
            f"{(2 * error) ** 0.5:.2f} from path to path and by {error:.2f} on average; with {enough} paths it is by "
            f"{_SMALL:g}."
        )
