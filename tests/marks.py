"""Which cases of a table run with the fast tests."""

import pytest


def some(names, fast):
    """Those in `fast`, and the others as slow tests: each compiles a solver of its own."""
    return [name if name in fast else pytest.param(name, marks=pytest.mark.slow) for name in names]
