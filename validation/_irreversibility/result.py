"""What `irreversibility` returns."""

import dataclasses
import math

from jaxtyping import PyTree

from dynamics.internal import hyperparameters
from equations import AbstractEquation
from equations.internal import LARGEST_CORRECTION, warn

from .._plain import plain
from .._table import lines

VECTORS = ("backward_error", "time_renormalized", "time_asymmetry")


@dataclasses.dataclass(frozen=True)
class Irreversibility:
    """The result of `irreversibility`. `print(result)` is a table, `result.to_dict()` is ready for JSON.

    **Attributes:**

    - `phi`, `phi_gradient`: E|g_B|^2/4 and its gradient, exact.
    - `backward_error`, `time_renormalized`, `time_asymmetry`, `entropy_production`: the measures as scalars, in `values`.
    - `standard_errors`: of the scalars over the draws of batches, by name, widened by Student's quantile and by their
        skewness so that three of them hold as often as three of a normal variable, and two no less often; 0 where all
        batches were enumerated and nothing is drawn: they are no measure of how far the learning rate is from 0.
    - `forces`: of the three that are vectors, PyTrees like the parameters (None where a leaf is no parameter).
    - `distances`, `distance_errors`: |F + grad phi|/|grad phi| of each force, the noise of drawn batches taken out of it,
        and its standard error (of the square by a jackknife over up to 16 groups of batches, widened likewise; where
        three of them reach down to 0, the report prints the upper bound beside it).
    - `curl`: of the leading `velocity` and of each force (extrapolated to eta = 0 from eta and eta/2): 0 if it has a
        potential, 1 if it is a pure rotation; from random probes.
    - `batches`, `enumerated`: how many there were, and whether these are all.
    - `memory`: "none", "adiabatic" or "empty".
    - `gradient_steps`: whether these are plain gradient steps on a loss, for which theory says that the four agree.
    - `manifold_correction`: the length of what the slow manifold adds to the settled memory over that of the memory, the
        largest of its averages, root mean square over batches; 0 without a slow manifold. The series holds far below 1.
    - `equation`, `substeps`: as given.
    """

    equation: AbstractEquation
    phi: float
    phi_gradient: PyTree
    values: dict[str, float]
    standard_errors: dict[str, float]
    forces: dict[str, PyTree]
    distances: dict[str, float]
    distance_errors: dict[str, float]
    curl: dict[str, float]
    batches: int
    enumerated: bool
    memory: str
    substeps: int
    gradient_steps: bool
    manifold_correction: float = 0.0

    backward_error = property(lambda self: self.values["backward_error"])
    time_renormalized = property(lambda self: self.values["time_renormalized"])
    time_asymmetry = property(lambda self: self.values["time_asymmetry"])
    entropy_production = property(lambda self: self.values["entropy_production"])

    @property
    def plain(self) -> bool:
        """The name of `gradient_steps` before, for one release."""
        warn("Irreversibility.plain is now Irreversibility.gradient_steps.", DeprecationWarning)
        return self.gradient_steps

    def _distance(self, name: str) -> str:
        """A distance, with what it is less than where it is not resolved."""
        value, reach = self.distances[name], 3 * self.distance_errors[name]
        bound = "" if reach == 0 or not value <= reach * (1 + 1e-9) else f" < {value + reach:.1e}"
        return f"{value:.2e}{bound}"

    def __str__(self):
        rows = [("measure", "value", "ratio to phi", "standard error", "distance of force", "curl")]
        for name, value in self.values.items():
            vector = name in VECTORS
            rows.append((
                name.replace("_", " "), f"{value:.5e}", f"{value / self.phi:.5f}" if self.phi else "-",
                "none" if self.enumerated else f"{self.standard_errors[name]:.1e}", self._distance(name) if vector else "",
                f"{self.curl[name]:.2e}" if name in self.curl else "",
            ))  # fmt: skip
        if not self.curl:
            rows = [row[:-1] for row in rows]
        number = f"all {self.batches} batches" if self.enumerated else f"{self.batches} batches drawn"
        if self.equation.batch_size is None:
            number = "full batch"
        rate = hyperparameters(self.equation).get("learning_rate")
        heading = f"{type(self.equation).__name__}, learning rate {rate:g}, {number}: phi = {self.phi:.5e}"
        curl = "; curl: 0 if there is a potential, 1 for a pure rotation" if self.curl else ""
        notes = [f"distance of force: |F + grad phi|/|grad phi|{curl}."]
        if self.enumerated:
            notes.append(
                "No standard errors: nothing was drawn. What the measures are off phi is the doing of the learning rate."
            )
        if self.curl:
            notes.append(f"Curl of the velocity: {self.curl['velocity']:.2e}.")
            if not all(map(math.isfinite, self.curl.values())):
                notes.append("A curl of nan: the field, or its derivative, is not finite at these parameters.")
        if self.memory == "adiabatic":
            notes.append("On the slow manifold of the optimizer's memory: its measures need not agree with phi.")
            if not self.manifold_correction < LARGEST_CORRECTION:
                notes.append(
                    f"No slow manifold at this learning rate: its correction is {self.manifold_correction:.3g} times the "
                    "memory itself. The measures mean little."
                )
        if self.memory == "none" and not self.gradient_steps:
            notes.append(
                "No plain gradient steps on a loss: the measures need not agree with phi, nor with each other."
            )
        if self.memory == "empty":
            notes.append("From an empty memory: displacements are O(eta) where the memory keeps a part of itself.")
        return "\n".join([heading, "", *lines(rows), "", *notes])

    def to_dict(self) -> dict:
        """Plain dicts, numbers and strings, without the vectors; NaN (at a point where phi does not change) is None."""
        fields = ("phi", "values", "standard_errors", "distances", "distance_errors", "curl", "batches", "enumerated")
        return {
            "equation": type(self.equation).__name__,
            "hyperparameters": hyperparameters(self.equation),
            "memory": self.memory,
            "substeps": self.substeps,
            "gradient_steps": self.gradient_steps,
            "manifold_correction": plain(self.manifold_correction),
            **{name: plain(getattr(self, name)) for name in fields},
        }
