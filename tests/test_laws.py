"""The laws that every training algorithm obeys: one line in registry.py enrols it in all of them."""

import dataclasses
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from oracles import mlp
from registry import EQUATIONS

from dynamics import minibatches, solve, train
from equations import AbstractEquation, Adam, Objective
from equations._noise import noise_weights

EXAMPLES = 3  # three normals a kick, so that all its moments can be summed exactly
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(EXAMPLES, 2)), RNG.normal(size=EXAMPLES)
PARAMS = {"w": jnp.asarray(RNG.normal(size=2)), "b": jnp.asarray(0.3)}


def loss(params, example):
    x, y = example
    return 0.5 * (jnp.tanh(jnp.dot(x, params["w"]) + params["b"]) - y) ** 2


OBJECTIVE = Objective(loss, (X, Y))


@pytest.fixture(params=EQUATIONS)
def name(request):
    return request.param


@pytest.fixture
def equation(name) -> AbstractEquation:
    return EQUATIONS[name]


def single(tree):
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32) if eqx.is_array(leaf) else leaf, tree)


def some_state(equation, size=1.0):
    """A state in the middle of a run: everything remembered is positive, as a second moment must be."""
    state = equation.init(PARAMS)
    leaves, treedef = jax.tree.flatten(state)
    rng = np.random.default_rng(1)
    return jax.tree.unflatten(treedef, [leaf + size * (0.5 + rng.uniform(size=leaf.shape)) for leaf in leaves])


def some_time(equation):
    return 3 * equation.learning_rate


def types(tree):
    return jax.tree.structure(tree), [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]


def flat(tree):
    return ravel_pytree(tree)[0]


# ---------------------------------------------------------------------------------------------------------------------
# Structure


def test_params_of_init(equation):
    assert eqx.tree_equal(equation.params(equation.init(PARAMS)), PARAMS)


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_structure_shapes_and_dtypes_are_kept(equation, precision):
    convert = single if precision == "float32" else lambda tree: tree
    objective, state, t = convert(OBJECTIVE), convert(some_state(equation)), jnp.asarray(0.15, precision)
    gradient = objective.gradient(equation.params(state))
    quiet = dataclasses.replace(equation, batch_size=None)
    wanted = types(state)
    assert types(equation.init(equation.params(state))) == wanted
    assert types(equation.velocity(t, state, gradient)) == wanted
    for e in (equation, quiet):
        assert types(e.drift(t, state, objective)) == wanted
        assert types(e.flow(t, state, objective)) == wanted
    for kicks in (1, 2):
        structure = equation.noise(state, objective, kicks)
        normals = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), structure)
        assert {leaf.dtype for leaf in jax.tree.leaves(structure)} == {jnp.dtype(precision)}
        assert types(equation.kick(t, state, objective, normals, equation.learning_rate / kicks)) == wanted
    assert types(equation.euler(t, state, objective, jnp.ones(EXAMPLES, precision), equation.learning_rate)) == wanted
    assert types(equation.diffusion(t, state, objective).out_structure()) == wanted
    assert quiet.noise(state, objective, 1) is None and quiet.diffusion(t, state, objective) is None
    started = equation.start(state, objective, jnp.ones(EXAMPLES, precision))
    assert started is None or types(started) == wanted


def test_drift_under_jit_and_vmap(equation):
    t = some_time(equation)
    states = [some_state(equation, size) for size in (0.5, 1.0, 2.0)]
    one_by_one = [flat(equation.drift(t, state, OBJECTIVE)) for state in states]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    drift = eqx.filter_jit(lambda e, state: e.drift(t, state, OBJECTIVE))
    np.testing.assert_allclose(flat(drift(equation, states[0])), one_by_one[0], rtol=1e-13)
    together = jax.jit(jax.vmap(lambda state: flat(equation.drift(t, state, OBJECTIVE))))(stacked)
    np.testing.assert_allclose(together, one_by_one, rtol=1e-13)


# ---------------------------------------------------------------------------------------------------------------------
# Scaling


def fields(equation):
    return {field.name: getattr(equation, field.name) for field in dataclasses.fields(equation)}


@pytest.mark.parametrize("factor", [0.25, 1.0, 2.0])
def test_rescaled_keeps_the_scaling(equation, factor):
    scaled = equation.rescaled(factor)
    np.testing.assert_allclose(scaled.learning_rate, factor * equation.learning_rate, rtol=1e-15)
    for rate in {"momentum", "b1", "b2"} & set(fields(equation)):
        # What is forgotten per unit of the natural clock does not change: else there would be no limit in it.
        before, after = ((1 - fields(e)[rate]) / e.time_per_step() for e in (equation, scaled))
        np.testing.assert_allclose(after, before, rtol=1e-12)
    for other in set(fields(equation)) - {"momentum", "b1", "b2", "learning_rate"}:
        assert fields(scaled)[other] == fields(equation)[other]
    np.testing.assert_allclose(flat(scaled.rescaled(1 / factor)), flat(equation), rtol=1e-13)


