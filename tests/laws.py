"""The laws that every training algorithm obeys. Each takes an entry of the registry and an equation in its place, a mutant
perhaps, and raises an AssertionError that says how far off the equation is."""

import dataclasses
import functools
import itertools
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from oracles import mlp
from registry import fields

from dynamics import minibatches, train
from dynamics._arguments.checks import dynamic_numbers
from equations import SGD, Objective, at_average
from equations._optimizers.adaptive import AbstractAveraging
from equations._optimizers.sign import AbstractSignEquation
from equations.internal import fixed_gradient, split
from validation import orders

EXAMPLES = 3  # three normals a kick, so that all its moments can be summed exactly
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(EXAMPLES, 2)), RNG.normal(size=EXAMPLES)
PARAMS = {"w": jnp.asarray(RNG.normal(size=2)), "b": jnp.asarray(0.3)}


def loss(params, example):
    x, y = example
    return 0.5 * (jnp.tanh(jnp.dot(x, params["w"]) + params["b"]) - y) ** 2


OBJECTIVE = Objective(loss, (X, Y))


def single(tree):
    """In float32."""
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32) if eqx.is_array(leaf) else leaf, tree)


def some_state(equation, size=1.0):
    """A state in the middle of a run: everything remembered is positive, as a second moment must be."""
    state = equation.init(PARAMS)
    leaves, treedef = jax.tree.flatten(state)
    rng = np.random.default_rng(1)
    return jax.tree.unflatten(treedef, [leaf + size * (0.5 + rng.uniform(size=leaf.shape)) for leaf in leaves])


def some_time(equation):
    return 3 * equation.learning_rate


def quiet(equation):
    """Without a batch size."""
    return dataclasses.replace(equation, batch_size=None)


def types(tree):
    return jax.tree.structure(tree), [(leaf.shape, jnp.dtype(leaf.dtype)) for leaf in jax.tree.leaves(tree)]


def flat(tree):
    return ravel_pytree(tree)[0]


def close(what, found, wanted, rtol, atol=0.0):
    """The check of all laws: `found` equals `wanted` within atol + rtol |wanted|, component by component."""
    found, wanted = np.asarray(found, float), np.asarray(wanted, float)
    off = np.abs(found - wanted)
    bound = atol + rtol * np.abs(wanted)
    if not np.all(off <= bound):
        worst = np.unravel_index(np.argmax(np.where(np.isnan(off), np.inf, off - bound)), off.shape)
        raise AssertionError(f"{what}: {found[worst]:.4g} in place of {wanted[worst]:.4g}, bound {bound[worst]:.1e}")


# ---------------------------------------------------------------------------------------------------------------------
# Structure


def structure(entry, equation, dtype=np.float64):
    """Everything that an equation says of a state has the state's structure, shapes and dtypes."""
    convert = single if dtype == np.float32 else lambda tree: tree
    objective, state, t = convert(OBJECTIVE), convert(some_state(equation)), jnp.asarray(0.15, dtype)
    params = equation.params(state)
    wanted, still = types(state), quiet(equation)

    def keeps(what, function, *args):
        found = eqx.filter_eval_shape(function, *args)
        assert found is None or types(found) == wanted, f"{what}: {types(found)} in place of {wanted}"

    assert eqx.tree_equal(equation.params(equation.init(PARAMS)), PARAMS), "params(init(p)) is not p"
    keeps("init", equation.init, params)
    keeps("velocity", equation.velocity, t, state, fixed_gradient(equation, params))
    for e in (equation, still):
        keeps("drift", e.drift, t, state, objective)
        keeps("flow", split(e).flow, t, state, objective)
    for kicks in (1, 2):
        normals = split(equation).noise(state, objective, kicks)
        assert {jnp.dtype(leaf.dtype) for leaf in jax.tree.leaves(normals)} == {np.dtype(dtype)}, "noise: its dtype"
        keeps("kick", split(equation).kick, t, state, objective, zeros(normals), equation.learning_rate / kicks)
    whole = zeros(split(equation).noise(state, objective, 1))
    keeps("euler", split(equation).euler, t, state, objective, whole, equation.learning_rate)

    def diffused(t, state, objective):
        operator = equation.diffusion(t, state, objective)
        return operator.mv(zeros(operator.in_structure()))

    keeps("diffusion", diffused, t, state, objective)
    keeps("start", split(equation).start, state, objective, whole)
    quiet_now = split(still).noise(state, objective, 1) is None and still.diffusion(t, state, objective) is None
    assert quiet_now or still.random, "full batch: noise"


