"""`scaling_rule`: whether a rule for the learning rate at another batch size leaves a training run what it was."""

import dataclasses
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, PyTree

from dynamics.internal import Problem, check_key, train_problem
from dynamics.internal import title as words
from equations import AbstractEquation, AbstractSignal
from equations.internal import (
    RULES,
    check_model,
    choice,
    integer,
    positive,
)

from ._compare.observables import observables
from ._compare.statistics import Estimate, difference, mean_of, variance_samples
from ._compare.student import quantile, welch
from ._orders.table import lines

SURE = 4.0  # standard errors by which a deviation must lie beyond the tolerance, or within; more of few paths (Student)


@dataclasses.dataclass(frozen=True)
class ScalingRule:
    """The result of `scaling_rule`. `print(report)` is a table, `report.to_dict()` is ready for JSON.

    **Attributes:**

    - `rule`: as given.
    - `family`: the equations, the one that was given first, with their learning rates and batch sizes.
    - `steps`: training steps of each.
    - `deviations`: `deviations[observable]["mean" | "variance"]`, an `Estimate` with entries of shape `(batch sizes - 1,)`:
        how far the final mean (or variance) at another batch size is from that of the equation given, with standard
        error. Of several components the largest. In units of the way that the mean has gone (or of the variance); NaN
        where there is none.
    - `verdicts`: by observable and statistic: "holds", "fails" or "cannot tell".
    - `failed`: the fraction of paths that diverged, of each; they are left out.
    """

    rule: str
    family: tuple[AbstractEquation, ...]
    steps: tuple[int, ...]
    deviations: dict[str, dict[str, Estimate]]
    verdicts: dict[str, dict[str, str]]
    failed: tuple[float, ...]

    @property
    def verdict(self) -> str:
        """Of all together: "fails" if anything fails, "holds" if everything holds."""
        found = {verdict for statistics in self.verdicts.values() for verdict in statistics.values()}
        return "fails" if "fails" in found else "holds" if found == {"holds"} else "cannot tell"

    def __str__(self):
        runs = [("batch size", "learning rate", "steps", "failed paths")]
        for equation, steps, failed in zip(self.family, self.steps, self.failed, strict=True):
            runs.append((str(equation.batch_size), f"{float(equation.learning_rate):.4g}", str(steps), f"{failed:.1%}"))
        rows = [("observable", "statistic", *(f"batch size {e.batch_size}" for e in self.family[1:]), "")]
        for name, statistics in self.deviations.items():
            for statistic, (value, error) in statistics.items():
                cells = [f"{v:+.3f} ± {e:.3f}" for v, e in zip(value, error, strict=True)]
                rows.append((name, statistic, *cells, self.verdicts[name][statistic]))
        title = f"{words(self.family[0])}, {self.rule.replace('_', '-')} rule: {self.verdict}"
        return "\n".join([title, *lines(runs), "", *lines(rows)])

    def to_dict(self) -> dict:
        """Plain dicts, lists, numbers and strings."""
        return {
            "equation": words(self.family[0]),
            "rule": self.rule,
            "verdict": self.verdict,
            "batch_sizes": [equation.batch_size for equation in self.family],
            "learning_rates": [float(equation.learning_rate) for equation in self.family],
            "steps": list(self.steps),
            "failed": list(self.failed),
            "observables": {
                name: {
                    statistic: {
                        "deviation": estimate.value.tolist(),
                        "standard_error": estimate.error.tolist(),
                        "verdict": self.verdicts[name][statistic],
                    }
                    for statistic, estimate in statistics.items()
                }
                for name, statistics in self.deviations.items()
            },
        }


