"""The wheel holds the three packages and nothing else, and works from elsewhere."""

import ast
import importlib
import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from benchmarks.__main__ import NAMES

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_wheel_in_a_clean_place(tmp_path):
    """Built, unpacked into an empty folder and imported from outside the repository, without the editable install."""
    source = tmp_path / "source"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(source)], check=True)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path / "wheel"), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = (tmp_path / "wheel").glob("traindyn-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
        archive.extractall(tmp_path / "site")
        assert "validation/_commands/report.html.jinja" in archive.namelist()
    assert {name for name in tops if not name.endswith(".dist-info")} == {"dynamics", "equations", "validation"}
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n"
        "import dynamics, equations, validation\n"
        "assert all('site' in package.__file__ for package in (dynamics, equations, validation))\n"
        "import jax.numpy as jnp\n"
        "objective = equations.Objective(lambda w, x: 0.5 * (w - x) ** 2, jnp.ones(4))\n"
        "flow = dynamics.solve(equations.SGD(0.1), objective, 0.0, steps=10)\n"
        "assert abs(float(flow.final[0]) - 0.6321) < 1e-3\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_benchmarks_begin(name):
    """Each can be run, and the modules that it looks for are there."""
    module = importlib.import_module(f"benchmarks.{name}")
    assert callable(module.run)
    for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("find_spec"):
            assert importlib.util.find_spec(ast.literal_eval(node.args[0])) is not None
