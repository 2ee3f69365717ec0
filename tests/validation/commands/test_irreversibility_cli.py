"""The command `traindyn irreversibility`: what it writes, and what it says to a wrong argument."""

import json
import types

import numpy as np
import pytest
from command import traindyn

from equations import SGD
from validation._commands.irreversibility_run import _converged


@pytest.mark.slow
def test_wrong_argument(tmp_path):
    done = traindyn("irreversibility", "--steps", 10, "--points", 3, cwd=tmp_path)
    assert done.returncode == 2 and "Argument `points` must divide `steps`, 10, but 3 was given" in done.stderr
    assert "Traceback" not in done.stderr and list(tmp_path.iterdir()) == []


def test_runs_that_diverged():
    """They have no charges; some of them are left out of the means."""
    run = types.SimpleNamespace(ok=np.array([True, False, True]), equation=SGD(0.5))
    assert _converged(run, 2).tolist() == [True, False, True]
    with pytest.raises(ValueError, match="Argument `learning_rate` must be so small .* 1 of 3 runs did so at 0.5"):
        _converged(run, 3)


@pytest.mark.slow
def test_report(tmp_path):
    done = traindyn(
        "irreversibility",
        "--steps",
        4,
        "--points",
        2,
        "--batches",
        32,
        "--hidden",
        4,
        "--learning-rate",
        0.05,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "ReLU network: charge" in done.stdout and "written: traindyn-irreversibility" in done.stdout
    folder = tmp_path / "traindyn-irreversibility"
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "results.json"]
    document = json.loads((folder / "results.json").read_text())
    assert [point["step"] for point in document["along_training"]] == [0, 2, 4]
    assert document["charges"]["step_error"] < 1e-12 < 1e-6 < document["charges"]["tanh_error"]
    sweep = [point["distances"]["time_asymmetry"] for point in document["learning_rates"]]
    assert sweep == sorted(sweep, reverse=True)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 2 and "<script" not in page and "src=" not in page and "<style>" in page