def test_rescaled_equals_a_new_construction(equation):
    """In its types too: a strong double in place of a weak one would promote float32 parameters, and recompile."""
    scaled = equation.rescaled(0.5)
    plain = {k: float(v) if eqx.is_array(v) else v for k, v in fields(scaled).items()}
    new = type(equation)(**plain)
    assert eqx.tree_equal(scaled, new, typematch=True)
    for a, b in zip(jax.tree.leaves(scaled), jax.tree.leaves(new), strict=True):
        assert jax.typeof(a).weak_type and jax.typeof(b).weak_type


@pytest.mark.parametrize("run", [solve, train])
def test_new_numbers_do_not_recompile_and_float32_stays(equation, run):
    """In float32 under x64, where one stray double would turn everything into doubles (and strict promotion raise)."""
    traces = []

    def counted(params, example):
        traces.append(1)
        return loss(params, example)

    def calls(equation, seed):
        """Traces of the loss by one run on data and a key of this seed; checks of the arguments trace it too."""
        data, params = jax.tree.map(lambda leaf: jnp.asarray(leaf + seed, jnp.float32), ((X, Y), PARAMS))
        before = len(traces)
        flow = run(
            equation, Objective(counted, data), params, steps=2, key=jax.random.key(seed), paths=2, observe=OBSERVE
        )
        assert {leaf.dtype for leaf in jax.tree.leaves((flow.final, flow.observables))} == {jnp.dtype("float32")}
        assert np.all(flow.ok) and not np.array_equal(flow.final["w"][0], flow.final["w"][1])
        return len(traces) - before

    first, again = calls(equation, 0), calls(equation, 0)
    assert again < first
    assert calls(equation.rescaled(0.5), 1) == again
    assert calls(type(equation)(**fields(equation) | {"learning_rate": 0.2}), 2) == again


OBSERVE = {"w": lambda params: params["w"]}


# ---------------------------------------------------------------------------------------------------------------------
# Noise


def kick_moments(equation, state, share):
    """Exact mean and covariance of the kick over a `share` of a training step, its normals summed out.

    Per normal the points -sqrt(3), 0, sqrt(3) with weights 1/6, 2/3, 1/6 are exact to fifth degree, and the covariance of
    a kick of second degree is of fourth.
    """
    t, dt = some_time(equation), equation.learning_rate / share
    structure = equation.noise(state, OBJECTIVE, share)
    zeros, unravel = ravel_pytree(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), structure))
    points = np.array(list(itertools.product((-(3**0.5), 0.0, 3**0.5), repeat=zeros.size)))
    weights = np.prod(np.where(points == 0, 2 / 3, 1 / 6), axis=1)
    if isinstance(structure, tuple):
        # The points stand for the two draws of a pair, so that they are symmetric under their exchange, as the cut is; the
        # kick takes an orthogonal combination of them.
        ratio = (2 * share - 1) ** 0.5
        first, second = np.split(points, 2, axis=1)
        along, across = (1 + ratio) * first + (1 - ratio) * second, (1 - ratio) * first - (1 + ratio) * second
        points = np.concatenate([along, across], axis=1) / (2 * (1 + ratio**2)) ** 0.5
    one = jax.jit(jax.vmap(lambda normals: flat(equation.kick(t, state, OBJECTIVE, unravel(normals), dt))))
    kicks = np.asarray(one(points))
    mean = weights @ kicks
    return mean, (kicks - mean).T @ ((kicks - mean) * weights[:, None]), kicks


def diffusion_matrix(equation, state):
    operator = equation.diffusion(some_time(equation), state, OBJECTIVE)
    zeros, unravel = ravel_pytree(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), operator.in_structure()))
    return np.asarray(jax.vmap(lambda unit: flat(operator.mv(unravel(unit))))(jnp.eye(zeros.size))).T


def expected(equation, state, share):
    """Mean (drift - flow) dt and covariance D D^T dt, that a kick must have."""
    t, dt = some_time(equation), float(equation.learning_rate) / share
    mean = flat(equation.drift(t, state, OBJECTIVE)) - flat(equation.flow(t, state, OBJECTIVE))
    root = diffusion_matrix(equation, state)
    return dt * np.asarray(mean), dt * root @ root.T


