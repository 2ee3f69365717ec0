"""Equations of algorithms that take several gradients of one batch in a step."""

from ._base import AbstractEquation


class AbstractSeveralGradients(AbstractEquation):
    r"""An algorithm that takes the gradient of its batch at several parameters, as SAM and extragradient do.

    A rule gives `velocity` and `twin`, as all do. Its velocity receives the gradient as a function, `gradient(params)`, on
    one and the same minibatch wherever it is asked for: the examples, their weights and all else that is drawn are the
    same, so that the noise of all gradients has its correlations. Its twin receives the gradient at the parameters, and
    beside it `grad_fn(params, index)`, as `optax.contrib.sam(..., opaque_mode=True)` does, which can be such a twin:

        class Twice(AbstractSeveralGradients):
            def velocity(self, t, state, gradient):
                return jax.tree.map(jnp.negative, gradient(jax.tree.map(lambda p, g: p + 0.1 * g, state, gradient(state))))

            def twin(self):
                return optax.contrib.sam(optax.sgd(self.learning_rate), optax.sgd(0.1), opaque_mode=True)

    With minibatches `drift` is exact where the velocity is of second degree in the normals of a draw, by two values for
    each of these K, one for an example; `diffusion` takes K squared. The default solver needs neither: it steps to first
    order, by one kick a step. Shuffled epochs are refused, but for `train`: their noise is in the drift.
    """

    several_gradients = True
