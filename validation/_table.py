"""A comparison as a table of plain text."""

import numpy as np

from dynamics._trajectory import title

_HEADER = ("observable", "", "equation", "discrete", "difference", "solver error", "model error", "in s.e.", "largest")
_COMPONENTS = 4


def _with_error(value: float, error: float) -> str:
    """Value and standard error with one exponent in common."""
    if not (error > 0 and np.isfinite(value)):
        return f"{value: .2e}"
    exponent = int(np.floor(np.log10(max(abs(value), error))))
    return f"{value / 10.0**exponent: .2f} ± {error / 10.0**exponent:.2f} e{exponent:+03d}"


def _ratio(value: float, error: float) -> float:
    if error > 0:
        return abs(value) / error
    return 0.0 if value == 0 else (np.inf if np.isfinite(value) and error == 0 else np.nan)


def _times(ratio: float) -> str:
    """A number of standard errors; "-" where these are not known."""
    return "-" if np.isnan(ratio) else f"{ratio:.1f}"


def _rows(name: str, statistic: str, moment, steps) -> list[tuple[str, ...]]:
    """A row for each component at the last step; only the worst components of a large observable."""
    model = moment.model_error
    ratios = np.vectorize(_ratio, otypes=[float])(model.value, model.error)
    last = ratios[-1]
    components = [index for index in np.ndindex(last.shape)]
    shown = components
    if len(components) > _COMPONENTS:
        shown = sorted(components, key=lambda index: -np.nan_to_num(last[index], nan=np.inf))[:_COMPONENTS]
        shown.sort()
    rows = []
    for index in shown:
        at = (-1, *index)
        # Step 0 is the same on both sides up to rounding.
        worst = 1 + int(np.argmax(np.nan_to_num(ratios[(slice(1, None), *index)], nan=-1.0)))
        label = name + "".join(f"[{i}]" for i in index)
        rows.append(
            (
                label,
                statistic,
                f"{moment.equation.value[at]: .4e}",
                f"{moment.discrete.value[at]: .4e}",
                _with_error(moment.difference.value[at], moment.difference.error[at]),
                _with_error(moment.solver_error.value[at], moment.solver_error.error[at]),
                _with_error(model.value[at], model.error[at]),
                _times(ratios[at]),
                f"{_times(ratios[(worst, *index)])} at {steps[worst]}",
            )
        )
    if len(components) > len(shown):
        rows.append((f"{name}: {len(components) - len(shown)} more", *[""] * (len(_HEADER) - 1)))
    return rows


def cells(comparison) -> list[tuple[str, ...]]:
    """The header and the rows: the last saved step, and where the model error was largest in standard errors."""
    rows = [_HEADER]
    for name, statistics in comparison.moments.items():
        for statistic, moment in statistics.items():
            rows += _rows(name, statistic, moment, comparison.steps)
    return rows


def instability(comparison) -> str | None:
    """What is wrong with the equation's side by the fault of the solver alone; None: nothing that is known."""
    plain, finer = dict(comparison.flow.details), dict(comparison.refined.details)
    failed = comparison.failed
    rescued = failed["equation"] > failed["refined"]
    if "stability" not in plain and not rescued:
        return None
    cured = "stability" not in finer and not failed["refined"]
    unstable = f"The solver is unstable at substeps={plain['substeps']}"
    if cured:
        return f"{unstable}, not the equation: at {finer['substeps']} it is fine; compare at that number."
    return f"{unstable}, and may be at {finer['substeps']}: more are needed to tell what the equation does."


def heading(comparison) -> str:
    """What was compared, and which part of it diverged."""
    equation = comparison.equation
    batch = (
        "full batch"
        if equation.batch_size is None
        else (f"batch size {equation.batch_size} {equation.sampling.replace('_', ' ')}")
    )
    lines = [
        f"{title(equation)}, learning rate {float(equation.learning_rate):g}, {batch}: equation and discrete "
        f"algorithm at step {comparison.steps[-1]}, {comparison.flow.ok.size} paths each"
    ]
    if any(comparison.failed.values()):
        failed = ", ".join(f"{side} {fraction:.1%}" for side, fraction in comparison.failed.items())
        lines.append(f"Paths that diverged, left out of the averages, which biases them: {failed}")
    if (unstable := instability(comparison)) is not None:
        lines.append(unstable)
    return "\n".join(lines)


def table(comparison) -> str:
    """What `print(comparison)` shows."""
    rows = cells(comparison)
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]

    def line(row):
        return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()

    return "\n".join([
        heading(comparison), "", line(rows[0]), "  ".join("-" * width for width in widths), *map(line, rows[1:]), "",
        "difference = solver error + model error; ± is the Monte Carlo standard error; in s.e.: the model error in",
        "standard errors, at the last step and where it is largest over all saved steps.",
    ])  # fmt: skip