def float32(entry, equation):
    """In float32 under x64, where one stray double would turn everything into doubles (and strict promotion raise)."""
    structure(entry, equation, np.float32)


def zeros(tree):
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), tree)


def jit_and_vmap(entry, equation):
    """The drift is the same eagerly, under jit and under vmap."""
    t = some_time(equation)
    states = [some_state(equation, size) for size in (0.5, 2.0)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    drift = lambda e, state: flat(e.drift(t, state, OBJECTIVE))  # noqa: E731
    one_by_one = np.stack([moments_of_equation(equation, state, t)[0] for state in states])
    close("drift, eagerly", drift(equation, states[0]), one_by_one[0], 1e-13, 1e-15)
    close(
        "drift, under vmap", jax.jit(jax.vmap(lambda state: drift(equation, state)))(stacked), one_by_one, 1e-13, 1e-15
    )


# ---------------------------------------------------------------------------------------------------------------------
# Scaling


def rates_of(entry, equation):
    """The names of an equation's fields of which 1 minus the value is what a step forgets."""
    return {*equation.scaling_limit().decays, *entry.forgets} & set(fields(equation))


def scaling(entry, equation):
    """Another learning rate changes what is forgotten per unit of the natural clock by nothing: there is a limit in it."""
    for factor in (0.25, 1.0, 2.0):
        scaled = equation.scaling_limit().rescaled(factor)
        close("learning rate", scaled.learning_rate, factor * equation.learning_rate, 1e-15)
        rates = rates_of(entry, equation)
        for rate in rates:
            before, after = ((1 - fields(e)[rate]) / e.scaling_limit().time_per_step() for e in (equation, scaled))
            close(f"(1 - {rate})/(natural time of a step)", after, before, 1e-12)
        if "equation" in fields(equation):  # around another one
            inner = fields(equation)["equation"].scaling_limit().rescaled(factor)
            assert eqx.tree_equal(fields(scaled)["equation"], inner), "the inner equation is not rescaled"
        for other in set(fields(equation)) - rates - {"learning_rate", "equation", *entry.moves}:
            assert eqx.tree_equal(fields(equation)[other], fields(scaled)[other]), f"{other} moves"
        close(
            "rescaled and back",
            flat(arrays(scaled.scaling_limit().rescaled(1 / factor))),
            flat(arrays(equation)),
            1e-13,
        )


SLOW = 1 - 1e-8  # a rate so near to one that what its limit leaves out is rounding
INSTANT = {"nu_max"}  # follows within a training step, whatever the clock


def slow_rates(entry, equation):
    """With the rates of what all wrappers are around near one; and whether there are any."""
    if "equation" in fields(equation):
        inner, remembers = slow_rates(entry, equation.equation)
        return dataclasses.replace(equation, equation=inner), remembers
    rates = dict.fromkeys(rates_of(entry, equation), SLOW)
    return dataclasses.replace(equation, **rates), bool(rates)


def natural_limit(entry, equation):
    """In the natural clock the velocity is the same at any learning rate, the memory measured in powers of it.

    A part of the memory that grows as eta^-degree (`entry.degrees`) has a rate that does. In the batch-equivalent scaling
    the gradient has degree 1, and then the parameters too: their steps are what the gradients are, in units of the noise.
    """
    same_velocity(entry, equation, entry.degrees, "the equation's scaling")
    if isinstance(equation, AbstractAveraging):
        degrees = {"gradient": 1, "params": 1, "mu": 1, "nu": 2, "nu_max": 2} | entry.degrees
        equivalent = dataclasses.replace(equation, scaling="batch_equivalent", batch_size=16)
        same_velocity(entry, equivalent, degrees, "the batch-equivalent scaling")


def same_velocity(entry, equation, degrees, name):
    def degree(path):
        return next((degrees[key.name] for key in path if getattr(key, "name", None) in degrees), 0)

    def grown(tree, factor):
        return jax.tree_util.tree_map_with_path(lambda path, leaf: leaf * factor ** -degree(path), tree)

    def compared(tree):
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        return np.concatenate([
            np.ravel(leaf) for path, leaf in leaves if not INSTANT & {getattr(key, "name", None) for key in path}
        ])  # fmt: skip

    slow, remembers = slow_rates(entry, equation)
    state, gradient = some_state(slow), jax.tree.map(lambda p: 0.5 + p / 2, PARAMS)
    t = slow.learning_rate * (0.7 / (1 - SLOW) if remembers or entry.counts else 13)
    there = slow.scaling_limit().rescaled(0.5)
    eta, clock = 0.5, there.scaling_limit().time_per_step() / slow.scaling_limit().time_per_step()
    larger = jax.tree.map(lambda g: g * eta ** -degrees.get("gradient", 0), gradient)
    before = slow.velocity(t, state, fixed_gradient(slow, gradient))
    after = there.velocity(t * eta / clock, grown(state, eta), fixed_gradient(there, larger))
    after = jax.tree.map(lambda rate: rate * eta / clock, after)
    close(f"velocity in natural time, {name}", compared(after), compared(grown(before, eta)), 1e-5)


def arrays(tree):
    return eqx.filter(tree, eqx.is_inexact_array)


def construction(entry, equation):
    """`rescaled` equals a new construction, in its types too: a strong double would promote float32 parameters."""
    scaled = equation.scaling_limit().rescaled(0.5)
    new = type(equation)(**{k: float(v) if eqx.is_array(v) else v for k, v in fields(scaled).items()})
    assert eqx.tree_equal(scaled, new, typematch=True), "rescaled differs from a new construction"
    for leaf in jax.tree.leaves(arrays(scaled)) + jax.tree.leaves(arrays(new)):
        assert jax.typeof(leaf).weak_type, "a number of the equation is not weakly typed"


def no_recompilation(entry, equation):
    """Of equations that differ in numbers only, nothing differs that jit looks at: see test_laws for whole runs."""

    def key(e):
        dynamic, static = eqx.partition(dynamic_numbers(e), eqx.is_array)
        return jax.tree.structure(dynamic), jax.tree.leaves(static), [jax.typeof(x) for x in jax.tree.leaves(dynamic)]

    assert key(equation.scaling_limit().rescaled(0.5)) == key(equation), "rescaled: recompiles"
    again = type(equation)(**fields(equation) | {"learning_rate": 0.2})
    assert key(again) == key(equation), "another learning rate: recompiles"


# ---------------------------------------------------------------------------------------------------------------------
# Noise


@functools.cache
def grid(size):
    """Points and weights, per normal -sqrt(3), 0, sqrt(3) with 1/6, 2/3, 1/6: exact to fifth degree in each."""
    points = np.array(list(itertools.product((-(3**0.5), 0.0, 3**0.5), repeat=size)))
    return points, np.prod(np.where(points == 0, 2 / 3, 1 / 6), axis=1)


@eqx.filter_jit
def kicks_of(equation, state, points, dt):
    """The kick over `dt` at every row of normals: those of one draw, or of a pair where there are more of them."""
    one, some = (split(equation).noise(state, OBJECTIVE, kicks) for kicks in (1, 2))
    unravel = next(u for z, u in (ravel_pytree(zeros(n)) for n in (one, some)) if z.size == points.shape[1])
    t = some_time(equation)
    return jax.vmap(lambda x: flat(split(equation).kick(t, state, OBJECTIVE, unravel(x), dt)))(points)


def size_of_normals(equation, state, share):
    """How many normals a kick over a `share` of a training step takes, and whether they are two draws."""
    normals = split(equation).noise(state, OBJECTIVE, share)
    return sum(leaf.size for leaf in jax.tree.leaves(normals)), isinstance(normals, tuple)


def kick_moments_of(equation, state, share):
    """Exact mean and covariance of the kick over a `share` of a training step, its normals summed out, and all kicks.

    The covariance of a kick of second degree is of fourth, and the grid is exact to fifth.
    """
    size, pair = size_of_normals(equation, state, share)
    points, weights = grid(size)
    if pair:
        # The points stand for the two draws of a pair, so that they are symmetric under their exchange, as the cut is; the
        # kick takes an orthogonal combination of them.
        ratio = (2 * share - 1) ** 0.5
        first, second = np.split(points, 2, axis=1)
        along, across = (1 + ratio) * first + (1 - ratio) * second, (1 - ratio) * first - (1 + ratio) * second
        points = np.concatenate([along, across], axis=1) / (2 * (1 + ratio**2)) ** 0.5
    kicks = np.asarray(kicks_of(equation, state, jnp.asarray(points), equation.learning_rate / share))
    mean = weights @ kicks
    return mean, (kicks - mean).T @ ((kicks - mean) * weights[:, None]), kicks


@eqx.filter_jit
def moments_of_equation(equation, state, t):
    """The drift, the covariance D D^T of the diffusion and the flow, as arrays."""
    operator = equation.diffusion(t, state, OBJECTIVE)
    flat_zeros, unravel = ravel_pytree(zeros(operator.in_structure()))
    root = jax.vmap(lambda unit: flat(operator.mv(unravel(unit))))(jnp.eye(flat_zeros.size)).T
    return flat(equation.drift(t, state, OBJECTIVE)), root @ root.T, flat(split(equation).flow(t, state, OBJECTIVE))


def expected(equation, state, share):
    """Mean (drift - flow) dt and covariance D D^T dt, that a kick must have."""
    drift, covariance, flow = moments_of_equation(equation, state, some_time(equation))
    dt = float(equation.learning_rate) / share
    return dt * np.asarray(drift - flow), dt * np.asarray(covariance)


# Over a whole training step, and over halves and quarters, where Adam takes a pair of draws.
SHARES = (1, 2, 4)


def noise_factors(entry, equation):
    """What of all noise depends on how batches are drawn is one number: the gradient's covariance over C."""
    size, batch = EXAMPLES, equation.batch_size
    for sampling, factor in (("with_replacement", 1.0), ("without_replacement", (size - batch) / (size - 1))):
        found = dataclasses.replace(equation, sampling=sampling).batches(OBJECTIVE).factor
        close(f"factor of the noise {sampling}", found, factor / batch, 1e-15)
    if entry is not None and entry.sizes:  # those at the time of the laws, whose step is 3
        state, t = some_state(equation), some_time(equation)
        plain = dataclasses.replace(equation.equation, batch_size=int(entry.sizes(3)))
        wanted, found = (moments_of_equation(e, state, t)[1] for e in (plain, equation))
        close("covariance at the size of the batch", found, wanted, 1e-12, 1e-15)
        faster, larger = equation.scaling_limit().rescaled(2.0), entry.sizes(10) / entry.sizes(3)
        found = moments_of_equation(faster, state, 5 * faster.learning_rate)[1]
        close("covariance at twice the learning rate", found, 2 / larger * wanted, 1e-12, 1e-15)


def is_polynomial(equation):
    """Whether the velocity is of at most second degree in the normals, so that all its moments can be summed exactly."""
    return not (isinstance(equation, AbstractSignEquation) or equation.several_gradients)


def kick_moments(entry, equation):
    """The kick has mean (drift - flow) dt and the covariance of the diffusion, exactly; if no polynomial, by sampling.

    Here batches are drawn without replacement, with replacement in the law `velocity_moments`.
    """
    noise_factors(entry, equation)
    if not is_polynomial(equation):
        return sampled_kicks(entry, equation)
    equation = dataclasses.replace(equation, sampling="without_replacement")
    state = some_state(equation)
    for share in SHARES:
        (mean, covariance, _), (true_mean, true_covariance) = (
            moments(equation, state, share) for moments in (kick_moments_of, expected)
        )
        scale = np.sqrt(np.diag(true_covariance))
        assert scale.max() > 1e-4, "no noise"
        scale = np.where(scale == 0, 1e-2 * scale.max(), scale)  # what has no noise has rounding
        close(f"mean of the kick over 1/{share} step", mean, true_mean, 1e-11, 1e-13 * scale.max())
        off = np.abs(covariance - true_covariance) / (1e-11 * np.outer(scale, scale) + 1e-28)
        close(f"covariance of the kick over 1/{share} step", np.where(off <= 1, true_covariance, covariance),
              true_covariance, 0)  # fmt: skip


SAMPLES = 20_000


def sampled(what, samples, truth):
    """The mean of `samples`, `(SAMPLES, ...)`, equals `truth` within five standard errors."""
    samples = np.asarray(samples)
    error = samples.std(axis=0) / len(samples) ** 0.5
    distance = np.max(np.abs(samples.mean(axis=0) - truth) / (error + 1e-12))
    assert distance < 5, f"{what}: off by {distance:.0f} standard errors"


def sampled_kicks(entry, equation):
    """Mean and covariance of kicks that are no polynomials."""
    state = some_state(equation, 0.1)
    for share in (1, 2):
        mean, covariance = expected(equation, state, share)
        size, _ = size_of_normals(equation, state, share)
        normals = jax.random.normal(jax.random.key(share), (SAMPLES, size))
        away = np.asarray(kicks_of(equation, state, normals, equation.learning_rate / share)) - mean
        sampled(f"mean of the kick over 1/{share} step", away, 0.0)
        sampled(f"covariance of the kick over 1/{share} step", away[:, :, None] * away[:, None, :], covariance)


def velocity_moments(entry, equation):
    """Drift and diffusion are mean and covariance of the velocity over the noisy gradient itself: a third route to them."""
    polynomial = is_polynomial(equation)
    state, t = some_state(equation, 1.0 if polynomial else 0.1), some_time(equation)
    flat_zeros, unravel = ravel_pytree(zeros(split(equation).noise(state, OBJECTIVE, 1)))
    if polynomial:
        points, weights = grid(flat_zeros.size)
    else:
        points = np.random.default_rng(3).normal(size=(SAMPLES, flat_zeros.size))

    @eqx.filter_jit
    def velocities_of(equation, points):
        def velocity(normals):
            gradient = equation.held(3).gradient(equation.params(state), OBJECTIVE, unravel(normals))
            return flat(equation.velocity(t, state, gradient))

        return jax.vmap(velocity)(points)

    drift, covariance, _ = moments_of_equation(equation, state, t)
    velocities = velocities_of(equation, jnp.asarray(points))
    away = np.asarray(velocities) - np.asarray(drift)
    products = equation.learning_rate * away[:, :, None] * away[:, None, :]
    if polynomial:
        close("drift", drift, weights @ velocities, 1e-11, 1e-14)
        close("covariance", covariance, np.tensordot(weights, products, 1), 1e-11, 1e-13 * np.max(covariance))
    else:
        sampled("drift", away, 0.0)
        sampled("covariance", products, np.asarray(covariance))


def without_noise(entry, equation):
    """Shuffled epochs and full batches: no normals, and flow + kick is the drift."""
    state, t, dt = some_state(equation), some_time(equation), equation.learning_rate / 2
    shuffled = () if equation.several_gradients else (dataclasses.replace(equation, sampling="shuffled"),)
    for still in (*shuffled, quiet(equation)):
        if still.random:  # heat
            continue
        assert split(still).noise(state, OBJECTIVE, 1) is None, "normals without noise"

        @eqx.filter_jit
        def both(still):
            kick = flat(split(still).kick(t, state, OBJECTIVE, None, dt))
            drift, flow = (flat(f(t, state, OBJECTIVE)) for f in (still.drift, split(still).flow))
            return dt * flow + kick, dt * drift

        close("flow + kick", *both(still), 1e-12, 1e-15)


# ---------------------------------------------------------------------------------------------------------------------
# The twin


def updated(equation, optimizer, gradient, memory, params):
    """A step of an optimizer that may ask for more gradients of the batch, as Optax's opaque SAM does."""
    if not equation.several_gradients:
        return optimizer.update(gradient, memory, params)
    return optimizer.update(gradient(params), memory, params, grad_fn=lambda params, index: gradient(params))


def with_params(equation, state, params):
    return eqx.tree_at(equation.params, state, params)


def in_turn(equation, t, state, euler, gradient):
    """The memory after a step, every part of it computed along the new values of those declared before it.

    The first part is that of an Euler step, and so are all where no part of the memory enters the velocity of another.
    """
    names = [field.name for field in dataclasses.fields(state) if field.name != "params"]
    moved = dataclasses.replace(state, **{names[0]: getattr(euler, names[0])})
    for name in names[1:]:
        rate = getattr(equation.velocity(t, moved, gradient), name)
        new = jax.tree.map(lambda y, v: y + equation.learning_rate * v, getattr(state, name), rate)
        moved = dataclasses.replace(moved, **{name: new})
    return moved


def euler_is_the_twin(entry, equation):
    """At dt = learning_rate, on the same Gaussian gradients, one Euler step is one of Optax, but for the order in it.

    The memory of an Euler step is the twin's. Its parameters move along the old memory, the twin's along the new one:
    theta' = theta + eta velocity(t + eta, new memory), or `entry.memory` the old one. Without memory the two are one.
    """
    eta, twin = equation.learning_rate, equation.twin() if entry.by_example else entry.optax
    state, memory = equation.init(PARAMS), twin.init(PARAMS)
    flat_zeros, unravel = ravel_pytree(zeros(split(equation).noise(state, OBJECTIVE, 1)))
    normals = np.random.default_rng(2).normal(size=(6, flat_zeros.size))
    memoryless = jax.tree.structure(state) == jax.tree.structure(PARAMS)

    @jax.jit
    def both(step, state, memory, xi):
        t, params = step.astype(float) * eta, equation.params(state)
        xi = unravel(xi)
        gradient = equation.held(step).gradient(params, OBJECTIVE, xi)
        with jax.numpy_dtype_promotion("standard"):
            updates, memory = updated(equation, twin, gradient, memory, params)
        euler = jax.tree.map(jnp.add, state, split(equation).euler(t, state, OBJECTIVE, xi, eta))
        if memoryless:
            remembered, implicit = euler, equation.params(euler)
        else:
            along = entry.memory == "new"
            remembered = in_turn(equation, t + eta, state, euler, gradient) if along else euler
            velocity = equation.params(equation.velocity(t + eta, remembered if along else state, gradient))
            implicit = jax.tree.map(lambda p, v: p + eta * v, params, velocity)
        return optax.apply_updates(params, updates), memory, remembered, implicit

    for step, xi in enumerate(normals):
        params, memory, remembered, implicit = both(jnp.asarray(step), state, memory, xi)
        close(f"parameters after step {step + 1}", flat(implicit), flat(params), 1e-12, 1e-15)
        state = with_params(equation, remembered, params)


def first_step(entry, equation):
    """A first step that the equation takes as its algorithm takes it is that of the twin, on the same Gaussian gradient."""
    state, twin = equation.init(PARAMS), equation.twin()
    flat_zeros, unravel = ravel_pytree(zeros(split(equation).noise(state, OBJECTIVE, 1)))

    @jax.jit
    def both(xi):
        started = split(equation).start(state, OBJECTIVE, unravel(xi))
        if started is None:
            return None
        gradient = equation.held(0).gradient(PARAMS, OBJECTIVE, unravel(xi))
        with jax.numpy_dtype_promotion("standard"):
            updates, memory = twin.update(gradient, twin.init(PARAMS), PARAMS)
        return flat(started), flat(split(equation).resumed(optax.apply_updates(PARAMS, updates), memory))

    found = both(np.random.default_rng(2).normal(size=flat_zeros.size))
    if found is not None:
        close("state after the first step", *found, 1e-12, 1e-15)


@functools.cache
def classification():
    """A tanh network and clouds of Gaussian points in ten classes, in float64.

    Images with pixels that are nearly always dark have gradients of 1e-17, out of which Adam makes steps of rounding.
    """
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, size=256)
    points = rng.normal(size=(10, 16))[labels] + rng.normal(size=(256, 16))
    return mlp(jax.random.key(3), (16, 16, 10)), jnp.asarray(points), jnp.asarray(labels)


