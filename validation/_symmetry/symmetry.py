"""`Symmetry`: what a continuous symmetry of the loss says about training, and where irreversibility breaks it."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, ArrayLike, PyTree, Shaped

from dynamics.internal import Problem
from equations import SGD, AbstractEquation, AbstractSignal
from equations.internal import (
    Increment,
    add_scaled,
    check_derivatives,
    is_parameter,
    is_traced,
    leaf_name,
    nonnegative,
    number,
    real_array,
)

from .._irreversibility.batches import check_batches, check_batches_only, check_plain
from .._irreversibility.one_batch import dot, square
from .generators import Between, Scaling
from .measures import asymmetry, balance, charge_step, identities, least_on_orbit, orbit_slope, precision
from .results import Balance, ChargeStep, Least, OrbitSlope, SymmetryCheck


def _callable(generator):
    if not callable(generator):
        raise TypeError(
            "Argument `generator` must be a linear map from parameters to parameters, A theta as a function of theta, but "
            f"{generator!r} was given."
        )
    return generator


class Symmetry(eqx.Module):
    r"""A one-parameter group exp(lambda A) under which a loss is invariant, ell(exp(lambda A) theta) = ell(theta).

    **Arguments:**

    - `generator`: theta -> A theta, linear, from parameters to a PyTree alike; it gets None where a leaf is no parameter.
        `Symmetry.between` and `Symmetry.scaling` make the usual ones.

    For plain gradient steps theta' = theta - eta (g_B + 2 gamma theta), the charge C = theta . A theta of a symmetric A
    obeys, exactly, C' = (1 - 2 eta gamma)^2 C + eta^2 g_B . A g_B, and on average the Noether flow

        dC/dt = -4 gamma C + eta (E[g_B . A g_B] + 4 gamma^2 C)

    (Ziyin, Wang, Li and Wu 2024, NeurIPS, whose noise term is eta Tr[Sigma A]; the mean gradient's share, which a discrete
    step adds, is in E[g_B . A g_B]; derived and checked). Only the symmetric part of A enters a charge; an orthogonal
    symmetry, whose A is antisymmetric, has none, and irreversibility keeps it: phi is the same along its orbit.
    """

    generator: Callable = eqx.field(converter=_callable)

    @classmethod
    def between(cls, incoming: Callable, outgoing: Callable, matrix: Shaped[ArrayLike, "d d"] | Any) -> "Symmetry":
        r"""Between two layers: W_in -> exp(lambda K) W_in, b_in likewise, W_out -> W_out exp(-lambda K).

        **Arguments:**

        - `incoming`, `outgoing`: functions from the parameters to a list of arrays, such as
            `lambda net: [net.layers[0].weight, net.layers[0].bias]`; those that come in have the width of the hidden layer
            as their first axis, those that go out as their second (a vector as its only one), as the layers of Equinox
            have, `Linear` and `Conv` alike.
        - `matrix`: K, `(width, width)`. For homogeneous activations (ReLU) the identity rescales the layers, e_j e_j^T the
            neuron j alone; for linear layers any matrix is a symmetry, and an antisymmetric one rotates.
        """
        if not (callable(incoming) and callable(outgoing)):
            raise TypeError(
                f"Arguments `incoming` and `outgoing` must be functions of the parameters, but {incoming!r} and "
                f"{outgoing!r} were given."
            )
        if not is_traced(matrix):
            known = real_array("matrix", matrix, "the real numbers of K, (width, width)")
            if not np.all(np.isfinite(known)):
                raise ValueError(f"Argument `matrix` must be finite, but {matrix!r} was given.")
        matrix = jnp.asarray(matrix)
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"Argument `matrix` must be square, but it has shape {matrix.shape}.")
        return cls(Between(incoming, outgoing, matrix))

    @classmethod
    def scaling(cls, where: Callable) -> "Symmetry":
        """Of a loss that does not see the length of the arrays `where(params)`, a list: scale invariance."""
        if not callable(where):
            raise TypeError(f"Argument `where` must be a function of the parameters, but {where!r} was given.")
        return cls(Scaling(where))

    def apply(self, vector: PyTree) -> PyTree:
        """A v, for v like the parameters."""
        image = self.generator(vector)
        if jax.tree.structure(image) != jax.tree.structure(vector):
            raise ValueError(
                "Argument `generator` must give a PyTree like the parameters, of structure "
                f"{jax.tree.structure(vector)}, but it gives {jax.tree.structure(image)}."
            )
        for (path, leaf), moved_ in zip(
            jax.tree_util.tree_leaves_with_path(vector), jax.tree.leaves(image), strict=True
        ):
            if jnp.shape(leaf) != jnp.shape(moved_):
                raise ValueError(
                    f"Argument `generator` must give arrays like the parameters, but for {leaf_name('params', path)} of "
                    f"shape {jnp.shape(leaf)} it gives one of shape {jnp.shape(moved_)}."
                )
        return image

    def check_linear(self, theta: PyTree) -> None:
        """Raises a ValueError unless the generator is linear, finite and not zero, as tried on random vectors."""
        flat, unravel = ravel_pytree(theta)
        u, v = (unravel(jax.random.normal(jax.random.key(k), flat.shape, flat.dtype)) for k in (1, 2))
        au, av = self.apply(u), self.apply(v)
        length = square(au) + square(av)
        if not jnp.isfinite(length):
            raise ValueError("Argument `generator` must be finite, but A v of a random v holds NaN or infinity.")
        if length == 0:
            raise ValueError("Argument `generator` must move some parameter, but A v of a random v is zero.")
        off = add_scaled(self.apply(add_scaled(u, (2.0, v))), (-1.0, au), (-2.0, av))
        if not square(off) <= (1e3 * precision(theta)) ** 2 * length:
            raise ValueError(
                f"Argument `generator` must be linear, A(u + 2 v) = A u + 2 A v, but {self.generator!r} was given."
            )

    def transpose(self, vector: PyTree) -> PyTree:
        """A^T v."""
        (image,) = jax.linear_transpose(self.apply, vector)(vector)
        return image

    def charge(self, params: PyTree) -> Array:
        """C = theta . A theta."""
        theta = eqx.filter(params, is_parameter)
        return dot(theta, self.apply(theta))

    def move(self, params: PyTree, amount) -> PyTree:
        """exp(amount A) theta, by its Taylor series to order 16 in 16 parts: exact to rounding where |amount A| is below
        about 16, beyond which the orbit has left what numbers can hold."""
        return self.transported(params, number("amount", amount, allowed="a finite number", test=lambda x: x == x))

    def transported(self, params: PyTree, amount: Array) -> PyTree:
        """`move` by an amount that is checked."""
        theta, static = eqx.partition(params, is_parameter)
        amount = jnp.asarray(amount, jnp.result_type(*jax.tree.leaves(theta)))
        parts = 16

        def part(_, y):
            term, total = y, y
            for order in range(1, 17):
                scale = amount / (parts * order)
                term = jax.tree.map(lambda leaf, s=scale: s * leaf, self.apply(term))
                total = add_scaled(total, (1.0, term))
            return total

        return eqx.combine(jax.lax.fori_loop(0, parts, part, theta), static)

    def check(self, objective: AbstractSignal, params: PyTree) -> SymmetryCheck:
        """How well the loss has this symmetry: identities of its gradient and its Hessian, example by example."""
        theta, signal, _ = self._ready(None, objective, params)
        values = (float(value) for value in identities(self, signal, theta))
        return SymmetryCheck(*values, precision=precision(theta))

    def _ready(self, equation, objective, params) -> tuple[PyTree, AbstractSignal, PyTree]:
        """Parameters, the signal for them and what is no parameter; a TypeError or ValueError unless all fit."""
        if equation is not None:
            check_plain(equation)
        problem = Problem.of(equation or SGD(1.0), objective, params, algorithm=True)
        if equation is not None:
            check_batches_only(problem.equation)
        check_derivatives(objective, problem.params, "`Symmetry`")
        self.check_linear(problem.dynamic)
        return problem.dynamic, problem.signal, problem.static

    def steps(
        self,
        equation: AbstractEquation,
        objective: AbstractSignal,
        params: PyTree,
        batches: list,
        *,
        decay: float = 0.0,
    ) -> ChargeStep:
        """The charge after steps of the equation's twin against (1 - 2 eta gamma)^2 C + eta^2 g . A g.

        **Arguments:** the equation, whose twin makes the steps from its empty memory with the decay 2 gamma theta added to
        the gradient; `batches`, the indices `(B,)` of examples, or None for all, for each step.

        **Returns:** a `ChargeStep`, the worst of the steps. The rule is for a symmetry of the loss and plain gradient
        steps: whether it holds is what the result says.
        """
        problem, gamma = Problem.of(equation, objective, params, algorithm=True), nonnegative("decay")(decay)
        batches = check_batches(batches, objective.size)
        equation, theta, signal = problem.equation, problem.dynamic, problem.signal
        self.check_linear(theta)
        increment = Increment.of(equation)
        worst: Any = None
        eta, state = equation.learning_rate, increment.init(theta)
        for indices in batches:
            batch = signal if indices is None else signal.take(indices)
            state, *numbers = charge_step(self, increment, batch, state, eta, gamma)
            result = ChargeStep(*map(float, numbers), precision=precision(theta))
            worst = result if worst is None or not result.error <= worst.error else worst
        return worst

    def flow(
        self, equation: AbstractEquation, objective: AbstractSignal, params: PyTree, *, decay: float = 0.0
    ) -> Balance:
        """The Noether flow at these parameters and the master balance of a stationary state.

        **Arguments:** `equation`, plain gradient steps such as `SGD`; `decay`, gamma.
        """
        theta, signal, _ = self._ready(equation, objective, params)
        return balance(self, equation, signal, theta, nonnegative("decay")(decay))

    def slope(self, equation: AbstractEquation, objective: AbstractSignal, params: PyTree) -> OrbitSlope:
        """d phi/d lambda along the orbit at lambda = 0, measured and as -E[g_B . A g_B]/2 predicts."""
        theta, signal, _ = self._ready(equation, objective, params)
        return OrbitSlope(*(float(x) for x in orbit_slope(self, equation, signal, theta)))

    def least(
        self, equation: AbstractEquation, objective: AbstractSignal, params: PyTree, *, bound: float | Array = 20.0
    ) -> Least:
        """The point of least phi on the orbit, |lambda| <= bound, by bisection of the slope of the convex phi(lambda).

        For a symmetric A; others raise a ValueError. phi(lambda) has one minimum, which may lie at infinity: `found` is
        then False.
        """
        theta, signal, static = self._ready(equation, objective, params)
        bound = number("bound", bound, allowed="a positive finite number", test=lambda x: x > 0)
        symmetric = float(asymmetry(self, theta))
        if not symmetric > 1 - 1e3 * precision(theta):
            raise ValueError(
                "Argument `generator` must be symmetric for phi to be convex along its orbit, but |A + A^T|/(2 |A|) is "
                f"{symmetric:.3g}."
            )
        amount, phi, slope = least_on_orbit(self, equation, signal, theta, bound)
        found = bool(jnp.abs(slope) < 1e-6 * phi) and bool(jnp.abs(amount) < bound * (1 - 1e-6))
        return Least(float(amount), float(phi), found, eqx.combine(self.move(theta, amount), static))
