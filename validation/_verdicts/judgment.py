"""What a measurement says of a prediction, and of a mutant of it that the same measurement must reject."""

import dataclasses
from typing import Any

import numpy as np

from .._plain import plain

HOLDS, FAILS, UNSURE = "holds", "fails", "cannot tell"
NEAR = 3.0  # so far off a measurement is that agrees
FAR = 4.0  # and from here on one that does not; in between it cannot be told
POWER = 5.0  # standard errors that a mutant must be off
TIMES = 10.0  # where nothing is random, the times of the right error that a mutant's must be


@dataclasses.dataclass(frozen=True)
class Judgment:
    """A measurement, a prediction, and a mutant of the prediction.

    - `what`: is measured, in words.
    - `prediction`, `measured`, `standard_error`, `mutant`: numbers; of a curve those where it is the farthest off.
    - `z`: how far off the measurement is: as rare as a normal number so many standard deviations from its mean, over all
        points of a curve together. Where nothing is random the error in units of what `unit` says.
    - `mutant_z`: the like from the mutant.
    - `verdict`: "holds" where `z` is at most 3 and the mutant is rejected by the same data, at more than 5 standard errors
        or, where nothing is random, 10 times the error; "fails" where `z` is above 4, or above 1 where nothing is random;
        else "cannot tell".
    - `unit`: of `z` and `mutant_z`.
    """

    what: str
    prediction: float
    measured: float
    standard_error: float
    mutant: float
    z: float
    mutant_z: float
    verdict: str
    unit: str = "standard errors"

    def __str__(self):
        error = "" if self.standard_error == 0 else f" ± {self.standard_error:.2g}"
        return (
            f"{self.what}: predicted {self.prediction:.5g}, measured {self.measured:.5g}{error} "
            f"({self.z:.2g} {self.unit}), mutant {self.mutant:.5g} ({self.mutant_z:.2g}): {self.verdict}"
        )

    def to_dict(self) -> dict:
        """Plain numbers and strings; NaN and infinity are None."""
        return plain(dataclasses.asdict(self))


def by_deviation(what: str, z: float, mutant_z: float, **numbers: Any) -> Judgment:
    """Of a random measurement, by how many standard errors it and the mutant are off."""
    if np.isnan(z):
        verdict = UNSURE
    elif z > FAR:
        verdict = FAILS
    else:
        verdict = HOLDS if z <= NEAR and mutant_z > POWER else UNSURE
    return Judgment(what=what, z=float(z), mutant_z=float(mutant_z), verdict=verdict, **_floats(numbers))


def by_size(what: str, z: float, mutant_z: float, unit: str, **numbers: Any) -> Judgment:
    """Where nothing is random: the error in a unit within which the right prediction stays, and what the mutant's is."""
    if np.isnan(z):
        verdict = UNSURE
    elif z > 1:
        verdict = FAILS
    else:
        verdict = HOLDS if mutant_z > TIMES else UNSURE
    return Judgment(what=what, z=float(z), mutant_z=float(mutant_z), verdict=verdict, unit=unit, **_floats(numbers))


def together(judgments) -> str:
    """One word for several: all hold, or one fails, or it cannot be told."""
    words = {one.verdict for one in judgments}
    return FAILS if FAILS in words else UNSURE if UNSURE in words or not words else HOLDS


def _floats(numbers: dict[str, Any]) -> dict[str, Any]:
    return {name: float(value) for name, value in numbers.items()}
