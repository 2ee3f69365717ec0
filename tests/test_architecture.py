"""Layers point down, nothing goes round in a circle, and importing stays cheap: read from the sources, not run."""

import ast
import functools
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ("equations", "dynamics", "validation")
HEAVY = {"scipy", "xarray", "matplotlib", "sklearn", "jinja2", "tyro", "rich"}  # for those who leave JAX
HEAVY |= {"cloudpickle", "dask", "distributed", "filelock", "yaml", "zarr"}
LATE = {"_sweep.process", "_sweep.worker"}  # which nothing imports at its top
FORBIDDEN = {
    "equations": {"diffrax", "dynamics", "validation"},
    "dynamics": {"validation"},
    "validation": set(),
}
# The files of these rooms know each other by their base alone.
SHELVES = {
    "_optimizers": {"base", "adaptive", "ahead", "sign"},
    "_feedback": {"base"},
    "_signals": {"base", "beyond", "examples", "keys", "sources"},
    "_wrappers": {"base"},
}
LONGEST = 300


@functools.cache
def sources(package):
    """The modules of a package by their dotted names within it, `_optimizers.adam`; a room's own is `_optimizers`."""
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT / package).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)] = path
    return {name: ast.parse(path.read_text()) for name, path in found.items()}


@functools.cache
def rooms(package):
    return {path.parent.name for path in (ROOT / package).glob("*/__init__.py")}


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


def origin(package, name, node):
    """The absolute module that an `ImportFrom` in module `name` of a package names."""
    if not node.level:
        return node.module
    inside = [package, *name.split(".")]
    if name in rooms(package):
        inside.append("__init__")
    base = inside[: len(inside) - node.level]
    return ".".join([*base, *([node.module] if node.module else [])])


def imports(package, tree, everywhere=True, name="_module"):
    """The modules that a module names, absolute: `from ._base import x` in equations is `equations._base`."""
    found = set()
    for node in nodes(tree, everywhere):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = origin(package, name, node)
            found.add(base)
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def tops(modules):
    return {module.split(".")[0] for module in modules}


def siblings(package, tree, name="_module"):
    """The modules of its own package that a module needs, to be imported or later in one of its functions."""
    prefix = package + "."
    found = {module.removeprefix(prefix) for module in imports(package, tree, name=name) if prefix in module}
    return found & set(sources(package)) - rooms(package)


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
        wrong = tops(imports(package, tree, name=name)) & FORBIDDEN[package]
        assert not wrong, f"{package}.{name} imports {wrong}"


def foreign(package, name, tree):
    """What a module takes of another package: the modules, and whether these are private."""
    for module in imports(package, tree, name=name):
        top, *rest = module.split(".")
        if top in LAYERS and top != package and any(part.startswith("_") for part in rest):
            yield module


@pytest.mark.parametrize("package", LAYERS)
def test_other_packages_are_met_at_their_doors(package):
    """By their public names, or by `internal`."""
    for name, tree in sources(package).items():
        wrong = set(foreign(package, name, tree))
        assert not wrong, f"{package}.{name} imports {wrong}"


def private_names(tree):
    return {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").split(".")[0] in LAYERS)
        for alias in node.names
        if alias.name.startswith("_") and node.module
    }


def imported(tree):
    """The names under which something of these packages stands in a module: another module, a class or a function."""
    for node in ast.walk(tree):
        ours = isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").split(".")[0] in LAYERS)
        if ours or isinstance(node, ast.Import):
            for alias in node.names:
                if ours or alias.name.split(".")[0] in LAYERS:
                    yield alias.asname or alias.name.split(".")[0]