def cross_entropy(network, example):
    image, label = example
    return optax.softmax_cross_entropy_with_integer_labels(network(image), label)


def plain_loop(optimizer, network, images, labels, batches, seen=lambda params, memory: params, by_example=False):
    """The weights after every step of a loop as Optax's documentation writes it, with a mean over the batch.

    Or what else is `seen` of them and of the memory; with the gradients of its examples where they are asked for.
    """

    @eqx.filter_jit
    def step(network, memory, indices):
        def mean(network):
            return jnp.mean(jax.vmap(cross_entropy, in_axes=(None, 0))(network, (images[indices], labels[indices])))

        def grad_fn(there, index):
            return eqx.filter_grad(mean)(eqx.combine(there, network))

        gradient = eqx.filter_grad(mean)(network)
        if by_example:
            one = eqx.filter_vmap(eqx.filter_grad(cross_entropy), in_axes=(None, 0))
            gradient = one(network, (images[indices], labels[indices]))
        updates, memory = optax.with_extra_args_support(optimizer).update(
            gradient, memory, arrays(network), grad_fn=grad_fn
        )
        return eqx.apply_updates(network, updates), memory

    with jax.numpy_dtype_promotion("standard"):
        memory = jax.tree.map(jnp.asarray, optimizer.init(arrays(network)))  # a Python float would recompile every step
        record = [flat(seen(arrays(network), memory))]
        for indices in batches:
            network, memory = step(network, memory, indices)
            record.append(flat(seen(arrays(network), memory)))
    return np.array(record)


