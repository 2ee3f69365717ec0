"""The annotations of the packages hold together, as Pyright reads them, and at run time, as beartype does."""

import json
import re
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


@pytest.mark.slow
def test_the_annotations_hold_together(tmp_path):
    """In one run with a mutant, a call that is wrong in two ways, since most of it goes into reading the libraries."""
    mutant = tmp_path / "wrong.py"
    mutant.write_text(WRONG)
    errors = pyright(*PACKAGES, mutant)
    assert {rule for file, rule, _ in errors if file == mutant} == {"reportAssignmentType", "reportCallIssue"}
    ours = [f"{file.relative_to(ROOT)}:{text} ({rule})" for file, rule, text in errors if file != mutant]
    assert not ours, "\n".join(ours)


# Checks at run time take a sixth of the time of all tests. In these few every kind of result is made.
HOOK = "--jaxtyping-packages=dynamics,equations,validation,beartype.beartype"
CHOSEN = {
    "tests/dynamics/test_states.py": "observed_ones",
    "tests/dynamics/test_stimuli.py": "given_orders",
    "tests/dynamics/entropy/test_entropy.py": "clock_and_paths or rate_of_a_linear",
    "tests/equations/feedback/test_feedback.py": "exact_near_none or textbook",
    "tests/validation/compare/test_compare.py": "add_up",
    "tests/validation/irreversibility/test_irreversibility.py": "drawn_batches_agree",
    "tests/validation/orders/test_orders.py": "test_report or norm_is_unbiased",
}
MISTAKEN = """\
import numpy as np
from validation._orders.fit import norm

def test_mistaken():
    norm(np.zeros(3))
"""


@pytest.mark.slow
def test_the_shapes_hold_at_run_time(tmp_path):
    """In one run with a mutant, an array with an axis too few."""
    mutant = tmp_path / "test_mistaken.py"
    mutant.write_text(MISTAKEN)
    chosen = " or ".join([*CHOSEN.values(), "mistaken"])
    options = [*"-n 0 -q -p no:cacheprovider -m".split(), "slow or not slow", HOOK, "-k", chosen]
    command = [sys.executable, "-m", "pytest"]
    done = subprocess.run([*command, *options, *CHOSEN, str(mutant)], cwd=ROOT, capture_output=True, text=True)
    assert "TypeCheckError" in done.stdout and re.search(r"\b1 failed", done.stdout), done.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= len(CHOSEN)
