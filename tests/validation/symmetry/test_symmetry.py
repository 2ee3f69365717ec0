"""Symmetries of a loss: charges, their exact steps, the identities of gradient and Hessian, and how noise breaks them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics import train
from equations import SGD, Isotropic, Momentum, Objective
from validation import Symmetry, invariance
from validation._irreversibility.batches import enumerated
from validation._symmetry.measures import generator_moments

KEY = jax.random.key(0)
WIDTH = 5


def draw(place, *shape):
    return jax.random.normal(jax.random.fold_in(KEY, place), shape)


def regression(network, example):
    x, y = example
    return 0.5 * jnp.sum((network(x) - y) ** 2)


DATA = Objective(regression, (draw(1, 12, 3), draw(2, 12, 2)))


def network(activation):
    net = eqx.nn.MLP(3, 2, WIDTH, 1, activation, dtype=jnp.float64, key=KEY)
    return eqx.tree_at(lambda n: n.layers[0].bias, net, 0.3 * draw(3, WIDTH))


RELU, TANH, LINEAR = (network(f) for f in (jax.nn.relu, jnp.tanh, lambda x: x))


def coming(net):
    return [net.layers[0].weight, net.layers[0].bias]


def coming_without_bias(net):
    return [net.layers[0].weight]


def going(net):
    return [net.layers[1].weight]


LAYERS = Symmetry.between(coming, going, jnp.eye(WIDTH))
NEURON = Symmetry.between(coming, going, jnp.diag(jnp.eye(WIDTH)[2]))
TURN = np.zeros((WIDTH, WIDTH))
TURN[0, 1], TURN[1, 0] = 1.0, -1.0
ROTATION = Symmetry.between(coming, going, TURN)
BATCHES = [np.array([3, 1]), np.array([0, 0]), np.array([7, 11])]


@pytest.mark.slow
@pytest.mark.parametrize("symmetry", [LAYERS, NEURON], ids=["layers", "neuron"])
@pytest.mark.parametrize("decay", [0.0, 0.05])
def test_the_charge_step_is_exact(symmetry, decay):
    r = symmetry.steps(SGD(0.1), DATA, RELU, BATCHES, decay=decay)
    print(f"\n{r}, error {r.error:.1e}")
    assert r.holds and r.error < 1e-13 and abs(r.after - r.before) > 1e-5


@pytest.mark.slow
def test_the_charge_step_holds_where_the_charge_is_zero():
    """In a balanced network, and for a rotation, of which the charge is zero everywhere."""
    squares = [sum(float(jnp.sum(leaf**2)) for leaf in side(RELU)) for side in (coming, going)]
    balanced = LAYERS.move(RELU, 0.25 * np.log(squares[1] / squares[0]))
    r = LAYERS.steps(SGD(1e-3), DATA, balanced, BATCHES)
    print(f"\n{r}, error {r.error:.1e}")
    assert abs(r.before) < 1e-5 * r.size and r.holds


@pytest.mark.slow
def test_the_charge_step_is_broken_and_reported_so():
    """By tanh, by biases that are left out of the group, by momentum."""
    bare = Symmetry.between(coming_without_bias, going, jnp.eye(WIDTH))
    for name, broken in (
        ("tanh", LAYERS.steps(SGD(0.1), DATA, TANH, BATCHES)),
        ("biases left out", bare.steps(SGD(0.1), DATA, RELU, BATCHES)),
        ("momentum", LAYERS.steps(Momentum(0.1), DATA, RELU, BATCHES)),
    ):
        print(f"\n{name}: error {broken.error:.2e}")
        assert not broken.holds and broken.error > 1e-4
    assert LAYERS.check(DATA, RELU).holds
    assert not LAYERS.check(DATA, TANH).holds and not bare.check(DATA, RELU).holds


class WrongTranspose(Symmetry):
    """Mutant: H A theta = -A g."""

    def transpose(self, vector):
        return self.apply(vector)


@pytest.mark.slow
def test_identities_of_gradient_and_hessian():
    """g . A theta = 0 and H A theta = -A^T g: a rescaling, linear groups between linear layers, scale invariance."""
    shear = Symmetry.between(coming, going, draw(4, WIDTH, WIDTH))
    direction = Objective(lambda w, x: -jnp.dot(x, w) / jnp.linalg.norm(w), draw(5, 6, 4))
    for name, check in (
        ("rescaling", LAYERS.check(DATA, RELU)),
        ("shear", shear.check(DATA, LINEAR)),
        ("rotation", ROTATION.check(DATA, LINEAR)),
        ("scale invariance", Symmetry.scaling(lambda w: [w]).check(direction, draw(6, 4))),
    ):
        print(f"\n{name}: {check}")
        assert check.holds and check.hessian < 1e-11 and check.curvature < 1e-11
    mutant = WrongTranspose(ROTATION.generator).check(DATA, LINEAR)
    print(f"\nmutant -A g on a rotation: {mutant.hessian:.2f}")
    assert abs(mutant.hessian - 2) < 1e-9 and not mutant.holds
    # Where A is symmetric it is no mutant.
    assert WrongTranspose(LAYERS.generator).check(DATA, RELU).holds
    assert abs(ROTATION.check(DATA, LINEAR).symmetric) < 1e-12 and abs(LAYERS.check(DATA, RELU).symmetric - 1) < 1e-12


@pytest.mark.slow
def test_channels_of_convolutions():
    """Their kernels have further axes, here as long as the width, and their biases too."""
    net = [eqx.nn.Conv1d(*width, 3, dtype=jnp.float64, key=KEY) for width in ((1, 3), (3, 2))]
    convolved = Objective(lambda net, x: jnp.sum(net[1](jax.nn.relu(net[0](x))) ** 2), draw(12, 4, 1, 8))
    kernel, outgoing = (lambda net: net[0].weight), (lambda net: [net[1].weight])
    channels = Symmetry.between(lambda net: [kernel(net), net[0].bias], outgoing, jnp.eye(3))
    assert channels.check(convolved, net).holds
    with pytest.raises(ValueError, match="Arguments `incoming` and `outgoing` must give every array once"):
        Symmetry.between(lambda net: [kernel(net), kernel(net)], outgoing, jnp.eye(3)).charge(net)


@pytest.mark.slow
def test_orbits_of_phi():
    """An orthogonal symmetry keeps phi; another breaks it at the rate -E[g_B . A g_B]/2, and one point has the least."""
    sgd = SGD(0.1, 2)
    turned = invariance(lambda net: ROTATION.move(net, 0.7), sgd, DATA, LINEAR)
    flipped = invariance(lambda net: eqx.tree_at(coming_and_going, net, flip(net)), sgd, DATA, TANH)
    swapped = invariance(lambda net: eqx.tree_at(coming_and_going, net, swap(net)), sgd, DATA, RELU)
    for name, r in (("rotation", turned), ("reflection", flipped), ("permutation", swapped)):
        print(f"\n{name}: {r}")
        assert r.loss < 1e-12 and r.gradient < 1e-12 and abs(r.phi_ratio - 1) < 1e-12
    stretched = invariance(lambda net: LAYERS.move(net, 0.7), sgd, DATA, RELU)
    assert stretched.loss < 1e-12 and abs(stretched.phi_ratio - 1) > 0.1
    assert stretched.gradient > 0.1  # it is no isometry
    slope = LAYERS.slope(sgd, DATA, RELU)
    print(f"\n{slope}")
    assert abs(slope.measured / slope.predicted - 1) < 1e-10
    least = LAYERS.least(sgd, DATA, RELU)
    there = LAYERS.slope(sgd, DATA, least.params)
    print(f"\nleast phi {least.phi:.4f} at {least.amount:.4f}, here {slope.phi:.4f}; slope there {there.measured:.1e}")
    assert least.found and least.phi < slope.phi and abs(there.measured) < 1e-9
    # In the other direction from the minimum phi rises: it is convex along the orbit.
    values = [LAYERS.slope(sgd, DATA, LAYERS.move(RELU, least.amount + d)).phi for d in (-0.2, 0.2)]
    assert min(values) > least.phi


def test_a_transformation_that_is_no_symmetry():
    """(u, w) -> (2 u, w): losses and gradients change by what is computed by hand."""
    (x, y), u, w = (np.asarray(a) for a in MODEL.data), 1.3, 0.4
    r = invariance(lambda p: (2 * p[0], p[1]), SGD(0.1, 2), MODEL, (u, w))
    losses = [0.5 * (v * w * x - y) ** 2 for v in (u, 2 * u)]
    here, there = (np.mean((v * w * x - y) * x) * np.array([w, v]) for v in (u, 2 * u))
    np.testing.assert_allclose(r.loss, np.abs(losses[1] - losses[0]).max(), rtol=1e-12)
    expected = np.linalg.norm(there - np.array([2.0, 1.0]) * here) / np.linalg.norm(here)
    np.testing.assert_allclose(r.gradient, expected, rtol=1e-12)


@pytest.mark.slow
def test_scaling_of_some_arrays():
    """The others stay; and where the loss is ln|w|, only g . A theta = 1 says that it is no symmetry."""
    w = draw(6, 4)
    one, other = Symmetry.scaling(lambda p: [p[0]]).apply((w, 2 * w))
    np.testing.assert_array_equal(one, w)
    assert np.all(np.asarray(other) == 0)
    logarithm = Objective(lambda p, x: x * jnp.log(jnp.linalg.norm(p[0])) + jnp.sum(p[1]), jnp.array([1.0, 2.0]))
    check = Symmetry.scaling(lambda p: [p[0]]).check(logarithm, (w, w))
    print(f"\n{check}")
    assert check.hessian < 1e-11 and check.curvature < 1e-11 and abs(check.symmetric - 1) < 1e-12
    assert not check.holds and 0.1 < check.gradient < 1


def coming_and_going(net):
    return [*coming(net), *going(net)]


def flip(net):
    """The sign of neuron 1, for an odd activation."""
    sign = jnp.ones(WIDTH).at[1].set(-1.0)
    return [sign[:, None] * net.layers[0].weight, sign * net.layers[0].bias, net.layers[1].weight * sign]


def swap(net):
    """Two neurons exchanged."""
    order = jnp.array([1, 0, 2, 3, 4])
    return [net.layers[0].weight[order], net.layers[0].bias[order], net.layers[1].weight[:, order]]


# Broken at the predicted rate


def scalar(params, example):
    x, y = example
    u, w = params
    return 0.5 * (u * w * x - y) ** 2


X = draw(7, 400)
MODEL = Objective(scalar, (X, X + 0.5 * draw(8, 400)))
SCALE = Symmetry(lambda p: (p[0], -p[1]))


def charge(p):
    return SCALE.charge(p)


def product(p):
    return p[0] * p[1]


@pytest.mark.slow
def test_the_charge_decays_at_the_predicted_rate():
    """u^2 - w^2 at the rate eta^2 E[(u w x - y)^2 x^2] per step, within 3 %; phi falls to the least value of the orbit."""
    eta, steps = 0.02, 6000
    run = train(
        SGD(eta, 1), MODEL, (2.0, 0.5), steps=steps, key=KEY, paths=64, save_every=20,
        observe={"charge": charge, "product": product},
    )  # fmt: skip
    v = np.asarray(run.observables["product"])
    x, y = (np.asarray(a) for a in MODEL.data)
    # E (v x - y)^2 x^2 as a polynomial in v.
    c0 = np.mean(x**4) * v**2 - 2 * np.mean(x**3 * y) * v + np.mean(x**2 * y**2)
    charges = np.asarray(run.observables["charge"]).mean(axis=0)
    predicted = eta**2 * c0[:, :-1].mean() * steps
    measured = -np.log(charges[-1] / charges[0])
    print(f"\nln of the decay {measured:.4f}, predicted {predicted:.4f}")
    assert measured > 0.5 and abs(measured / predicted - 1) < 0.03


@pytest.mark.slow
def test_noether_flow():
    """Against the covariance of the gradients."""
    eta, gamma = 0.05, 0.02
    p = (jnp.array(1.3), jnp.array(0.4))
    sgd = SGD(eta, 2)
    flow = SCALE.flow(sgd, MODEL, p, decay=gamma)
    gradients = jax.vmap(lambda i: jnp.stack(MODEL.take(i[None]).gradient(p)))(jnp.arange(400))
    sigma = jnp.cov(gradients.T, bias=True) / 2
    np.testing.assert_allclose(flow.noise, eta * (sigma[0, 0] - sigma[1, 1]), rtol=1e-10)
    np.testing.assert_allclose(flow.gain, flow.noise + flow.mean, rtol=1e-10)
    np.testing.assert_allclose(flow.loss, 4 * gamma * (1 - eta * gamma) * charge(p), rtol=1e-12)
    np.testing.assert_allclose(flow.rate, flow.gain - flow.loss)


def hidden_neuron(params, example):
    u, w, (x, y) = *params, example
    return 0.5 * jnp.sum((u * jnp.dot(w, x) - y) ** 2)


@pytest.mark.slow
def test_master_balance_in_a_stationary_state():
    """eta E[g_B . A g_B] = 4 gamma (1 - eta gamma) C on average, within 4 standard errors; both are far from zero."""
    eta, gamma = 0.05, 0.01
    x = draw(10, 40, 2) * jnp.array([1.5, 0.7])
    y = jnp.stack([x[:, 0], 0.5 * x[:, 0]], axis=1) + draw(11, 40, 2) * jnp.array([0.8, 0.2])
    objective = Objective(hidden_neuron, (x, y))
    symmetry = Symmetry(lambda p: (-p[0], p[1]))
    sgd = SGD(eta, 2)

    def decayed(p, example):
        return hidden_neuron(p, example) + gamma * (jnp.sum(p[0] ** 2) + jnp.sum(p[1] ** 2))

    run = train(
        sgd, Objective(decayed, objective.data), (jnp.ones(2), jnp.ones(2)), steps=6000, key=KEY, paths=64, save_every=5,
        observe={"C": symmetry.charge, "gain": lambda p: eta * generator_moments(symmetry, sgd, objective, p)[1]},
    )  # fmt: skip
    late = {name: np.asarray(values)[:, 600:].mean(axis=1) for name, values in run.observables.items()}
    loss = 4 * gamma * (1 - eta * gamma) * late["C"]
    difference = late["gain"] - loss
    error = difference.std(ddof=1) / len(difference) ** 0.5
    print(
        f"\ngain {late['gain'].mean():.5f}, loss {loss.mean():.5f}, difference {difference.mean():.1e} +- {error:.1e}"
    )
    assert abs(difference.mean()) < 4 * error and error < 0.05 * abs(loss.mean())


@pytest.mark.slow
def test_moments_are_means_over_batches():
    """For every sampling, against the enumeration. Mutant: the factor of sampling with replacement."""
    p = (jnp.array(1.3), jnp.array(0.4))
    few = Objective(scalar, jax.tree.map(lambda leaf: leaf[:5], MODEL.data))

    def gain(index):
        g = few.take(jnp.asarray(index)).gradient(p)
        return g[0] ** 2 - g[1] ** 2

    print()
    for sampling in ("with_replacement", "without_replacement", "shuffled"):
        sgd = SGD(0.1, 3, sampling)
        indices, weights = enumerated(sgd, 5)
        truth = sum(weight * gain(index) for index, weight in zip(indices, weights, strict=True))
        _, both = generator_moments(SCALE, sgd, few, p)
        mutant = generator_moments(SCALE, SGD(0.1, 3), few, p)[1]
        print(f"{sampling}: {both:.6f}, exact {truth:.6f}, mutant off by {abs(mutant / truth - 1):.2f}")
        np.testing.assert_allclose(both, truth, rtol=1e-12)
    assert abs(mutant / truth - 1) > 0.1


@pytest.mark.slow
def test_the_least_phi_may_lie_at_infinity():
    """Where one side has no gradient of its own to balance."""
    lonely = Objective(lambda p, x: x * p[0] * p[1], jnp.ones(2))
    here = LEFT.least(SGD(0.1), lonely, (jnp.array(1.0), jnp.array(1e-30)), bound=2.0)
    print(f"\nphi {here.phi:.3f} at {here.amount:.3f}")
    assert not here.found and abs(abs(here.amount) - 2) < 1e-6
    there = LEFT.least(SGD(0.1), lonely, (jnp.array(1.0), jnp.array(0.5)), bound=2.0)
    assert there.found and abs(there.amount - np.log(0.5) / 2) < 1e-6


LEFT = Symmetry(lambda p: (p[0], -p[1]))


def test_wrong_arguments():
    with pytest.raises(TypeError, match="Argument `generator` must be a linear map"):
        Symmetry(1.0)
    with pytest.raises(TypeError, match="Argument `matrix` must hold the real numbers of K, .* but 'a' was given"):
        Symmetry.between(coming, going, "a")
    with pytest.raises(TypeError, match="Argument `amount` must be a finite number, but 'a' was given"):
        SCALE.move((1.3, 0.4), "a")
    with pytest.raises(ValueError, match="Argument `amount` must be a finite number, but inf was given"):
        SCALE.move((1.3, 0.4), np.inf)
    with pytest.raises(ValueError, match="Argument `matrix` must be square"):
        Symmetry.between(coming, going, np.ones((2, 3)))
    with pytest.raises(ValueError, match="Argument `generator` must give a PyTree like the parameters"):
        Symmetry(lambda p: p[0]).charge((1.0, 2.0))


def test_wrong_equations_and_objectives():
    sgd, p = SGD(0.1, 2), (1.3, 0.4)
    for call in (SCALE.flow, SCALE.slope, SCALE.least):
        with pytest.raises(ValueError, match="Argument `equation` must make plain gradient steps"):
            call(Momentum(0.1, 2), MODEL, p)
        with pytest.raises(TypeError, match="Argument `equation` must be an equations.AbstractEquation"):
            call(0.1, MODEL, p)
        with pytest.raises(TypeError, match="Argument `objective` must be a signal"):
            call(sgd, None, p)
        with pytest.raises(ValueError, match="Argument `batch_size` must be at most the number of examples, 400"):
            call(SGD(0.1, 401, "without_replacement"), MODEL, p)
    with pytest.raises(TypeError, match="Argument `objective` must be a signal"):
        SCALE.check(None, p)
    with pytest.raises(TypeError, match="Argument `objective` must be a signal"):
        invariance(lambda p: p, sgd, None, p)
    with pytest.raises(ValueError, match="Argument `transform` must give arrays like the parameters"):
        invariance(lambda p: (p[0], p[0] * jnp.ones(2)), sgd, MODEL, p)
    with pytest.raises(ValueError, match="must have no noise but that of its minibatches"):
        invariance(lambda p: p, SGD(0.1, noise_model=Isotropic(0.1)), MODEL, p)


def test_wrong_generators():
    sgd, p = SGD(0.1, 2), (1.3, 0.4)
    with pytest.raises(ValueError, match="Argument `generator` must be symmetric"):
        Symmetry(lambda p: (p[1], -p[0])).least(sgd, MODEL, p)
    for generator in (lambda p: (p[0] + 1, -p[1]), lambda p: (p[0] ** 2, p[1])):
        with pytest.raises(ValueError, match="Argument `generator` must be linear"):
            Symmetry(generator).slope(sgd, MODEL, p)
    for generator in (lambda p: (0 * p[0], 0 * p[1]), Symmetry.scaling(lambda p: []).generator):
        for call in (
            lambda s: s.check(MODEL, p),
            lambda s: s.least(sgd, MODEL, p),
            lambda s: s.steps(sgd, MODEL, p, [None]),
        ):
            with pytest.raises(ValueError, match="Argument `generator` must move some parameter"):
                call(Symmetry(generator))
    with pytest.raises(ValueError, match="Argument `generator` must be finite"):
        Symmetry(lambda p: (p[0], jnp.nan * p[1])).check(MODEL, p)
    with pytest.raises(ValueError, match="Argument `matrix` must be finite, but"):
        Symmetry.between(coming, going, np.diag([1.0, np.nan]))
    with pytest.raises(ValueError, match="Argument `generator` must give arrays like the parameters"):
        Symmetry(lambda p: (jnp.ones(2) * p[0], p[1])).check(MODEL, p)


def test_wrong_batches_and_layers():
    sgd, p = SGD(0.1, 2), (1.3, 0.4)
    for batch in (np.array([0, 400]), np.array([-1]), np.array([0.5]), np.array([[1, 2]]), np.array([], int)):
        with pytest.raises(ValueError, match="Argument `batches` must be a list, for each step of the integer indices"):
            SCALE.steps(sgd, MODEL, p, [batch])
    with pytest.raises(ValueError, match="none was given"):
        SCALE.steps(sgd, MODEL, p, [])
    with pytest.raises(TypeError, match="Argument `batches`"):
        SCALE.steps(sgd, MODEL, p, None)
    with pytest.raises(ValueError, match="Argument `incoming` must give arrays of the width 4 of `matrix`"):
        Symmetry.between(coming, going, np.eye(4)).charge(RELU)
    with pytest.raises(TypeError, match="Argument `where` must give a list of the parameters' arrays"):
        Symmetry.scaling(lambda w: w).charge(jnp.ones(2))
