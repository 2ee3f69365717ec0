"""Emergent Hebbian learning: how far any learning signal is Hebbian."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PyTree, Shaped

from equations import AbstractSignal, Hebb, WithFeedback
from equations.internal import check_signal, checked_examples, cosine, layers, nonnegative


class HebbianAlignment(eqx.Module):
    r"""How far a learning signal -g is Hebbian, layer by layer: against E h_b h_a^T, h_a the layer's input, h_b = W h_a.

    Wherever a rule of any kind is at rest under weight decay, -E g = gamma W, and so

        <-E g, E h_b h_a^T> = gamma E|h_b|^2 > 0:

    it looks Hebbian, whatever it learns (2505.18069, ICML 2026; re-derived). The methods are observables:
    `observe={"cosine": hebbian.cosine}`.

    **Arguments:**

    - `signal`: the learning signal *without* decay; that of the feedback rules, which have their own, is left out.
    - `inputs`: the inputs of the network, shape `(N, d)`.

    The parameters are an `equinox.nn.MLP`, `WithFeedback`, or the weights of a linear layer, `(d,)` or `(neurons, d)`.
    """

    signal: AbstractSignal
    inputs: PyTree = eqx.field(converter=lambda value: checked_examples(value, "inputs"))

    def __check_init__(self):
        check_signal(self.signal)

    def cosine(self, params: PyTree) -> Float[Array, " layers"]:
        """The cosine between -E g and E h_b h_a^T for the weights of each layer, `(layers,)`; 0 where one is zero."""
        return jnp.stack([cosine(a, b) for a, b in self._pairs(params)])

    def product(self, params: PyTree) -> Float[Array, " layers"]:
        """<-E g, E h_b h_a^T> for each layer, `(layers,)`: gamma times `power` at rest under decay gamma."""
        return jnp.stack([jnp.vdot(a, b) for a, b in self._pairs(params)])

    def power(self, params: PyTree) -> Float[Array, " layers"]:
        """E|h_b|^2 of each layer, `(layers,)`."""
        network = _network(params)
        return jnp.stack([
            jnp.vdot(w, b) for w, b in zip(_weights(network), self._hebbian(network), strict=True)
        ])  # fmt: skip

    def _hebbian(self, network):
        if isinstance(network, eqx.nn.MLP):
            shape = () if network.in_size == "scalar" else (network.in_size,)
        else:
            shape = network.shape[-1:]
        given = jax.tree.map(lambda leaf: leaf.shape[1:], self.inputs)
        if given != shape:
            raise ValueError(
                f"Argument `inputs` must hold examples of shape {shape}, which `params` receive, but {given} was given."
            )
        return [-b for b in _weights(Hebb(self.inputs).gradient(network))]

    def _pairs(self, params):
        network, signal = _network(params), self.signal.learning_signal(params)
        return [(-a, b) for a, b in zip(_weights(_network(signal)), self._hebbian(network), strict=True)]


def _network(params):
    network = params.model if isinstance(params, WithFeedback) else params
    if not isinstance(network, eqx.nn.MLP | jax.Array | np.ndarray):
        raise TypeError(
            "Argument `params` must be an equinox.nn.MLP, equations.WithFeedback or the weights of a linear layer, but "
            f"{params!r} was given."
        )
    return network


def _weights(network) -> list[Array]:
    return [layer.weight for layer in layers(network)] if isinstance(network, eqx.nn.MLP) else [network]


def noisy_alignment(teacher: Shaped[ArrayLike, " d"] | Any, decay: float, noise: float) -> float:
    r"""E<-g, h_b x> of a linear neuron at rest under decay, with noise on its weights; negative: it looks anti-Hebbian.

    For squared error, x ~ N(0, I_d), y = u . x and w = u/(1 + gamma) + N(0, noise^2 I), it is (derived)

        (d + 2) [gamma |u|^2/(1 + gamma)^2 - d noise^2].

    **Arguments:**

    - `teacher`: u, shape `(d,)`. `decay`: gamma, zero or more. `noise`: the standard deviation of each weight.

    **Raises:** TypeError or ValueError, naming the argument.
    """
    u, gamma, sigma = _teacher(teacher), _plain("decay", decay), _plain("noise", noise)
    return (u.size + 2) * (gamma * float(u @ u) / (1 + gamma) ** 2 - u.size * sigma**2)


def anti_hebbian_noise(teacher: Shaped[ArrayLike, " d"] | Any, decay: float) -> float:
    """The noise on each weight, sqrt(gamma |u|^2/d)/(1 + gamma), beyond which `noisy_alignment` is negative.

    **Arguments:** as for `noisy_alignment`.
    """
    u, gamma = _teacher(teacher), _plain("decay", decay)
    return math.sqrt(gamma * float(u @ u) / u.size) / (1 + gamma)


def _plain(name, value) -> float:
    return float(nonnegative(name)(value))


def _teacher(teacher) -> np.ndarray:
    teacher = np.asarray(teacher)
    if teacher.ndim != 1 or not np.issubdtype(teacher.dtype, np.floating) or not np.all(np.isfinite(teacher)):
        raise ValueError(f"Argument `teacher` must be a vector of finite numbers, but {teacher!r} was given.")
    return teacher
