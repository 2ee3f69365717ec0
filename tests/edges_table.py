"""What is tested at the edges, by kind: `python tests/edges_table.py` prints the table.

A module with `CASES` is a list of faults of one kind or a few. It says what each of its tests is about: the kind, whether
it is an instance that was reported or a brother of one, and the input in words.
"""

import ast
import functools
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent
ROLES = ("instance", "brother")


class Case(NamedTuple):
    """A row: `test` is the name of a test function, with the identifier of a parameter where it has one."""

    kind: str
    role: str
    given: str
    test: str


@functools.cache
def modules() -> dict[str, ast.Module]:
    """Those with `CASES`, by their place in the folder of the tests."""
    trees = {str(path.relative_to(FOLDER)): ast.parse(path.read_text()) for path in sorted(FOLDER.rglob("test_*.py"))}
    return {name: tree for name, tree in trees.items() if cases(tree)}


def cases(tree: ast.Module) -> list[Case]:
    """The rows of `CASES`, a literal list of quadruples of strings."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "CASES" for t in node.targets):
            return [Case(*row) for row in ast.literal_eval(node.value)]
    return []


def slow_brothers() -> set[str]:
    """Brothers that take longer than a quarter of a second where an instance of their kind is fast, by `slow_brothers.txt`:
    they run with the slow tests."""
    return set((FOLDER / "slow_brothers.txt").read_text().split("\n")) - {""}


def slow_instances() -> set[str]:
    """Instances of parametrized tests that take longer than two thirds of a second where another one of the same test is
    fast, by `slow_instances.txt`: they run with the slow tests."""
    return set((FOLDER / "slow_instances.txt").read_text().split("\n")) - {""}


def functions(tree: ast.Module) -> set[str]:
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


if __name__ == "__main__":
    for name, tree in modules().items():
        for case in cases(tree):
            print(f"{case.kind} | {case.role} | {case.given} | {name}::{case.test}")
