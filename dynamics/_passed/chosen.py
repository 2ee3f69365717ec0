"""Steps that a controller chooses."""

from typing import Any

import diffrax as dfx
from jaxtyping import Array

# A training step has so many parts that Diffrax's Brownian tree tells apart, unless the controller has a `dtmin`.
_PARTS = 1024


def smallest_step(controller: Any) -> Any:
    """The shortest steps that the Brownian motion under a controller resolves, in training steps."""
    while isinstance(controller, dfx.ClipStepSizeController):
        controller = controller.controller
    least = controller.dtmin if isinstance(controller, dfx.PIDController) else None
    return 1 / _PARTS if least is None else least


def meeting(controller: Any, recorded: Array) -> dfx.ClipStepSizeController:
    """The controller with steps that end at the records, between which nothing is interpolated, and at times that it has
    rejected, without which what it rejects is biased (Foster and Jelinčič 2024, arXiv 2311.14201)."""
    stored = None if isinstance(controller, dfx.ClipStepSizeController) else 100
    return dfx.ClipStepSizeController(controller, step_ts=recorded, store_rejected_steps=stored)
