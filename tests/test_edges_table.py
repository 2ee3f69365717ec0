"""The table of what is tested at the edges says what there is, and has brothers for every instance."""

from collections import Counter

from edges_table import FOLDER, ROLES, cases, functions, modules, slow_brothers, slow_instances


def test_every_row_has_its_test_and_every_test_its_row():
    for name, tree in modules().items():
        rows, names = cases(tree), functions(tree)
        assert {row.role for row in rows} <= set(ROLES)
        named = {row.test.split("[")[0] for row in rows}
        assert named == names, f"tests/{name}: {named ^ names}"


def test_every_kind_has_two_brothers():
    rows = [row for tree in modules().values() for row in cases(tree)]
    instances = {row.kind for row in rows if row.role == "instance"}
    brothers = Counter(row.kind for row in rows if row.role == "brother")
    assert not {kind for kind in instances if brothers[kind] < 2}


def test_slow_instances_are_of_tests_that_there_are():
    """And no law and no mutant is among them."""
    for test in slow_instances():
        name, _, asked = test.partition("::")
        source = (FOLDER / name).read_text()
        assert "[" in asked and f"def {asked.split('[')[0]}(" in source, test
        assert "mutant" not in test.lower() and name != "test_laws.py", test


def test_slow_brothers_have_a_fast_instance():
    """And no mutant is among them."""
    tables = {name: cases(tree) for name, tree in modules().items()}
    slow = slow_brothers()
    for test in slow:
        name, _, asked = test.partition("::")
        rows = [row for row in tables[name] if row.test in (asked, asked.split("[")[0])]
        assert rows and "mutant" not in asked, test
        fast = [row for row in tables[name] if f"{name}::{row.test}" not in slow]
        kinds = {row.kind for row in fast if row.role == "instance"}
        assert all(row.role == "brother" and row.kind in kinds for row in rows), test
