"""What the tests of circuits share: rules written by hand, overlaps measured without noise, circles."""

import jax
import jax.numpy as jnp
import numpy as np

from dynamics import solve, stimuli
from equations import Circuit, Stimulus


def by_hand(rule, forward, backward, x, y, eta, decay):
    """One step of a discrete rule on a tanh network with a linear output; `forward` and `backward` are lists."""
    z = [x]
    for matrix in forward[:-1]:
        z.append(np.tanh(matrix @ z[-1]))
    last = len(forward) - 1
    errors = [None] * last + [y - forward[-1] @ z[-1]]
    for layer in reversed(range(last)):
        back, source = (
            (forward[layer + 1].T, errors[layer + 1]) if rule == "SGD" else (backward[layer], errors[layer + 1])
        )
        source = errors[-1] if rule == "DFA" else source
        errors[layer] = (1 - z[layer + 1] ** 2) * (back @ source)
    drives = [np.outer(e, pre) for e, pre in zip(errors, z, strict=True)]
    new = [w + eta * (drive - decay * w) for w, drive in zip(forward, drives, strict=True)]
    if rule == "KP":
        backward = [v + eta * (drive.T - decay * v) for v, drive in zip(backward, drives[1:], strict=True)]
    return new, backward


def flat(weights) -> jax.Array:
    return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(weights)])


def distance(circuit, stream, weights, count, dt):
    """The difference between a circuit and its discrete rule after `count` stimuli, over the change of the weights."""
    run = solve(circuit, stream, weights, steps=count, dt=dt, save_every=count)
    moved = jax.tree.map(lambda leaf: leaf[0], run.final)

    def step(w, example):
        stimulus = Stimulus(stream.x[example], stream.y[example])
        return discrete(circuit, w, stimulus, stream.duration), None

    by_steps = jax.lax.scan(step, weights, stream.indices(count))[0]
    return jnp.linalg.norm(flat(moved) - flat(by_steps)) / jnp.linalg.norm(flat(by_steps) - flat(weights))


def discrete(circuit, weights, stimulus, duration):
    """The rule of the circuit's class, not that of a mutant of it."""
    return Circuit.discrete(plain(circuit), weights, stimulus, duration)


def plain(circuit):
    fields = Circuit.__dataclass_fields__
    return Circuit(**{name: getattr(circuit, name) for name in fields})


# ---------------------------------------------------------------------------------------------------------------------
# Overlaps. Orthogonal matrices and a cycle through orthogonal inputs keep e_j z_k^T of different (j, k) orthogonal, so
# that what a circuit puts along each is read off without any noise.

WIDTH = 5


def orthogonal(seed):
    return jnp.asarray(np.linalg.qr(np.random.default_rng(seed).normal(size=(WIDTH, WIDTH)))[0])


def overlaps(circuit, targets, steps, shift=0, parts=False):
    """For each layer, what of the learning of e_{k - shift} z_k^T takes place, 1 if all of it: shape `(L,)`.

    The circuit is linear, of square layers, at weights that hardly move; `targets`: y = `targets` x, a matrix. With `parts`
    pairs for each layer: all of the learning, and what takes place.
    """
    depth = len(circuit.layers) - 1
    forward = [orthogonal(seed) for seed in range(depth)]
    weights = jax.tree.unflatten(jax.tree.structure(circuit.init(jax.random.key(0))), forward)
    x = np.eye(WIDTH)
    stream = stimuli(x, x @ np.asarray(targets).T, duration=1.0, order=np.arange(WIDTH))
    run = solve(circuit, stream, weights, time=2.0 * WIDTH, dt=1 / steps, save_every=WIDTH, keep_states=True)
    assert run.ok[0]
    found = [np.asarray(w[0, 2] - w[0, 1]) for w in run.states.weights.forward]  # in the second cycle
    z, errors = [x.T], [None] * depth  # columns are examples
    for matrix in forward:
        z.append(np.asarray(matrix) @ z[-1])
    errors[-1] = np.asarray(targets) @ x.T - z[-1]
    for layer in reversed(range(depth - 1)):
        errors[layer] = np.asarray(forward[layer + 1]).T @ errors[layer + 1]
    result = []
    for change, e, pre in zip(found, errors, z, strict=False):
        whole = np.roll(e, shift, axis=1) @ pre.T / float(circuit.tau_plasticity)
        result.append((whole, change) if parts else np.sum(change * whole) / np.sum(whole**2))
    return result if parts else np.array(result)


def triangle(s):
    """The overlap of a stimulus of duration 1 with itself, s later."""
    return np.maximum(1 - np.abs(s), 0)


def circles(count=1000, dtype=np.float32):
    """Noisy circles of radii 1/2 and 1, a constant input beside them, targets 1 and -1."""
    rng = np.random.default_rng(0)
    inner = np.arange(count) % 2
    angle, radius = rng.uniform(0, 2 * np.pi, count), np.where(inner, 0.5, 1.0)
    x = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1) + 0.05 * rng.normal(size=(count, 2))
    return np.concatenate([x, np.full((count, 1), 0.5)], 1).astype(dtype), (2.0 * inner - 1).astype(dtype)
