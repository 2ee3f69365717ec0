"""What the command `traindyn sweep` prints."""

import itertools
from typing import Any

from .._table import lines

_MOST = 40  # rows


def summary(runs: Any) -> str:
    """A table of the settings: the mean of every observable at the last step over the paths that did not diverge."""
    axes = runs["ok"].dims[:-1]
    names = [name for name, values in runs.data_vars.items() if values.dims == (*axes, "path", "step")]
    last = runs[names].isel(step=-1).where(runs["ok"]).mean("path").load()
    failed = (~runs["ok"]).sum("path").load()
    rows = [[*axes, *names, "diverged"]]
    for place in itertools.islice(itertools.product(*(range(runs.sizes[axis]) for axis in axes)), _MOST):
        one = dict(zip(axes, place, strict=True))
        labels = [str(runs[axis].values[index]) for axis, index in one.items()]
        numbers = [f"{float(last[name].isel(one)):.4g}" for name in names]
        rows.append([*labels, *numbers, f"{int(failed.isel(one))} of {runs.sizes['path']}"])
    count, step = failed.size, int(runs["step"][-1])
    more = [f"... and {count - _MOST} more"] if count > _MOST else []
    return "\n".join([f"{count} settings, {runs.sizes['path']} paths each, means at step {step}:", *lines(rows), *more])
