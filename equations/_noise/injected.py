"""Noise that is added to a training step, on top of other noise."""

import abc

import equinox as eqx
import jax
from jaxtyping import PyTree

from .._signals.base import AbstractSignal
from .._tree import add_scaled
from .base import AbstractGradientNoise, Minibatch, columns, noise_model
from .batches import Batches


class AbstractInjected(AbstractGradientNoise):
    """Noise that is added to a training step, independent of the noise `on` top of which it comes.

    A model gives `own_structure`, `own`, `injected` and `real`.
    """

    on: eqx.AbstractVar[AbstractGradientNoise]

    @abc.abstractmethod
    def own_structure(self, batches: Batches, params: PyTree) -> PyTree[jax.ShapeDtypeStruct]:
        """That of the normals of what is added."""

    @abc.abstractmethod
    def own(self, batches: Batches, params: PyTree, normals: PyTree) -> PyTree:
        """What is added, as Gaussian noise of its covariance, linear in the normals."""

    def random(self, noisy_batches):
        return True

    @property
    def injects(self):
        return True

    def of_size(self, size):
        """What is added stays as it is."""
        return eqx.tree_at(lambda noise: noise.on, self, self.on.of_size(size))

    @property
    def scheduled_size(self):
        return self.on.scheduled_size

    @property
    def normal(self):
        return self.on.normal

    @property
    def of_batches(self):
        return self.on.of_batches

    @property
    def of_loss(self):
        return self.on.of_loss

    def structure(self, batches, params):
        own = {"own": self.own_structure(batches, params)}
        return own | ({"on": self.on.structure(batches, params)} if self.on.random(batches.noisy) else {})

    def kicked(self, batches, params):
        structure = self.structure(batches, params)
        return structure | ({"on": self.on.kicked(batches, params)} if "on" in structure else {})

    def _base(self, batches, params, normals, method, *args):
        """The gradient with the noise below alone, by its `method`."""
        if not self.on.random(batches.noisy):
            return batches.signal.gradient(params)
        return method(batches, params, normals["on"], *args)

    def delta(self, batches, params, normals):
        own = self.own(batches, params, normals["own"])
        if not self.on.random(batches.noisy):
            return own
        return add_scaled(self.on.delta(batches, params, normals["on"]), (1.0, own))

    def gaussian(self, batches, params, normals, amplitude):
        gradient = self._base(batches, params, normals, self.on.gaussian, amplitude)
        return add_scaled(gradient, (amplitude, self.own(batches, params, normals["own"])))

    def draw(self, batches, params, normals):
        gradient = self._base(batches, params, normals, self.on.draw)
        return add_scaled(gradient, (1.0, self.own(batches, params, normals["own"])))

    def parts(self, batches, params):
        own = columns(lambda normals: self.own(batches, params, normals), self.own_structure(batches, params))
        return [own, *(self.on.parts(batches, params) if self.on.random(batches.noisy) else [])]

    def below(self, batch: AbstractSignal, params: PyTree, normals: PyTree) -> PyTree:
        """The gradient of a real batch with what the noise below injects."""
        return self.on.real(batch, params, normals["on"] if self.on.injects else None)

    def injected(self, batch, params):
        batches = Batches(batch, None, "with_replacement")
        own = {"own": self.own_structure(batches, params)}
        return own | ({"on": self.on.injected(batch, params)} if self.on.injects else {})

    def check(self, signal):
        self.on.check(signal)

    def check_derivatives(self, signal, params):
        self.on.check_derivatives(signal, params)

    def check_covariance(self):
        self.on.check_covariance()


def on_top():
    """The field of the noise below."""
    return eqx.field(default_factory=Minibatch, kw_only=True, converter=noise_model("on"))
