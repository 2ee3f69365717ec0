"""Mutants of ExtraGradient."""

import dataclasses

import jax

from equations import ExtraGradient


class OneGradient(ExtraGradient):
    """An equation that does not look ahead."""

    def velocity(self, t, state, gradient):
        return jax.tree.map(lambda g: -g, gradient(state))


class Behind(ExtraGradient):
    """It looks back, as SAM does."""

    def ahead(self, params, gradient):
        return super().ahead(params, jax.tree.map(lambda g: -g, gradient))


class FirstGradient(ExtraGradient):
    """A twin that goes along the first signal."""

    def twin(self):
        first = dataclasses.replace(self, extrapolation=1e-9)
        return super(FirstGradient, first).twin()


class FullBatchDrift(ExtraGradient):
    """The drift of the full batch, with the noise of minibatches."""

    def drift(self, t, state, signal):
        return self.velocity(t, state, self.gradient(state, signal, None))
