"""`orders`: the order with which an equation approaches its discrete algorithm as the learning rate falls."""

import dataclasses
import numbers
import warnings
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from dynamics import Trajectory
from dynamics.internal import (
    Layout,
    Problem,
    Steps,
    check_concrete,
    check_hooks,
    check_key,
    check_solver,
    check_state,
    ended,
)
from equations import AbstractEquation, AbstractSignal
from equations.internal import (
    check_derivatives,
    choice,
    integer,
    is_parameter,
    nonnegative,
    positive,
)

from .._compare.observables import observables
from .exact import by_moments, closing
from .result import Orders
from .runs import same_form, sharpness
from .sampling import by_sampling, solver_of
from .sides import Outcome, Sides, without_noise

LARGEST_SHARPNESS = 0.5  # of eta * lambda_max: beyond it the series in the learning rate stop helping
_SHOWN = 64  # parameters that are observed by default


def _parameters(params: PyTree) -> Array:
    """All parameters as one vector."""
    return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(eqx.filter(params, is_parameter))])


def orders(
    equation: AbstractEquation,
    objective: AbstractSignal,
    params: PyTree = None,
    *,
    time: float,
    learning_rates: Any,
    key: Array | None = None,
    observe: dict | None = None,
    paths: int = 4096,
    transient: float = 0.0,
    noise: str = "gaussian",
    substeps: int = 1,
    solver: dfx.AbstractSolver | None = None,
    start: Trajectory | None = None,
    devices: Any = None,
    block: int | None = None,
) -> Orders:
    r"""Measures the order of an equation against its discrete algorithm, and judges what the equation claims.

    At each learning rate, with the other hyperparameters moved along the equation's scaling, both sides run to the same
    natural time, and the error is the difference of their means, second moments and variances there, solver error taken
    out. One of three ways is taken:

    - *deterministic*, without a batch size: the equation by `solver` with fixed steps, the solver error by refinement;
    - *exact moments*, where drift and noise are affine in the state and the observables polynomials of first degree (of
        second, for their mean) in the parameters, in at most 64 dimensions: no sampling, no solver;
    - *sampling*, for all others, by the steps that `solve` and `train` take. With `noise="gaussian"` the same normal
        numbers drive both, so that errors are differences path by path; the solver error by refinement on the same
        Brownian motion.

    Variances, which are as small as the step, are measured in it, as "variance/eta"; those of a heat bath, which are not,
    in 1.

    What an equation claims is the `claimed_order` of its scaling limit: a modified one its `order`, and for variance/eta 1
    or with `fluctuations` 2; others 1, but for AMSGrad's variance/eta, 1/2.

    **Arguments:** as for `solve` and `train`, except

    - `time`: in the natural clock of the equation; a whole number of its training steps at every learning rate.
    - `learning_rates`: at least three, decreasing.
    - `key`: needed exactly where the way is sampling.
    - `observe`: functions of the parameters, or of these and the state; None observes the objective's `value` as `"loss"`
        and up to 64 parameters as `"parameters"`.
    - `paths`: in sampling, at least so many, in groups of up to 16 that differ in the signs of their noise.
    - `transient`: natural time before `time` in which both sides are the discrete algorithm, so that the equation starts
        from the state that the algorithm has then.
    - `noise`: in sampling. With `"minibatch"`, always so for shuffled epochs, the two sides are independent.
    - `substeps`: steps of the solver per training step; as many and twice as many are taken.
    - `solver`: a Diffrax solver; by default `diffrax.Dopri8()` without noise and `Strang()` in sampling.

    - `start`: in place of `params`, those with which this run of one path ended.
    - `devices`, `block`: in sampling, where blocks are of whole groups of paths; the other ways have none.

    **Returns:** an `Orders`, with a slope, its interval and a verdict for every observable and measure. "cannot tell": the
    error does not stand out of Monte Carlo, solver and rounding error at three learning rates, or the interval is wider
    than ±0.25, or the slope has yet to rise to the claim. "holds" says so down to the error `resolved`: an equation whose
    velocity is wrong by less has the same slopes.

    **Raises:** TypeError or ValueError, naming the argument; before any compilation, but for a missing `key` where the
    moments turn out not to close. Warns where eta * lambda_max exceeds 0.5.
    """
    layout = Layout.of(devices, block)
    equation, objective, params, start, observe = layout.placed((equation, objective, params, start, observe))
    problem = Problem.of(
        equation, objective, ended(start, params), reads="equation", numbers_for="orders", rescales=True
    )
    check_concrete("orders", key=key)
    equation, params, dynamic, signal = problem.equation, problem.params, problem.dynamic, problem.signal
    check_derivatives(objective, params, "eta * lambda_max in `orders`")
    few = sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(params, is_parameter))) <= _SHOWN
    observe = observables(observe, objective, params, {"parameters": _parameters} if few else None, state=problem.state)
    rates = _check_rates(learning_rates)
    paths, substeps = integer("paths", paths, minimum=2), integer("substeps", substeps, maximum=64)
    noise = choice("noise", noise, ("minibatch", "gaussian"))
    time = float(positive("time")(time))
    transient = float(nonnegative("transient")(transient))
    if Steps(solver).on_batches:
        raise ValueError(
            f"Argument `solver` must be a solver on Brownian paths, such as Strang(), but {solver!r} was given, whose own "
            "order is that of an error in 1/l."
        )
    quiet = equation.batch_size is None and not problem.random
    if quiet and isinstance(check_solver(solver, None, False), dfx.AbstractERK) is False:
        raise ValueError(
            "Argument `solver` must be an explicit Runge-Kutta method of Diffrax or None for an equation without noise, "
            f"but {solver!r} was given."
        )
    if not quiet:
        solver_of(equation, params, solver)
    check_key(key, False)
    family = [equation.scaling_limit().rescaled(rate / float(equation.learning_rate)) for rate in rates]
    lengths = np.array([float(member.scaling_limit().time_per_step()) for member in family])
    steps, skips = (
        _whole(name, value, lengths, rates, equation, objective)
        for name, value in (("time", time), ("transient", transient))
    )
    if np.any(np.diff(lengths) >= 0):
        raise ValueError("Argument `learning_rates` must have a decreasing natural time of a step, but it does not.")

    hooks = ("start", "drift") if quiet else ("noise", "start", "flow", "kick", "drift")
    check_hooks(equation, signal, dynamic, hooks)
    problem = dataclasses.replace(problem, observe=observe, layout=layout)
    check_state(problem)
    sides = Sides(problem, family, steps, skips, lengths)
    sides.check_transient()
    with np.errstate(over="ignore", invalid="ignore"):  # a side that diverges gives a NaN, not a warning
        method, outcome = _run(sides, key, paths, noise, substeps, solver)

    largest = np.array([
        rate * np.fmax(float(sharpness(sides.signal, dynamic)), float(sharpness(sides.signal, final)))
        for rate, final in zip(rates, outcome.finals, strict=True)
    ])  # fmt: skip
    if np.nanmax(largest) > LARGEST_SHARPNESS:
        warnings.warn(
            f"eta * lambda_max is {np.nanmax(largest):.2g} at the learning rate {rates[np.nanargmax(largest)]:g}; beyond "
            f"{LARGEST_SHARPNESS} an equation says little about its algorithm.",
            UserWarning,
            stacklevel=2,
        )
    return Orders(
        equation=equation,
        method=method,
        time=time,
        transient=transient,
        learning_rates=rates,
        steps=steps,
        step_lengths=lengths,
        sharpness=largest,
        failed=outcome.failed,
        sweeps=outcome.sweeps,
        remainder=_remainder(equation, params),
        fixed=_fixed(equation, dynamic),
    )


