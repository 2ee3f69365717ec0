"""An ensemble in blocks of paths of a fixed size, of which moments and histograms are kept.

Sums are formed within a block and combined in double precision in the order of blocks (Pébay 2008, Sandia report 6212), so
that they do not depend on what computes the blocks.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ._paths.layout import Layout, fitting
from ._problem import Problem
from ._reduced import Kept, Reduced, over_count
from ._trajectory import Trajectory


def check_kept(given: Any, problem: Problem, **others: Any) -> Kept | None:
    """What of an ensemble is kept, None for all of it; `others` ask for single paths, None where left out.

    **Raises:** TypeError or ValueError, naming the argument.
    """
    if given is None:
        return None
    kept = Kept.of(given)
    keep_states = True if problem.keep_states else None
    for name, value in {
        "start": problem.start,
        "per_path": problem.spread,
        "keep_states": keep_states,
        **others,
    }.items():
        if value is not None:
            raise ValueError(
                f"Argument `{name}` must be left out with `reduce`, of which no path is kept, but it was given."
            )
    if problem.traced:
        raise TypeError("Argument `reduce` must be None under jit, vmap or grad, but a traced run was given.")
    if not problem.observe:
        raise ValueError("Argument `observe` must be given with `reduce`, which keeps nothing else, but None was.")
    return kept


def reduced(run: Callable[[Problem], Trajectory], problem: Problem, kept: Kept, random: bool) -> Reduced:
    """The ensemble of a problem, block by block, each by `run`; the paths of what is not random are all the same."""
    paths, layout = problem.paths if random else 1, problem.layout if random else Layout()
    block = layout.block or fitting(paths, problem.most_paths)
    tally, first = None, None
    for ahead in range(0, paths, block * layout.width):
        part = run(dataclasses.replace(problem, paths=block * layout.width, ahead=ahead))
        first = part if first is None else first
        results = part.observables, part.failed_at
        if layout.width > 1:
            results = jax.device_get(results)
        for begin in range(0, min(block * layout.width, paths - ahead), block):
            here = np.asarray(min(block, paths - ahead - begin))
            one = jax.tree.map(lambda leaf, begin=begin: leaf[begin : begin + block], results)
            sums = jax.device_get(_sums(one[0], one[1], part.steps, here, kept))
            tally = Tally.of(sums) if tally is None else tally.with_block(Tally.of(sums))
    assert first is not None and tally is not None
    return tally.of_all(first, kept, problem.paths, block, 1 if random else problem.paths)


@eqx.filter_jit
def _sums(observables: dict, failed_at, steps, here, kept: Kept):
    """Of the paths that are well at a record: their number, mean and sums of powers of deviations, and counts in bins."""
    inside = jnp.arange(len(failed_at)) < here
    well = inside[:, None] & ((failed_at < 0)[:, None] | (steps.astype(failed_at.dtype)[None] < failed_at[:, None]))
    count = jnp.sum(well, 0)

    def moments(x):
        shape = (*well.shape, *[1] * (x.ndim - 2))
        x = x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(float)
        w, n = well.reshape(shape), jnp.maximum(count, 1).reshape(shape[1:]).astype(x.dtype)
        mean = jnp.sum(jnp.where(w, x, 0), 0) / n
        off = jnp.where(w, x - mean, 0)
        return mean, *(jnp.sum(off**power, 0) for power in range(2, kept.order + 1))

    def bins(x):
        edges = jnp.asarray(kept.histogram.edges, x.dtype)  # pyright: ignore[reportOptionalMemberAccess]
        places = jnp.searchsorted(edges, x, side="right")  # (paths, saves)
        zeros = jnp.zeros((edges.size + 1,), jnp.int32)
        return jax.vmap(lambda place, w: zeros.at[place].add(w.astype(jnp.int32)), (1, 1))(places, well)

    numbers = {name: x for name, x in observables.items() if x.ndim == 2} if kept.histogram is not None else {}
    return count, inside.sum() - count, jax.tree.map(moments, observables), jax.tree.map(bins, numbers)


@dataclasses.dataclass(frozen=True)
class Tally:
    """What is summed over blocks, in double precision: counts `(saves,)`, of observables means and sums of powers."""

    count: np.ndarray
    failed: np.ndarray
    powers: dict[str, tuple[np.ndarray, ...]]
    bins: dict[str, np.ndarray]

    @classmethod
    def of(cls, sums: tuple) -> "Tally":
        count, failed, powers, bins = sums
        powers = {name: tuple(np.asarray(x, float) for x in parts) for name, parts in powers.items()}
        return cls(
            np.asarray(count, np.int64),
            np.asarray(failed, np.int64),
            powers,
            {k: np.asarray(v, np.int64) for k, v in bins.items()},
        )

    def with_block(self, other: "Tally") -> "Tally":
        """Of both."""
        powers = {
            name: _combined(self.count, mine, other.count, other.powers[name]) for name, mine in self.powers.items()
        }
        bins = {name: mine + other.bins[name] for name, mine in self.bins.items()}
        return Tally(self.count + other.count, self.failed + other.failed, powers, bins)

    def of_all(self, first: Trajectory, kept: Kept, paths: int, block: int, times: int) -> Reduced:
        """The result; each path stands for so many."""
        count, failed = self.count * times, self.failed * times
        found: dict[str, Any] = {name: {} for name in kept.moments}
        for name, (mean, *sums) in self.powers.items():
            central = [over_count(total, self.count) for total in sums]  # of second, third and fourth power
            with np.errstate(divide="ignore", invalid="ignore"):
                values = {"mean": np.where(count.reshape(-1, *[1] * (mean.ndim - 1)) > 0, mean, np.nan)}
                if sums:
                    values["variance"] = over_count(sums[0] * times, count - 1.0)
                if len(sums) > 1:
                    values["skewness"] = central[1] / central[0] ** 1.5
                if len(sums) > 2:
                    values["kurtosis"] = central[2] / central[0] ** 2
            for moment in kept.moments:
                found[moment][name] = values[moment]
        histogram = None if kept.histogram is None else {name: times * bins for name, bins in self.bins.items()}
        return Reduced(
            steps=first.steps,
            times=first.times,
            count=count,
            failed=failed,
            equation=first.equation,
            kind=first.kind,
            details=first.details,
            units=first.units,
            paths=paths,
            block=block,
            histogram=histogram,
            edges=None if kept.histogram is None else kept.histogram.edges,
            **found,
        )


def _combined(n, mine: tuple, m, theirs: tuple) -> tuple:
    """Means and sums of powers of deviations of two sets of `n` and `m`."""
    shape = (-1, *[1] * (mine[0].ndim - 1))
    n, m = (np.asarray(x, float).reshape(shape) for x in (n, m))
    whole = np.maximum(n + m, 1)
    d = np.where((n > 0) & (m > 0), theirs[0] - mine[0], 0)
    mean = np.where(n > 0, mine[0], theirs[0]) + d * m / whole
    result = [mean]
    if len(mine) > 1:
        result.append(mine[1] + theirs[1] + d**2 * n * m / whole)
    if len(mine) > 2:
        result.append(
            mine[2] + theirs[2] + d**3 * n * m * (n - m) / whole**2 + 3 * d * (n * theirs[1] - m * mine[1]) / whole
        )
    if len(mine) > 3:
        result.append(
            mine[3]
            + theirs[3]
            + d**4 * n * m * (n**2 - n * m + m**2) / whole**3
            + 6 * d**2 * (n**2 * theirs[1] + m**2 * mine[1]) / whole**2
            + 4 * d * (n * theirs[2] - m * mine[2]) / whole
        )
    return tuple(result)
