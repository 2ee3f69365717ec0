"""What an equation knows of the series in the learning rate of its algorithm's step."""

import dataclasses
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True)
class Series:
    """Of an equation as it was written, or of the truncated series that `modified` made.

    - `order`: to which it goes; 1 for an equation as it was written.
    - `fluctuations`: whether the diffusion is corrected too.
    - `increment`: the increment field of the discrete algorithm, where that is known; None: of the twin's.
    - `continued`: makes the series to an order, `continued(order, fluctuations)`, for an equation that knows its own.
    - `remainder`: what the truncated series leaves out in words, a function of the parameters; None: nothing is truncated.
    - `refusal`: what an equation must be to have a series, where it has none.
    - `maker`: the function that made an equation what it is, if that belongs outside of all that a training step does, as
        this series or an average does; None: the equation may stand inside.
    - `kind`: what it made, in words.
    - `average`: whether that is an average of the parameters.
    - `discrete`: whether there is a discrete algorithm, the twin, of whose step this is the series.
    """

    order: int = 1
    fluctuations: bool = False
    increment: Any = None
    continued: Callable[..., Any] | None = None
    remainder: Callable[[Any], str] | None = None
    refusal: str | None = None
    maker: str | None = None
    kind: str = "a series"
    average: bool = False
    discrete: bool = False
