"""Learning signals: whatever is a weighted sum over examples."""

import abc
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree, Shaped

from .._checks.arguments import explicit_axes, leaf_name
from .._checks.facts import Facts
from .._checks.once import is_traced
from .._checks.overrides import check_class
from .._shapes import abstract_value

_PACKAGE = str(Path(__file__).parent)


def is_parameter(leaf) -> bool:
    """Whether a leaf of a model is trained: a floating-point array, by Equinox's convention."""
    return eqx.is_inexact_array(leaf)


def parameter_dtype(params: PyTree):
    """The dtype of the parameters, in which their noise is drawn."""
    return jnp.result_type(*filter(is_parameter, jax.tree.leaves(params)))


def checked_examples(data: PyTree, argument: str = "data") -> PyTree:
    """The data as arrays with a common leading axis, checked; `argument` is what the user calls it."""
    leaves = jax.tree_util.tree_leaves_with_path(data)
    if not leaves:
        raise ValueError(f"Argument `{argument}` must hold at least one array, but {data!r} was given.")
    sizes = {}
    for path, leaf in leaves:
        name = leaf_name(argument, path)
        if not (eqx.is_array_like(leaf) and np.ndim(leaf) >= 1):
            raise TypeError(
                f"Argument `{argument}` must hold arrays whose leading axis counts the examples, but {name} is {leaf!r}."
            )
        sizes[name] = np.shape(leaf)[0]
    if len(set(sizes.values())) > 1:
        given = ", ".join(f"{name} has {size}" for name, size in sizes.items())
        raise ValueError(f"Argument `{argument}` must have the same number of examples in every leaf, but {given}.")
    if not all(sizes.values()):
        raise ValueError(f"Argument `{argument}` must hold at least one example, but its leading axis has length 0.")

    def convert(path, leaf):
        name = leaf_name(argument, path)
        wording = f"Argument `{argument}` must be finite, but {name} holds NaN or infinity."
        if jnp.issubdtype(leaf.dtype, jax.dtypes.extended) or isinstance(leaf, np.ma.MaskedArray):
            kind = "is a masked array" if isinstance(leaf, np.ma.MaskedArray) else f"has dtype {leaf.dtype}"
            raise TypeError(f"Argument `{argument}` must hold plain arrays of numbers, but {name} {kind}.")
        if is_traced(leaf):
            if not jnp.issubdtype(leaf.dtype, jnp.inexact):
                return leaf
            return eqx.error_if(leaf, ~jnp.all(jnp.isfinite(leaf)), wording)
        if not (np.issubdtype(leaf.dtype, np.number) or leaf.dtype == bool or jnp.issubdtype(leaf.dtype, jnp.inexact)):
            raise TypeError(f"Argument `{argument}` must hold numbers, but {name} has dtype {leaf.dtype}.")
        if jnp.issubdtype(leaf.dtype, jnp.inexact) and not np.all(np.isfinite(leaf)):
            raise ValueError(wording)
        try:
            with np.errstate(over="ignore"):
                array = jnp.asarray(leaf)
        except TypeError:  # a time span, a quadruple
            raise TypeError(
                f"Argument `{argument}` must hold numbers of a type that JAX knows, but {name} has dtype {leaf.dtype}."
            ) from None
        if array.dtype == leaf.dtype:
            return array
        # Without 64 bits JAX halves what has them, and says nothing of a number that is lost.
        inexact = jnp.issubdtype(leaf.dtype, jnp.inexact)
        kept = np.isfinite(array) if inexact else np.equal(array, leaf)
        if not np.all(kept):
            lost = np.asarray(leaf)[~np.asarray(kept)][0]
            raise ValueError(f"Argument `{argument}` must fit {array.dtype}, but {name} holds {lost}.")
        return array

    return jax.tree_util.tree_map_with_path(convert, data)


