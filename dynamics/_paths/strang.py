"""Strang splitting: flow, kick, flow."""

import dataclasses
from typing import Any, ClassVar

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from equations import AbstractDynamics
from equations.internal import split

from .control_variate import is_anchored
from .fused import B1, B3, BEHIND, R1, R3, is_fused, seen_of
from .held import differ, held, mean
from .quotient import no_quotient, stage_quotient
from .ralston import Ralston3, flow_stages
from .svag import is_on_batches
from .terms import add, from_step


class Strang(dfx.AbstractItoSolver):
    r"""Half a flow, the Itô kick evaluated and applied in the middle, half a flow.

    Second order in the step for mean and covariance; first order for rules that are neither affine in the gradient nor of
    leapfrog form, and with a single evaluation of a noise that changes itself. The flow is one step of any explicit Diffrax
    solver. `solve` merges adjacent half flows; a record takes half a flow of its own, so that a path is the same however
    often it is recorded.

    **Arguments:**

    - `flow`: the Diffrax solver of the flow. The default is of third order: at eta*lambda = .25 a second-order flow leaves
        up to the whole model error of SGD in the covariance, a third-order one below a quarter (linear regression).
    - `kicks`: evaluations of the noise in a kick, 1 or 2; None leaves it to the dynamics, which knows whether a kick
        changes what the noise depends on: 1 where its diffusion is free of the state, as its jaxpr shows.
    """

    flow: dfx.AbstractSolver = eqx.field(default_factory=Ralston3)
    kicks: int | None = eqx.field(default=None, static=True)

    term_structure: ClassVar = dfx.MultiTerm[tuple[dfx.ODETerm, dfx.AbstractTerm]]
    interpolation_cls: ClassVar = dfx.LocalLinearInterpolation

    def __check_init__(self):
        if not isinstance(self.flow, dfx.AbstractERK | dfx.Euler):
            raise ValueError(
                f"Argument `flow` must be an explicit Diffrax solver such as Heun(), but {self.flow!r} was given."
            )
        if self.kicks not in (None, 1, 2):
            raise ValueError(f"Argument `kicks` must be 1, 2 or None, but {self.kicks!r} was given.")

    def order(self, terms):
        flow: Any = self.flow
        return min(2, flow.order(None))

    def strong_order(self, terms):
        return 0.5

    def init(self, terms, t0, t1, y0, args):
        return None

    def flow_step(self, terms, t0, t1, y0, args):
        """One step of the flow alone, from t0 to t1."""
        return self.flow_stages(terms, t0, t1, y0, args)[0]

    def flow_stages(self, terms, t0, t1, y0, args):
        """One step of the flow alone, and what the solver of the flow knows of its stages."""
        return flow_stages(self.flow, terms.terms[0], t0, t1, y0, args)

    def kick_step(self, terms, t, step_start, y0, args):
        """The kick of the step that starts at `step_start`, at time t."""
        kick = terms.terms[1]
        control = kick.contr(step_start, step_start + 1)
        return add(y0, kick.vf_prod(t, y0, args, control))

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        middle = t0 + (t1 - t0) / 2
        y = self.flow_step(terms, t0, middle, y0, args)
        y = self.kick_step(terms, middle, t0, y, args)
        y = self.flow_step(terms, middle, t1, y, args)
        return y, None, dict(y0=y0, y1=y), None, dfx.RESULTS.successful

    def func(self, terms, t0, y0, args):
        return terms.vf(t0, y0, args)


