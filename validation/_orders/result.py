"""What `orders` returns."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from dynamics.internal import hyperparameters, title
from equations import AbstractEquation
from equations.internal import inside

from .._plain import plain, versions
from .fit import Sweep
from .table import table


@dataclasses.dataclass(frozen=True)
class Orders:
    """The result of `orders`. `print(report)` is a table, `report.to_dict()` is ready for JSON.

    **Attributes:**

    - `equation`: what was examined, at the learning rate it came with.
    - `method`: `"deterministic"`, `"exact moments"` or `"sampling, ..."`.
    - `time`, `transient`: as given, in natural time.
    - `learning_rates`, `steps`, `step_lengths`: shape `(rates,)`; the last is the natural time of a training step, over
        which slopes are taken (the learning rate itself, or its root for momentum with 1 - beta ~ sqrt(eta)).
    - `sharpness`: shape `(rates,)`, eta * lambda_max, the largest over the start and the end.
    - `failed`: shape `(rates,)`, the fraction of paths that diverged, which are left out.
    - `sweeps`: `sweeps[observable][measure]` is a `Sweep`. The measures are `"mean"` and, for equations with noise,
        `"second moment"` and `"variance/eta"`, the variance over the natural time of a step (in a heat bath over 1).
    - `remainder`: what the equation itself says it leaves out, a string; empty if it says nothing.
    - `fixed`: of an equation with a memory and without a `scaling_limit` of its own, the hyperparameters that stayed
        the same while the learning rate fell.

    `slope`, `slope_error`, `local_slopes`, `errors`, `solver_errors`, `claim`, `verdict` and `resolved` are the fields of
    the sweeps, as `slope[observable][measure]`.
    """

    equation: AbstractEquation
    method: str
    time: float
    transient: float
    learning_rates: Float[np.ndarray, " rates"]
    steps: Int[np.ndarray, " rates"]
    step_lengths: Float[np.ndarray, " rates"]
    sharpness: Float[np.ndarray, " rates"]
    failed: Float[np.ndarray, " rates"]
    sweeps: dict[str, dict[str, Sweep]]
    remainder: str
    fixed: tuple[str, ...] = ()

    def _all(self, field: str) -> dict[str, dict[str, Any]]:
        return {
            name: {measure: getattr(sweep, field) for measure, sweep in measures.items()}
            for name, measures in self.sweeps.items()
        }

    slope = property(lambda self: self._all("slope"))
    slope_error = property(lambda self: self._all("slope_error"))
    local_slopes = property(lambda self: self._all("local_slopes"))
    errors = property(lambda self: self._all("errors"))
    solver_errors = property(lambda self: self._all("solver_errors"))
    claim = property(lambda self: self._all("claim"))
    verdict = property(lambda self: self._all("verdict"))
    resolved = property(lambda self: self._all("resolved"))

    @property
    def name(self) -> str:
        """The equation in words."""
        twin = inside(self.equation)
        inner = None if twin is None else inside(twin)
        inner = twin if inner is None else inner
        name = type(self.equation).__name__ + (f"({type(inner).__name__})" if inner is not None else "")
        series = self.equation.series()
        name = title(self.equation) if series.remainder is None else name
        words = [name] + ([f"order {series.order}"] if series.remainder is not None else [])
        if series.fluctuations:
            words.append("with fluctuations")
        if self.equation.batch_size is not None:
            words.append(f"batch size {self.equation.batch_size} {self.equation.sampling.replace('_', ' ')}")
        return ", ".join(words)

    def plot(self, observable: str | None = None, measure: str | None = None, ax: Any = None) -> Any:
        """`validation.plot_orders` of this."""
        from .._plots.orders import plot_orders

        return plot_orders(self, observable, measure, ax)

    def __str__(self):
        return table(self)

    def to_dict(self) -> dict:
        """Plain dicts, lists, numbers and strings; NaN and infinity are None."""
        return {
            "equation": self.name,
            "hyperparameters": hyperparameters(self.equation),
            "method": self.method,
            "time": self.time,
            "transient": self.transient,
            "remainder": self.remainder,
            "fixed": list(self.fixed),
            **{
                field: getattr(self, field).tolist() if field == "steps" else plain(getattr(self, field))
                for field in ("learning_rates", "steps", "step_lengths", "sharpness", "failed")
            },
            "observables": {
                name: {
                    measure: {
                        field: plain(value if field != "usable" else value.astype(int))
                        for field, value in sweep._asdict().items()
                    }
                    for measure, sweep in measures.items()
                }
                for name, measures in self.sweeps.items()
            },
            "versions": versions(),
        }