BATCH = 16
WEIGHTS = {"weights": lambda network: flat(arrays(network))}


@functools.cache
def batches(objective_size, steps):
    """The same for every equation at key 0, so that they are drawn once."""
    objective = Objective(lambda params, example: 0.0 * params, jnp.zeros(objective_size))
    return minibatches(SGD(0.1, BATCH), objective, steps=steps, key=jax.random.key(0))


def twin_is_plain_optax(entry, equation, steps=100):
    """A hundred steps of `train` on a network, on real batches, are those of a plain loop over Optax, to 1e-12.

    Those of a dynamics with a heat bath at temperature zero, those of one with noise of its own without.
    """
    network, images, labels = classification()
    objective = Objective(cross_entropy, (images, labels))
    seen, observe = ((entry.average,), {"weights": at_average()}) if entry.average else ((), WEIGHTS)
    drawn = batches(len(labels), steps)
    record = plain_loop(entry.optax, network, images, labels, drawn, *seen, by_example=entry.by_example)
    assert np.abs(record[-1] - record[0]).max() > 1e-2, "the network did not move"
    cold = {name: 0.0 for name in ("temperature", "noise") if name in fields(equation)}
    equation = dataclasses.replace(equation, batch_size=BATCH, **cold)
    run = train(equation, objective, network, steps=steps, key=jax.random.key(0), observe=observe)
    close("weights", run.observables["weights"][0], record, 0, 1e-12)


