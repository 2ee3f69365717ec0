"""What a trajectory keeps for another run to go on from, to the bit."""

import equinox as eqx
import jax
from jaxtyping import Array, Int

from ._paths.progress import Progress
from ._paths.quotient import Peak


class Stored(eqx.Module):
    """A `Progress` from a file, whose states are leaves without a structure: the run that goes on knows it."""

    running: tuple[Array, ...]
    recorded: tuple[Array, ...]
    failed_at: Array
    peak: Peak

    def like(self, progress: Progress) -> Progress | None:
        """In the structure of another one; None where it has another number of leaves."""
        parts = []
        for own, structure in ((self.running, progress.running), (self.recorded, progress.recorded)):
            treedef = jax.tree.structure(structure)
            if treedef.num_leaves != len(own):
                return None
            parts.append(jax.tree.unflatten(treedef, own))
        return Progress(*parts, self.failed_at, self.peak)


class Checkpoint(eqx.Module):
    """All that a run goes on from.

    **Attributes:**

    - `key`: the typed key of the run; every path's is made from it, and the noise of a step from that and its number.
    - `step`: the training steps taken, all runs together; `time`: the time after them.
    - `progress`: of every path, or of the one that stands for all where nothing is random.
    - `owes`: whether half a flow is owing.
    - `how`: by which solver, or under which noise.
    - `kind`, `paths`: of the trajectory.
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
    frozen: tuple[bool, ...] | None = eqx.field(static=True, default=None)
