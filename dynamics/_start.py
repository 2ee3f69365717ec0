"""How a run takes up where another one ended."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from equations import TwinState
from equations.internal import (
    LARGEST,
    flag,
    form,
    integer,
    is_parameter,
    is_traced,
    state_from,
    twin_from,
    typed_key,
)

from ._arguments.checks import check_key
from ._checkpoint import Checkpoint
from ._kept import difference, rule_of
from ._paths.progress import Ensemble, Progress
from ._trajectory import check_trajectory


@dataclasses.dataclass(frozen=True)
class Start:
    """The end of a run, from which another goes on.

    **Attributes:** `params`, those of the first path, by which what is common to all paths is checked; `step` and `time`,
    where the other run ended; `checkpoint`, all that it kept; `many`, whether many paths begin at the end of its one.
    """

    params: PyTree
    step: int
    time: Array
    checkpoint: Checkpoint
    many: bool = False

    @property
    def apart(self) -> bool:
        """Whether its paths differ."""
        return self.checkpoint.progress.failed_at.shape[0] > 1

    @classmethod
    def of(cls, trajectory: Any, params: Any, per_path: Any = False) -> "Start":
        """The end of a trajectory, checked.

        **Raises:** TypeError or ValueError, naming `start`, `params` or `per_path`.
        """
        trajectory = check_trajectory("start", trajectory)
        if flag("per_path")(per_path):
            raise ValueError(
                "Argument `per_path` must be left out where `start` is given, each of whose paths goes on from its own "
                "end, but True was given."
            )
        if params is not None:
            raise ValueError(
                f"Argument `params` must be left out where `start` is given, whose parameters go on, but {params!r} was "
                "given."
            )
        checkpoint = trajectory.checkpoint
        if checkpoint is None:
            raise ValueError(
                "Argument `start` must be a run that can go on, as one of large steps, of what a vmap gave or, for an "
                "equation with noise, by diffrax.StepTo cannot: give the parameters that it ended with as `params`."
            )
        stopped = trajectory.stopped_at
        if stopped is not None and not is_traced(stopped) and np.any(np.isfinite(stopped)):
            raise ValueError(
                "Argument `start` must be a run that went all its steps, but this one stopped at an event, between two of "
                "them, from where neither steps nor schedules can be counted on: give the parameters that it ended with as "
                "`params`."
            )
        if is_traced(checkpoint.step) or np.ndim(checkpoint.step):
            raise ValueError(
                "Argument `start` must be the Trajectory of one run outside of jit and vmap, which knows where it ended, "
                "but this one does not."
            )
        one = jax.tree.map(lambda leaf: leaf[0] if is_parameter(leaf) else leaf, trajectory.final)
        return cls(one, int(checkpoint.step), checkpoint.time, checkpoint)

    def key_for(self, key: Any, needed: bool) -> Array:
        """The key of the run, which another must not be; where nothing was drawn by it, or many paths begin at the end of
        one, the key that is given.

        **Raises:** TypeError or ValueError, naming `key`.
        """
        own = self.checkpoint.key
        if not self.checkpoint.drew:
            return check_key(key, needed)
        if self.many:
            key = check_key(key, needed)
            if needed and _same_keys(key, own):
                raise ValueError(
                    "Argument `key` must be another than that of the run that `start` ended, where many paths begin at the "
                    f"end of one, whose noise is new, but {key!r} was given."
                )
            return key
        if key is not None and not _same_keys(typed_key("key", key), own):
            raise ValueError(
                "Argument `key` must be left out, or that of the run that `start` ended, since its noise goes on, but "
                f"{key!r} was given."
            )
        return own

    def with_paths(self, paths: int | None) -> "Start":
        """With so many paths, those of the run where they are left out: all of them go on, or many begin at the end of one.

        **Raises:** TypeError or ValueError, naming `paths`.
        """
        own = self.checkpoint.paths
        if paths is None or integer("paths", paths, maximum=LARGEST) == own:
            return self
        if own != 1:
            raise ValueError(
                f"Argument `paths` must be left out, or be those of `start`, {own}, but {paths!r} was given: many paths "
                "begin at the end of a run of one."
            )
        return dataclasses.replace(self, checkpoint=dataclasses.replace(self.checkpoint, paths=paths), many=True)

    def progress_as(
        self,
        kind: str,
        how: tuple[str, ...],
        begin: Callable[[], Progress],
        equation: Any,
        params: PyTree,
        carried: Callable[[], PyTree] = lambda: None,
        restart: Callable[[PyTree], PyTree] | None = None,
    ) -> tuple[Ensemble, Array]:
        """How far the paths have come, for a run of this kind, and whether half a flow is owing.

        **Arguments:** `begin`: what gives that with which a path of the run begins, for its structure; `equation` and
        `params`, for a run that crosses from the algorithm to its equation or back, and `carried`, what it then carries
        beside its state, leaves `(paths, ...)`; `restart`, what a run by other steps carries from a state on.

        **Raises:** ValueError, naming `start`, where the run goes on with another state.
        """
        expected = eqx.filter_eval_shape(begin)
        found, owes = self.checkpoint.progress, self.checkpoint.owes
        if self.checkpoint.kind != kind:
            found, owes = self._crossed(kind, equation, params, expected, carried), jnp.zeros((), bool)
        else:
            found = found.like(expected)
        if kind == "equation" and self.checkpoint.how != how:  # half a flow of one solver is not that of another
            whole = _restarted(found, expected, restart)
            if whole is not None:
                found, owes = whole, jnp.zeros((), bool)
        wrong = difference(found, self.checkpoint.rule, expected, equation, params)
        if wrong is not None:
            raise ValueError(f"Argument `start` must have ended with the state that the run goes on with, but {wrong}.")
        return Ensemble.of(found), owes

    def _crossed(
        self, kind: str, equation: Any, params: PyTree, expected: Progress, carried: Callable[[], PyTree]
    ) -> Progress:
        """The progress of an equation from that of its algorithm, or that of the algorithm."""
        old, state = self.checkpoint.progress, None
        rule = self.checkpoint.rule
        if kind == "equation":
            with jax.numpy_dtype_promotion("standard"):  # which Optax relies on
                twin = eqx.filter_eval_shape(lambda: TwinState(params, equation.twin().init(params)))
            old = old.like(dataclasses.replace(expected, recorded=twin))
            if form(old.recorded, 1) == form(twin):
                state = jax.vmap(lambda twin: state_from(equation, twin))(old.recorded)
            if state is not None:
                return Progress(state, state, old.failed_at, old.peak)
        else:
            own = eqx.filter_eval_shape(equation.init, params)
            old = old.like(dataclasses.replace(expected, recorded=own))
            alone = len(jax.tree.leaves(own)) == len(jax.tree.leaves(params))
            if form(old.recorded, 1) == form(own) and (alone or rule == rule_of(equation)):
                state = twin_from(equation, old.recorded, self.step)
            if state is not None:
                return Progress((state.memory, carried()), state, old.failed_at, old.peak)
        kinds = {"equation": "an equation", "discrete": "an algorithm"}
        raise ValueError(
            f"Argument `start` must be of a run of the same kind, but it is of {kinds[self.checkpoint.kind]}, {rule}, "
            f"whose memory is not known to be that of {kinds[kind]}, {rule_of(equation)}."
        )


def ended(start: Any, params: PyTree) -> PyTree:
    """The parameters with which a run of one path ended, or `params` where there is no such `start`.

    **Raises:** TypeError or ValueError, naming `start` or `params`.
    """
    if start is None:
        return params
    found = Start.of(start, params)
    if found.checkpoint.paths != 1:
        raise ValueError(
            f"Argument `start` must be of a run of one path where one set of parameters is measured, but it has "
            f"{found.checkpoint.paths}: give `params`, as in jax.tree.map(lambda leaf: leaf[0], trajectory.final)."
        )
    return found.params


def _restarted(progress: Progress, expected: Progress, restart: Callable[[PyTree], PyTree] | None) -> Progress | None:
    """The same from its complete states, by `restart` where a solver carries them in another form; None where they are none
    of such a run, or it carries more than its state, as under a stream of stimuli."""
    if form(progress.recorded, 1) != form(expected.recorded):
        return None
    if restart is not None:
        return dataclasses.replace(progress, running=eqx.filter_jit(eqx.filter_vmap(restart))(progress.recorded))
    if jax.tree.structure(expected.running) != jax.tree.structure(expected.recorded):
        return None
    return dataclasses.replace(progress, running=progress.recorded)


def _same_keys(one: Array, other: Array) -> bool:
    """Whether they draw the same numbers."""
    if jax.random.key_impl(one) != jax.random.key_impl(other):
        return False
    return bool(np.array_equal(jax.random.key_data(one), jax.random.key_data(other)))
