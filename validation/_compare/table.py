"""A comparison as a table of plain text."""

import numpy as np

from dynamics.internal import rescued, title

from .._table import lines
from .statistics import SETS
from .student import deviations

_HEADER = ("observable", "", "equation", "discrete", "difference", "solver error", "model error", "in s.e.", "largest")
_SETTLED = _HEADER[:7] + ("relative", "largest")  # where nothing is random
_COMPONENTS = 4


def with_error(value: float, error: float) -> str:
    """Value and standard error with one exponent in common."""
    if not (error > 0 and np.isfinite(value)):
        return f"{value: .2e}"
    exponent = int(np.floor(np.log10(max(abs(value), error))))
    return f"{value / 10.0**exponent: .2f} ± {error / 10.0**exponent:.2f} e{exponent:+03d}"


def _settled(moment) -> bool:
    """Whether a statistic has no Monte Carlo error at all."""
    return bool(np.all(moment.model_error.error == 0))


def _sizes(moment) -> np.ndarray:
    """The model error in standard errors, by Student's t; relative to the discrete side where there are none."""
    model = moment.model_error
    if not _settled(moment):
        at_rest = (model.error == 0) & (model.value == 0)
        return np.where(at_rest, 0.0, deviations(model.value, model.error, moment.freedom, moment.skewness))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(model.value == 0, 0.0, np.abs(model.value) / np.abs(moment.discrete.value))


def _size(value: float, settled: bool) -> str:
    """A number of standard errors, or a relative error; "-" where it is not known."""
    return "-" if np.isnan(value) else f"{value:.2e}" if settled else f"{value:.1f}"


def _rows(name: str, statistic: str, moment, steps) -> list[tuple[str, ...]]:
    """A row for each component at the last step; only the worst components of a large observable."""
    model = moment.model_error
    ratios, settled = _sizes(moment), _settled(moment)
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
                with_error(moment.difference.value[at], moment.difference.error[at]),
                with_error(moment.solver_error.value[at], moment.solver_error.error[at]),
                with_error(model.value[at], model.error[at]),
                _size(ratios[at], settled),
                f"{_size(ratios[(worst, *index)], settled)} at {steps[worst]}",
            )
        )
    if len(components) > len(shown):
        rows.append((f"{name}: {len(components) - len(shown)} more", *[""] * (len(_HEADER) - 1)))
    return rows


def cells(comparison) -> list[tuple[str, ...]]:
    """The header and the rows: the last saved step, and where the model error was largest in standard errors."""
    settled = is_settled(comparison)
    rows: list[tuple[str, ...]] = [_SETTLED if settled else _HEADER]
    for name, statistics in comparison.moments.items():
        for statistic, moment in statistics.items():
            if not (settled and statistic == "variance"):
                rows += _rows(name, statistic, moment, comparison.steps)
    return rows


def is_settled(comparison) -> bool:
    """Whether nothing is random on either side, so that there are no error bars and one path says all."""
    return all(_settled(moment) for statistics in comparison.moments.values() for moment in statistics.values())


def ensembles(comparison) -> str:
    """How many paths there are of what."""
    count = comparison.flow.ok.size
    if is_settled(comparison):
        random = comparison.equation.random or comparison.equation.batch_size is not None
        return f"alike on all of {count} paths each" if random else "nothing is random: one path each"
    if not comparison.equation.random:
        return f"{count} paths of the discrete algorithm, one of the equation, which has no noise"
    return f"{count} paths each"


def instability(comparison) -> str | None:
    """What is wrong with the equation's side by the fault of the solver alone; None: nothing that is known."""
    plain, finer = dict(comparison.flow.details), dict(comparison.refined.details)
    sides = (~np.asarray(side.ok) for side in (comparison.flow, comparison.refined))
    if "stability" not in plain and not rescued(*sides, random=comparison.equation.random):
        return None
    cured = "stability" not in finer and not comparison.failed["refined"]
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
        f"algorithm at step {comparison.steps[-1]}, {ensembles(comparison)}"
    ]
    return "\n".join([*lines, *warnings(comparison)])


def warnings(comparison) -> list[str]:
    """What went wrong on which side: paths left out, and those that are far away, though not out of bounds."""
    lines = []
    if any(comparison.failed.values()):
        failed = ", ".join(f"{side} {fraction:.1%}" for side, fraction in comparison.failed.items())
        lines.append(f"Paths that diverged, left out of the averages, which biases them: {failed}")
    for side, (fraction, largest) in comparison.runaway.items():
        if fraction:
            lines.append(
                f"The {side} side diverges: parameters of up to {largest:.1e} on {fraction:.1%} of its paths, which the "
                "averages hold."
            )
    if (unstable := instability(comparison)) is not None:
        lines.append(unstable)
    return [*lines, *sampled(dict(comparison.flow.details), comparison.steps[-1])]


def sampled(details: dict[str, str], steps: int) -> list[str]:
    """What may be off where the drift is a mean over the keys of a random loss."""
    if "draws" not in details:
        return []
    away = (steps / float(details["steps_to_draws"])) ** 0.5
    return [
        f"The drift is a mean over {details['draws']} keys of each example: in {steps} steps its standard error moves the "
        f"parameters by {away:.2g} standard deviations of the paths, unless they relax faster. It is in the errors, by "
        f"{SETS} runs with other keys."
    ]


def table(comparison) -> str:
    """What `print(comparison)` shows."""
    foot = [
        "difference = solver error + model error; relative: the model error over the discrete algorithm's value, at the",
        "last step and where it is largest over all saved steps.",
    ] if is_settled(comparison) else [
        "difference = solver error + model error; ± is the Monte Carlo standard error; in s.e.: the model error in",
        "standard errors, at the last step and where it is largest over all saved steps; of few paths, whose errors are",
        "uncertain themselves, as many as a normal number would need to be as rare (Student's t, and Hall's for skewness).",
    ]  # fmt: skip
    return "\n".join([heading(comparison), "", *lines(cells(comparison)), "", *foot])
