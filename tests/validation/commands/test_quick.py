"""What computes nothing answers at once: `--version`, `--help`, `atlas --list`; and `show`."""

import subprocess
import sys

import pytest
from command import traindyn

import validation
from validation._commands.main import run_show

HEAVY = "jax", "matplotlib", "diffrax", "sympy"


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["compare", "--help"], ["atlas", "--list"]])
def test_without_jax_or_matplotlib(arguments, tmp_path):
    program = (
        "import sys\nfrom validation._commands.main import main\n"
        f"sys.argv = ['traindyn', *{arguments!r}]\n"
        f"try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        f"assert not set({HEAVY!r}) & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_names_that_are_imported_late():
    assert set(validation.__all__) <= set(dir(validation)) and validation.compare.__name__ == "compare"
    with pytest.raises(AttributeError, match="comparisons"):
        validation.comparisons  # noqa: B018


@pytest.mark.parametrize("name, words", [("Adam", "ballistic"), ("weight-mirror", "mirror"), ("rodflow", "alternat")])
def test_show(name, words, capsys):
    run_show(name)
    assert words in capsys.readouterr().out.lower()


@pytest.mark.slow
def test_show_of_a_misspelled_name(tmp_path):
    done = traindyn("show", "adamm", cwd=tmp_path)
    assert done.returncode == 2 and "Did you mean 'adam" in done.stderr and "Traceback" not in done.stderr