def scaling_rule(
    equation: AbstractEquation,
    objective: AbstractSignal,
    params: PyTree,
    *,
    rule: str,
    batch_sizes: Any,
    steps: int,
    key: Array | None = None,
    paths: int = 4096,
    observe: dict | None = None,
    noise: str = "minibatch",
    tolerance: float = 0.1,
) -> ScalingRule:
    r"""Runs an algorithm at several batch sizes, with the learning rate moved by a rule, over the same number of examples.

    At kappa times the batch size

    - `rule="linear"`: kappa times the learning rate (Goyal et al. 2017), which leaves SGD's equation what it is in the
        clock eta * step;
    - `rule="square_root"`: sqrt(kappa) times the learning rate, which does so for Adam and RMSProp in the clock
        eta^2 * step where noise dominates their moments (Malladi et al. 2022, NeurIPS).

    What an adaptive rule forgets moves along in both, 1 - beta by kappa, so that the memory spans the same examples; in the
    square-root rule eps too, by 1/sqrt(kappa) (the scaling `"batch_equivalent"`). Momentum's stays. Of AdaGrad,
    whose accumulator never forgets, neither rule is claimed. A `modified` equation moves as its algorithm, one of
    `from_optax` by the linear rule only. What is around an optimizer moves as its scaling says, in the clock of the
    examples: a schedule runs kappa times as fast, 1 - alpha of a box and eta lambda of a decay grow by kappa.

    **Arguments:** as for `train`, except

    - `equation`: the run that the others are held against, with its batch size.
    - `batch_sizes`: those of the others.
    - `steps`: of `equation`; those of the others follow, and must be whole.
    - `observe`: `None` observes the objective's `value` as `"loss"`, if it has one.
    - `tolerance`: up to which deviation the rule holds. No rule is exact at a finite learning rate.

    **Returns:** a `ScalingRule`. A statistic holds if every deviation is below the tolerance, and fails if one is above it,
    by four standard errors (of few paths by as many as are as rare); otherwise one cannot tell.

    **Raises:** TypeError or ValueError before any compilation, naming the argument.
    """
    problem = Problem.of(equation, objective, params, reads="equation", algorithm=True)
    rule = choice("rule", rule, RULES)
    if equation.batch_size is None:
        raise ValueError("Argument `equation` must have a batch size, but None was given.")
    if not isinstance(batch_sizes, list | tuple | np.ndarray) or len(batch_sizes) == 0:
        raise TypeError(f"Argument `batch_sizes` must hold at least one integer, but {batch_sizes!r} was given.")
    steps, paths = integer("steps", steps), integer("paths", paths, minimum=2)
    tolerance = float(positive("tolerance")(tolerance))
    observe = observables(observe, objective, problem.params)
    noise = choice("noise", noise, ("minibatch", "gaussian"))
    key = check_key(key, True)
    family, lengths = [equation], [steps]
    for size in batch_sizes:
        size = integer("batch_sizes", size)
        length = steps * equation.batch_size / size
        if abs(length - round(length)) > 1e-6 * length or round(length) < 1:
            raise ValueError(
                f"Argument `steps` must make whole steps at every batch size, but {steps} steps of {equation.batch_size} "
                f"examples are {length:g} of {size}."
            )
        family.append(at_batch_size(equation, rule, size))
        lengths.append(round(length))
    check_model(problem.equation, problem.params, rescales=True)  # what the learning rate does not move, no rule moves
    problems = [
        problem.on(member, algorithm=True).scheduled(length, paths, length, observe)
        for member, length in zip(family, lengths, strict=True)
    ]

    records, failed = [], []
    for place, one in enumerate(problems):
        run = train_problem(one, jax.random.fold_in(key, place), noise)
        ok = np.asarray(run.ok)
        records.append({name: np.asarray(values, float)[ok] for name, values in run.observables.items()})
        failed.append(float(np.mean(~ok)))
    found = {name: _deviations([record[name] for record in records]) for name in observe}
    deviations = {name: {kind: part for kind, (part, _) in both.items()} for name, both in found.items()}
    verdicts = {
        name: {kind: _verdict(part, tolerance, freedom) for kind, (part, freedom) in both.items()}
        for name, both in found.items()
    }
    return ScalingRule(
        rule=rule,
        family=tuple(family),
        steps=tuple(lengths),
        deviations=deviations,
        verdicts=verdicts,
        failed=tuple(failed),
    )


def at_batch_size(equation: AbstractEquation, rule: str, batch_size: int) -> AbstractEquation:
    """The equation at another batch size, its hyperparameters moved by the rule."""
    return equation.scaling_limit().at_batch_size(rule, batch_size)


def _deviations(records: list[np.ndarray]) -> dict[str, tuple[Estimate, np.ndarray]]:
    """Of the final mean and variance from those of the first record, arrays `(paths, 2, ...)`, and degrees of freedom."""
    finals = [record[:, -1].reshape(len(record), -1) for record in records]
    way = np.max(np.abs(finals[0].mean(axis=0) - records[0][:, 0].reshape(len(records[0]), -1).mean(axis=0)))
    found = {}
    for statistic, numbers in (("mean", finals), ("variance", [variance_samples(final) for final in finals])):
        estimates = [mean_of(values, True) for values in numbers]
        scale = way if statistic == "mean" else np.max(estimates[0].value)
        counts, columns, freedoms = [len(values) for values in numbers], [], []
        for estimate, count in zip(estimates[1:], counts[1:], strict=True):
            off = difference(estimate, estimates[0])
            worst = np.argmax(np.abs(off.value))
            columns.append([_in_units(number, scale) for number in (off.value[worst], off.error[worst])])
            freedoms.append(
                float(welch(*((e.error[worst], c - 1) for e, c in ((estimate, count), (estimates[0], counts[0])))))
            )
        found[statistic] = Estimate(*np.array(columns).T), np.array(freedoms)
    return found


def _in_units(number: float, scale: float) -> float:
    """number/scale; of nothing at all zero, and NaN, which tells nothing, where something else has no unit."""
    return number / scale if scale != 0 else 0.0 if number == 0 else np.nan


def _verdict(deviation: Estimate, tolerance: float, freedom: np.ndarray | float = np.inf) -> str:
    size, doubt = np.abs(deviation.value), quantile(SURE, freedom) * deviation.error
    if np.any(size - doubt > tolerance):
        return "fails"
    return "holds" if np.all(size + doubt < tolerance) else "cannot tell"
