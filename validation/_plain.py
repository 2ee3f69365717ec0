"""Results as plain values, which JSON can hold."""

import math
from typing import Any

import diffrax as dfx
import jax
import numpy as np

from dynamics.internal import version


def plain(value) -> Any:
    """Dicts, lists, numbers and strings: an array as lists, an `Estimate` as a dict; NaN and infinity are None."""
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, tuple):  # an `Estimate`
        estimate: Any = value
        return plain(estimate.named())
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list):
        return [plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def versions() -> dict[str, str]:
    """What made the numbers."""
    return {"traindyn": version(), "jax": jax.__version__, "diffrax": dfx.__version__}
