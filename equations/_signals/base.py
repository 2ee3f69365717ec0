"""Learning signals: whatever is a weighted sum over examples."""

import abc
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree, Shaped

from .._checks.arguments import explicit_axes, leaf_name
from .._checks.facts import Facts
from .._checks.overrides import check_class
from .._shapes import abstract_value
from .beyond import beyond_one_example
from .sources import held


def is_parameter(leaf) -> bool:
    """Whether a leaf of a model is trained: a floating-point array, by Equinox's convention."""
    return eqx.is_inexact_array(leaf)


def parameter_dtype(params: PyTree):
    """The dtype of the parameters, in which their noise is drawn."""
    return jnp.result_type(*filter(is_parameter, jax.tree.leaves(params)))


def check_signal(value: Any, argument: str = "signal") -> None:
    """Raises a TypeError unless a value is a signal; `argument` is what the user calls it."""
    if not isinstance(value, AbstractSignal):
        raise TypeError(f"Argument `{argument}` must be a signal such as equations.Objective, but {value!r} was given.")


def is_random(value: Any) -> bool:
    """Whether a value is a signal whose examples draw by keys."""
    return isinstance(value, AbstractSignal) and value.random


class AbstractSignal(eqx.Module):
    """A (pseudo-)gradient G(theta, w) = sum_i w_i g(theta, example_i), linear in the weights w over the N examples.

    A signal is written as a *surrogate* scalar whose derivative in `active`, taken at `frozen = active = params`, is
    the rule of one example. A gradient ignores `frozen`; a plasticity rule holds fixed in `frozen` what it does not
    differentiate. (A `stop_gradient` would do the same for G, but would silently spoil the derivatives of G.)

    By convention the signal is *descended*: an optimizer moves against it.
    """

    _facts = Facts("objective", contract=True, own_method=("value", "a method from the parameters to the loss"))

    data: eqx.AbstractVar[PyTree]

    @abc.abstractmethod
    def surrogate(self, active: PyTree, frozen: PyTree, example: PyTree) -> Float[Array, ""]:
        """The surrogate scalar of one example."""

    @property
    def size(self) -> int:
        """The number of examples N."""
        return jax.tree.leaves(self.data)[0].shape[0]

    @property
    def examples(self) -> PyTree:
        """What `surrogate` takes one of, leaves `(N, ...)`: the data, in a random loss each with what keys are made of."""
        return held(self.data)

    @property
    def random(self) -> bool:
        """Whether an example draws numbers by a key of its own; the surrogate is then a mean over keys, always the same."""
        return False

    @property
    def samples(self) -> int:
        """How many fixed keys an example of a random loss has."""
        return 1

    @property
    def sampled(self) -> bool:
        """Whether the mean over keys is known by these alone."""
        return False

    def with_keys(self, keys: Shaped[Array, " N"]) -> "AbstractSignal":
        """This signal where a random loss draws by these keys, typed, one for each example."""
        return self

    def drawn(self) -> "AbstractSignal":
        """This signal on N * `samples` examples: each of a random loss once for each of its fixed keys."""
        return self

    def by_samples(self) -> "AbstractSignal":
        """This signal with the mean over the fixed keys, also where the mean over all is given."""
        return self

    def gradient(self, params: PyTree, weights: Shaped[Array, " N"] | None = None) -> PyTree:
        """The weighted gradient sum_i weights_i g(params, example_i), in one backward pass.

        **Arguments:**

        - `params`: the parameters, a PyTree or an Equinox module; only floating-point arrays are differentiated.
        - `weights`: shape `(N,)`. `None` is 1/N for every example: the full gradient.

        **Returns:**

        A PyTree like `params`, with `None` where a leaf is no parameter. No per-example gradient is ever held.
        """
        active, static = eqx.partition(params, is_parameter)

        def total(active):
            model = eqx.combine(active, static)
            values = jax.vmap(lambda example: self.surrogate(model, params, example))(self.examples)
            return jnp.mean(values) if weights is None else jnp.dot(values, weights.astype(values.dtype))

        return jax.grad(total)(active)

    @property
    def has_value(self) -> bool:
        """Whether there is a `value(params)`: the loss, where the signal is the gradient of one."""
        return hasattr(self, "value")

    if TYPE_CHECKING:  # those that are the gradient of a loss have beside

        def value(self, params: PyTree) -> Float[Array, ""]: ...

        def loss(self, params: PyTree, example: PyTree) -> Float[Array, ""]: ...

    argument: ClassVar[str] = "objective"
    """What a user gave that a message is about."""

    @property
    def is_loss(self) -> bool:
        """Whether it is the gradient of a loss, with or without a penalty."""
        return False

    def learning_signal(self, params: PyTree) -> PyTree:
        """What learns, like the parameters: the gradient, without what only decays."""
        return self.gradient(params)

    def without_penalty(self, params: PyTree) -> tuple["AbstractSignal", PyTree, Callable]:
        """The signal inside our own penalties, what it is given for these parameters, and the map back of marks on that.

        A signal of a user's around another speaks for itself.
        """
        return self, params, lambda marks: marks

    def bind(self, static: PyTree) -> "AbstractSignal":
        """This signal for parameters from which the leaves in `static` (activation functions, say) were taken out."""
        return _Bound(self, static)  # pyright: ignore[reportCallIssue]  # `data` is a property

    def take(self, indices: Int[Array, " B"]) -> "AbstractSignal":
        """This signal on the examples `indices` alone, shape `(B,)`."""
        return self.with_data(jax.tree.map(lambda leaf: leaf[indices], held(self.data)))

    def with_data(self, data: PyTree) -> "AbstractSignal":
        """This signal on other examples of the same structure."""
        return eqx.tree_at(lambda signal: signal.data, self, data)

    def check(self, params: PyTree) -> None:
        """Raises a ValueError, before any compilation, unless the signal fits `params`."""
        check_scalar(self, surrogate_value, "objective", params)
        if self.random and not self.sampled:
            check_scalar(self.by_samples(), surrogate_value, "objective", params)


