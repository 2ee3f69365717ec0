"""`train`: an ensemble of the discrete algorithm's runs under one jit."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from equations import AbstractEquation, AbstractSignal
from equations.internal import (
    LARGEST,
    TwinState,
    check_algorithm,
    choice,
    flag,
    is_parameter,
    on_parameters,
    warn_frozen,
)

from ._arguments.checks import (
    check_equation,
    check_key,
    check_observe,
    check_params,
    check_schedule,
    dynamic_numbers,
    guard_traced,
)
from ._arguments.handed_out import check_axis, hand_out
from ._arguments.hooks import check_twin
from ._health.failed import tell_start
from ._paths.brownian import Brownian
from ._paths.record import first_failure, for_all_paths, is_good, keep, path_keys, record, with_start
from ._paths.sampler import Sampler
from ._trajectory import Trajectory, learning_rates, recorded


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
    check_equation(equation, AbstractEquation)
    equation = dynamic_numbers(equation)
    params = check_params(params)
    check_axis(objective, params)
    equation.check(params, objective)
    equation = on_parameters(equation, params)
    check_algorithm(equation, params)
    warn_frozen(equation, objective, params)
    steps, paths, save_every = check_schedule(steps, paths, save_every)
    observe = check_observe(observe, params)
    noise = choice("noise", noise, ("minibatch", "gaussian"))
    keep_states = flag("keep_states")(keep_states)
    random = draws(equation, noise)
    key = check_key(key, random)
    twin = equation.twin()
    if not isinstance(twin, optax.GradientTransformation):
        raise TypeError(
            f"Argument `equation` must have an optax.GradientTransformation as its twin, but "
            f"{type(equation).__name__}.twin() gave {twin!r}."
        )

    rates = learning_rates(equation, steps)
    dynamic, static = eqx.partition(params, is_parameter)
    check_twin(equation, dynamic)
    signal = objective.bind(static)
    (saves, states), final, failed_at = _ensemble(
        equation,
        signal,
        guard_traced(dynamic),
        static,
        key,
        observe,
        steps,
        save_every,
        noise,
        paths if random else 1,
        keep_states,
    )
    tell_start(equation, signal, dynamic, failed_at)
    if not random:
        saves, states, final, failed_at = for_all_paths((saves, states, final, failed_at), paths)
    hand_out(objective, params, final, states, saves)
    recorded_steps, times = recorded(rates, steps, save_every, equation.learning_rate)
    return Trajectory(
        steps=recorded_steps,
        times=times,
        observables=saves,
        final=eqx.combine(final, static),
        ok=failed_at < 0,
        failed_at=failed_at,
        equation=equation,
        kind="discrete",
        details=(("noise", noise),),
        states=states,
    )


def draws(equation: AbstractEquation, noise: str) -> bool:
    """Whether anything is random in the discrete algorithm with this kind of `noise`."""
    if noise == "gaussian":
        return equation.random
    return equation.batch_size is not None or equation.gradient_noise.injects


@eqx.filter_jit
def _ensemble(equation, signal, params, static, key, observe, steps, save_every, noise, paths, keep_states):
    def one(key):
        return _path(equation, signal, params, static, key, observe, steps, save_every, noise, keep_states)

    return jax.vmap(one)(path_keys(key, paths))


def _path(equation, signal, params, static, key, observe, steps, save_every, noise, keep_states):
    """One run of the twin: a scan over records around a scan over training steps."""
    twin, model = equation.twin(), equation.gradient_noise
    sampler = brownian = None
    if noise == "gaussian":
        structure = model.structure(equation.batches(signal), params) if equation.random else None
        brownian = None if structure is None else Brownian(key, structure, 1)
    elif equation.batch_size is not None:
        sampler = Sampler(key, signal.size, equation.batch_size, equation.sampling)
    if noise == "minibatch" and model.injects:
        one = signal if sampler is None else signal.take(jnp.zeros(equation.batch_size, int))
        brownian = Brownian(jax.random.fold_in(jax.random.fold_in(key, LARGEST), 0), model.injected(one, params), 1)

    def gradient(params, step, carried):
        normals = None if brownian is None else brownian.whole(step)
        if noise == "gaussian":
            return equation.gradient(params, signal, normals), carried
        batch = signal
        if sampler is not None:
            indices, carried = sampler.indices(step, carried)
            batch = signal.take(indices)
        return model.real(batch, params, normals), carried

    def saved(params, memory):
        """The observables and, if wanted, the state."""
        return record(observe, params, static), TwinState.of(params, memory) if keep_states else None

    def body(carry, step):
        params, memory, carried, failed_at = carry
        grads, carried = gradient(params, step, carried)
        # Several transformations of Optax mix an int32 count with floats, which strict promotion forbids.
        with jax.numpy_dtype_promotion("standard"):
            updates, new_memory = twin.update(grads, memory, params)
            new_params = optax.apply_updates(params, updates)
        new_memory = jax.tree.map(lambda new, old: new.astype(old.dtype), new_memory, memory)
        failed_at = first_failure(failed_at, is_good(new_params, new_memory), step + 1)
        return (new_params, new_memory, carried, failed_at), None

    def interval(carry, index):
        params, memory, carried, failed_at = carry
        offsets = index * save_every + jnp.arange(save_every, dtype=jnp.int32)
        (new, later, carried, failed_at), _ = jax.lax.scan(body, carry, offsets)
        params = keep(failed_at >= 0, params, new)
        memory = keep(failed_at >= 0, memory, later) if keep_states else later
        return (params, memory, carried, failed_at), saved(params, memory)

    with jax.numpy_dtype_promotion("standard"):
        memory = jax.tree.map(jnp.asarray, twin.init(params))
    carry = (params, memory, None if sampler is None else sampler.init(), jnp.full((), -1, jnp.int32))
    (final, _, _, failed_at), saves = jax.lax.scan(interval, carry, jnp.arange(steps // save_every, dtype=jnp.int32))
    return with_start(saved(params, memory), saves), final, failed_at
