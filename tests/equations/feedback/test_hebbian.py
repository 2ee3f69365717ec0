"""Hebbian rules, and the Hebbian look of others: exact solutions, fixed points, the theorem, the boundary under noise."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from dynamics import solve, train
from equations import BCM, SGD, FeedbackAlignment, Hebb, KolenPollack, Objective, WithFeedback, decayed, random_feedback
from equations._feedback.base import inputs, layers
from validation import HebbianAlignment, anti_hebbian_noise, noisy_alignment

rng = np.random.default_rng(1)


@pytest.mark.slow
def test_hebb_grows_as_its_input(key):
    """w(t) = e^{Ct} w0; a network's layers learn from W h and h."""
    x, w0 = rng.normal(size=(20, 3)), np.array([0.1, -0.2, 0.3])
    c = x.T @ x / 20
    flow = solve(SGD(0.05), Hebb(x), w0, steps=40, save_every=40)
    np.testing.assert_allclose(flow.final[0], scipy.linalg.expm(2 * c) @ w0, rtol=1e-8)
    run = train(SGD(0.05), Hebb(x), w0, steps=40, save_every=40)
    np.testing.assert_allclose(run.final[0], np.linalg.matrix_power(np.eye(3) + 0.05 * c, 40) @ w0, rtol=1e-12)
    net = eqx.nn.MLP(3, 2, 4, 2, activation=jnp.tanh, key=key)
    found = Hebb(x).gradient(net)
    received = jax.vmap(lambda x: inputs(net, x))(jnp.asarray(x))
    for got, layer, h in zip(layers(found), layers(net), received, strict=True):
        np.testing.assert_allclose(got.weight, -layer.weight @ (h.T @ h) / 20, atol=1e-14)
        assert not np.any(got.bias)


class MeanThreshold(BCM):
    """The threshold follows E|y|, not E[y^2]."""

    def surrogate(self, active, frozen, example):
        y = jnp.dot(frozen[0], example)
        return super().surrogate(active, frozen, example) + self.rate * (y**2 - jnp.abs(y)) * active[1]


@pytest.mark.slow
def test_bcm_becomes_selective():
    """Inputs of probabilities 1/2, 3/10, 1/5, not orthogonal: y = theta = 1/p of one, 0 of the others."""
    patterns = np.array([[1.0, 0.2, 0.0], [0.0, 0.9, 0.3], [0.2, 0.0, 1.1]])
    x = np.repeat(patterns, [5, 3, 2], axis=0)
    rates = {"steps": 4000, "save_every": 4000}
    for start, place in (([0.9, 0.1, 0.1], 0), ([0.1, 0.9, 0.1], 1), ([0.1, 0.1, 0.9], 2)):
        w0 = np.linalg.solve(patterns, np.array(start))
        expected = np.zeros(3)
        expected[place] = 1 / np.array([0.5, 0.3, 0.2])[place]
        w, theta = solve(SGD(0.02), BCM(x, 4.0), (w0, 0.5), **rates).final
        error = max(np.abs(patterns @ w[0] - expected).max(), abs(theta[0] - expected[place]))
        print(f"\nBCM: y = {np.round(patterns @ w[0], 4)}, theta = {theta[0]:.4f}, off by {error:.1e}")
        assert error < 1e-6
    w, theta = solve(SGD(0.02), MeanThreshold(x, 4.0), (w0, 0.5), **rates).final
    print(f"MeanThreshold: rejected at {np.abs(patterns @ w[0] - expected).max():.2f}")
    assert np.abs(patterns @ w[0] - expected).max() > 0.1


@pytest.mark.slow
def test_bcm_is_stable_for_a_fast_threshold_only():
    """Orthogonal inputs, |x|^2 = 1: at y = theta = 1/p the eigenvalues are negative if and only if rate > 1."""
    x = np.eye(2)
    point = jnp.array([2.0, 0.0, 2.0])
    for rate in (0.9, 1.1):

        def field(z, rate=rate):
            g = BCM(x, rate).gradient((z[:2], z[2]))
            return -jnp.concatenate([g[0], g[1][None]])

        np.testing.assert_allclose(field(point), 0, atol=1e-14)
        assert (np.linalg.eigvals(jax.jacfwd(field)(point)).real.max() < 0) == (rate > 1)


def identity(z):
    return z


X, Y = rng.normal(size=(64, 4)), rng.normal(size=(64, 3))
NET = eqx.nn.MLP(4, 3, 5, 1, activation=jnp.tanh, key=jax.random.key(0))
ERRORS = rng.normal(size=(64, 3))


