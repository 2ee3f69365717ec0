"""What README and documentation show is run as it stands; every public name has its place in the reference."""

import importlib.util
import re
from pathlib import Path

import jax
import numpy as np
import pytest

import dynamics
import equations
import validation

ROOT = Path(__file__).parents[1]
README, PAGES = ROOT / "README.md", ROOT / "docs" / "pages"
SHOWN = [
    pytest.param(page, marks=pytest.mark.slow, id=page.stem)
    for page in sorted(PAGES.glob("*.md"))
    if "```python" in page.read_text()
]


def blocks(page, language="python"):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scope = {}
    for block in blocks(page):
        exec(block, scope)
    return scope


@pytest.mark.parametrize("page", SHOWN)
def test_examples_run(page, tmp_path, monkeypatch, capsys):
    scope = run(page, tmp_path, monkeypatch)
    if page.stem == "start":
        flow, other = scope["flow"], scope["run"]
        assert flow.steps.shape == flow.times.shape == (21,)
        np.testing.assert_allclose(flow.times, 0.05 * np.asarray(flow.steps))
        assert flow.observables["w"].shape == other.observables["w"].shape == (512, 21, 3)
        assert flow.ok.shape == flow.failed_at.shape == (512,)
        assert flow.to_xarray()["w"].dims[:2] == ("path", "step")
        assert "DecayedSGD" in capsys.readouterr().out
    if page.stem == "own-algorithm":
        assert scope["ou"].observables["x"].shape == (64, 101, 2)


def test_the_readme_shows_what_its_example_prints(tmp_path, monkeypatch, capsys):
    run(README, tmp_path, monkeypatch)
    printed, (shown, *_) = capsys.readouterr().out, blocks(README, "text")
    assert printed.splitlines()[0] == shown.splitlines()[0]
    assert "DecayedSGD" in printed


def test_an_own_algorithm_takes_at_most_twelve_lines():
    definition = next(block for block in blocks(README) if "class DecayedSGD" in block)
    lines = [line for line in definition.split("print(")[0].splitlines() if line.strip()]
    assert len(lines) <= 12


def test_the_readme_is_short():
    assert len(README.read_bytes()) <= 6000


def test_ci_runs_the_test_command():
    command = re.search(r"<!-- tests -->\n```bash\n(.*?)\n```", README.read_text(), re.DOTALL).group(1)
    assert "\n" not in command and command.endswith("-m pytest")
    assert "sed" in (ROOT / ".ci" / "run").read_text()  # which reads it from the README


@pytest.mark.parametrize("package", [equations, dynamics, validation], ids=lambda package: package.__name__)
def test_every_public_name_is_in_the_reference(package):
    name = package.__name__
    stub = ROOT / name / "__init__.pyi"  # of names that are imported late
    text = (stub if stub.exists() else ROOT / name / "__init__.py").read_text()
    public = set(re.findall(r"(?m)^ *from \.\w.* import \w+ as (\w+)", text))
    listed = re.findall(rf"(?m)^::: {name}\.(\w+)$", (PAGES / "reference" / f"{name}.md").read_text())
    assert len(listed) == len(set(listed)) and set(listed) == public


def test_every_page_is_in_the_navigation_and_no_link_is_dead():
    navigation = (ROOT / "docs" / "mkdocs.yml").read_text()
    for page in PAGES.rglob("*.md"):
        assert str(page.relative_to(PAGES)) in navigation
        for link in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
            made = link == "gallery.md"  # as the pages are built
            assert made or (page.parent / link).exists(), f"{page.name}: {link}"
    for link in re.findall(r"\]\((?!http)([^)#]+)", README.read_text()):
        assert (ROOT / link).exists(), link


def gallery():
    spec = importlib.util.spec_from_file_location("figures", ROOT / "docs" / "figures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GALLERY = gallery()
FIGURES = GALLERY.scripts()
DRAWN_FROM_NUMBERS = {path.stem for path in (ROOT / "docs" / "gallery" / "data").glob("*.json")}


def test_the_gallery_is_short_and_whole():
    """Fifteen figures or more, of scripts of at most 40 lines, each on the page with its caption."""
    page = GALLERY.page()
    assert len(FIGURES) >= 15 and {script.stem for script in FIGURES} >= DRAWN_FROM_NUMBERS
    for script in FIGURES:
        text = script.read_text()
        assert len(text.splitlines()) <= 40, script
        assert ("def measure" in text) == (script.stem in DRAWN_FROM_NUMBERS) != ("def figure" in text), script
        assert page.count(f"gallery/{script.stem}-") == 2, script


@pytest.mark.parametrize(
    "script", [pytest.param(one, marks=[pytest.mark.slow] * (one.stem != "delay_law"), id=one.stem) for one in FIGURES]
)
def test_a_figure_is_drawn_for_light_and_dark(script):
    light, dark = GALLERY.pictures(script).values()
    assert light.startswith("<?xml") and "#1b1b1b" in light or "#000000" in light
    assert "#e6e6e6" in dark and "#1b1b1b" not in dark


@pytest.mark.slow
@pytest.mark.parametrize("name", ["feedback_angles", "sweep_heat_map"])
def test_stored_numbers_are_those_of_the_script(name):
    script = GALLERY.FOLDER / f"{name}.py"
    with jax.enable_x64(False):  # as the command is
        found, stored = GALLERY.loaded(script).measure(), GALLERY.data_of(script)
    for key, value in stored.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-4)