def _remainder(equation: AbstractEquation, params: PyTree) -> str:
    """What the equation itself says that it leaves out; nothing, for most."""
    remainder = equation.series().remainder
    return "" if remainder is None else remainder(params)


def _fixed(equation: AbstractEquation, params: PyTree) -> tuple[str, ...]:
    """The numbers that stay fixed where an algorithm that has a memory says nothing of its scaling."""
    return () if same_form(equation.init(params), params) else equation.scaling_limit().untold()


def _run(sides: Sides, key, paths, noise, substeps, solver) -> tuple[str, Outcome]:
    """The way that fits, and what it gives."""
    first = sides.family[0]
    if first.batch_size is None and not sides.problem.random:
        return "deterministic", without_noise(sides, solver or dfx.Dopri8(), substeps)
    closed = closing(sides)
    if closed is not None:
        return "exact moments", by_moments(sides, closed)
    return by_sampling(sides, check_key(key, True), paths, noise, substeps, solver)


def _check_rates(learning_rates) -> np.ndarray:
    wording = "Argument `learning_rates` must hold at least three positive finite numbers, decreasing, but "
    if not isinstance(learning_rates, list | tuple | np.ndarray | jax.Array):
        raise TypeError(f"{wording}{learning_rates!r} was given.")
    values = list(learning_rates if isinstance(learning_rates, list | tuple) else np.asarray(learning_rates).tolist())
    if not all(isinstance(value, numbers.Real) and not isinstance(value, bool) for value in values):
        raise TypeError(f"{wording}{learning_rates!r} was given.")
    rates = np.array(values, float)
    if rates.size < 3 or not (np.all(np.isfinite(rates)) and np.all(rates > 0) and np.all(np.diff(rates) < 0)):
        raise ValueError(f"{wording}{learning_rates!r} was given.")
    return rates


def _whole(name, value, lengths, rates, equation, objective) -> np.ndarray:
    """`value` as a whole number of training steps, and of shuffled epochs, at every learning rate."""
    epoch = 1
    if equation.batch_size is not None and equation.sampling == "shuffled":
        epoch = objective.size // equation.batch_size
    unit = "training steps" if epoch == 1 else f"epochs of {epoch} training steps"
    for rate, count in zip(rates, value / lengths / epoch, strict=True):
        if abs(count - round(count)) > 1e-6 * count:
            raise ValueError(
                f"Argument `{name}` must be a whole number of {unit} at every learning rate, but {value:g} is {count:g} "
                f"of them at the learning rate {rate:g}."
            )
    return np.rint(value / lengths).astype(int)