@pytest.mark.parametrize("share", [1, 2, 4])
@pytest.mark.parametrize("sampling", ["with_replacement", "without_replacement"])
def test_moments_of_the_kick(equation, sampling, share):
    """Over a whole training step, and over halves and quarters, where Adam takes a pair of draws."""
    equation = dataclasses.replace(equation, sampling=sampling)
    state = some_state(equation)
    mean, covariance, _ = kick_moments(equation, state, share)
    true_mean, true_covariance = expected(equation, state, share)
    scale = np.sqrt(np.diag(true_covariance))
    np.testing.assert_allclose(mean, true_mean, rtol=1e-11, atol=1e-13 * scale.max())
    assert scale.max() > 1e-4
    tolerance = 1e-11 * np.outer(scale, scale) + 1e-28
    assert np.all(np.abs(covariance - true_covariance) <= tolerance)


def test_the_drift_is_the_mean_velocity(equation):
    """A third route to the mean, over the Gaussian gradient itself."""
    state, t = some_state(equation), some_time(equation)
    points = np.array(list(itertools.product((-(3**0.5), 0.0, 3**0.5), repeat=EXAMPLES)))
    weights = np.prod(np.where(points == 0, 2 / 3, 1 / 6), axis=1)

    def velocity(normals):
        w = 1 / EXAMPLES + noise_weights(normals, equation.batch_size, equation.sampling)
        return flat(equation.velocity(t, state, OBJECTIVE.gradient(equation.params(state), w)))

    mean = weights @ np.asarray(jax.vmap(velocity)(points))
    np.testing.assert_allclose(flat(equation.drift(t, state, OBJECTIVE)), mean, rtol=1e-11, atol=1e-14)


def test_without_noise_the_kick_completes_the_flow(equation):
    """Shuffled epochs and full batches: no normals, and flow + kick is the drift."""
    state, t, dt = some_state(equation), some_time(equation), equation.learning_rate / 2
    for quiet in (dataclasses.replace(equation, sampling="shuffled"), dataclasses.replace(equation, batch_size=None)):
        assert quiet.noise(state, OBJECTIVE, 1) is None
        kick = flat(quiet.kick(t, state, OBJECTIVE, None, dt))
        drift, flow = (flat(f(t, state, OBJECTIVE)) for f in (quiet.drift, quiet.flow))
        np.testing.assert_allclose(dt * flow + kick, dt * drift, rtol=1e-12, atol=1e-15)


class Uncut(Adam):
    def bounded(self, state, even, odd, dt):
        return odd


@pytest.mark.parametrize("share", [2, 4, 16])
def test_a_cut_second_moment_keeps_its_mean_and_its_sign(share):
    """Adam at a second moment far below one squared gradient, where parts of a step would drive it negative."""
    equation = EQUATIONS["adam"]
    state = eqx.tree_at(lambda s: s.nu, some_state(equation), jax.tree.map(lambda p: 0 * p + 1e-9, PARAMS))
    nu = np.asarray(flat(state.nu))
    mean, _, kicks = kick_moments(equation, state, share)
    true_mean, _ = expected(equation, state, share)
    np.testing.assert_allclose(mean[-nu.size :], true_mean[-nu.size :], rtol=1e-11)
    assert np.all(nu + kicks[:, -nu.size :] > 0)
    _, _, kicks = kick_moments(Uncut(**fields(equation)), state, share)
    assert np.any(nu + kicks[:, -nu.size :] < 0)


# ---------------------------------------------------------------------------------------------------------------------
# The twin


def with_params(equation, state, params):
    return eqx.tree_at(equation.params, state, params)


def test_euler_is_the_twin_but_for_the_memory_it_steps_along(equation, name):
    """At dt = learning_rate, on the same Gaussian gradients.

    The memory of an Euler step is the twin's. Its parameters move along the old memory, the twin's along the new one:
    theta' = theta + eta velocity(t + eta, new memory). Without memory the two are one.
    """
    eta = equation.learning_rate
    twin = PLAIN.get(name) or equation.twin()
    normals = np.random.default_rng(2).normal(size=(6, EXAMPLES))

    @jax.jit
    def compare_step(t, state, memory, xi):
        params = equation.params(state)
        weights = 1 / EXAMPLES + noise_weights(xi, equation.batch_size, equation.sampling)
        gradient = OBJECTIVE.gradient(params, weights)
        updates, memory = twin.update(gradient, memory, params)
        euler = jax.tree.map(jnp.add, state, equation.euler(t, state, OBJECTIVE, xi, eta))
        remembered = with_params(equation, euler, params)
        velocity = equation.params(equation.velocity(t + eta, remembered, gradient))
        implicit = jax.tree.map(lambda p, v: p + eta * v, params, velocity)
        started = equation.start(state, OBJECTIVE, xi)
        return optax.apply_updates(params, updates), memory, euler, implicit, started

    state, memory = equation.init(PARAMS), twin.init(PARAMS)
    memoryless = jax.tree.structure(state) == jax.tree.structure(PARAMS)
    for step, xi in enumerate(normals):
        with jax.numpy_dtype_promotion("standard"):
            params, memory, euler, implicit, started = compare_step(step * eta, state, memory, xi)
        np.testing.assert_allclose(flat(implicit), flat(params), rtol=1e-12)
        if memoryless:
            np.testing.assert_allclose(flat(equation.params(euler)), flat(params), rtol=1e-12)
        state = with_params(equation, euler, params)
        if step == 0 and started is not None:  # a first step taken as the algorithm takes it
            np.testing.assert_allclose(flat(started), flat(state), rtol=1e-12)


