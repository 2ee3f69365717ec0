"""What a trajectory keeps for another run to go on from, to the bit."""

import equinox as eqx
from jaxtyping import Array, Int

from ._paths.progress import Progress, Stored


class Checkpoint(eqx.Module):
    """All that a run goes on from.

    **Attributes:**

    - `key`: the typed key of the run; every path's is made from it, and the noise of a step from that and its number.
    - `step`: the training steps taken, all runs together; `time`: the time after them.
    - `progress`: of every path, or of the one that stands for all where nothing is random.
    - `owes`: whether half a flow is owing.
    - `how`: by which solver, or under which noise.
    - `kind`, `paths`: of the trajectory.
    - `rule`: of what the state is the memory (`rule_of`).
    - `drew`: whether anything was drawn by the key; else it stands for none.
    - `frozen`: which leaves of the parameters stay; None: none does.
    """

    key: Array
    step: Int[Array, ""]
    time: Array
    progress: Progress | Stored
    owes: Array
    how: tuple[str, ...] = eqx.field(static=True)
    kind: str = eqx.field(static=True)
    paths: int = eqx.field(static=True)
    rule: str = eqx.field(static=True)
    drew: bool = eqx.field(static=True)
    frozen: tuple[bool, ...] | None = eqx.field(static=True, default=None)
