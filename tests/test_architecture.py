"""Layers point down, nothing goes round in a circle, and importing stays cheap: read from the sources, not run."""

import ast
import functools
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ("equations", "dynamics", "validation")
HEAVY = {"xarray", "matplotlib", "sklearn", "jinja2", "tyro", "rich"}  # for those who leave JAX
FORBIDDEN = {
    "equations": {"diffrax", "dynamics", "validation"},
    "dynamics": {"validation"},
    "validation": set(),
}
ONE_ALGORITHM = {"sgd", "momentum", "adam", "oja"}  # of equations/, at the least


@functools.cache
def sources(package):
    return {path.stem: ast.parse(path.read_text()) for path in sorted((ROOT / package).glob("*.py"))}


def nodes(tree, everywhere):
    """All import statements, or those that run when the module is imported."""
    if everywhere:
        yield from ast.walk(tree)
        return
    waiting = list(tree.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting.extend(ast.iter_child_nodes(node))


def imports(package, tree, everywhere=True):
    """The modules that a module names, absolute: `from ._base import x` in equations is `equations._base`."""
    found = set()
    for node in nodes(tree, everywhere):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(filter(None, (package if node.level else "", node.module)))
            found.add(base)
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def tops(modules):
    return {module.split(".")[0] for module in modules}


def siblings(package, tree):
    """The modules of its own package that a module needs to be imported."""
    prefix = package + "."
    found = {module.removeprefix(prefix).split(".")[0] for module in imports(package, tree, False) if prefix in module}
    return found & set(sources(package))


def circle(graph):
    """A closed walk through the graph, or None."""
    done = set()

    def visit(node, walk):
        if node in walk:
            return [*walk[walk.index(node) :], node]
        if node in done:
            return None
        for successor in sorted(graph.get(node, ())):
            found = visit(successor, [*walk, node])
            if found:
                return found
        done.add(node)
        return None

    return next((found for node in sorted(graph) if (found := visit(node, []))), None)


@pytest.mark.parametrize("package", LAYERS)
def test_layers_point_down(package):
    trees = sources(package)
    assert len(trees) > 5
    for name, tree in trees.items():
        wrong = tops(imports(package, tree)) & FORBIDDEN[package]
        assert not wrong, f"{package}/{name}.py imports {wrong}"


def test_algorithms_know_the_base_only():
    algorithms = {name: tree for name, tree in sources("equations").items() if not name.startswith("_")}
    assert set(algorithms) >= ONE_ALGORITHM
    for name, tree in algorithms.items():
        wrong = {other for other in siblings("equations", tree) if not other.startswith("_")}
        assert not wrong, f"equations/{name}.py imports {wrong}"


@pytest.mark.parametrize("package", LAYERS)
def test_no_circle(package):
    graph = {name: siblings(package, tree) for name, tree in sources(package).items()}
    assert sum(map(len, graph.values())) > 5
    assert circle(graph) is None


@pytest.mark.parametrize("package", ["equations", "dynamics"])
def test_nothing_heavy_at_the_top(package):
    for name, tree in sources(package).items():
        wrong = tops(imports(package, tree, everywhere=False)) & HEAVY
        assert not wrong, f"{package}/{name}.py imports {wrong} when it is imported"


def test_the_reader_itself():
    """What it must see and what it must not, so that the checks above do not pass by blindness."""
    tree = ast.parse(
        "import diffrax as dfx\nfrom . import _base\nfrom .sgd import SGD\ntry:\n    import rich.table\nexcept E: pass\n"
        "class A:\n    import tyro\n    def f(self):\n        from xarray import Dataset\n"
    )
    everywhere, at_top = imports("equations", tree), imports("equations", tree, everywhere=False)
    assert tops(everywhere) >= {"diffrax", "equations", "rich", "tyro", "xarray"}
    assert "xarray" not in tops(at_top) and tops(at_top) >= {"diffrax", "rich", "tyro"}
    assert siblings("equations", tree) == {"_base", "sgd"}
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == ["a", "b", "c", "a"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) is None
