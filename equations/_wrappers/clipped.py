"""Clipping of the gradients of single examples."""

import dataclasses
from typing import Any

import equinox as eqx
from jaxtyping import Array

from .._base import AbstractEquation
from .._checks.arguments import nonnegative, positive
from .._checks.facts import refined
from .._checks.lineage import within
from .._noise.summed import SummedNoise
from .._scaling import ForwardedLimit
from .._signals.base import check_signal
from .._signals.clipped import clipped_signal
from .._splitting import ForwardedSplitting, split
from .base import AbstractAround, check_inside


def _noise(value):
    return None if value is None else nonnegative("noise")(value)


class Clipped(AbstractAround):
    r"""Any equation on gradients that are clipped example by example, with noise on top: DP-SGD around SGD.

        g_B = (1/B) [sum_{i in batch} clip(g_i) + noise norm z],    clip(g) = g min(1, norm/|g|),    z ~ N(0, I)

    The mean over all examples of clip(g_i) is the drift's gradient, the covariance of the clipped ones over the batch size
    the noise of batches, and (noise norm/B)^2 that of what is added, B = N for the full batch and that of the training step
    where it is scheduled, inside or outside; the norm is over all parameters. The rule inside and its twin are as they
    were: the twin takes g_B, which is that of `optax.contrib.differentially_private_aggregate(norm, noise, ...)`. Of a
    random loss each gradient is clipped with its key, and of a rule that takes several gradients of a batch each of them;
    what is added is the same in all.

    A batch's own gradient is clipped by its global norm by Optax: `from_optax` of a chain with `clip_by_global_norm`, whose
    kicks have the mean and the covariance of what is clipped under the noise, which its `drift` alone has not.

    A gradient costs the norms of the gradients of all examples, in chunks of about 10^6 numbers, and a backward pass.

    Source: Abadi et al. 2016, CCS, arXiv:1607.00133; around `SignSGD` it is DP-signSGD. On a quadratic under noise that
    is large the loss comes to rest at a height ~ noise^2 for SGD and ~ noise for SignSGD (arXiv:2603.03226; derived).
    Scaling: that of the equation, norm and noise fixed. Natural clock: that of the equation. Weak order 1.

    **Attributes:** those of the equation, and `equation`, `norm`, `noise`.
    """

    _facts = refined(AbstractAround, instead="`equation`", singular=None)

    norm: Array = eqx.field(kw_only=True, converter=positive("norm"))
    noise: Array | None = eqx.field(default=None, kw_only=True, converter=_noise)

    def __check_init__(self):
        check_inside(self.equation)
        for inner in within(self.equation):
            if isinstance(inner, Clipped):
                raise ValueError(
                    "Argument `equation` must not be clipped already, since a second clipping would take the place of the "
                    f"first, but a {type(self.equation).__name__} with a norm of {inner.norm} was given."
                )

    @property
    def acting(self) -> AbstractEquation:
        """The equation inside, with what is added in its noise."""
        if self.noise is None:
            return self.equation
        injected = SummedNoise(scale=self.noise * self.norm, on=self.equation.noise_model)
        return eqx.tree_at(lambda e: e.noise_model, self.equation, injected)

    _clip = staticmethod(clipped_signal)

    def sees(self, signal):
        return self._clip(super().sees(signal), self.norm)

    def drift(self, t, state, signal):
        return self.acting.drift(t, state, self.sees(signal))

    def diffusion(self, t, state, signal):
        return self.acting.diffusion(t, state, self.sees(signal))

    @property
    def gradient_noise(self):
        return self.acting.gradient_noise

    @property
    def random(self):
        return self.acting.random

    def batches(self, signal):
        return self.acting.batches(self.sees(signal))

    def gradient(self, params, signal, normals):
        return self.acting.gradient(params, self.sees(signal), normals)

    def splitting(self):
        return ClippedSplitting(self, split(self.acting))

    def scaling_limit(self):
        return ClippedLimit(self)

    def check(self, params, signal):
        check_signal(signal, "objective")
        signal.check(params)
        self.acting.check(params, self.sees(signal))


@dataclasses.dataclass(frozen=True)
class ClippedSplitting(ForwardedSplitting):
    """That of the equation inside, on the clipped signal."""

    def start(self, state, signal, noise):
        return self.inner.start(state, self.dynamics.sees(signal), noise)

    def flow(self, t, state, signal):
        return self.inner.flow(t, state, self.dynamics.sees(signal))

    def noise(self, state, signal, kicks_per_step):
        return self.inner.noise(state, self.dynamics.sees(signal), kicks_per_step)

    def kick(self, t, state, signal, noise, dt):
        return self.inner.kick(t, state, self.dynamics.sees(signal), noise, dt)

    def euler(self, t, state, signal, noise, dt):
        return self.inner.euler(t, state, self.dynamics.sees(signal), noise, dt)

    def check_noise(self, signal):
        self.inner.check_noise(self.dynamics.sees(signal))


class ClippedLimit(ForwardedLimit):
    """That of the equation inside; not every scaling, nor every rule for batches, can have what is added."""

    def rescaled(self, factor):
        self.equation.acting.scaling_limit().rescaled(factor)
        return super().rescaled(factor)

    def at_batch_size(self, rule, batch_size):
        self.equation.acting.scaling_limit().at_batch_size(rule, batch_size)
        return super().at_batch_size(rule, batch_size)


def clipped(equation: AbstractEquation, norm: Any, noise: Any = None) -> Clipped:
    """An equation whose gradients are clipped example by example, with noise added to their sum (DP-SGD).

    **Arguments:**

    - `equation`: any equation: `SGD` for DP-SGD, `SignSGD` for DP-signSGD.
    - `norm`: the largest norm of the gradient of an example, over all parameters; positive. Traced.
    - `noise`: the noise multiplier, zero or more: noise * norm times standard normals are added to the sum over the batch.
        None: nothing is added. Traced.

    **Raises:** TypeError or ValueError, naming the argument.
    """
    return Clipped.around(equation, norm=norm, noise=noise)
