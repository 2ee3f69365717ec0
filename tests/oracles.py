"""Problems whose answers are known in closed form."""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.linalg

from dynamics import Strang
from equations import Objective


def squared_error(w, example):
    x, y = example
    return 0.5 * (jnp.dot(x, w) - y) ** 2


class LinearRegression:
    """Least squares in d dimensions: mean and covariance of SGD and of its SDE close, and are computed exactly here.

    With z = (w, 1) every gradient is linear, g_i = G_i z, and the second moment Z = E z z^T obeys linear equations: per
    step of SGD Z -> M Z M^T + eta^2 K(Z) with M = 1 - eta G, and dZ/dt = -G Z - Z G^T + eta K(Z) for the SDE, where
    K(Z) = (factor/B) mean_i (G_i - G) Z (G_i - G)^T.
    """

    def __init__(self, seed=0, examples=40, dimension=3, noise=0.5, distance=1.0):
        rng = np.random.default_rng(seed)
        self.x = rng.normal(size=(examples, dimension))
        self.y = self.x @ rng.normal(size=dimension) + noise * rng.normal(size=examples)
        self.start = distance * rng.normal(size=dimension)
        self.objective = Objective(squared_error, (self.x, self.y))
        d = dimension
        single = np.zeros((examples, d + 1, d + 1))
        single[:, :d, :d] = self.x[:, :, None] * self.x[:, None, :]
        single[:, :d, d] = -self.x * self.y[:, None]
        self.mean_matrix = single.mean(0)
        deviations = single - self.mean_matrix
        self.noise_map = np.mean([np.kron(c, c) for c in deviations], axis=0)
        self.sharpness = np.linalg.eigvalsh(self.mean_matrix[:d, :d])[-1]

    @property
    def second_moment(self):
        z = np.append(self.start, 1.0)
        return np.outer(z, z).ravel()

    def factor(self, batch_size, sampling):
        n = len(self.x)
        return (1.0 if sampling == "with_replacement" else (n - batch_size) / (n - 1)) / batch_size

    def moments(self, second_moment):
        """Mean and covariance from a flat second moment of (w, 1)."""
        d = len(self.start)
        z = second_moment.reshape(d + 1, d + 1)
        return z[:d, d], z[:d, :d] - np.outer(z[:d, d], z[:d, d])

    def sgd_map(self, eta, batch_size, sampling="with_replacement"):
        """One step of SGD on flat second moments."""
        m = np.eye(len(self.start) + 1) - eta * self.mean_matrix
        return np.kron(m, m) + eta**2 * self.factor(batch_size, sampling) * self.noise_map

    def sde_map(self, eta, batch_size, sampling="with_replacement"):
        """The flow of the SDE over one training step on flat second moments."""
        one, g = np.eye(len(self.start) + 1), self.mean_matrix
        generator = -np.kron(g, one) - np.kron(one, g) + eta * self.factor(batch_size, sampling) * self.noise_map
        return scipy.linalg.expm(eta * generator)

    def trace(self, step_map, steps, save_every):
        """Means (saves, d) and covariances (saves, d, d) at steps 0, save_every, ..."""
        z, records = self.second_moment, [self.moments(self.second_moment)]
        for step in range(1, steps + 1):
            z = step_map @ z
            if step % save_every == 0:
                records.append(self.moments(z))
        means, covariances = zip(*records, strict=True)
        return np.array(means), np.array(covariances)


def within(samples, mean, covariance, errors=4.0):
    """The largest deviation of an ensemble (paths, d) from a mean and covariance, in standard errors / `errors`."""
    samples = np.asarray(samples)
    n = len(samples)
    centered = samples - mean
    products = centered[:, :, None] * centered[:, None, :]
    worst = 0.0
    for values, truth in ((samples, mean), (products, covariance)):
        error = values.std(0, ddof=1) / n**0.5
        worst = max(worst, np.max(np.abs(values.mean(0) - truth) / (errors * error)))
    return worst


