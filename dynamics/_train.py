"""`train`: an ensemble of the discrete algorithm's runs under one jit."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree

from equations import AbstractEquation, AbstractSignal, TwinState
from equations.internal import choice, is_noisy, real_array, size_of, source_of, state_from

from ._arguments.hooks import check_twin
from ._arguments.observables import sees_state
from ._blocks import check_kept, reduced
from ._health.failed import tell_start
from ._minibatches import begin_source, told_of_source
from ._paths.keys import path_keys
from ._paths.layout import Layout
from ._paths.progress import Progress
from ._paths.record import first_failure, is_ok, keep, record
from ._paths.training import Training
from ._problem import Problem
from ._results import trajectory_of
from ._trajectory import Trajectory


def train(
    equation: AbstractEquation,
    objective: AbstractSignal,
    params: PyTree = None,
    *,
    steps: int,
    key: Array | None = None,
    paths: int | None = None,
    observe: dict | None = None,
    save_every: int = 1,
    noise: str = "minibatch",
    keep_states: bool = False,
    start: Trajectory | None = None,
    frozen: Any = None,
    per_path: bool = False,
    reduce: tuple | None = None,
    devices: Any = None,
    block: int | None = None,
    order: Any = None,
) -> Any:  # as `solve`
    """Runs the discrete algorithm that an equation models, its Optax twin.

    **Arguments:** as for `solve`, and

    - `key`: needed exactly where batches or noise are drawn.
    - `noise`: `"minibatch"`, real batches drawn as `equation.sampling` says, with or without a batch size real examples;
        or `"gaussian"`, the full gradient plus noise drawn as `equation.noise_model` says, for minibatches Gaussian of the
        same covariance, without third cumulant. What the noise model *injects* it injects either way: `Isotropic` and
        `StudentT` add their numbers to the gradient of the batch, `LabelNoise` perturbs the labels in the batch (in
        `"gaussian"` it adds the response of the gradient to them). `Diagonal` describes batches and injects nothing: under
        `"minibatch"` the batches are as they are. A random loss draws by a fresh key for every example and step, and adds
        Gaussian noise of the covariance of its fixed keys in `"gaussian"`.
    - `keep_states`: records the state of the equation that belongs to parameters and memory in `states`, as `solve` does
        and as observables of two arguments see it, and `TwinState(params, memory)` in `twin_states`.
    - `order`: the examples of the batches, of real ones alone, in place of drawing them: an array of integers
        `(n, batch_size)`, of which row t mod n is the batch of training step t, counted from the first of all. Cyclic
        passes are `jnp.arange(N).reshape(-1, batch_size)`. No equation knows of an order: that of `sampling="shuffled"`,
        without noise, is the leading one of any order in which every example comes equally often.
    - `start`: a `Trajectory` of `train`, or of `solve` of the same rule: the algorithm goes on with the memory that the
        equation's state is, its batches are those of the steps that it would be at. Refused where that state does not tell
        the memory, as that of `modified(..., memory="adiabatic")` does not.

    **Returns:** a `Trajectory`, or with `reduce` a `Reduced`. Memory and time per step grow with the batch, not with the
    data, which need not be in memory: see `equations.Population`, `Stored` and `Feed`.

    **Raises:** TypeError or ValueError before any compilation, naming the argument.
    """
    layout = Layout.of(devices, block)
    placed = layout.placed((equation, objective, params, start, observe))
    equation, objective, params, start, observe = placed
    problem = Problem.of(equation, objective, params, algorithm=True, start=start, frozen=frozen, per_path=per_path)
    problem = problem.scheduled(steps, paths, save_every, observe, keep_states=keep_states, layout=layout)
    noise = choice("noise", noise, ("minibatch", "gaussian"))
    kept = check_kept(reduce, problem)
    order = check_order(order, problem, noise)
    random = draws(problem.equation, noise, order)
    key = problem.check_key(key, random)
    if kept is None:
        return train_problem(problem, key, noise, order)
    return reduced(lambda problem: train_problem(problem, key, noise, order), problem, kept, random)


def train_problem(problem: Problem, key: Array, noise: str, order: Array | None = None) -> Trajectory:
    """`train` on what is checked already, but for the twin.

    **Raises:** TypeError or ValueError before any compilation where the twin is none.
    """
    equation, random = problem.equation, draws(problem.equation, noise, order)
    twin = equation.twin()
    if not isinstance(twin, optax.GradientTransformation):
        raise TypeError(
            f"Argument `equation` must have an optax.GradientTransformation as its twin, but "
            f"{type(equation).__name__}.twin() gave {twin!r}."
        )
    begin_source(problem, noise)
    if order is None:
        check_epoch(problem)
    check_twin(equation, problem.dynamic)
    check_state(problem)
    apart = problem.apart(random)
    paths, layout = (problem.paths, problem.layout) if apart else (1, Layout())

    def fresh(params, key):
        return _begin(equation, problem.signal, params, key, noise=noise, order=order)

    if problem.start is None:
        begin = problem.begin(fresh, key)
    else:
        one = lambda: fresh(problem.dynamic, key)  # noqa: E731

        def carried():
            training = Training.of(equation, problem.signal, problem.dynamic, key, noise, order=order)
            return training.resumed(path_keys(key, problem.paths, problem.ahead), problem.first)

        begin, _ = problem.start.progress_as("discrete", (noise,), one, equation, problem.dynamic, carried)
    first, steps, places = problem.span(paths)
    (saves, states), progress = _ensemble(
        equation,
        problem.signal,
        begin,
        key=key,
        first=first,
        steps=steps,
        static=problem.static,
        observe=problem.observe,
        places=places,
        save_every=problem.save_every,
        noise=noise,
        order=order,
        paths=paths,
        ahead=problem.before,
        layout=layout,
        keep_states=problem.keep_states,
    )
    if problem.start is None:
        tell_start(equation, problem.signal, problem.dynamic, progress.failed_at)
    results = saves, states, progress.recorded.params, progress.failed_at
    how = dict(owes=jnp.zeros((), bool), how=(noise,), kind="discrete")
    checkpoint = problem.checkpoint(progress, random, key=key, **how)
    return trajectory_of(
        problem,
        results,
        apart,
        checkpoint,
        kind="discrete",
        details=(("noise", noise), *layout.rows, *told_of_source(problem, noise == "minibatch")),
    )


def check_epoch(problem: Problem) -> None:
    """Raises a ValueError where many paths would share what is left of the epoch of one."""
    equation, start = problem.equation, problem.start
    if start is None or not start.many or equation.batch_size is None or equation.sampling != "shuffled":
        return
    per_epoch = size_of(problem.objective) // equation.batch_size
    if start.step % per_epoch:
        raise ValueError(
            f"Argument `paths` must be left out where `start` ended within an epoch, of {per_epoch} steps, whose order all "
            f"paths would share, but {problem.paths} was given."
        )


def check_state(problem: Problem) -> None:
    """Raises a ValueError where an observable takes the state of an equation that its algorithm does not know."""
    asking = [name for name, function in problem.observe.items() if sees_state(function)]

    def known(params):
        memory = problem.equation.twin().init(params)
        return state_from(problem.equation, TwinState(params, jax.tree.map(jnp.asarray, memory)))

    if asking and eqx.filter_eval_shape(known, problem.dynamic) is None:
        raise ValueError(
            f"Argument `observe` must hold functions of the parameters alone for {type(problem.equation).__name__}, from "
            "whose algorithm's memory the state of the equation is not known (`resumed` of its splitting tells it), but "
            f"observe[{asking[0]!r}] takes the state."
        )


def check_order(order: Any, problem: Problem, noise: str) -> Array | None:
    """The batches that a user gives, checked.

    **Raises:** ValueError, naming `order`.
    """
    if order is None:
        return None
    equation, source = problem.equation, source_of(problem.objective.data)
    if noise != "minibatch" or equation.batch_size is None:
        raise ValueError("Argument `order` must be left out where no batches of examples are taken, but it was given.")
    if source is not None and not source.by_index:
        raise ValueError(f"Argument `order` must be left out for examples of {source!r}, which have no numbers.")
    real_array("order", order, f"integers of shape (n, {equation.batch_size}), a batch in every row")
    found, size = np.asarray(order), size_of(problem.objective)
    if not (np.issubdtype(found.dtype, np.integer) and found.ndim == 2 and found.shape[1] == equation.batch_size):
        raise ValueError(
            f"Argument `order` must hold integers of shape (n, {equation.batch_size}), a batch in every row, but an array "
            f"of {found.dtype} and shape {found.shape} was given."
        )
    if not (len(found) and found.min() >= 0 and found.max() < size):
        raise ValueError(f"Argument `order` must hold numbers of examples, from 0 to {size - 1}, but it holds others.")
    return jnp.asarray(found, jnp.int32)


def draws(equation: AbstractEquation, noise: str, order: Array | None = None) -> bool:
    """Whether anything is random in the discrete algorithm with this kind of `noise`."""
    if noise == "gaussian":
        return is_noisy(equation)
    return (equation.batch_size is not None and order is None) or equation.gradient_noise.injects


@eqx.filter_jit
def _ensemble(equation, signal, begin, *, key, paths, ahead, layout, **options):
    def run(key, progress):
        return _path(equation, signal, progress, key, **options)

    def fresh(params, key):
        return _begin(equation, signal, params, key, noise=options["noise"], order=options["order"])

    return begin.each(run, fresh, path_keys(key, paths, ahead), layout)


def _begin(equation, signal, params, key, *, noise, order) -> Progress:
    """A path before its first step."""
    params, memory, carried = Training.of(equation, signal, params, key, noise, order=order).init(params)
    return Progress.begin((memory, carried), TwinState(params, memory), params)


def _path(
    equation, signal, progress, key, *, first, steps, static, observe, places, save_every, noise, order, keep_states
):
    """One run of the twin: a loop over records around a scan over training steps."""
    training = Training.of(equation, signal, progress.recorded.params, key, noise, order=order)

    def saved(state: TwinState):
        """The observables and, if wanted, the state."""
        kept = TwinState.of(state.params, state.memory) if keep_states else None
        return record(observe, state.params, static, lambda: state_from(equation, state)), kept

    def body(carry, step):
        state, failed_at = carry
        new = training.step(step, state, training.normals(step))
        return (new, first_failure(failed_at, is_ok(*new[:2]), step + 1)), None

    def interval(progress, index):
        offsets = first + index * save_every + jnp.arange(save_every, dtype=jnp.int32)
        before, (memory, carried) = progress.recorded, progress.running
        carry = (before.params, memory, carried), progress.failed_at
        ((params, memory, carried), failed_at), _ = jax.lax.scan(body, carry, offsets)
        recorded = TwinState(*keep(failed_at >= 0, (before.params, before.memory), (params, memory)))
        progress = Progress((memory, carried), recorded, failed_at, progress.peak)
        return progress, saved(recorded)

    return tuple(reversed(places.loop(interval, progress, steps // save_every, saved(progress.recorded))))
