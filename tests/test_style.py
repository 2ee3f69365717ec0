"""The style is checked by Ruff."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]])
def test_ruff(command):
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "."], cwd=Path(__file__).parents[1], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_every_test_fits_on_a_screen():
    """No test function has more than 40 lines."""
    long = {}
    for path in sorted(Path(__file__).parent.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                long |= {f"{path.name}::{node.name}": node.end_lineno - node.lineno + 1}
    long = {name: lines for name, lines in long.items() if lines > 40}
    assert not long, long