class LeftPoint(Strang):
    """Mutant: the drift as a flow, the noise at the left end of the step. (`solve` merges no subclass of Strang.)"""

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        kick = terms.terms[1]
        noise = kick.vf_prod(t0, y0, args, kick.contr(t0, t1))
        y = self.flow_step(terms, t0, t1, y0, args) + noise
        return y, None, dict(y0=y0, y1=y), None, dfx.RESULTS.successful


def mlp(key, sizes=(64, 32, 10), dtype=None):
    """A tanh network as a raw Equinox module, activation functions included."""
    network = eqx.nn.MLP(sizes[0], sizes[-1], sizes[1], len(sizes) - 2, jnp.tanh, key=key)
    return jax.tree.map(lambda leaf: leaf.astype(dtype) if dtype and eqx.is_array(leaf) else leaf, network)


def volumized_adam(learning_rate, volume, alpha):
    """Adam with volumization as its public code has it: outside the box weights and first moments are scaled back."""
    adam = optax.scale_by_adam()

    def update(gradient, memory, params):
        direction, memory = adam.update(gradient, memory, params)
        moved = jax.tree.map(lambda p, d: p - learning_rate * d, params, direction)
        outside = jax.tree.map(lambda p: jnp.abs(p) > volume, moved)

        def held(p, out):
            return jnp.where(out, jnp.sign(p) * (alpha * jnp.abs(p) + (1 - alpha) * volume), p)

        mu = jax.tree.map(lambda m, out: jnp.where(out, alpha * m, m), memory.mu, outside)
        return jax.tree.map(lambda p, out, old: held(p, out) - old, moved, outside, params), memory._replace(mu=mu)

    return optax.GradientTransformation(adam.init, update)


def laprop(learning_rate, b1=0.9, b2=0.999, eps=1e-15):
    """LaProp in the form of its authors: the learning rate inside the average, the weights of the averages as sums."""

    def init(params):
        zero = jax.tree.map(lambda p: p - p, params)
        return zero, zero, 0.0, 0.0

    def update(gradient, memory, params=None):
        n, m, gathered, weight = memory
        gathered, weight = b2 * gathered + (1 - b2), b1 * weight + (1 - b1)
        n = jax.tree.map(lambda n, g: n + (1 - b2) * (g * g - n), n, gradient)
        m = jax.tree.map(
            lambda m, n, g: m + (1 - b1) * (learning_rate * g / ((n / gathered) ** 0.5 + eps) - m), m, n, gradient
        )
        return jax.tree.map(lambda m: -m / weight, m), (n, m, gathered, weight)

    return optax.GradientTransformation(init, update)


def averaging(optimizer, share):
    """An optimizer that keeps an average of the weights, `share(step)` of the new ones, second in its memory."""

    def update(updates, state, params, **more):
        memory, average, step = state
        updates, memory = optax.with_extra_args_support(optimizer).update(updates, memory, params, **more)
        new = optax.apply_updates(params, updates)
        average = jax.tree.map(lambda a, p: a + share(step) * (p - a), average, new)
        return updates, (memory, average, step + 1)

    return optax.GradientTransformationExtraArgs(
        lambda params: (optimizer.init(params), jax.tree.map(jnp.asarray, params), jnp.zeros((), jnp.int32)), update
    )


def deviations(values, mean, covariance):
    """Of sampled first and second moments from exact ones in standard errors, and the largest relative error bar."""
    away = values - mean
    products = np.concatenate([away, away[:, :1] ** 2, away[:, 1:] ** 2], axis=1)
    wanted = np.array([0, 0, covariance[0, 0], covariance[1, 1]])
    error = products.std(axis=0, ddof=1) / len(values) ** 0.5
    bars = error / np.array([*np.abs(mean), *wanted[2:]])
    return np.abs(products.mean(axis=0) - wanted) / error, bars.max()