def check_signal(value: Any, argument: str = "signal") -> None:
    """Raises a TypeError unless a value is a signal; `argument` is what the user calls it."""
    if not isinstance(value, AbstractSignal):
        raise TypeError(f"Argument `{argument}` must be a signal such as equations.Objective, but {value!r} was given.")


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
            values = jax.vmap(lambda example: self.surrogate(model, params, example))(self.data)
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
        return self.with_data(jax.tree.map(lambda leaf: leaf[indices], self.data))

    def with_data(self, data: PyTree) -> "AbstractSignal":
        """This signal on other examples of the same structure."""
        return eqx.tree_at(lambda signal: signal.data, self, data)

    def check(self, params: PyTree) -> None:
        """Raises a ValueError, before any compilation, unless the signal fits `params`."""
        check_scalar(self, surrogate_value, "objective", params)


class AbstractPenalized(AbstractSignal):
    """A signal with something of our own added to it, which is all that a subclass gives."""

    signal: AbstractSignal

    @property
    def data(self):
        return self.signal.data

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

    def with_data(self, data):
        return eqx.tree_at(lambda s: s.signal, self, self.signal.with_data(data))


class _Bound(AbstractSignal):
    signal: AbstractSignal
    static: PyTree

    @property
    def data(self):
        return self.signal.data

    def surrogate(self, active, frozen, example):
        return self.signal.surrogate(eqx.combine(active, self.static), eqx.combine(frozen, self.static), example)

    def take(self, indices):
        return _Bound(self.signal.take(indices), self.static)  # pyright: ignore[reportCallIssue]  # `data` is a property

    def with_data(self, data):
        return _Bound(self.signal.with_data(data), self.static)  # pyright: ignore[reportCallIssue]  # `data` is a property


def surrogate_value(signal: AbstractSignal, params: PyTree) -> Array:
    """The surrogate of the first example."""
    return signal.surrogate(params, params, jax.tree.map(lambda leaf: leaf[0], signal.data))


def check_scalar(signal: AbstractSignal, function: Callable, name: str, params: PyTree) -> None:
    """Raises a ValueError unless `function(signal, params)` is one real floating-point number."""
    check_class(signal)
    for path, leaf in jax.tree_util.tree_leaves_with_path(signal.data):
        if axes := explicit_axes(leaf):
            raise ValueError(
                "Argument `data` must be laid out along axes of the type jax.sharding.AxisType.Auto, but "
                f"{leaf_name('data', path)} lies along {', '.join(map(repr, axes))} of the type Explicit."
            )
    try:
        value = abstract_value(function, signal, params)
    except Exception as error:
        beyond = _beyond_one_example(error)
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


def _beyond_one_example(error: Exception) -> str | None:
    """What to do where a loss asks for more than its example: by the layer of Equinox, the missing argument of the loss
    itself or the unbound axis that the error comes from; None for all others."""
    text = str(error)
    files = [frame.filename.replace("\\", "/") for frame in traceback.extract_tb(error.__traceback__)]
    layers = {
        name for name in ("_dropout", "_batch_norm", "_stateful") if any(f"equinox/nn/{name}.py" in f for f in files)
    }
    missing = isinstance(error, TypeError) and "missing" in text and "argument" in text
    itself = missing and files and files[-1].startswith(_PACKAGE)  # the call of the loss failed, not one within it
    if layers & {"_batch_norm", "_stateful"} or (missing and "'state'" in text and "BatchNorm" in text):
        return (
            "(BatchNorm mixes the examples of a batch and keeps a state between steps: eqx.nn.inference_mode(model) with a "
            "copy of the state made in the loss, jax.tree.map(lambda x: x, state), is a function of one example, as "
            "LayerNorm and GroupNorm are.)"
        )
    if "_dropout" in layers or (itself and "'key'" in text):
        return (
            "(dropout needs a key, which a loss does not get: eqx.nn.inference_mode(model) leaves dropout out; noise that "
            "the algorithm adds to its gradients is a `noise_model`.)"
        )
    if isinstance(error, NameError) and "axis name" in text:
        return "(psum, pmean and the like need the other examples of a batch; what a loss sees is one.)"
    return None
