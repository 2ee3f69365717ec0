"""What an entry of the atlas gives back, and what becomes of it."""

import dataclasses
import html
from collections.abc import Mapping
from typing import Any

from .._plain import plain
from .._verdicts.judgment import UNSURE, Judgment, together

UNEXPLAINED = "unexplained"


@dataclasses.dataclass(frozen=True)
class Findings:
    """What `measure` of an entry returns.

    - `claims`: judgments of what the paper says, the leading one first.
    - `data`: arrays by name, all that its `plot` needs.
    - `note`: what a reader should know of the numbers: the cause of a deviation, and the experiment that shows it.
    - `beyond`: judgments on a network or data that the theory does not solve, which say what of it survives there.
    - `unexplained`: a deviation whose cause is not known, and its size; such an entry neither holds nor fails.
    """

    claims: tuple[Judgment, ...]
    data: Mapping[str, Any]
    note: str = ""
    beyond: tuple[Judgment, ...] = ()
    unexplained: str = ""


@dataclasses.dataclass(frozen=True)
class AtlasResult:
    """An entry of the atlas, measured.

    - `name`, `title`, `source`: of the entry.
    - `findings`: see `Findings`; None where it raised an error, which `note` tells.
    - `seconds`: that it took.
    - `note`: of the findings.
    """

    name: str
    title: str
    source: str
    findings: Findings | None
    seconds: float
    note: str = ""

    @property
    def claims(self) -> tuple[Judgment, ...]:
        return () if self.findings is None else self.findings.claims

    @property
    def verdict(self) -> str:
        """ "holds", "fails", "cannot tell" or "unexplained": of all claims together."""
        if self.findings is None:
            return UNSURE
        return UNEXPLAINED if self.findings.unexplained else together(self.claims)

    def plot(self, ax: Any = None) -> Any:
        """Draws the figure of the entry: the prediction as a line, the measurement with error bars.

        **Arguments:** Matplotlib axes, or None for a figure of its own.

        **Returns:** the axes.
        """
        from .figure import drawn

        if self.findings is None:
            raise ValueError(f"Entry {self.name!r} raised an error, and has no figure: {self.note}")
        return drawn(self, ax)

    def to_dict(self) -> dict:
        """Plain dicts, lists, numbers and strings: the leading claim, and all of them under `claims`; NaN is None."""
        first = self.claims[0].to_dict() if self.claims else {}
        found = self.findings
        return plain(
            {
                "name": self.name,
                "source": self.source,
                **{part: first.get(part) for part in ("prediction", "measured", "standard_error", "z")},
                "verdict": self.verdict,
                "mutant_z": first.get("mutant_z"),
                "seconds": self.seconds,
                "note": self.note,
                "unexplained": "" if found is None else found.unexplained,
                "claims": [claim.to_dict() for claim in self.claims],
                "beyond": [] if found is None else [claim.to_dict() for claim in found.beyond],
            }
        )

    def __str__(self):
        found = self.findings
        parts = [f"{self.name}: {self.verdict}", self.title, f"({self.source})", *map(str, self.claims)]
        if found is not None and found.beyond:
            parts += ["Beyond the theory:", *map(str, found.beyond)]
        if found is not None and found.unexplained:
            parts.append(f"Unexplained: {found.unexplained}")
        return "\n".join([*parts, *([self.note] if self.note else [])])

    def _repr_html_(self) -> str:
        from .figure import drawn_svg

        figure = "" if self.findings is None else drawn_svg(self)
        return f"<pre>{html.escape(str(self))}</pre>{figure}"
