"""A problem: an equation on a signal from some parameters, checked once and handed down to all that is done with it."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from equations import AbstractSignal, AbstractStream
from equations.internal import (
    abstract_value,
    as_ito,
    check_algorithm,
    check_epochs,
    check_mean,
    check_model,
    flag,
    on_parameters,
    under_trace,
    warn_frozen,
    with_loss_noise,
)

from ._arguments.alternation import Observables, observables_of
from ._arguments.checks import (
    check_concrete,
    check_equation,
    check_key,
    check_mesh,
    check_schedule,
    dynamic_numbers,
    guard_traced,
    step_length,
)
from ._arguments.frozen import which_stay
from ._arguments.handed_out import check_axis
from ._arguments.hooks import check_noise_models, check_start, checked_noise
from ._arguments.model import Model
from ._arguments.partly import partly
from ._arguments.per_path import paths_of
from ._checkpoint import Checkpoint
from ._kept import rule_of
from ._paths.grid import Grid, check_time, stream_grid
from ._paths.keys import path_keys
from ._paths.layout import Layout, most_paths, size_of
from ._paths.progress import Ensemble, Fresh, Progress
from ._paths.record import Places, first_record
from ._paths.stream_path import first_stimulus
from ._start import Start
from ._times import learning_rates
from ._trajectory import Trajectory


@dataclasses.dataclass(frozen=True)
class Problem:
    """What every run and every measurement begins with. What it holds is checked, and is not checked again.

    **Attributes:**

    - `equation`: of the contract that was asked for, with its numbers as arrays, and knowing the parameters where it asks
        for their shapes.
    - `objective`, `params`: as given, numbers as arrays; `dynamic` and `static` are what of the parameters is trained and
        the rest.
    - `steps`, `paths`, `save_every`, `observe`, `keep_states`: of a run (`scheduled`).
    - `ahead`: of the ensemble of which these paths are a block, those before it; `layout`: of its paths.
    - `stride`: training steps in one of these, from whose counts it is left out.
    - `given`: the equation before what is done to it here, in the Stratonovich form if that is what was given.
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
    start: Start | None = None
    stays: PyTree = None
    spread: PyTree = None
    ahead: int = 0
    layout: Layout = Layout()
    stride: int | float = 1
    given: Any = None

    @classmethod
    def of(
        cls,
        equation: Any,
        objective: Any,
        params: PyTree,
        *,
        twin: bool = True,
        reads: str = "twin",
        numbers_for: str | None = None,
        algorithm: bool = False,
        rescales: bool = False,
        start: Trajectory | None = None,
        frozen: Any = None,
        per_path: bool = False,
    ) -> "Problem":
        """The problem of these arguments, checked.

        **Arguments:**

        - `twin`: whether the equation must be that of an algorithm; else any dynamics will do.
        - `reads`: what of it is needed, for which a user's class must not override what would be ignored: the `"equation"`
            as a solver steps it, or its `"twin"`.
        - `numbers_for`: the name of a function that works on numbers; None for those that work under a trace too.
        - `algorithm`: of the algorithm alone, which runs where its equation may not: on parameters along explicit axes of
            a mesh, and where an Optax optimizer has no equation.
        - `rescales`: whether what follows goes by other learning rates too.
        - `start`: the trajectory that a run goes on from, in place of `params`.
        - `frozen`: what of the parameters stays as it is (`check_frozen`): the signal is bound to it, and nothing that
            moves parameters ever sees it.
        - `per_path`: whether every path has parameters of its own, leaves `(paths, ...)`.

        **Raises:** TypeError or ValueError before any compilation, naming the argument.
        """
        check_equation(equation, reads, twin)
        if numbers_for is not None:
            check_concrete(numbers_for, equation=equation, objective=objective, params=params)
        begin = None if start is None else Start.of(start, params, per_path)
        model = Model.of(
            objective,
            params if begin is None else begin.params,
            frozen=frozen,
            stayed=None if begin is None else begin.checkpoint.frozen,
            per_path=per_path,
            bound=isinstance(objective, AbstractSignal),
        )
        check_axis(model.objective, model.params)
        if not algorithm:
            check_mesh(model.params)
        return cls(equation, start=begin, **vars(model)).on(equation, algorithm, rescales)

    def on(self, equation: Any, algorithm: bool = False, rescales: bool = False) -> "Problem":
        """The same with another equation, checked on the parameters and the signal."""
        given = dynamic_numbers(with_loss_noise(equation, self.objective))
        given = given if self.has_examples else partly(given, self.stays, self.params)
        equation = as_ito(given)
        equation.check(self.params, self.objective)
        check_start(equation, self.dynamic)
        check_noise_models(equation, self)
        equation = on_parameters(equation, self.params)
        if algorithm:
            check_algorithm(equation, self.params)
        else:
            check_epochs(equation)
            check_model(equation, self.params, rescales)
        return dataclasses.replace(self, equation=equation, given=given)

    def scheduled(
        self,
        steps: int | None,
        paths: int | None,
        save_every: int,
        observe: dict | None,
        *,
        time: float | None = None,
        dt: float | None = None,
        substeps: int = 1,
        keep_states: bool = False,
        layout: Layout | None = None,
    ) -> "Problem":
        """The same with the schedule of a run, checked; warns of leaves that it moves and no gradient does.

        `observe` as the user gave it, `dt` where there is no learning rate, None for one path or those which go on.
        """
        if self.has_examples:
            warn_frozen(self.equation, self.objective, self.params)
            check_mean(self.objective, self.params)
        start = None if self.start is None else self.start.with_paths(paths)
        paths = paths if start is None else start.checkpoint.paths
        paths = paths if self.spread is None else paths_of(self.spread, paths)
        grid = None if self.stream is None else stream_grid(self.equation, self.stream, dt, substeps)
        length = dt if self.stream is None else self.stream.duration
        steps = check_time(self.equation, steps, time, length)
        steps, paths, save_every = check_schedule(steps, 1 if paths is None else paths, save_every)
        problem = dataclasses.replace(
            self,
            start=start,
            steps=steps,
            paths=paths,
            save_every=save_every,
            observe=observables_of(observe, self.whole, self.state, self.equation),
            keep_states=flag("keep_states")(keep_states),
            dt=step_length(self.equation, length),
            rates=learning_rates(self.equation, self.first + steps),
            grid=grid,
        )
        return dataclasses.replace(problem, layout=(layout or Layout()).blocks(paths, lambda: problem.most_paths))

    @property
    def whole(self) -> PyTree:
        """The parameters with what of them stays."""
        return eqx.combine(self.params, self.stays)

    def state(self) -> PyTree:
        """The structure of the state of the equation."""
        return eqx.filter_eval_shape(self.equation.init, self.dynamic)

    def check_key(self, key: Any, needed: bool) -> Array:
        """The key of a run: as given, where anything is random, or that of the run which goes on."""
        return check_key(key, needed) if self.start is None else self.start.key_for(key, needed)

    def apart(self, random: bool) -> bool:
        """Whether paths differ: where anything of a run is random, or each begins elsewhere."""
        return random or self.spread is not None or (self.start is not None and self.start.apart)

    def begin(self, fresh: Callable[[PyTree, Array], Progress], key: Array) -> Fresh | Ensemble:
        """Where a run from parameters begins, each path by `fresh(params, key)`."""
        if self.spread is None:
            return Fresh(self.guarded)
        return Ensemble.spread(fresh, self.spread, path_keys(key, self.paths))

    @property
    def first(self) -> int:
        """The training step at which a run begins."""
        return 0 if self.start is None else self.start.step

    @functools.cached_property
    def record(self) -> PyTree[jax.ShapeDtypeStruct]:
        """The structure of what is observed of one path at one record."""
        return abstract_value(first_record, self.observe, self.dynamic, self.static, self.equation)

    @property
    def most_paths(self) -> int:
        """How many paths are computed at once where their number is chosen, by what each holds."""
        records = size_of(self.record) * (self.steps // self.save_every + 1)
        return most_paths(8 * size_of(eqx.filter(self.dynamic, eqx.is_array)) + records)

    @property
    def before(self) -> np.ndarray:
        """`ahead` as an array, which compiles nothing anew."""
        return np.asarray(self.ahead, np.int32)

    @functools.cached_property
    def traced(self) -> bool:
        """Whether anything of a run is traced, which may then be differentiated."""
        return under_trace(self.equation, self.objective, self.params, self.static, self.observe, self.dt)

    def span(self, paths: int) -> tuple[np.ndarray, np.ndarray, Places]:
        """The first training step and the number of steps as arrays (see `before`), and room for so many paths' records."""
        more = [self.dynamic] * 3 if self.keep_states else []  # parameters and a memory of some sizes more
        record = self.record, *more
        places = Places.of(self.steps // self.save_every, record, paths, self.traced)
        return np.asarray(self.first, np.int32), np.asarray(self.steps, np.int32), places

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
        """The objective as the dynamics sees it: bound to what is not trained, clipped where that is its way; of a stream
        the first stimulus."""
        if self.grid is not None:
            return first_stimulus(self.equation, self.objective, self.grid.delay, self.dynamic)
        return self.equation.sees(self.objective.bind(self.static)) if self.has_examples else self.objective

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

    def checkpoint(self, progress: Progress, random: bool, **how) -> Checkpoint:
        """Where a run of this problem ended, in which things were drawn or not; its time is set by its trajectory."""
        how |= dict(rule=rule_of(self.equation), frozen=which_stay(self.stays, self.whole))
        how["drew"] = random or (self.start is not None and self.start.checkpoint.drew)
        step = jnp.asarray(self.first + self.steps, jnp.int32)
        return Checkpoint(step=step, time=step, progress=progress, paths=self.paths, **how)
