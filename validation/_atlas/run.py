"""`run`: one entry of the atlas, measured."""

import time

import jax
from jaxtyping import Array

from equations.internal import flag, typed_key

from .._table import lines
from .catalog import Entry, entry, module_of
from .findings import AtlasResult


def run(name: str, *, key: Array | None = None, full: bool = False) -> AtlasResult:
    """Measures one entry of the atlas, in double precision.

    **Arguments:**

    - `name`: of the entry, such as `"law-of-balance"`; `entries` has them all.
    - `key`: a typed key, by default `jax.random.key(0)`.
    - `full`: whether to take the setting of the paper, which may take hours, in place of a smaller one.

    **Returns:** an `AtlasResult` with `verdict`, `claims` and `plot`.

    **Raises:** TypeError or ValueError, naming the argument.
    """
    known, full = entry(name), flag("full")(full)
    key = jax.random.key(0) if key is None else typed_key("key", key)
    begin = time.monotonic()
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        findings = module_of(known.name).measure(key, full)
    return AtlasResult(*known, findings=findings, seconds=time.monotonic() - begin, note=findings.note)


def failed(known: Entry, error: Exception, seconds: float) -> AtlasResult:
    """The result of an entry that raised an error."""
    return AtlasResult(*known, findings=None, seconds=seconds, note=f"{type(error).__name__}: {error}")


def table(results: list[AtlasResult]) -> str:
    """One row for each entry, with its leading claim."""
    rows: list[tuple[str, ...]] = [("entry", "prediction", "measured", "z", "verdict", "mutant's z", "seconds")]
    for one in results:
        if one.claims:
            first = one.claims[0]
            error = f" ± {first.standard_error:.1g}" if first.standard_error else ""
            cells = (f"{first.prediction:.4g}", f"{first.measured:.4g}{error}", f"{first.z:.2g}")
            rows.append((one.name, *cells, one.verdict, f"{first.mutant_z:.2g}", f"{one.seconds:.1f}"))
        else:
            rows.append((one.name, "-", "-", "-", one.verdict, "-", f"{one.seconds:.1f}"))
    return "\n".join(lines(rows))
