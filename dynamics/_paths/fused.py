"""Three Euler-Maruyama increments that together resolve an equation with small noise."""

from typing import Any, ClassVar, NamedTuple

import diffrax as dfx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from equations.internal import split

from .quotient import no_quotient, secant
from .ralston import Ralston3, moved
from .terms import IncrementTerm, as_state

# Where the increments K1, K2, K3 are taken, what noise is in the first and the last, and with what weights they add up.
A21, A31, A32 = -1.5, 1.3497028062788858, -0.3131338308878849
R1, R3 = 0.5785409073212542, 2.552027086708635
B1, B2, B3 = 0.7332895832078954, -0.08812543980013164, 0.3548358565922363
BEHIND = 0.35000946976660197  # of a step, by which the variable is behind the state


class Fused(dfx.AbstractItoSolver):
    r"""Three weighted gradients a step: of third order without noise, with it of second for mean and covariance.

    With K(x, xi) = h f(x) + sqrt(eta h) sigma(x) xi, which for a rule that is affine in the gradient is one weighted
    gradient, and two independent normals xi1, xi2,

        K1 = K(x, r1 xi1)    K2 = K(x + a21 K1, 0)    K3 = K(x + a31 K1 + a32 K2, r3 xi2)    x' = x + b1 K1 + b2 K2 + b3 K3

    on a variable x that is a time alpha h behind the state: a run begins with a flow over -alpha h, a record is taken after
    one over alpha h. No increment has noise by which it was moved. The constants solve, with u = (b1 r1, b3 r3),
    c2 = a21, c3 = a31 + a32 and d = a31 r1, for the terms in f f f, and of first order in the noise for means, of second
    for covariances (Talay's expansion, sorted by powers of the noise as by Milstein and Tretyakov 2004, chapter 3):

        b1 + b2 + b3 = 1    b2 c2 + b3 c3 = 1/2    b3 a32 c2 = 1/6    u1^2 + u2^2 = 1    u2^2 c3 = 1/2 + alpha
        u1 (b2 a21 r1 + b3 d) = 1/2 - alpha    u2 d = 1/sqrt 2    b2 (a21 r1)^2 + b3 d^2 = 1/2 - alpha

    a family with one parameter, of which a21 = -3/2 has the smallest error: in the covariance of SGD at most .11 of that of
    the model for eta*lambda <= .25 and batches of 1, 4 and 16, where `Strang()` with five gradients has .12 (linear
    regression, exact moments, the worst of eight problems and 24 times).

    For equations of training algorithms without a memory, affine in the gradient, whose noise depends on the state.
    """

    flow: ClassVar = Ralston3()
    term_structure: ClassVar = dfx.MultiTerm[tuple[dfx.ODETerm, dfx.AbstractTerm]]
    interpolation_cls: ClassVar = dfx.LocalLinearInterpolation

    def order(self, terms):
        return 2

    def strong_order(self, terms):
        return 0.5

    def init(self, terms, t0, t1, y0, args):
        return None

    def flow_step(self, terms, t0, t1, y0, args):
        """One step of the flow alone, from t0 to t1."""
        flow = terms.terms[0]
        return self.flow.step(flow, t0, t1, y0, args, self.flow.init(flow, t0, t1, y0, args), made_jump=False)[0]

    def back(self, terms, t0, y0, args):
        """The variable that a run goes by, from the state at t0."""
        return self.flow_step(terms, t0, t0 - BEHIND, y0, args)

    def increments(self, terms, t0, y0, args):
        """The variable after a step, with the second increment and where it was taken: the one without noise."""
        term, at = terms.terms[1], t0 - BEHIND
        first, second = term.contr(t0, t0 + 1)
        k1 = term.vf_prod(at, y0, args, _times(R1, first))
        aside = moved(y0, (A21,), (k1,))
        k2 = term.vf_prod(at + A21, aside, args, None)
        k3 = term.vf_prod(at + A31 + A32, moved(y0, (A31, A32), (k1, k2)), args, _times(R3, second))
        return moved(y0, (B1, B2, B3), (k1, k2, k3)), aside, k2

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        y = self.increments(terms, t0, self.back(terms, t0, y0, args), args)[0]
        y = self.flow_step(terms, t1 - BEHIND, t1, y, args)
        return y, None, dict(y0=y0, y1=y), None, dfx.RESULTS.successful

    def func(self, terms, t0, y0, args):
        return terms.vf(t0, y0, args)


class Seen(NamedTuple):
    """Where the increment without noise was taken in the last step, that increment, and what both say of stiffness."""

    aside: PyTree
    increment: PyTree
    quotient: Array
    known: Array

    @classmethod
    def none(cls, state: PyTree) -> "Seen":
        zeros = jax.tree.map(jnp.zeros_like, state)
        return cls(zeros, zeros, no_quotient(state), jnp.zeros((), bool))


class Behind(dfx.AbstractItoSolver):
    """The steps of `Fused` on the variable that is behind the state.

    Its own state is a `Seen`, which goes on from that of the steps before: the increments without noise of two steps tell
    how stiff they were (`quotient.py`).
    """

    fused: Fused
    seen: Seen

    term_structure: ClassVar = Fused.term_structure
    interpolation_cls: ClassVar = dfx.LocalLinearInterpolation

    def order(self, terms):
        return 2

    def init(self, terms, t0, t1, y0, args):
        return self.seen

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        y, aside, increment = self.fused.increments(terms, t0, y0, args)
        here = jax.lax.stop_gradient((aside, increment))
        quotient = secant((solver_state.aside, here[0]), (solver_state.increment, here[1]))
        seen = Seen(*here, jnp.where(solver_state.known, quotient, 0), jnp.ones((), bool))
        return y, None, dict(y0=y0, y1=y), seen, dfx.RESULTS.successful

    def func(self, terms, t0, y0, args):
        return terms.vf(t0, y0, args)


class FusedTerm(IncrementTerm):
    """Euler-Maruyama increments over a substep; the control is the normals of one, None without noise."""

    def contr(self, t0, t1, **kwargs):
        return self.noise(t0, 2)

    def vf_prod(self, t, y, args, control):
        if control is None:
            flow = split(self.dynamics).flow(self.clock.time(t), y, self.signal)
            return as_state(jax.tree.map(lambda leaf: self.clock.dt * leaf, flow), y)
        return as_state(split(self.dynamics).euler(self.clock.time(t), y, self.signal, control, self.clock.dt), y)


def _times(factor: float, tree: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: factor * leaf, tree)


def is_fused(solver: Any) -> bool:
    """Whether a solver takes these steps."""
    return type(solver) is Fused


def seen_of(solver: Any, inner: Any) -> Array | None:
    """The quotient of a step from the state of the solver after it; None of any other solver."""
    return inner.quotient if isinstance(solver, Behind) else None
