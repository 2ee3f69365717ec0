"""`train`: an ensemble of the discrete algorithm's runs under one jit."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from equations import AbstractEquation, AbstractSignal
from equations.internal import TwinState, choice

from ._arguments.checks import check_key
from ._arguments.hooks import check_twin
from ._health.failed import tell_start
from ._paths.keys import each_path
from ._paths.record import first_failure, is_ok, keep, record, with_start
from ._paths.training import Training
from ._problem import Problem
from ._trajectory import Trajectory


def train(
    equation: AbstractEquation,
    objective: AbstractSignal,
    params: PyTree,
    *,
    steps: int,
    key: Array | None = None,
    paths: int = 1,
    observe: dict | None = None,
    save_every: int = 1,
    noise: str = "minibatch",
    keep_states: bool = False,
) -> Trajectory:
    """Runs the discrete algorithm that an equation models, its Optax twin.

    **Arguments:** as for `solve`, and

    - `key`: needed exactly where batches or noise are drawn.
    - `noise`: `"minibatch"`, real batches drawn as `equation.sampling` says, with or without a batch size real examples;
        or `"gaussian"`, the full gradient plus noise drawn as `equation.noise_model` says, for minibatches Gaussian of the
        same covariance, without third cumulant. What the noise model *injects* it injects either way: `Isotropic` and
        `StudentT` add their numbers to the gradient of the batch, `LabelNoise` perturbs the labels in the batch (in
        `"gaussian"` it adds the response of the gradient to them). `Diagonal` describes batches and injects nothing: under
        `"minibatch"` the batches are as they are.
    - `keep_states`: records parameters and memory, as `TwinState(params, memory)`, in `states`.

    **Returns:** a `Trajectory`. Memory and time per step grow with the batch, not with the data.

    **Raises:** TypeError or ValueError before any compilation, naming the argument.
    """
    problem = Problem.of(equation, objective, params, algorithm=True)
    problem = problem.scheduled(steps, paths, save_every, observe, keep_states=keep_states)
    noise = choice("noise", noise, ("minibatch", "gaussian"))
    return train_problem(problem, check_key(key, draws(problem.equation, noise)), noise)


def train_problem(problem: Problem, key: Array, noise: str) -> Trajectory:
    """`train` on what is checked already, but for the twin.

    **Raises:** TypeError or ValueError before any compilation where the twin is none.
    """
    equation, random = problem.equation, draws(problem.equation, noise)
    twin = equation.twin()
    if not isinstance(twin, optax.GradientTransformation):
        raise TypeError(
            f"Argument `equation` must have an optax.GradientTransformation as its twin, but "
            f"{type(equation).__name__}.twin() gave {twin!r}."
        )
    check_twin(equation, problem.dynamic)
    (saves, states), last, failed_at = _ensemble(
        equation,
        problem.signal,
        problem.guarded,
        key=key,
        static=problem.static,
        observe=problem.observe,
        steps=problem.steps,
        save_every=problem.save_every,
        noise=noise,
        paths=problem.paths if random else 1,
        keep_states=problem.keep_states,
    )
    tell_start(equation, problem.signal, problem.dynamic, failed_at)
    results = saves, states, last, failed_at
    return problem.trajectory(results, random, kind="discrete", details=(("noise", noise),))


def draws(equation: AbstractEquation, noise: str) -> bool:
    """Whether anything is random in the discrete algorithm with this kind of `noise`."""
    if noise == "gaussian":
        return equation.random
    return equation.batch_size is not None or equation.gradient_noise.injects


@eqx.filter_jit
def _ensemble(equation, signal, params, *, key, paths, **options):
    def one(key):
        return _path(equation, signal, params, key, **options)

    return each_path(one, key, paths)


def _path(equation, signal, params, key, *, static, observe, steps, save_every, noise, keep_states):
    """One run of the twin: a scan over records around a scan over training steps."""
    training = Training.of(equation, signal, params, key, noise)

    def saved(state):
        """The observables and, if wanted, the state."""
        params, memory, _ = state
        return record(observe, params, static), TwinState.of(params, memory) if keep_states else None

    def body(carry, step):
        state, failed_at = carry
        new = training.step(step, state, training.normals(step))
        return (new, first_failure(failed_at, is_ok(*new[:2]), step + 1)), None

    def interval(carry, index):
        (params, memory, _), failed_at = carry
        offsets = index * save_every + jnp.arange(save_every, dtype=jnp.int32)
        ((new, later, carried), failed_at), _ = jax.lax.scan(body, carry, offsets)
        params = keep(failed_at >= 0, params, new)
        memory = keep(failed_at >= 0, memory, later) if keep_states else later
        state = params, memory, carried
        return (state, failed_at), saved(state)

    state = training.init(params)
    carry = state, jnp.full((), -1, jnp.int32)
    (last, failed_at), saves = jax.lax.scan(interval, carry, jnp.arange(steps // save_every, dtype=jnp.int32))
    return with_start(saved(state), saves), last[0], failed_at
