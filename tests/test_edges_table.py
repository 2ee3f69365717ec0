"""The table of what is tested at the edges says what there is, and has brothers for every instance."""

from collections import Counter

from edges_table import ROLES, cases, functions, modules


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