# ---------------------------------------------------------------------------------------------------------------------
# Order


def order(entry, equation):
    """Without noise the error in natural time is of the order that the equation claims, within .15.

    `entry.orders` may give the number of `steps` at the first step length, the `transient` in such steps, the `claim`, the
    `factor` of the first learning rate to the registered one, or an `equation` to be swept instead.
    """
    options = {"steps": 8, "transient": 0, "claim": 1, "factor": 1.0} | entry.orders
    first = quiet(options.get("equation", equation)).scaling_limit().rescaled(options["factor"])
    length = float(first.scaling_limit().time_per_step())
    # The learning rates that halve the natural time of a step.
    exponent = np.log2(length / float(first.scaling_limit().rescaled(0.5).scaling_limit().time_per_step()))
    rates = [float(first.learning_rate) * 2 ** (-k / exponent) for k in range(4)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = orders(
            first, OBJECTIVE, PARAMS, time=options["steps"] * length, learning_rates=rates,
            transient=options["transient"] * length, observe={"params": at_average()} if entry.average else VECTOR,
        )  # fmt: skip
    slope, verdict = report.slope["params"]["mean"], report.verdict["params"]["mean"]
    assert abs(slope - options["claim"]) < 0.15, f"slope {slope:.2f} in place of {options['claim']}, {verdict}"
    assert verdict == "holds", f"slope {slope:.2f}: {verdict}"


VECTOR = {"params": flat}

# The cheap ones first: a mutant is shown to them in this order.
LAWS = {
    law.__name__: law
    for law in (
        scaling, natural_limit, construction, no_recompilation, structure, float32, euler_is_the_twin, first_step,
        kick_moments, without_noise, velocity_moments, jit_and_vmap, order, twin_is_plain_optax,
    )
}  # fmt: skip
