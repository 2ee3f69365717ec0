"""The command `traindyn regimes`: what it writes, and what it says to a wrong argument."""

import json

import pytest
from command import traindyn


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("--equation", "sgdd"), "Did you mean 'sgd'?"),
        pytest.param(
            ("--steps", 10, "--windows", 3),
            "Argument `windows` must divide `steps`, 10, but 3 was given",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ("--examples", 0),
            "Argument `examples` must be an integer from 1 to 1797, but 0 was given",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_wrong_argument(arguments, words, tmp_path):
    done = traindyn("regimes", *arguments, cwd=tmp_path)
    assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("problem", ["mlp", "cnn", "transformer"])
def test_report(problem, tmp_path):
    options = ("--equation", "sgd", "--problem", problem, "--learning-rates", 0.05, 0.1, "--steps", 10, "--windows", 2)
    done = traindyn("regimes", *options, "--examples", 20, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "traindyn-regimes"
    found = json.loads((folder / "results.json").read_text())["maps"][0]
    assert set(found["errors"]) >= {"gradient flow", "rod flow, order 2", "edge flow", "central flow"}
    page = (folder / "report.html").read_text()
    assert "best model" in page and "http://" not in page.replace("http://www.w3.org", "")
