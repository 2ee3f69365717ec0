"""Of what would make the code hard to change, how much there is: counted over the syntax trees."""

import ast
import functools
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("equations", "dynamics", "validation")
# Classes are asked for where a method would not do, and attributes by name where there is no other way.
MOST_CLASSES, MOST_STRINGS = 17, 9
MOST_IN_A_ROW, MOST_OF_A_FUNCTION = 5, 8  # arguments without a name, of what makes an instance and of any function
OPTIONS = {"SGD"}  # what a user writes as `optimizer` of a circuit


@functools.cache
def sources():
    """Every module with its syntax tree."""
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return [(path, ast.parse(path.read_text())) for path in paths]


def project_classes():
    return {node.name for _, tree in sources() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


def names_in(node, tuples=()):
    """The names in an expression that stands for classes: a union, a tuple, a choice, or a constant that holds these."""
    for part in ast.walk(node):
        name = part.id if isinstance(part, ast.Name) else part.attr if isinstance(part, ast.Attribute) else None
        yield from [name] if name not in tuples else names_in(tuples[name])


def operands(node):
    """What is compared, with the elements of tuples and the names behind a dot."""
    for side in [node.left, *node.comparators]:
        yield from side.elts if isinstance(side, ast.Tuple | ast.List | ast.Set) else [side]


def asked_types(node, tuples=()):
    """The classes that an expression or a pattern asks for, by any spelling."""
    if isinstance(node, ast.Call):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called in ("isinstance", "issubclass"):
            return names_in(node.args[1], tuples)
        if called in (
            "register",
            "__instancecheck__",
            "__subclasscheck__",
        ):  # of functools.singledispatch, or `C.__...`
            return names_in(node)
    if isinstance(node, ast.Compare):  # whatever stands on the other side: `type(x)`, `x.__class__`, a `kind` of before
        return [
            name for side in operands(node) if isinstance(side, ast.Name | ast.Attribute) for name in names_in(side)
        ]
    if isinstance(node, ast.match_case):
        patterns = [part for part in ast.walk(node.pattern) if isinstance(part, ast.MatchClass | ast.MatchValue)]
        return [n for p in patterns for n in names_in(p.cls if isinstance(p, ast.MatchClass) else p.value)]
    return []


def handed_on(node):
    """The classes that a function is given to ask for them, which is no name with a type, field or base beside it."""
    if not isinstance(node, ast.Call) or ast.unparse(node.func) in ("isinstance", "issubclass", "eqx.field", "refined"):
        return
    for value in [*node.args, *(keyword.value for keyword in node.keywords)]:
        for part in value.elts if isinstance(value, ast.Tuple | ast.List) else [value]:
            if isinstance(part, ast.Name):
                yield part.id


def annotations(tree):
    """The nodes of types that are written in quotes."""
    for node in ast.walk(tree):
        for part in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            yield from ast.walk(part) if part is not None else ()


def asked_by_name(tree, known):
    """Strings that are the name of a class: `kind.__name__ == "Lion"`, or a table by such names; (line, class)."""
    typed = {id(node) for node in annotations(tree)}
    listed = {id(part) for node in ast.walk(tree) for part in table_of_names(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node.value in known and id(node) not in typed | listed:
            yield node.lineno, node.value


def table_of_names(node):
    """What a package exports, and what the exported is called now."""
    target = node.targets[0] if isinstance(node, ast.Assign) else None
    return ast.walk(node.value) if isinstance(target, ast.Name) and target.id in ("__all__", "_OLD_NAMES") else ()


def constants(tree):
    """The constants of a module by name."""
    return {
        n.targets[0].id: n.value for n in tree.body if isinstance(n, ast.Assign) and isinstance(n.targets[0], ast.Name)
    }


def questions():
    """Where a class of these packages is asked for in another file than its own, as (file, line, class)."""
    known = project_classes()
    for path, tree in sources():
        here = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
        tuples = {k: v for k, v in constants(tree).items() if isinstance(v, ast.Tuple | ast.BinOp | ast.List)}
        for node in ast.walk(tree):
            for name in (*asked_types(node, tuples), *handed_on(node)):
                if name in known - here:
                    yield path.relative_to(ROOT), getattr(node, "lineno", 0), name
        for line, name in asked_by_name(tree, known - OPTIONS):
            yield path.relative_to(ROOT), line, name


def is_a_name(node, known):
    """Whether an attribute's name is written there, or is a constant of the module."""
    value = known.get(node.id) if isinstance(node, ast.Name) else node
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def by_string(node, known):
    """Whether an expression takes an attribute by its name, by any spelling."""
    if isinstance(node, ast.Subscript):  # vars(x)["name"], x.__dict__["name"]
        return is_namespace(node.value) and is_a_name(node.slice, known)
    if isinstance(node, ast.Compare):  # "name" in vars(x), "name" not in dir(x)
        return is_a_name(node.left, known) and any(holds_names(side) for side in node.comparators)
    if not isinstance(node, ast.Call):
        return False
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if called in ("attrgetter", "methodcaller"):
        return True
    if called in ("get", "pop") and isinstance(node.func, ast.Attribute):
        dunder = node.args and isinstance(node.args[0], ast.Constant) and str(node.args[0].value).startswith("__")
        return is_namespace(node.func.value) and is_a_name(node.args[0], known) and not dunder
    named = ("getattr", "hasattr", "setattr", "delattr", "__getattribute__", "__getattr__")
    place = len(node.args) > 1 and called in named[:4] and 1
    return called in named and len(node.args) > int(place) and is_a_name(node.args[int(place)], known)


def holds_names(node):
    """Whether an expression is of the names of attributes: vars(x), dir(type(x)), vars(x).get("__annotations__")."""
    called = {part.func.id for part in ast.walk(node) if isinstance(part, ast.Call) and isinstance(part.func, ast.Name)}
    return bool(called & {"vars", "dir"})


def is_namespace(node):
    called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "vars"
    return called or (isinstance(node, ast.Attribute) and node.attr == "__dict__")


def attributes_by_string():
    """Where an attribute is taken by a name in quotes, as (file, line)."""
    for path, tree in sources():
        known = constants(tree)
        for node in ast.walk(tree):
            if by_string(node, known):
                yield path.relative_to(ROOT), node.lineno


def class_methods():
    """The names of methods that make an instance."""
    for _, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and "classmethod" in map(ast.unparse, node.decorator_list):
                yield node.name


def long_rows(tree, classes, makers):
    """Calls with more arguments in a row than one can tell apart, as (line, function)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            *_, before, called = ["", *ast.unparse(node.func).split(".")]
            makes = called in {*classes, "cls"} or (called in makers and before in {*classes, "cls", "self"})
            if len(node.args) > (MOST_IN_A_ROW if makes else MOST_OF_A_FUNCTION):
                yield node.lineno, ast.unparse(node.func)


def test_arguments_have_names_where_they_are_many():
    classes, makers = project_classes(), set(class_methods())
    assert "of" in makers
    found = [(path.relative_to(ROOT), *call) for path, tree in sources() for call in long_rows(tree, classes, makers)]
    assert not found
    tree = ast.parse("A(1, 2, 3, 4, 5, 6)\nA.of(1, 2, 3, 4, 5, 6)\nx.of(1, 2, 3, 4, 5, 6)\nA(1, 2, 3, 4, 5, a=6)\n")
    assert [name for _, name in long_rows(tree, {"A"}, {"of"})] == ["A", "A.of"]


def test_few_classes_are_asked_for_in_another_file():
    found = list(questions())
    assert len(found) <= MOST_CLASSES, "\n".join(f"{path}:{line} {name}" for path, line, name in found)


def test_few_attributes_are_asked_for_by_name():
    found = list(attributes_by_string())
    assert len(found) <= MOST_STRINGS, "\n".join(f"{path}:{line}" for path, line in found)


def test_ancestors_are_asked_for_in_one_room():
    """`SGD in type(x).__mro__` and its like; who defines a member is known to the checks of a user's classes."""
    asking = ("__mro__", "__bases__", "__base__", "__class__", "__subclasses__", "mro")
    for path, tree in sources():
        if path.parent.name != "_checks":
            assert not [n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr in asking], path


def test_the_counter_itself():
    tree = ast.parse(
        "isinstance(a, A | b.B)\ntype(a) is C\nissubclass(a, (D, E))\nmatch a:\n    case F(): pass\n"
        "type(a) in (G, H)\nx.__class__ != I\nJ in type(x).__mro__\nkind == K\nisinstance(x, L if y else M)\n"
        "match type(x):\n    case m.N | O(): pass\nisinstance(x, _MANY)\n_MANY = (P, Q)\n"
    )
    tuples = {name: value for name, value in constants(tree).items() if isinstance(value, ast.Tuple)}
    found = [name for node in ast.walk(tree) for name in asked_types(node, tuples)]
    assert sorted({name for name in found if name and name.isupper()}) == list("ABCDEFGHIJKLMNOPQ")
    handed = ast.parse("check(x, A)\nof(kind=B)\nany_of(x, (C, D))\nrefined(E)\neqx.field(converter=F)\nA(x)")
    assert {name for node in ast.walk(handed) for name in handed_on(node)} - {"x"} == set("ABCD")
    named = ast.parse('kind.__name__ == "A"\n_is(x, "B")\nt = {"C": 1}\ndef f(x: "D") -> "D": ...\n__all__ = ["D"]\n')
    assert sorted(name for _, name in asked_by_name(named, set("ABCD"))) == list("ABC")
    texts = ['getattr(x, "a")', "hasattr(x, NAME)", 'vars(x)["a"]', 'x.__dict__["a"]', 'vars(x).get("a")']
    texts += ['"a" in vars(x)', "NAME not in dir(type(x))", '"a" in vars(x).get("__annotations__", {})']
    texts += ['operator.attrgetter("a")', 'x.__getattribute__("a")', 'object.__getattribute__("a")']
    for text in texts:
        assert any(by_string(node, {"NAME": ast.Constant("a")}) for node in ast.walk(ast.parse(text))), text
    assert not any(
        by_string(node, {}) for node in ast.walk(ast.parse("getattr(x, name)\nvars(x)[name]\nx['a']\n'a' in x"))
    )