PLAIN = {
    "sgd": optax.sgd(0.05),
    "momentum": optax.sgd(0.05, momentum=0.9),
    "nesterov": optax.sgd(0.05, momentum=0.9, nesterov=True),
    "adam": optax.adam(0.05),
}
NETWORK = mlp(jax.random.key(3), (3, 4, 2))
IMAGES, LABELS = jnp.asarray(RNG.normal(size=(10, 3))), jnp.asarray(RNG.integers(0, 2, size=10))


def cross_entropy(network, example):
    image, label = example
    return optax.softmax_cross_entropy_with_integer_labels(network(image), label)


def arrays(network):
    return eqx.filter(network, eqx.is_inexact_array)


@eqx.filter_jit
def plain_step(optimizer, network, memory, indices):
    """As Optax's documentation writes it, with a mean over the batch."""

    def mean(network):
        return jnp.mean(jax.vmap(lambda i: cross_entropy(network, (IMAGES[i], LABELS[i])))(indices))

    gradient = eqx.filter_grad(mean)(network)
    updates, memory = optimizer.update(gradient, memory, arrays(network))
    return eqx.apply_updates(network, updates), memory


def plain_loop(optimizer, batches):
    """The weights after every step, flat."""
    with jax.numpy_dtype_promotion("standard"):
        network, memory = NETWORK, optimizer.init(arrays(NETWORK))
        record = [flat(arrays(network))]
        for indices in batches:
            network, memory = plain_step(optimizer, network, memory, jnp.asarray(indices))
            record.append(flat(arrays(network)))
    return np.array(record)


@pytest.mark.parametrize(
    ("name", "sampling"),
    [
        *itertools.product(EQUATIONS, ["with_replacement", None]),
        ("sgd", "without_replacement"),
        ("adam", "without_replacement"),
        ("momentum", "shuffled"),
        ("adam", "shuffled"),
    ],
)
def test_train_is_the_plain_optax_loop(name, sampling, key):
    """On a raw eqx.nn.MLP, at the batches that `minibatches` says; seven steps are more than two epochs of three."""
    batch_size = 3 if sampling else None
    equation = dataclasses.replace(EQUATIONS[name], batch_size=batch_size, sampling=sampling or "with_replacement")
    objective = Objective(cross_entropy, (IMAGES, LABELS))
    optimizer = PLAIN.get(name) or equation.twin()
    run = train(
        equation, objective, NETWORK, steps=7, key=key if sampling else None, paths=2, observe=WEIGHTS
    )  # fmt: skip
    path = 1  # and not the first, which a wrong key for the paths would leave right
    if sampling:
        batches = np.asarray(minibatches(equation, objective, steps=7, key=key, path=path))
        assert batches.shape == (7, 3) and batches.min() >= 0 and batches.max() < 10
    else:
        batches = np.tile(np.arange(10), (7, 1))
    record = plain_loop(optimizer, batches)
    assert np.abs(record[-1] - record[0]).max() > 1e-2
    np.testing.assert_allclose(run.observables["weights"][path], record, rtol=0, atol=1e-12)
    last = jax.tree.map(lambda leaf: leaf[path], arrays(run.final))
    np.testing.assert_array_equal(flat(last), run.observables["weights"][path, -1])
    different = not np.array_equal(run.observables["weights"][0], run.observables["weights"][1])
    assert different == bool(sampling)


WEIGHTS = {"weights": lambda network: flat(arrays(network))}


def test_batches_are_what_their_sampling_says(key):
    objective = Objective(cross_entropy, (IMAGES, LABELS))
    sgd = dataclasses.replace(EQUATIONS["sgd"], batch_size=4)

    def drawn(sampling):
        return np.asarray(minibatches(dataclasses.replace(sgd, sampling=sampling), objective, steps=40, key=key))

    replaced, subsets, epochs = map(drawn, ("with_replacement", "without_replacement", "shuffled"))
    assert any(len(set(batch)) < 4 for batch in replaced)
    assert all(len(set(batch)) == 4 for batch in subsets)
    # Two batches an epoch: all different in it, two examples sit it out, and not always the same.
    seen = [set(np.concatenate([epochs[i], epochs[i + 1]])) for i in range(0, 40, 2)]
    assert all(len(epoch) == 8 for epoch in seen) and set.union(*seen) == set(range(10))
    assert any(set(subsets[i]) & set(subsets[i + 1]) for i in range(0, 40, 2))
