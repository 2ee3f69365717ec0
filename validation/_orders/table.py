"""An order sweep as tables of plain text."""

import numpy as np

from .._compare.table import with_error
from .._table import lines

_HEADER = (
    "observable", "measure", "claim", "slope", "95 %", "local slopes", "largest error", "smallest", "solver",
    "resolved", "",
)  # fmt: skip
_RATES = ("learning rate", "steps", "eta lambda_max", "failed paths")


def _local(estimate) -> str:
    return " ".join("-" if not np.isfinite(value) else f"{value:.2f}" for value in estimate.value)


def _rows(report) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [_HEADER]
    for name, measures in report.sweeps.items():
        for measure, sweep in measures.items():
            known = np.isfinite(sweep.slope)
            errors, solver = sweep.errors, sweep.solver_errors
            rows.append(
                (
                    name,
                    measure,
                    f"{sweep.claim:g}",
                    f"{sweep.slope:.3f}" if known else "-",
                    f"± {sweep.slope_error:.3f}" if known else "-",
                    _local(sweep.local_slopes),
                    with_error(errors.value[0], errors.error[0]),
                    with_error(errors.value[-1], errors.error[-1]),
                    f"{solver.value[-1]:.1e}",
                    f"{sweep.resolved:.1e}" if np.isfinite(sweep.resolved) else "-",
                    sweep.verdict,
                )
            )
    return rows


def _held(report) -> list[str]:
    """Which hyperparameters did not move with the learning rate, and how to move them."""
    if not report.fixed:
        return []
    name = report.fixed[0]
    return [
        f"Held fixed as the learning rate fell, for want of a `scaling_limit`: {', '.join(report.fixed)}.",
        "Where one is to move along, so that the equation has a limit in its clock, give the class",
        "    def scaling_limit(self):",
        f"        return equations.ScalingLimit(self, decays={{{name!r}: 1}})",
        f"for 1 - {name} ~ eta, say; and its `time`, where the clock is not eta * step.",
        "",
    ]


def table(report) -> str:
    """What `print(report)` shows."""
    rates = [_RATES] + [
        (f"{rate:g}", str(steps), f"{sharp:.3g}", f"{failed:.1%}")
        for rate, steps, sharp, failed in zip(
            report.learning_rates, report.steps, report.sharpness, report.failed, strict=True
        )
    ]
    after = f" after a transient of {report.transient:g}" if report.transient else ""
    return "\n".join([
        f"{report.name}: equation against discrete algorithm over the natural time {report.time:g}{after}",
        f"Method: {report.method}", *([f"Remainder: {report.remainder}"] if report.remainder else []), "",
        *lines(_rows(report)), "", *lines(rates), "", *_held(report),
        "Slopes of |error| over the step in natural time; ± in an error: its Monte Carlo standard error; 95 %: half-width",
        "of an interval for the order, of Monte Carlo error, scatter and curvature; -: hidden by Monte Carlo, solver or",
        "rounding error. solver: solver error at the smallest learning rate, which is taken out of the errors.",
        "resolved: the smallest error that counts, over the change in the run. Smaller ones that stay as the step falls,",
        "such as a velocity that is wrong by so small a fraction, are not seen.",
    ])  # fmt: skip
