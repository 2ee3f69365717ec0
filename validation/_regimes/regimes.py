"""`regimes`: which model of training holds at which learning rate, and when."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, PyTree

from dynamics import train
from dynamics.internal import Problem, check_concrete, title
from equations import AbstractEquation, AbstractSignal, RodFlow, sharpness
from equations.internal import choice, integer, positive, real_array

from .._plain import plain, versions
from .._table import lines
from .models import MODELS, alternates

NONE = "none"
_NAMES = tuple(model.name for model in MODELS)


@dataclasses.dataclass(frozen=True)
class RegimeMap:
    """Of one algorithm: relative errors over learning rates and windows of time.

    - `title`: of the algorithm.
    - `learning_rates`: shape `(rates,)`; `steps`: where the windows end, `(windows,)`.
    - `sharpness`: of the run in each window, eta lambda_max where gradient descent is stable below 2, `(rates, windows)`;
        NaN where the algorithm has no threshold.
    - `errors`: by the name of a model `(rates, windows)`, the difference of the mean loss of a window, oscillation
        included, from that of the run, relative to this; infinite where the model diverges, NaN where the run does.
    - `refused`: by the name of a model why the algorithm has none.
    """

    title: str
    learning_rates: Float[np.ndarray, " rates"]
    steps: np.ndarray
    sharpness: Float[np.ndarray, "rates windows"]
    errors: dict[str, Float[np.ndarray, "rates windows"]]
    refused: dict[str, str]
    bound: float

    @property
    def best(self) -> np.ndarray:
        """The name of the best model in each cell, `"none"` where none is within the bound, `(rates, windows)`."""
        names = list(self.errors)
        table = np.stack([np.nan_to_num(self.errors[name], nan=np.inf) for name in names])
        found = np.asarray(names, dtype=object)[np.argmin(table, axis=0)]
        return np.where(np.min(table, axis=0) <= self.bound, found, NONE)

    def __str__(self):
        best, head = self.best, ("learning rate", *(f"to step {step}" for step in self.steps))
        rows: list[tuple[str, ...]] = [head]
        for index, rate in enumerate(self.learning_rates):
            cells = []
            for place, name in enumerate(best[index]):
                error = "" if name == NONE else f" {self.errors[name][index, place]:.1%}"
                edge = self.sharpness[index, place]
                cells.append(f"{name}{error}" + ("" if np.isnan(edge) else f" at {edge:.2f}"))
            rows.append((f"{rate:g}", *cells))
        notes = [f"{name}: {reason}" for name, reason in self.refused.items()]
        return "\n".join([self.title, *lines(rows), *notes])

    def to_dict(self) -> dict:
        """Plain dicts, lists, numbers and strings; NaN and infinity are None."""
        return plain(
            {
                "title": self.title,
                "learning_rates": self.learning_rates,
                "steps": self.steps,
                "sharpness": self.sharpness,
                "errors": dict(self.errors),
                "best": self.best.tolist(),
                "refused": dict(self.refused),
                "bound": self.bound,
            }
        )


@dataclasses.dataclass(frozen=True)
class Regimes:
    """What `regimes` returns: a `RegimeMap` for each algorithm. `print` is a table, `plot()` a figure."""

    maps: tuple[RegimeMap, ...]

    def __str__(self):
        foot = (
            "The best model of each window, with the relative error of its mean loss, and eta lambda_max of the run (2 is "
            f"the edge); none: no model within {self.maps[0].bound:.0%}."
        )
        return "\n\n".join([*map(str, self.maps), foot])

    def to_dict(self) -> dict:
        """Plain dicts, lists, numbers and strings."""
        return {"maps": [one.to_dict() for one in self.maps], "versions": versions()}

    def plot(self):
        """A figure: for each algorithm the best model over time and learning rates, and the errors of all."""
        from .plot import plot_regimes

        return plot_regimes(self)


def regimes(
    equations: AbstractEquation | Sequence[AbstractEquation],
    objective: AbstractSignal,
    params: PyTree,
    *,
    learning_rates: Sequence[float] | Sequence[Sequence[float]],
    steps: int,
    key: Array | None = None,
    windows: int = 5,
    bound: float = 0.05,
    models: Sequence[str] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Regimes:
    """Which model of training holds where: gradient flow, the SDE, modified equations of order 2 to 4, rod flow of order 1
    and 2, edge flow and central flow are run beside the algorithm, from the same parameters.

    **Arguments:**

    - `equations`: of one or more algorithms.
    - `learning_rates`: for all of them, or a sequence for each; other hyperparameters are fixed.
    - `steps`: training steps, a multiple of `windows`, over each of which losses are averaged.
    - `key`: seeds what alternates; drawn from key 0 if left out, and needed where batches are drawn.
    - `bound`: the largest relative error of the mean loss at which a model holds.
    - `models`: some of them by name; by default all.
    - `progress`: called with the name of each run as it begins.

    **Returns:** `Regimes`.

    **Raises:** TypeError or ValueError before any compilation, naming the argument.
    """
    _rates(learning_rates, 1 if not isinstance(equations, Sequence) else len(equations))
    several: list[Any] = list(equations) if isinstance(equations, Sequence) else [equations]
    if not several:
        raise ValueError("Argument `equations` must hold at least one equation, but none was given.")
    check_concrete("regimes", params=params, key=key)
    steps, windows = integer("steps", steps), integer("windows", windows)
    if steps % windows:
        raise ValueError(f"Argument `windows` must divide `steps`, {steps}, but {windows} was given.")
    bound = float(positive("bound")(bound))
    chosen = [choice("models", name, _NAMES) for name in (_NAMES if models is None else models)]
    for equation in several:
        Problem.of(equation, objective, params, reads="equation", numbers_for="regimes")
        if key is None and equation.batch_size is not None:
            raise ValueError("Argument `key` must be given where batches are drawn, but None was given.")
    if not objective.has_value:
        raise ValueError("Argument `objective` must be that of a loss, with a `value`, but it has none.")
    key = jax.random.key(0) if key is None else key
    told = progress or (lambda what: None)
    maps = []
    for equation, rates in zip(several, _rates(learning_rates, len(several)), strict=True):
        options = dict(steps=steps, windows=windows, key=key, bound=bound, chosen=chosen, told=told)
        maps.append(_map(equation, objective, params, rates, **options))
    return Regimes(tuple(maps))


def _rates(given: Any, count: int) -> list[np.ndarray]:
    """The learning rates of each algorithm."""
    array = isinstance(given, np.ndarray | jax.Array) and given.ndim
    parts = list(given) if array or (isinstance(given, Sequence) and not isinstance(given, str | bytes)) else []
    several = any(isinstance(one, Iterable) and not isinstance(one, str | bytes) for one in parts)
    rows = parts if several else [parts] * count
    nested = [np.atleast_1d(real_array("learning_rates", one, "positive numbers")) for one in rows]
    if len(nested) != count or not all(np.all(np.isfinite(one)) and np.all(one > 0) and one.size for one in nested):
        raise ValueError(
            f"Argument `learning_rates` must hold positive numbers, or as many sequences of these as there are algorithms, "
            f"{count}, but {given!r} was given."
        )
    return nested


def _map(equation, objective, params, rates, *, steps, windows, key, bound, chosen, told) -> RegimeMap:
    name, every = title(equation), max(k for k in range(1, 11) if (steps // windows) % k == 0)
    limit, edge = equation.scaling_limit(), _edge(objective, equation)
    options: dict[str, Any] = dict(steps=steps, save_every=every)
    # Learning rates alone differ: nothing is compiled twice.
    moved = [limit.at_fixed_memory(float(rate / equation.learning_rate)) for rate in rates]
    told(f"{name}: the algorithm")
    runs = []
    for one in moved:
        observe = {"loss": objective.value} | ({} if edge is None else {"edge": edge(one)})
        own = jax.random.fold_in(key, 1) if one.batch_size is not None else None
        runs.append(train(RodFlow(equation=one), objective, params, key=own, observe=observe, **options))
    losses = np.stack([_windows(run.observables["loss_average"], run.ok, windows) for run in runs])
    nothing = np.full_like(losses, np.nan)
    found = nothing if edge is None else np.stack([_windows(r.observables["edge"], r.ok, windows) for r in runs])
    errors, refused = {}, {}
    for model in MODELS:
        if model.name not in chosen:
            continue
        rows = []
        for one, loss in zip(moved, losses, strict=True):
            told(f"{name}: {model.name}")
            flow = model.of(one)
            if not isinstance(flow, str):
                observe = {"loss": objective.value}
                flow = model.run(flow, objective, params, jax.random.fold_in(key, 2), observe=observe, **options)
            if isinstance(flow, str):
                refused[model.name] = flow
                break
            seen = "loss_average" if alternates(flow.equation) else "loss"
            values = _windows(flow.observables[seen], flow.ok, windows, np.asarray(flow.failed_at), every)
            with np.errstate(invalid="ignore"):
                rows.append(np.where(np.isfinite(values), np.abs(values - loss) / np.abs(loss), np.inf))
        else:
            errors[model.name] = np.where(np.isfinite(losses), np.stack(rows), np.nan)
    ends = np.arange(1, windows + 1) * (steps // windows)
    return RegimeMap(
        title=name,
        learning_rates=np.asarray(rates),
        steps=ends,
        sharpness=2 * found,
        errors=errors,
        refused=refused,
        bound=bound,
    )


def _edge(objective, equation):
    """The sharpness in units of the threshold as a function of the equation, None where it has none."""
    try:
        sharpness(objective, equation)
    except (TypeError, ValueError):
        return None
    return lambda one: sharpness(objective, one)


def _windows(values, ok, windows: int, failed_at=None, every: int = 1) -> np.ndarray:
    """The mean over paths in each window, without the record of the start; infinite from a failure on."""
    paths = np.asarray(values, float)[:, 1:]
    good = np.asarray(ok)
    if not good.all():
        ends = np.where(good, np.inf, 0.0) if failed_at is None else np.where(good, np.inf, failed_at / every)
        paths = np.where(np.arange(1, paths.shape[1] + 1) < ends[:, None], paths, np.inf)
    return paths.mean(axis=0).reshape(windows, -1).mean(axis=1)