class Merged(dfx.AbstractItoSolver):
    """Strang splitting with adjacent half flows merged: a step is the flow from the middle of the step before, and a kick.

    It leaves half a flow owing after the last kick. Only its step number `first`, if any, is entered with none owing.

    Two half flows that belong to different training steps part where something that is counted changes between them; where
    that is one factor of all rates (`scales`), the flow of both is that of the mean factor. Its state is
    the quotient of the stages of the last flow (`quotient.py`).
    """

    strang: Strang
    first: Array
    counts: bool = eqx.field(static=True, default=False)
    scales: bool = eqx.field(static=True, default=False)

    term_structure: ClassVar = Strang.term_structure
    interpolation_cls: ClassVar = dfx.LocalLinearInterpolation

    def order(self, terms):
        return 2

    def init(self, terms, t0, t1, y0, args):
        return no_quotient(y0)

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        dtype = jnp.result_type(t0)
        begin = jnp.where(jnp.rint(t0) == self.first.astype(dtype), 0.0, -0.5).astype(dtype)
        terms, start = from_step(terms, t0), jnp.zeros_like(t0)
        if not self.counts:
            y, quotient = self._flow(terms, begin, start + 0.5, y0, args)
        else:
            before, terms = held(terms, begin), held(terms, start)
            y, quotient = self._across(before, terms, begin, start, y0, args)
        y = self.strang.kick_step(terms, start + 0.5, start, y, args)
        return y, None, dict(y0=y0, y1=y), quotient, dfx.RESULTS.successful

    def _flow(self, terms, t0, t1, y, args):
        """A step of the flow, and the quotient of its stages."""
        y, stages = self.strang.flow_stages(terms, t0, t1, y, args)
        return y, stage_quotient(self.strang.flow, stages)

    def _across(self, before, after, begin, start, y, args):
        """From the middle of a step to that of the next, where these may belong to different training steps."""
        end = start + 0.5
        if self.scales:
            return self._flow(mean(before, after), begin, end, y, args)

        def apart(y):
            y, first = self._flow(before, begin, start, y, args)
            y, second = self._flow(after, start, end, y, args)
            return y, jnp.maximum(first, second)

        return jax.lax.cond(differ(before, after), apart, lambda y: self._flow(after, begin, end, y, args), y)

    def func(self, terms, t0, y0, args):
        return terms.vf(t0, y0, args)


@dataclasses.dataclass(frozen=True)
class Steps:
    """What a solver takes of a dynamics in its steps: flow and kick of a splitting, or its drift alone."""

    solver: Any  # of Diffrax, or None

    @property
    def split(self) -> bool:
        """Whether the steps are those of a splitting."""
        return isinstance(self.solver, Strang)

    @property
    def merge(self) -> bool:
        """Whether adjacent half flows can be merged, as those of our own splitting."""
        return type(self.solver) is Strang

    @property
    def fused(self) -> bool:
        """Whether the steps are three increments of flow and noise together."""
        return is_fused(self.solver)

    @property
    def apart(self) -> bool:
        """Whether flow and noise are told apart."""
        return self.split or self.fused

    @property
    def owing(self) -> float:
        """Of a step, by how much flow a run is behind the state between records."""
        return 0.5 if self.merge else BEHIND if self.fused else 0.0

    @property
    def shares(self) -> tuple[float, ...] | None:
        """The factors with which the normals of a step add up to its noise; None: equal ones."""
        return (B1 * R1, B3 * R3) if self.fused else None

    @property
    def on_batches(self) -> bool:
        """Whether the steps are on batches of real examples."""
        return is_on_batches(self.solver)

    @property
    def anchored(self) -> bool:
        """Whether full gradients are held from one step to others."""
        return is_anchored(self.solver)

    @property
    def per_step(self) -> int:
        """Steps of the solver in a training step at `substeps=1`."""
        return self.solver.per_step if self.on_batches else 1

    @property
    def flow(self) -> dfx.AbstractSolver:
        """The solver of the flow."""
        return self.solver.flow if self.apart else self.solver

    def kicks(self, dynamics: AbstractDynamics) -> int:
        """Kicks in a step, or draws of normals."""
        if self.fused:
            return 2
        return (self.solver.kicks or split(dynamics).kicks) if self.split else 1

    def leap(self, dynamics: AbstractDynamics) -> bool:
        """Whether the steps are leapfrog steps, where the kick carries the gradient."""
        return self.split and split(dynamics).leapfrog

    def blind(self, dynamics: AbstractDynamics) -> bool:
        """Whether the steps have no stages that show how stiff they are."""
        return self.leap(dynamics) or isinstance(self.flow, dfx.Euler)

    def quotient(self, inner: Any, dense: dict) -> Array:
        """The quotient of the stages of a step, from the state of the solver after it and its dense output."""
        seen = seen_of(self.solver, inner)
        if seen is not None:
            return seen
        return inner if isinstance(self.solver, Merged) else stage_quotient(self.solver, dense)

    def hooks(self, noisy: bool) -> tuple[str, ...]:
        """The methods of a dynamics that are called."""
        if self.split:
            return ("start", "flow", "kick") if noisy else ("start", "flow")
        if self.on_batches:
            return ("start", "velocity")
        if self.fused:
            return ("start", "flow", "kick", "euler")
        return ("start", "euler" if isinstance(self.solver, dfx.Euler) else "drift")
