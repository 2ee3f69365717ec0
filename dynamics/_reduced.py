"""What is kept of an ensemble whose paths are not: moments and histograms over paths."""

import dataclasses
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from ._described import provenance

MOMENTS = ("mean", "variance", "skewness", "kurtosis")
Table = dict[str, Float[np.ndarray, "saves ..."]]


class Histogram(eqx.Module):
    """Counts of observables that are numbers, in bins with given `edges`, for the `reduce` of `solve` and `train`.

    **Arguments:** `edges`, increasing, shape `(bins + 1,)`. A bin holds its left edge and not its right one.

    **Raises:** ValueError where the edges do not increase.
    """

    edges: tuple[float, ...] = eqx.field(static=True, converter=lambda edges: tuple(np.asarray(edges, float).tolist()))

    def __check_init__(self):
        edges = np.asarray(self.edges)
        if edges.size < 2 or not np.all(np.isfinite(edges)) or not np.all(np.diff(edges) > 0):
            raise ValueError(
                f"Argument `edges` must be at least two finite numbers, increasing, but {self.edges} was given."
            )


@dataclasses.dataclass(frozen=True)
class Kept:
    """What is asked for: names of moments, and a histogram or none."""

    moments: tuple[str, ...]
    histogram: Histogram | None

    @classmethod
    def of(cls, given: Any) -> "Kept":
        """From what the user gave as `reduce`, checked."""
        names = ", ".join(map(repr, MOMENTS))
        wording = f"Argument `reduce` must be a tuple of {names} and at most one Histogram(edges), but "
        named = isinstance(given, tuple | list) and all(isinstance(one, str | Histogram) for one in given)
        if not named or not given:
            raise TypeError(f"{wording}{given!r} was given.")
        histograms = [one for one in given if isinstance(one, Histogram)]
        moments = [one for one in given if not isinstance(one, Histogram)]
        if len(histograms) > 1 or len(set(moments)) < len(moments) or not set(moments) <= set(MOMENTS):
            raise ValueError(f"{wording}{given!r} was given.")
        return cls(tuple(moments), histograms[0] if histograms else None)

    @property
    def order(self) -> int:
        """The highest power of deviations."""
        return max([1, *(1 + MOMENTS.index(name) for name in self.moments)])


class Reduced(eqx.Module):
    """Moments over the paths of an ensemble, recorded at the same steps; no path is kept.

    A path that has failed is left out from the record on that its failure precedes, and counted: moments are those of the
    paths that are well.

    **Attributes:** dicts by the names of observables, None where not asked for.

    - `steps`, `times`, `equation`, `kind`, `details`, `units`: as of a `Trajectory`.
    - `mean`, `variance` (unbiased), `skewness`, `kurtosis` (that of a normal variable is 3): arrays `(saves, ...)`.
    - `histogram`: counts of the `Histogram` that was asked for, `(saves, bins + 2)`; the first is what lies below its
        `edges`, the last what lies beyond.
    - `count`, `failed`: paths that are well and that are not, `(saves,)`; together they are `paths`.
    - `paths`: their number, of which blocks of `block` were run at once.
    """

    steps: Int[Array, " saves"]
    times: Float[Array, " saves"]
    count: Int[np.ndarray, " saves"]
    failed: Int[np.ndarray, " saves"]
    equation: Any
    kind: str = eqx.field(static=True)
    details: tuple[tuple[str, str], ...] = eqx.field(static=True)
    units: tuple[str, str] = eqx.field(static=True)
    paths: int = eqx.field(static=True)
    block: int = eqx.field(static=True)
    mean: Table | None = None
    variance: Table | None = None
    skewness: Table | None = None
    kurtosis: Table | None = None
    histogram: dict[str, Shaped[np.ndarray, "saves bins"]] | None = None
    edges: tuple[float, ...] | None = eqx.field(static=True, default=None)

    @property
    def ok(self) -> bool:
        """Whether no path failed."""
        return not np.any(self.failed)

    @property
    def standard_error(self) -> Table:
        """Of the mean, by the variance over paths, sqrt(variance/count), arrays `(saves, ...)`.

        **Raises:** ValueError where no variance was asked for.
        """
        if self.variance is None:
            raise ValueError("`Reduced.standard_error` needs 'variance' in `reduce`.")
        return {name: np.sqrt(over_count(value, self.count)) for name, value in self.variance.items()}

    def quantile(self, name: str, q: float) -> Float[np.ndarray, " saves"]:
        """That of an observable at every record, read off the histogram, linear within a bin.

        **Raises:** KeyError for an observable without a histogram; ValueError unless `q` is in [0, 1]. NaN where the
        quantile lies outside of the edges.
        """
        if self.histogram is None or name not in self.histogram:
            raise KeyError(f"There is no histogram of {name!r}: it takes `Histogram(edges)` in `reduce`.")
        if not 0 <= q <= 1:
            raise ValueError(f"Argument `q` must be a number in [0, 1], but {q!r} was given.")
        edges, counts = np.asarray(self.edges), self.histogram[name]
        below = np.cumsum(counts, axis=1)[:, :-1]  # at every edge
        wanted = q * self.count
        found = [
            np.interp(w, row, edges) if row[0] <= w <= row[-1] else np.nan for w, row in zip(wanted, below, strict=True)
        ]
        return np.asarray(found)

    def to_xarray(self):
        """An `xarray.Dataset` with dims `(step, ...)`: `x_mean`, `x_variance`, ... of an observable `x`."""
        import xarray as xr  # not at the top: only those who leave JAX pay for it

        variables: dict[str, tuple] = {"count": (("step",), self.count), "failed": (("step",), self.failed)}
        for moment in (*MOMENTS, "histogram"):
            for name, values in (getattr(self, moment) or {}).items():
                inner = ["bin"] if moment == "histogram" else [f"{name}_axis_{axis}" for axis in range(values.ndim - 1)]
                variables[f"{name}_{moment}"] = (("step", *inner), values)
        attrs = {**provenance(self), "paths": self.paths, "block": self.block}
        steps, times = np.asarray(self.steps), np.asarray(self.times)
        coords = {
            "step": ("step", steps, {"units": self.units[0]}),
            "time": ("step", times, {"units": self.units[1]}),
        }
        if self.edges is not None:
            coords["left_edge"] = ("bin", np.asarray([-np.inf, *self.edges]), {})
        return xr.Dataset(variables, coords=coords, attrs=attrs)


def over_count(values: np.ndarray, count: np.ndarray) -> np.ndarray:
    """`values / count`, with the axis of records in front."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return values / count.reshape(-1, *[1] * (values.ndim - 1))
