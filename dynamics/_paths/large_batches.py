"""Steps of many training steps on batches as many times as large: large steps whatever the number of examples."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from equations import AbstractEquation, AbstractSignal
from equations.internal import LARGEST, add_scaled, integer, is_parameter, real_gradient, velocity_of, zeros_of

from .brownian import Brownian
from .keys import apart
from .sampler import Sampler
from .svag import AbstractOnBatches, in_turn
from .terms import IncrementTerm, add, as_state


class LargeBatches(AbstractOnBatches):
    r"""Steps of n training steps on the n batches of these: for few gradients of real examples the equation's means.

    A batch n times as large has the covariance C/(nB), so that a step of h = n eta along its gradient has the noise
    h^2 C/(nB) = h eta C/B of the equation, at the gradients of the algorithm itself whatever the number of examples. It has
    two stages, on the first n_1 = n // 2 batches and on the other n_2 = n - n_1:

        k_1 = u(Y, g_1),    k_2 = u(Y + a h k_1, g_2),    Y + h (n_1/n k_1 + n_2/n k_2),    a = n/(2 n_2),

    whose noise is (n_1/n)^2 C/(n_1 B) + (n_2/n)^2 C/(n_2 B) = C/(nB) again and goes through the flow as it should,
    h^2 (n_2/n) a = h^2/2. So means and covariances are of second order in h, but for what second derivatives of the
    gradient and of C see of the noise in the second stage, which is twice what it should be: an error in h eta/B, 1/(nB) of
    h^2. n = 1 is the algorithm itself, and no refinement of larger n.

    All n go by the batches of the algorithm with this key, so that runs of two lengths differ by little: the means at n
    and n/2 (n >= 4) give an error, as `solver_error` of `solve` and `compare` find it.

    For rules affine in the gradient and minibatches drawn independently. Source: derived; the linear scaling rule (Goyal et
    al. 2017, arXiv:1706.02677) taken as a solver.

    **Arguments:** `n`, a positive integer that divides `save_every`. None: what `solver_error` allows.
    """

    n: int | None = eqx.field(
        static=True, default=None, converter=lambda value: integer("n", value, maximum=LARGEST, optional=True)
    )

    @property
    def stride(self):
        return self.n or 1

    def order(self, terms):
        return 2

    def drawn(self, equation, signal, params, key, substeps):
        return Groups.of(equation, signal, params, key, self.stride // substeps)

    def term(self, *fields):
        return GroupTerm(*fields)

    def examples(self, own, size, substeps):
        return own


def is_large(solver: Any) -> bool:
    """Whether the steps of a solver are on large batches."""
    return isinstance(solver, LargeBatches)


class Groups(eqx.Module):
    """The batches of one path, those of the algorithm with its key, `count` of them in a step."""

    sampler: Sampler
    injected: Brownian | None
    count: int = eqx.field(static=True)

    rows: ClassVar[int] = 1

    @classmethod
    def of(cls, equation: AbstractEquation, signal: AbstractSignal, params: PyTree, key: Array, count: int) -> "Groups":
        sampler = Sampler.of(equation, signal, key)
        structure = sampler.injected(equation, signal, params)
        return cls(sampler, None if structure is None else Brownian(apart(key, 0), structure, 1), count)

    def first_block(self) -> None:
        """None is held: a batch is drawn when it is used."""

    def read(self, step: Array, block: None) -> tuple["Groups", None, None]:
        """All that a run from a step on needs."""
        return self, None, None

    def gradient(
        self, equation: AbstractEquation, signal: AbstractSignal, params: PyTree, first: Array, count: int
    ) -> PyTree:
        """The mean gradient of the batches of `count` training steps from `first` on."""
        steps = first + jnp.arange(count, dtype=first.dtype)
        keys = jax.vmap(lambda step: jax.random.fold_in(self.sampler.key, step))(steps)
        if self.injected is None:  # in one backward pass
            return real_gradient(equation, self.sampler.batches(signal, keys), params, None)
        injected = self.injected

        def more(total, one):
            key, step = one
            gradient = real_gradient(equation, self.sampler.batch(signal, key), params, injected.whole(step))
            return add_scaled(total, (1 / count, gradient)), None

        begin = zeros_of(eqx.filter(params, is_parameter))
        return jax.lax.scan(more, begin, (keys, steps))[0]


class GroupTerm(IncrementTerm):
    """The step in two stages on the batches of a step; along a single one, that of the algorithm."""

    def vf_prod(self, t, y, args, control):
        substep = jnp.rint(control).astype(self.clock.offset.dtype)
        groups: Any = self.increments
        equation: Any = self.dynamics
        count, time, dt = groups.count, self.clock.time(t), self.clock.dt
        first = (self.clock.step(substep) * self.clock.substeps + self.clock.place(substep)) * count

        def gradient(state, begin, number):
            return groups.gradient(equation, self.signal, equation.params(state), begin, number)

        if count == 1:
            return as_state(in_turn(equation, time, y, gradient(y, first, 1), dt), y)
        early, late = count // 2, count - count // 2
        ahead = count / (2 * late)
        one = velocity_of(equation, time, y, gradient(y, first, early))
        middle = add(y, jax.tree.map(lambda rate: ahead * dt * rate, one))
        two = velocity_of(equation, time + ahead * dt, middle, gradient(middle, first + early, late))
        return as_state(jax.tree.map(lambda a, b: dt * (early * a + late * b) / count, one, two), y)
