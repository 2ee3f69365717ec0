"""`corrected`: an equation with the measured force of irreversibility in its drift."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from dynamics.internal import check_equation, dynamic_numbers
from equations import AbstractEquation, Minibatch
from equations.internal import (
    AbstractForwarder,
    ForwardedLimit,
    ForwardedSplitting,
    Increment,
    add_scaled,
    check_derivatives,
    choice,
)

from .batches import check_batches_only, covariance_factor
from .one_batch import Step
from .result import VECTORS


def corrected(
    equation: AbstractEquation,
    force: str = "backward_error",
    *,
    batches: str = "full",
    reading: str = "ito",
) -> "Corrected":
    r"""The leading equation with learning_rate * F added to its drift, F a force as `irreversibility` measures it.

    F is measured anew at every point of the path, at the learning rate of the equation. What is right (derived):

    - without noise, `batches="full"`: the equation follows the discrete run with an error O(eta^2), not O(eta);
    - with independent minibatches read in the Itô sense, again `batches="full"`, whose limit is -grad |grad L|^2/4;
    - the mean over all minibatches, `batches="minibatch"`, whose limit is -grad phi with phi = E|g_B|^2/4, belongs in the
        drift with `reading="stratonovich"`, or of shuffled epochs. Put into the Itô drift it is wrong at first order.

    In the Stratonovich reading the drift gets 1/2 sum_k (D sigma_k) sigma_k on top, sigma_k the columns of the diffusion
    in use, so that what is solved is always an Itô equation.

    **Arguments:**

    - `equation`: an equation without memory (a schedule's count is one), affine in the gradient, such as `SGD`.
    - `force`: `"backward_error"`, `"time_renormalized"` or `"time_asymmetry"`.
    - `batches`: `"full"`, the force of the full batch; or `"minibatch"`, its mean over minibatches: a quadratic form in
        their weights up to O(eta), and so a sum of the full batch's and the mean over single examples, each measured at
        its share eta/B of a step.
    - `reading`: `"ito"` or `"stratonovich"`.

    **Returns:** an equation, for `solve`, `compare` and `orders`; it claims order 2 in the mean.

    **Raises:** TypeError or ValueError, naming the argument.
    """
    check_equation(equation)
    equation = dynamic_numbers(equation)
    probe = jnp.ones(2)
    memory = jax.eval_shape(lambda: Increment.of(equation).init(probe).memory)
    if jax.tree.leaves(memory) or not equation.is_affine(equation.init(probe)):
        raise ValueError(
            "Argument `equation` must be without memory and affine in the gradient, as SGD is, but "
            f"{type(equation).__name__} was given; modified(equation) knows the others."
        )
    if equation.scaling_limit().claimed_order("mean") > 1:
        raise ValueError(
            "Argument `equation` must be a leading equation, of order 1, but one that is corrected already, "
            f"{type(equation).__name__}, was given."
        )
    check_batches_only(equation)
    reading = choice("reading", reading, ("ito", "stratonovich"))
    if reading == "stratonovich" and equation.random and not isinstance(equation.gradient_noise, Minibatch):
        raise ValueError(
            "Argument `reading` must be 'ito' unless the noise has the columns of minibatches, for which 'stratonovich' is "
            f"derived, but {equation.gradient_noise!r} was given."
        )
    return Corrected(
        equation=equation,
        force=choice("force", force, VECTORS),
        over=choice("batches", batches, ("full", "minibatch")),
        reading=reading,
    )


class Corrected(AbstractForwarder):
    """What `corrected` returns; its attributes are as given, `over` what `batches` was."""

    force: str = eqx.field(kw_only=True, static=True)
    over: str = eqx.field(kw_only=True, static=True)
    reading: str = eqx.field(kw_only=True, static=True)

    def drift(self, t, state, signal):
        return self.with_force(super().drift(t, state, signal), t, state, signal)

    def series(self):
        return dataclasses.replace(super().series(), maker="corrected", kind="a series", average=False)

    def splitting(self):
        return CorrectedSplitting.of(self)

    def scaling_limit(self):
        return CorrectedLimit(self)

    def with_force(self, rates, t, state, signal):
        rates = add_scaled(rates, (self.learning_rate, self._force(state, signal)))
        if self.reading == "stratonovich" and self.random:
            rates = add_scaled(rates, (0.5, self._conversion(t, state, signal)))
        return rates

    def check(self, params, signal):
        check_batches_only(self.equation)
        self.equation.check(params, signal)
        if self.reading == "stratonovich" and self.random:
            check_derivatives(signal, params, "reading='stratonovich'")

    def _force(self, state, signal) -> PyTree:
        """The force on the parameters, as an increment of the state."""
        step, signal = Step.of(self.equation, self.params(state), "adiabatic", 2), self.sees(signal)

        def measured(step, batch):
            return getattr(step.measures(self.params(state), batch), self.force)

        whole = measured(step, signal)
        if self.over == "full" or self.batch_size is None:
            return self._embed(state, whole)
        factor = covariance_factor(self, signal.size)

        # An example has a share 1/B of a batch's step, and is measured at that.
        share = eqx.tree_at(lambda s: s.increment.learning_rate, step, self.learning_rate / self.batch_size)
        # Not a scan: so that `orders` can read off the jaxpr where the drift is affine.
        single = jax.vmap(lambda index: measured(share, signal.take(index[None])))(jnp.arange(signal.size))
        mean = jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), single)
        return self._embed(state, add_scaled(whole, (factor, mean), (-factor, whole)))

    def _embed(self, state, force) -> PyTree:
        if jax.tree.structure(state) == jax.tree.structure(force):
            return force
        zeros = jax.tree.map(jnp.zeros_like, state)
        return eqx.tree_at(self.params, zeros, force)

    def _conversion(self, t, state, signal) -> PyTree:
        """sum_k (D sigma_k) sigma_k over the columns of the diffusion."""
        diffusion: Any = self.diffusion
        structure = diffusion(t, state, signal).in_structure()

        def along_itself(unit):
            column = lambda y: diffusion(t, y, signal).mv(unit)  # noqa: E731
            return jax.jvp(column, (state,), (column(state),))[1]

        columns = jax.vmap(along_itself)(jnp.eye(structure.shape[0], dtype=structure.dtype))
        return jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), columns)


class CorrectedLimit(ForwardedLimit):
    """The mean is that of a higher order."""

    def claimed_order(self, measure):
        return 2.0 if measure == "mean" else super().claimed_order(measure)


class CorrectedSplitting(ForwardedSplitting):
    """The force is in the flow; the velocity alone, of which Euler's step is made elsewhere, has none in it."""

    def flow(self, t, state, signal):
        return self.dynamics.with_force(self.inner.flow(t, state, signal), t, state, signal)
