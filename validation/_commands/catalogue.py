"""What every exported equation says of itself, read from its docstring: the one place where it is written."""

import inspect
import re
import textwrap
from typing import Any, NamedTuple

import equations
from equations import (
    AbstractEquation,
    Regularized,
)

# Li, Tai and E 2019, JMLR 20(40); Compagnoni et al. 2025, ICLR; Oja 1982, J. Math. Biol. 15
_NAME = r"(?:(?:da|de|van|von) )?[A-Z]\w*"
_NAMES = rf"{_NAME}(?:(?:, {_NAME})* and {_NAME}| et al\.)?"
_VENUE = r"(?:(?:[A-Z][a-z]*\.? )+\d|[A-Za-z]+(?::[\w.]*\w| \d| workshop)?)(?:(?<= \d)\w*(?:\(\w+\))?)?"
_CITATION = re.compile(rf"{_NAMES} (?:19|20)\d\d, {_VENUE}")


class Description(NamedTuple):
    """Of one equation: its first sentence, formula, scaling with its natural clock, claimed order, and sources.

    Of a signal or a penalty: its first sentence, and formula and sources where they are apart from it.
    """

    summary: str
    formula: str
    scaling: str
    order: str
    sources: tuple[str, ...]

    def __str__(self):
        rows = (("scaling", self.scaling), ("order", self.order), ("source", "; ".join(self.sources)))
        return "\n".join([
            *textwrap.wrap(self.summary, 116, initial_indent="  ", subsequent_indent="  "),
            *([self.formula] if self.formula else []),
            *(line for label, text in rows if text
              for line in textwrap.wrap(text, 116, initial_indent=f"  {label:<9}", subsequent_indent=" " * 11)),
        ])  # fmt: skip


def describe(kind: Any, needed: tuple[str, ...] = Description._fields) -> Description:
    """What the docstring of an equation says, or of something else that must have no more than the parts `needed`.

    Its parts are the first paragraph, the first indented block, and the paragraph that begins with "Scaling" and holds the
    words "Weak order ..."; sources are quoted as "Li, Tai and E 2019, JMLR 20(40)", or the word "derived" stands for them.

    **Raises:** ValueError where one of them is missing.
    """
    text = inspect.getdoc(kind) or ""
    paragraphs = text.split("\n\n")
    formula = next((p for p in paragraphs if p.startswith("    ")), "")
    # A label such as "Source:" may stand in a line above, in the same paragraph.
    last = re.search(r"^Scalings?\b.*?(?=\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
    scaling = re.sub(r"^Scalings?:? ", "", " ".join(last.group().split())) if last else ""
    order = re.search(r"Weak order (.*?)(?=[.;:](?:\s|$)|, since)", scaling)
    sources = tuple(dict.fromkeys(m.group() for m in _CITATION.finditer(" ".join(text.split()))))
    if not sources and "derived" in text:
        sources = ("derived",)
    found = Description(" ".join(paragraphs[0].split()), formula, scaling, order.group(1) if order else "", sources)
    missing = [name for name in needed if not getattr(found, name)]
    if missing:
        raise ValueError(
            f"Argument `kind` must have a docstring with {', '.join(missing)}, but {kind.__name__} has none."
        )
    return found


def is_class_with(kind: Any, member: str) -> bool:
    return isinstance(kind, type) and member in dir(kind)


def _from_rooms(member: str, *rooms: str) -> dict[str, Any]:
    """The exported classes with some member that stand in some rooms of `equations`, by their names in lower case."""
    kinds = [kind for kind in vars(equations).values() if is_class_with(kind, member)]
    return {
        kind.__name__.lower(): kind
        for kind in kinds
        if kind.__module__.split(".")[1] in rooms and not kind.__name__.startswith("Abstract")
    }


def exported() -> dict[str, type[AbstractEquation]]:
    """Every exported training algorithm, and every equation around others, by its name in lower case."""
    return _from_rooms("twin", "_optimizers", "_wrappers")


def forms() -> dict[str, Any]:
    """Functions from an equation to the same one with other batches or in another form, by name."""
    return {function.__name__: function for function in (equations.accumulated, equations.stratonovich)}


def algorithms() -> dict[str, type[AbstractEquation]]:
    """Those that stand for themselves: they need no more than a learning rate."""
    return _from_rooms("twin", "_optimizers")


def edge_flows() -> dict[str, Any]:
    """Equations of an algorithm that alternates about a center, by name in lower case."""
    return _from_rooms("twin", "_edge")


def signals() -> dict[str, Any]:
    """What any of the algorithms descends in place of a loss, or beside it, by its name in lower case."""
    found = _from_rooms("surrogate", "_signals", "_feedback")
    functions = {function.__name__: function for function in (equations.regularized, equations.syre)}
    return {
        name: kind for name, kind in found.items() if kind.argument != "loss" and kind is not Regularized
    } | functions


def noise_models() -> dict[str, Any]:
    """The noise models, by their names in lower case."""
    return _from_rooms("injects", "_noise")