def private_parts(tree):
    """Private names behind an imported one, `module._name`, and private modules that are imported by a string."""
    names = set(imported(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            start = node.value
            while isinstance(start, ast.Attribute):
                start = start.value
            if isinstance(start, ast.Name) and start.id in names:
                yield ast.unparse(node)
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
            if any("._" in str(a.value) for a in ast.walk(node) if isinstance(a, ast.Constant)):
                yield ast.unparse(node)


@pytest.mark.parametrize("package", LAYERS)
def test_private_names_stay_in_their_file(package):
    for name, tree in sources(package).items():
        assert not private_names(tree), f"{package}.{name} imports {private_names(tree)}"
        assert not list(private_parts(tree)), f"{package}.{name} uses {list(private_parts(tree))}"


@pytest.mark.parametrize("room", SHELVES)
def test_siblings_know_their_base_only(room):
    inside = {name: tree for name, tree in sources("equations").items() if name.startswith(room + ".")}
    shared = {f"{room}.{name}" for name in SHELVES[room]}
    assert len(inside) > 3
    for name, tree in inside.items():
        wrong = (siblings("equations", tree, name) & set(inside)) - shared
        assert not wrong, f"equations.{name} imports {wrong}"


@pytest.mark.parametrize("package", LAYERS)
def test_no_circle(package):
    graph = {name: siblings(package, tree, name) for name, tree in sources(package).items()}
    assert sum(map(len, graph.values())) > 5
    assert circle(graph) is None


@pytest.mark.parametrize("package", ["dynamics", "validation"])
def test_no_circle_of_rooms(package):
    """Nor do the rooms go round; in `equations` the checks stand below and above the contract, file by file."""
    graph = {}
    for name, tree in sources(package).items():
        first = name.split(".")[0]
        if first not in ("__init__", "internal"):
            graph.setdefault(first, set()).update({s.split(".")[0] for s in siblings(package, tree, name)} - {first})
    assert sum(map(len, graph.values())) > 5
    assert circle(graph) is None


@pytest.mark.parametrize("package", ["equations", "dynamics"])
def test_nothing_heavy_at_the_top(package):
    for name, tree in sources(package).items():
        found = imports(package, tree, everywhere=False, name=name)
        wrong = (tops(found) & HEAVY if name not in LATE else set()) | {f"{package}.{late}" for late in LATE} & found
        assert not wrong, f"{package}.{name} imports {wrong} when it is imported"


@pytest.mark.parametrize("package", LAYERS)
def test_a_file_is_read_in_one_sitting(package):
    lengths = {path: len(path.read_text().splitlines()) for path in (ROOT / package).rglob("*.py")}
    assert not {str(path): length for path, length in lengths.items() if length > LONGEST}


@pytest.mark.parametrize("package", LAYERS)
def test_tests_mirror_the_folders(package):
    tested = {path.parent.name for path in (ROOT / "tests" / package).glob("*/test_*.py")}
    assert tested == {room.removeprefix("_") for room in rooms(package)}


def test_the_reader_itself():
    """What it must see and what it must not, so that the checks above do not pass by blindness."""
    tree = ast.parse(
        "import diffrax as dfx\nfrom . import _base\nfrom ._optimizers.sgd import SGD\ntry:\n    import rich.table\n"
        "except E: pass\nclass A:\n    import tyro\n    def f(self):\n        from xarray import Dataset\n"
    )
    everywhere, at_top = imports("equations", tree), imports("equations", tree, everywhere=False)
    assert tops(everywhere) >= {"diffrax", "equations", "rich", "tyro", "xarray"}
    assert "xarray" not in tops(at_top) and tops(at_top) >= {"diffrax", "rich", "tyro"}
    assert siblings("equations", tree) == {"_base", "_optimizers.sgd"}
    up = ast.parse("from .._base import X\nfrom .sgd import SGD\nfrom ._base import _hidden\n")
    assert siblings("equations", up, "_optimizers.adam") == {"_base", "_optimizers.sgd"}
    assert private_names(up) == {"_hidden"}
    across = ast.parse(
        "import equations\nfrom . import fit as f\nfrom .base import Base\nimport importlib\nf._x\nBase.a._y\nself._z\n"
        "equations._base\nimportlib.import_module('equations._base')\n__import__('dynamics._solve')\nf.__doc__\n"
    )
    assert len(list(private_parts(across))) == 5
    over = ast.parse("from equations._base import X\nfrom equations.internal import once\nfrom equations import SGD\n")
    assert {module.rsplit(".", 1)[0] for module in foreign("dynamics", "_solve", over)} >= {"equations._base"}
    assert all("_base" in module for module in foreign("dynamics", "_solve", over))
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == ["a", "b", "c", "a"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) is None
