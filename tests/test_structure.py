"""Of what would make the code hard to change, how much there is: counted over the syntax trees."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("equations", "dynamics", "validation")
# Classes are asked for where a method would not do, and attributes by name where there is no other way.
MOST_CLASSES, MOST_STRINGS = 19, 9


def sources():
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path, ast.parse(path.read_text())


def project_classes():
    return {node.name for _, tree in sources() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


def names_of_types(node):
    """The names in a class, a union or a tuple of classes."""
    if isinstance(node, ast.Tuple):
        return [name for element in node.elts for name in names_of_types(element)]
    if isinstance(node, ast.BinOp):
        return names_of_types(node.left) + names_of_types(node.right)
    if isinstance(node, ast.Attribute):
        return [node.attr]
    return [node.id] if isinstance(node, ast.Name) else []


def asked_types(node):
    """The classes that an expression or a pattern asks for, by any spelling."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("isinstance", "issubclass"):
        return names_of_types(node.args[1])
    if isinstance(node, ast.Compare) and any(isinstance(op, ast.Is | ast.IsNot | ast.Eq | ast.In) for op in node.ops):
        sides = [node.left, *node.comparators]
        if any(isinstance(s, ast.Call) and isinstance(s.func, ast.Name) and s.func.id == "type" for s in sides):
            return [name for side in sides for name in names_of_types(side)]
    return names_of_types(node.cls) if isinstance(node, ast.MatchClass) else []


def questions():
    """Where a class of these packages is asked for in another file than its own, as (file, line, class)."""
    known = project_classes()
    for path, tree in sources():
        here = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
        for node in ast.walk(tree):
            for name in asked_types(node):
                if name in known - here:
                    yield path.relative_to(ROOT), node.lineno, name


def attributes_by_string():
    """Calls of getattr, hasattr, setattr with a name in quotes, as (file, line)."""
    for path, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                if node.func.id in ("getattr", "hasattr", "setattr") and isinstance(node.args[1], ast.Constant):
                    yield path.relative_to(ROOT), node.lineno


def test_few_classes_are_asked_for_in_another_file():
    found = list(questions())
    assert len(found) <= MOST_CLASSES, "\n".join(f"{path}:{line} {name}" for path, line, name in found)


def test_few_attributes_are_asked_for_by_name():
    found = list(attributes_by_string())
    assert len(found) <= MOST_STRINGS, "\n".join(f"{path}:{line}" for path, line in found)


def test_the_counter_itself():
    tree = ast.parse(
        "isinstance(a, A | b.B)\ntype(a) is C\nissubclass(a, (D, E))\nmatch a:\n    case F(): pass\n"
        "x == C\ntype(a) in (G, H)\n"
    )
    assert sorted(name for node in ast.walk(tree) for name in asked_types(node)) == list("ABCDEFGH")
