"""A problem: an equation on a signal from some parameters, checked once and handed down to all that is done with it."""

import dataclasses
import functools
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, PyTree

from equations import AbstractEquation, AbstractSignal, AbstractStream
from equations.internal import (
    check_algorithm,
    check_epochs,
    check_model,
    flag,
    is_parameter,
    learning_rate_of,
    on_parameters,
    positive,
    warn_frozen,
)

from ._arguments.checks import (
    Observables,
    check_concrete,
    check_equation,
    check_mesh,
    check_observe,
    check_params,
    check_schedule,
    dynamic_numbers,
    guard_traced,
)
from ._arguments.handed_out import check_axis, hand_out
from ._arguments.hooks import checked_noise
from ._paths.grid import Grid, check_time, stream_grid
from ._paths.record import for_all_paths
from ._paths.stream_path import first_stimulus
from ._trajectory import Trajectory, learning_rates, recorded


@dataclasses.dataclass(frozen=True)
class Problem:
    """What every run and every measurement begins with. What it holds is checked, and is not checked again.

    **Attributes:**

    - `equation`: of the contract that was asked for, with its numbers as arrays, and knowing the parameters where it asks
        for their shapes.
    - `objective`, `params`: as given, numbers as arrays; `dynamic` and `static` are what of the parameters is trained and
        the rest.
    - `steps`, `paths`, `save_every`, `observe`, `keep_states`: of a run (`scheduled`).
    - `dt`: the time of a training step or of a stimulus, an array; `rates`: the learning rates of all steps, None where
        one serves them all; `grid`: the solver's in time under a stream.
    """

    equation: Any
    objective: Any
    params: PyTree
    dynamic: PyTree
    static: PyTree
    steps: int = 0
    paths: int = 1
    save_every: int = 1
    observe: Observables = dataclasses.field(default_factory=dict)
    keep_states: bool = False
    dt: Any = None
    rates: Array | None = None
    grid: Grid | None = None

    @classmethod
    def of(
        cls,
        equation: Any,
        objective: Any,
        params: PyTree,
        kind: type = AbstractEquation,
        *,
        reads: str = "twin",
        numbers_for: str | None = None,
        algorithm: bool = False,
        rescales: bool = False,
    ) -> "Problem":
        """The problem of these arguments, checked.

        **Arguments:**

        - `kind`: the contract that the equation has to keep.
        - `reads`: what of it is needed, for which a user's class must not override what would be ignored: the `"equation"`
            as a solver steps it, or its `"twin"`.
        - `numbers_for`: the name of a function that works on numbers; None for those that work under a trace too.
        - `algorithm`: of the algorithm alone, which runs where its equation may not: on parameters along explicit axes of
            a mesh, and where an Optax optimizer has no equation.
        - `rescales`: whether what follows goes by other learning rates too.

        **Raises:** TypeError or ValueError before any compilation, naming the argument.
        """
        check_equation(equation, kind, reads)
        if numbers_for is not None:
            check_concrete(numbers_for, equation=equation, objective=objective, params=params)
        params = check_params(params)
        check_axis(objective, params)
        if not algorithm:
            check_mesh(params)
        return cls(equation, objective, params, *eqx.partition(params, is_parameter)).on(equation, algorithm, rescales)

    def on(self, equation: Any, algorithm: bool = False, rescales: bool = False) -> "Problem":
        """The same with another equation, checked on the parameters and the signal."""
        equation = dynamic_numbers(equation)
        equation.check(self.params, self.objective)
        equation = on_parameters(equation, self.params)
        if algorithm:
            check_algorithm(equation, self.params)
        else:
            check_epochs(equation)
            check_model(equation, self.params, rescales)
        return dataclasses.replace(self, equation=equation)

    def scheduled(
        self,
        steps: int | None,
        paths: int,
        save_every: int,
        observe: dict | None,
        *,
        time: float | None = None,
        dt: float | None = None,
        substeps: int = 1,
        keep_states: bool = False,
    ) -> "Problem":
        """The same with the schedule of a run, checked; warns of leaves that it moves and no gradient does.

        `observe` as the user gave it, and `dt` where the equation has no learning rate.
        """
        if self.has_examples:
            warn_frozen(self.equation, self.objective, self.params)
        grid = None if self.stream is None else stream_grid(self.equation, self.stream, dt, substeps)
        length = dt if self.stream is None else self.stream.duration
        steps = check_time(self.equation, steps, time, length)
        steps, paths, save_every = check_schedule(steps, paths, save_every)
        return dataclasses.replace(
            self,
            steps=steps,
            paths=paths,
            save_every=save_every,
            observe=check_observe(observe, self.params),
            keep_states=flag("keep_states")(keep_states),
            dt=_step_length(self.equation, length),
            rates=learning_rates(self.equation, steps),
            grid=grid,
        )

    @property
    def stream(self) -> AbstractStream | None:
        """The objective, if it is a stream of stimuli."""
        return self.objective if isinstance(self.objective, AbstractStream) else None

    @property
    def has_examples(self) -> bool:
        """Whether the objective is a signal that is a sum over examples."""
        return isinstance(self.objective, AbstractSignal)

    @functools.cached_property
    def signal(self) -> Any:
        """The objective as the dynamics sees it: bound to what is not trained; of a stream the first stimulus."""
        if self.grid is not None:
            return first_stimulus(self.equation, self.objective, self.grid.delay, self.dynamic)
        return self.objective.bind(self.static) if self.has_examples else self.objective

    @functools.cached_property
    def noise(self) -> PyTree[jax.ShapeDtypeStruct] | None:
        """The structure of the normal numbers of a kick; None where the equation has no noise."""
        return checked_noise(self.equation, self.signal, self.dynamic)

    @property
    def random(self) -> bool:
        """Whether anything of the equation's run is drawn."""
        return self.noise is not None or (self.stream is not None and self.stream.random)

    @functools.cached_property
    def guarded(self) -> PyTree:
        """What is trained, refused at run time where traced numbers are not finite."""
        return guard_traced(self.dynamic)

    def trajectory(self, results: tuple, random: bool, **how) -> Trajectory:
        """The result of a run.

        **Arguments:** `results`: observables, states, last parameters `(paths, ...)` and the training steps of failure, of
        one path where nothing is random; `how`: what else a `Trajectory` says.
        """
        saves, states, last, failed_at = results if random else for_all_paths(results, self.paths)
        hand_out(self.objective, self.params, last, states, saves)
        steps, times = recorded(self.rates, self.steps, self.save_every, self.dt)
        return Trajectory(
            steps=steps,
            times=times,
            observables=saves,
            final=eqx.combine(last, self.static),
            ok=failed_at < 0,
            failed_at=failed_at,
            equation=self.equation,
            states=states,
            **how,
        )


def _step_length(equation, dt) -> Array:
    rate = learning_rate_of(equation)
    if rate is None and dt is None:
        raise ValueError(
            f"Argument `dt` must be the time of a training step, since {type(equation).__name__} has no "
            "learning rate, but None was given."
        )
    if rate is not None and dt is not None:
        raise ValueError(
            f"Argument `dt` must be None, since the learning rate of {type(equation).__name__} is its time of "
            f"a training step, but {dt!r} was given."
        )
    return positive("dt" if rate is None else "learning_rate")(dt if rate is None else rate)
