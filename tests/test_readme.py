"""The README's Python is run as it stands, and its commands are the ones that are tested."""

import re
from pathlib import Path

import numpy as np

README = Path(__file__).parents[1] / "README.md"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(), re.DOTALL)


def test_examples_run(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scope = {}
    for block in blocks("python"):
        exec(block, scope)
    flow, run = scope["flow"], scope["run"]
    assert flow.steps.shape == flow.times.shape == (21,)
    np.testing.assert_allclose(flow.times, 0.05 * np.asarray(flow.steps))
    assert flow.observables["w"].shape == run.observables["w"].shape == (512, 21, 3)
    assert flow.ok.shape == flow.failed_at.shape == (512,)
    assert flow.to_xarray()["w"].dims[:2] == ("path", "step")
    assert scope["ou"].observables["x"].shape == (64, 101, 2)
    printed = capsys.readouterr().out
    assert "SGD" in printed and "DecayedSGD" in printed and "model error" in printed


def test_an_own_algorithm_takes_at_most_fifteen_lines():
    definition = next(block for block in blocks("python") if "class DecayedSGD" in block)
    lines = [line for line in definition.split("own = ")[0].splitlines() if line.strip()]
    assert len(lines) <= 15


def test_ci_runs_the_test_command():
    command = re.search(r"<!-- tests -->\n```bash\n(.*?)\n```", README.read_text(), re.DOTALL).group(1)
    assert "\n" not in command and command.endswith("-m pytest")
    assert "sed" in (README.parent / ".ci" / "run").read_text()  # which reads it from the README
