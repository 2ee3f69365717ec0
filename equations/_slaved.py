"""A discrete algorithm at fixed hyperparameters: its memory forgets in a few steps and follows the parameters."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ._affine import is_affine
from ._base import AbstractEquation, with_batches_of
from ._increment import AbstractIncrement, TwinState, at_infinity
from ._series import moved

# The initial layer is followed until it has decayed to this fraction of itself.
_LAYER = 1e-12


def like(params: PyTree, value: float) -> PyTree:
    """Parameters of one value, where those given may be traced."""
    return jax.tree.map(lambda leaf: jnp.full(leaf.shape, value, leaf.dtype), eqx.filter(params, eqx.is_inexact_array))


class Slaved(AbstractEquation):
    r"""The step of an algorithm on its slow manifold, memory = M(theta), with its initial layer.

    With theta' = theta + eta a(M(theta), theta) and a memory that forgets linearly, m' = L m + c(theta), the manifold is
    invariant if

        M(theta) = [c(theta) + M(theta) - M(theta')]/(1 - L)

    which is iterated `order - 1` times from c/(1 - L); each time adds an order in eta (derived; for heavy ball the result
    is the series in tests/test_modified.py). Counts stand at infinity, after every bias correction and warm-up.

    A run from an empty memory reaches the manifold along an initial layer, in which it moves by
    d_k = a(m_k, theta_k) - a(s_k, theta_k) beside the slow motion, F(theta) = a(M(theta), theta). The shadow s_k of the
    memory starts on the manifold and goes the steps of the algorithm, so that the layer decays as L^k whatever the manifold
    leaves out. The distance delta_k from the
    slow path that the run ends on vanishes for k -> infinity, so that

        delta_k = -eta sum_{j >= k} [d_j + F(theta_j) - F(theta_j - delta_j)],

    also iterated `order - 1` times (derived); the slow path starts from theta_0 - delta_0.

    The noise is that of the gradient, with the response of the whole memory to it: for momentum b it is 1/(1 - b).
    """

    increment: AbstractIncrement = eqx.field(kw_only=True)
    order: int = eqx.field(kw_only=True, static=True)

    def __post_init__(self):
        self.increment = with_batches_of(self, self.increment)

    @classmethod
    def of(cls, increment: AbstractIncrement, order: int) -> "Slaved":
        rate, batch_size, sampling = increment.learning_rate, increment.batch_size, increment.sampling
        return cls(rate, batch_size, sampling, increment=increment, order=order)

    @property
    def source(self) -> AbstractIncrement:
        """The increment field at the learning rate of this equation."""
        return eqx.tree_at(lambda increment: increment.learning_rate, self.increment, self.learning_rate)

    @property
    def gradient_noise(self):
        return self.source.gradient_noise

    def twin(self):
        return self.source.twin()

    def _split(self, params) -> tuple[PyTree, PyTree]:
        """The empty memory in two: its averages, and its counts at infinity."""
        averages, counts = self.source.split(self.source.init(params))
        return averages.memory, at_infinity(counts.memory)

    def _step(self, params, averages, gradient) -> TwinState:
        """The rates of parameters and averages in a step with this gradient."""
        memory = eqx.combine(averages, self._split(params)[1])
        rates = self.source.velocity(jnp.zeros(()), TwinState(params, memory), gradient)
        mask = jax.tree.map(lambda leaf: leaf is not None, averages, is_leaf=lambda leaf: leaf is None)
        return TwinState(rates.params, eqx.filter(rates.memory, mask))

    def _after(self, params, averages, gradient) -> PyTree:
        return moved(averages, (self.learning_rate, self._step(params, averages, gradient).memory))

    def _kept(self, params) -> PyTree:
        """L: what a step keeps of each average."""
        averages, gradient = self._split(params)[0], jax.tree.map(jnp.zeros_like, params)
        ones = jax.tree.map(jnp.ones_like, averages)
        return jax.jvp(lambda m: self._after(params, m, gradient), (averages,), (ones,))[1]

    def memories(self, params: PyTree) -> list[float]:
        """The part of each average that a step keeps; the hyperparameters must not be traced."""
        return [float(jnp.max(leaf)) for leaf in jax.tree.leaves(self._kept(like(params, 0.0)))]

    def _settled(self, params, gradient) -> PyTree:
        """c/(1 - L): the averages under one gradient for ever."""
        once = self._after(params, self._split(params)[0], gradient)
        return jax.tree.map(lambda c, kept: c / (1 - kept), once, self._kept(params))

    def manifold(self, params: PyTree, signal, order: int, gradient: PyTree = None) -> PyTree:
        """M(theta), with an error of O(eta^order); `gradient` is that at `params`, if it is known."""
        gradient = signal.gradient(params) if gradient is None else gradient
        settled = self._settled(params, gradient)
        if order == 1:
            return settled
        here = self.manifold(params, signal, order - 1, gradient)
        rate = self._step(params, here, gradient).params
        there = self.manifold(moved(params, (self.learning_rate, rate)), signal, order - 1)
        return jax.tree.map(lambda m, kept, a, b: m - (b - a) / (1 - kept), settled, self._kept(params), here, there)

    def velocity(self, t: Array, state: PyTree, gradient: PyTree) -> PyTree:
        """The rate of the parameters under this gradient for ever."""
        return self._step(state, self._settled(state, gradient), gradient).params

    def drift(self, t, state, signal):
        """The step on the manifold, over the learning rate, with an error of O(eta^order)."""
        return self._step(state, self.manifold(state, signal, self.order), signal.gradient(state)).params

    def flow(self, t, state, signal):
        return self.drift(t, state, signal)

    def start(self, state, signal, noise):
        """The slow path after its first step."""
        start = self.slow_start(state, signal)
        zero = jnp.zeros(())
        first = moved(start, (self.learning_rate, self.drift(zero, start, signal)))
        return moved(first, (1.0, self.kick(zero, start, signal, noise, self.learning_rate)))

    def slow_start(self, params: PyTree, signal) -> PyTree:
        """Where the slow path begins that a run from `params` with an empty memory ends on, up to O(eta^order)."""
        kept = jnp.max(jnp.stack([jnp.max(leaf) for leaf in jax.tree.leaves(self._kept(params))]))
        steps = jnp.ceil(jnp.log(_LAYER) / jnp.log(jnp.maximum(kept, 1e-3))).astype(int)
        rate, zero = self.learning_rate, jnp.zeros(())

        def follow(distances):
            """The next approximation to the distance at the start, from those before it."""

            def body(_, carry):
                run, shadow, distances, total = carry
                gradient = signal.gradient(run.params)
                fast, slow = self.source.velocity(zero, run, gradient), self._step(run.params, shadow, gradient)
                after = moved(run, (rate, fast))
                # What the manifold holds more where the run has come to than where the slow motion would have.
                there = self.manifold(moved(run.params, (rate, slow.params)), signal, self.order)
                more = moved(self.manifold(after.params, signal, self.order), (-1.0, there))
                shadow = moved(shadow, (rate, slow.memory), (1.0, more))
                layer = moved(fast.params, (-1.0, slow.params))
                changes = [layer]
                for distance in distances:
                    here, there = (
                        self.drift(zero, p, signal) for p in (run.params, moved(run.params, (-1.0, distance)))
                    )
                    changes.append(moved(layer, (1.0, here), (-1.0, there)))
                distances = [moved(d, (rate, change)) for d, change in zip(distances, changes[:-1], strict=True)]
                return after, shadow, distances, moved(total, (-rate, changes[-1]))

            shadow = self.manifold(params, signal, self.order)
            nothing = jax.tree.map(jnp.zeros_like, params)
            return jax.lax.fori_loop(0, steps, body, (self.source.init(params), shadow, distances, nothing))[3]

        distances = []
        for _ in range(self.order - 1):
            distances = [*distances, follow(distances)]
        return moved(params, (-1.0, distances[-1])) if distances else params

    def rescaled(self, factor):
        """Another learning rate; the hyperparameters stay."""
        scaled = AbstractEquation.rescaled(self, factor)
        return eqx.tree_at(lambda e: e.increment.learning_rate, scaled, scaled.learning_rate)

    def check(self, params, signal):
        super().check(params, signal)
        self.check_memory(params, "'dynamic'")

    def check_memory(self, params: PyTree, otherwise: str) -> None:
        """A ValueError that names what the argument `memory` must be if the memory cannot be slaved."""
        reason = self._not_slaved(params)
        if reason is not None:
            raise ValueError(f"Argument `memory` must be {otherwise} {reason}")

    def _not_slaved(self, params) -> str | None:
        if self.sampling == "shuffled" and self.batch_size is not None:
            return "for sampling='shuffled', but 'slaved' was given: across the batches of an epoch a memory is not slaved."
        return self.unsettled(params)

    def unsettled(self, params: PyTree) -> str | None:
        """Why the memory does not settle under one gradient for ever, as the end of a message; None where it does."""
        arrays = eqx.filter(params, eqx.is_inexact_array)
        averages = jax.eval_shape(lambda p: self._split(p)[0], arrays)
        if not jax.tree.leaves(averages):
            return "for an algorithm that remembers nothing, but 'slaved' was given."
        if not isinstance(self.learning_rate, jax.core.Tracer):
            ones = like(arrays, 1.0)
            steps = self._step(ones, self._settled(ones, ones), ones).params
            if not any(jnp.any(leaf) for leaf in jax.tree.leaves(steps)):
                return (
                    "for an algorithm whose steps end, as with a schedule that decays to zero, but 'slaved' was given: "
                    "counts stand at infinity there."
                )
        gradient = jax.tree.map(jnp.zeros_like, arrays)
        if not is_affine(lambda m: self._after(arrays, m, gradient), averages):
            return "unless the algorithm's memory forgets linearly, as an exponential average does, but 'slaved' was given."
        return None