def loss(net, example):
    return 0.5 * jnp.sum((net(example[0]) - example[1]) ** 2)


def random_error(net, example):
    """An error that knows nothing of the output."""
    return jnp.dot(net(example[0]), example[1])


def rules():
    feedback = random_feedback(NET, jax.random.key(4))
    return {
        "gradient": (Objective(loss, (X, Y)), NET),
        "FA": (FeedbackAlignment(loss, (X, Y), feedback), NET),
        "random error": (Objective(random_error, (X, ERRORS)), NET),
    }


def layers_by_hand(net, x):
    """h_a and h_b = W h_a of each layer for all inputs, in plain NumPy; a synapse does not see the biases."""
    received, sent, h = [], [], np.asarray(x)
    for layer in net.layers:
        weight, bias = np.asarray(layer.weight), np.asarray(layer.bias)
        received.append(h)
        sent.append(h @ weight.T)
        h = np.tanh(sent[-1] + bias)
    return received, sent


def alignment_by_hand(net, x, y):
    """The gradient of the squared error by hand, and cosine, product and power from what each neuron gets and gives."""
    received, sent = layers_by_hand(net, x)
    count = len(x)
    error, found = sent[-1] + np.asarray(net.layers[-1].bias) - y, []
    for place in reversed(range(len(net.layers))):
        signal = -error.T @ received[place] / count
        update = np.mean([np.outer(b, a) for a, b in zip(received[place], sent[place], strict=True)], axis=0)
        product = np.sum(signal * update)
        cosine = product / np.sqrt(np.sum(signal**2) * np.sum(update**2))
        found.append((cosine, product, np.mean(np.sum(sent[place] ** 2, axis=1))))
        error = (error @ np.asarray(net.layers[place].weight)) * (1 - received[place] ** 2)  # for the layer below
    return np.array(found[::-1]).T


@pytest.mark.slow
def test_alignment_is_that_of_activities_by_hand():
    """Three layers with biases: E|h_b|^2 from the activities, not from W and the update, whose product it also is."""
    net = eqx.nn.MLP(4, 3, 5, 2, activation=jnp.tanh, key=jax.random.key(7))
    hebbian = HebbianAlignment(Objective(loss, (X, Y)), X)
    cosine, product, power = alignment_by_hand(net, X, Y)
    print(f"\ncosine {cosine.round(4)}, product {product.round(4)}, power {power.round(4)}")
    np.testing.assert_allclose(hebbian.cosine(net), cosine, rtol=1e-12)
    np.testing.assert_allclose(hebbian.product(net), product, rtol=1e-12)
    np.testing.assert_allclose(hebbian.power(net), power, rtol=1e-12)
    for got, want in zip(layers(Hebb(X).gradient(net)), zip(*layers_by_hand(net, X), strict=True), strict=True):
        np.testing.assert_allclose(got.weight, -want[1].T @ want[0] / len(X), rtol=1e-12, atol=1e-14)
    # One layer: 0 where there is no Hebbian update, and weights of a vector.
    w, targets = jnp.array([0.3, -0.2, 0.5, 0.1]), Y[:, 0]
    one = HebbianAlignment(Objective(linear_loss, (X, targets)), X)
    out = X @ np.asarray(w)
    signal, update = (targets - out) @ X / len(X), out @ X / len(X)
    right = signal @ update / np.linalg.norm(signal) / np.linalg.norm(update)
    np.testing.assert_allclose(one.cosine(w), [right], rtol=1e-12)
    np.testing.assert_allclose(one.power(w), [np.mean(out**2)], rtol=1e-12)
    np.testing.assert_array_equal(one.cosine(jnp.zeros(4)), [0.0])


def linear_loss(w, example):
    return 0.5 * (jnp.dot(w, example[0]) - example[1]) ** 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["FA", "random error", pytest.param("gradient", marks=pytest.mark.slow)])
def test_any_rule_at_rest_looks_hebbian(name):
    """<-E g, E h_b h_a^T> = gamma E|h_b|^2 in both layers, whatever the rule; not before, nor for half the decay."""
    gamma, (signal, start) = 0.1, rules()[name]
    hebbian = HebbianAlignment(signal, X)
    observe = {"product": hebbian.product, "power": hebbian.power, "cosine": hebbian.cosine}
    run = train(decayed(SGD(0.2), gamma), signal, start, steps=8000, observe=observe, save_every=2000)
    product, power, cosine = (np.asarray(run.observables[n][0]) for n in ("product", "power", "cosine"))
    ratio = product / (gamma * power)
    print(f"\n{name}: ratio at the start {ratio[0].round(2)}, at rest off 1 by {np.abs(ratio[-1] - 1).max():.1e}, "
          f"cosines {cosine[-1].round(2)}")  # fmt: skip
    assert np.abs(ratio[-1] - 1).max() < 1e-6 and np.all(cosine[-1] > 0)
    assert np.abs(ratio[0] - 1).max() > 0.05
    assert np.abs(product[-1] / (0.5 * gamma * power[-1]) - 1).min() > 0.9


