"""The lowest versions that pyproject.toml allows, in an environment of their own."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
BRITTLE = ("diffrax", "equinox", "jax", "lineax", "optax")
RUNNING = [line for line in PROJECT["optional-dependencies"]["test"] if not line.startswith("ruff")]
TESTS = [
    "tests/test_laws.py",
    "tests/validation/test_tails.py",
    "tests/validation/commands/test_printing.py",
    "tests/dynamics/entropy/test_large_states.py",
]
CHOSEN = "(test_law and (sgd or adam-) and (first_step or order or without_noise)) or tail or printing or large_states"


def parts(requirement):
    """Its name, with extras, and its lowest version."""
    name, lowest = re.match(r"([\w.\[\]-]+)>=([\d.]+)", requirement).groups()
    return name, lowest


def test_every_dependency_is_listed_once_with_a_lowest_version():
    names = [parts(line)[0].split("[")[0] for line in PROJECT["dependencies"]]
    assert len(set(names)) == len(names) and names == sorted(names, key=lambda name: (name.replace("-", ""), name))
    bounded = [parts(line)[0] for line in PROJECT["dependencies"] if ",<" in line]
    assert tuple(bounded) == BRITTLE


@pytest.mark.slow
def test_lowest_versions(tmp_path):
    """A handful of laws, tables and SciPy's routines."""
    wanted = [*PROJECT["dependencies"], *RUNNING]
    pins = tmp_path / "lowest.txt"
    pins.write_text("\n".join(f"{name.split('[')[0]}=={lowest}" for name, lowest in map(parts, wanted)))
    python = tmp_path / "lowest" / "bin" / "python"

    def run(*command, **kwargs):
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=ROOT, **kwargs)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        return done.stdout

    run(sys.executable, "-m", "venv", tmp_path / "lowest")
    run(python, "-m", "pip", "install", "-q", "--prefer-binary", "-c", pins, *wanted)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
    # Old versions warn of what new neighbors deprecate.
    options = ["-n", "0", "-W", "ignore::DeprecationWarning", "-p", "no:cacheprovider", "-q", "-k", CHOSEN]
    print(run(python, "-m", "pytest", *options, *TESTS, env=environment | {"PYTHONPATH": str(ROOT)})[-300:])
