"""Mutants of SAM."""

import dataclasses

import jax

from equations import SAM


class FullBatchDrift(SAM):
    """The drift of the full batch, with the noise of minibatches."""

    def drift(self, t, state, signal):
        return self.velocity(t, state, self.gradient(state, signal, None))


class OneGradient(SAM):
    """An equation that does not climb."""

    def velocity(self, t, state, gradient):
        return jax.tree.map(lambda g: -g, gradient(state))


class Descent(SAM):
    """It looks downhill."""

    def ahead(self, params, gradient):
        return super().ahead(params, jax.tree.map(lambda g: -g, gradient))


class HalfAhead(SAM):
    """A twin that climbs half as far."""

    def twin(self):
        return dataclasses.replace(SAM(**_fields(self)), rho=self.rho / 2).twin()


def _fields(equation):
    return {field.name: getattr(equation, field.name) for field in dataclasses.fields(equation)}