class AbstractAround(AbstractSignal):
    """A signal of ours around another one, with its examples."""

    signal: AbstractSignal

    @property
    def data(self):
        return self.signal.data

    @property
    def examples(self):
        return self.signal.examples

    @property
    def random(self):
        return self.signal.random

    @property
    def samples(self):
        return self.signal.samples

    @property
    def sampled(self):
        return self.signal.sampled

    def _around(self, signal):
        return eqx.tree_at(lambda s: s.signal, self, signal)

    def take(self, indices):
        return self._around(self.signal.take(indices))

    def with_data(self, data):
        return self._around(self.signal.with_data(data))

    def with_keys(self, keys):
        return self._around(self.signal.with_keys(keys))

    def drawn(self):
        return self._around(self.signal.drawn())

    def by_samples(self):
        return self._around(self.signal.by_samples())


class AbstractPenalized(AbstractAround):
    """A signal with something of our own added to it, which is all that a subclass gives."""

    @property
    def has_value(self):
        return self.signal.has_value

    @property
    def is_loss(self):
        return self.signal.is_loss

    @property
    def loss(self):
        """That of the signal inside, where it has one."""
        return self.signal.loss

    def without_penalty(self, params):
        return self.signal.without_penalty(params)


class _Bound(AbstractAround):
    static: PyTree

    @property
    def is_loss(self):
        return self.signal.is_loss

    def surrogate(self, active, frozen, example):
        return self.signal.surrogate(eqx.combine(active, self.static), eqx.combine(frozen, self.static), example)


def surrogate_value(signal: AbstractSignal, params: PyTree) -> Array:
    """The surrogate of the first example."""
    return signal.surrogate(params, params, jax.tree.map(lambda leaf: leaf[0], signal.examples))


def check_around(signal: AbstractSignal) -> None:
    """Raises a ValueError for a user's signal around a random loss, which would not hand its keys on."""
    if not signal.random and any(map(is_random, jax.tree.leaves(vars(signal), is_leaf=is_random))):
        name = type(signal).__name__
        raise ValueError(
            f"Argument `objective` must hand on the keys of the random loss inside {name}: give {name} the `random`, "
            "`examples`, `samples` and `sampled` of that, and `take`, `with_keys`, `drawn` and `by_samples` around it."
        )


def check_scalar(signal: AbstractSignal, function: Callable, name: str, params: PyTree) -> None:
    """Raises a ValueError unless `function(signal, params)` is one real floating-point number."""
    check_class(signal)
    check_around(signal)
    for path, leaf in jax.tree_util.tree_leaves_with_path(signal.data):
        if axes := explicit_axes(leaf):
            raise ValueError(
                "Argument `data` must be laid out along axes of the type jax.sharding.AxisType.Auto, but "
                f"{leaf_name('data', path)} lies along {', '.join(map(repr, axes))} of the type Explicit."
            )
    try:
        value = abstract_value(function, signal, params)
    except Exception as error:
        beyond = beyond_one_example(error)
        if beyond is not None:
            raise ValueError(
                f"Argument `{name}` must be that of one example, {name}(params, example), since losses are per example, "
                f"but {type(error).__name__}: {str(error).strip().splitlines()[0]} {beyond}"
            ) from error
        raise ValueError(
            f"Argument `{name}` does not fit `params` and the examples of `data`: {type(error).__name__}: {error}"
        ) from error
    if not (
        isinstance(value, jax.ShapeDtypeStruct) and value.shape == () and jnp.issubdtype(value.dtype, jnp.floating)
    ):
        raise ValueError(
            f"Argument `{name}` must return one real floating-point number per example, but with these "
            f"`params` it returns {value}."
            + (" Losses are per example, and keep no state or other output." if isinstance(value, tuple) else "")
        )
