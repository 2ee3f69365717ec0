"""The annotations of the packages hold together, as Pyright reads them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("equations", "dynamics", "validation")
WRONG = """\
import equations

equation: int = equations.SGD(0.1, batch_sise=4)
"""


def pyright(*paths):
    """The errors in these files and folders, as (file, rule, text); skips where Pyright cannot be started."""
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, *map(str, paths)]
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    try:
        report = json.loads(done.stdout)
    except json.JSONDecodeError:
        pytest.skip(f"Pyright cannot be started, which needs Node.js: {done.stderr.strip()[-300:]}")
    assert report["summary"]["filesAnalyzed"] > 150
    errors = (error for error in report["generalDiagnostics"] if error["severity"] == "error")
    return [
        (Path(error["file"]), error.get("rule"), f"{error['range']['start']['line'] + 1}: {error['message']}")
        for error in errors
    ]


def test_the_annotations_hold_together(tmp_path):
    """In one run with a mutant, a call that is wrong in two ways, since most of it goes into reading the libraries."""
    mutant = tmp_path / "wrong.py"
    mutant.write_text(WRONG)
    errors = pyright(*PACKAGES, mutant)
    assert {rule for file, rule, _ in errors if file == mutant} == {"reportAssignmentType", "reportCallIssue"}
    ours = [f"{file.relative_to(ROOT)}:{text} ({rule})" for file, rule, text in errors if file != mutant]
    assert not ours, "\n".join(ours)