@pytest.mark.slow
def test_the_learning_signal_comes_without_the_decay_of_the_rule():
    feedback = random_feedback(NET, jax.random.key(4))
    pair = WithFeedback(NET, feedback)
    cosines = [HebbianAlignment(KolenPollack(loss, (X, Y), d), X).cosine(pair) for d in (0.0, 0.7)]
    expected = HebbianAlignment(FeedbackAlignment(loss, (X, Y), feedback), X).cosine(NET)
    np.testing.assert_allclose(cosines, [expected, expected], rtol=1e-12)


def test_anti_hebbian_under_noise():
    """E<-g, h_b x> of a noisy neuron at rest, by sampling: the formula within 4 standard errors, its mutants not."""
    d, gamma, draws = 8, 0.1, 400_000
    teacher = rng.normal(size=d)
    v = teacher / (1 + gamma)
    white = np.linalg.qr(rng.normal(size=(40, d)))[0] * 40**0.5
    signal = Objective(lambda w, e: 0.5 * (jnp.dot(w, e[0]) - e[1]) ** 2, (white, white @ teacher))
    rest = train(decayed(SGD(0.5), gamma), signal, np.zeros(d), steps=100, save_every=100).final[0]
    np.testing.assert_allclose(rest, v, rtol=1e-10)

    critical = anti_hebbian_noise(teacher, gamma)
    assert abs(noisy_alignment(teacher, gamma, critical)) < 1e-12
    for noise in (0.0, 0.5 * critical, 2 * critical):
        x = rng.normal(size=(draws, d))
        w = v + noise * rng.normal(size=(draws, d))
        h = np.sum(w * x, axis=1)
        sample = -(h - x @ teacher) * h * np.sum(x**2, axis=1)
        mean, error = sample.mean(), sample.std() / draws**0.5
        formula = noisy_alignment(teacher, gamma, noise)
        print(f"\nnoise {noise:.3f}: {mean:.3f} +- {error:.3f}, formula {formula:.3f}", end="")
        assert abs(mean - formula) < 4 * error and (formula > 0) == (noise < critical)
    u2 = teacher @ teacher
    mutants = {"d lost": (d + 2) * (gamma * u2 / (1 + gamma) ** 2 - noise**2),
               "d + 2 taken for d": d * (gamma * u2 / (1 + gamma) ** 2 - d * noise**2)}  # fmt: skip
    for name, value in mutants.items():
        print(f"\n{name}: rejected at {abs(mean - value) / error:.0f} s.e.", end="")
        assert abs(mean - value) > 8 * error


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: noisy_alignment(np.ones((2, 2)), 0.1, 0.1), "`teacher` must be a vector"),
        (lambda: noisy_alignment(np.ones(2), -0.1, 0.1), "`decay` must be a finite number, zero or more"),
        (lambda: anti_hebbian_noise([jnp.nan, 1.0], 0.1), "`teacher` must be a vector of finite numbers"),
        (lambda: BCM(np.ones((2, 2)), 0.0), "`rate` must be a positive finite number"),
        (lambda: HebbianAlignment(loss, X), "`signal` must be a signal"),
        (lambda: HebbianAlignment(Hebb(X), jnp.nan * X), "`inputs` must be finite"),
        (lambda: HebbianAlignment(Hebb(X), X).cosine((jnp.ones(4), 0.5)), "`params` must be an equinox.nn.MLP"),
        (lambda: HebbianAlignment(Hebb(X), X[:, 1:]).cosine(NET), r"`inputs` must .* shape \(4,\), .* but \(3,\) was"),
        (lambda: HebbianAlignment(Hebb(X), X[:, 1:]).power(jnp.ones((2, 4))), r"`inputs` must .* but \(3,\) was"),
        (lambda: HebbianAlignment(Hebb(X), X[:, 0]).product(jnp.ones(4)), r"`inputs` must .* but \(\) was"),
        (lambda: HebbianAlignment(Hebb(X), (X, X)).power(NET), r"`inputs` must .* but \(\(4,\), \(4,\)\) was"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises((TypeError, ValueError), match=words):
        call()
