"""The command `traindyn sweep`: what a file may say, what is run, and that the examples of the documentation are right."""

import ast
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from command import traindyn

from dynamics import train
from validation._commands import sweep as command
from validation._commands.main import main
from validation._commands.sweep import SweepOptions, run_sweep
from validation._commands.sweep_digits import digits
from validation._commands.sweep_file import read

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"
OWN = """\
import jax
import jax.numpy as jnp
import numpy as np
from equations import SGD, Objective

objective = Objective(lambda w, x: (w - x) ** 2, np.arange(4.0))

def experiment(learning_rate, seed, factor=1.0):
    return dict(equation=SGD(factor * learning_rate, 2), objective=objective, params=jnp.zeros(()), steps=4,
                key=jax.random.key(seed), observe={"w": lambda w: w})
"""
CASES = [
    ("a wrong file", "instance", "a misspelt key, the nearest known one named", "test_refused"),
    ("a wrong file", "brother", "an argument of one's own experiment, misspelt", "test_refused"),
    ("a wrong file", "brother", "a misspelt algorithm in a list", "test_refused"),
    ("a wrong file", "brother", "no YAML, no list", "test_refused"),
    ("a wrong file", "brother", "no file", "test_no_file"),
    ("an interruption", "instance", "Ctrl-C", "test_interrupted"),
    ("an interruption", "brother", "a full disk", "test_full"),
    ("an interruption", "brother", "an extra is not installed", "test_without_the_extra"),
    ("none", "brother", "a file that is right", "test_own_experiment"),
    ("none", "brother", "a number in a form that YAML takes for a word", "test_numbers"),
    ("none", "brother", "the defaults", "test_digits"),
    ("none", "brother", "the examples of the documentation", "test_the_example_is_read"),
    ("none", "brother", "the same, run", "test_the_example_runs"),
    ("none", "brother", "the example for Slurm", "test_slurm"),
]


@pytest.fixture
def file(tmp_path):
    (tmp_path / "own_sweep.py").write_text(OWN)
    before = sys.path.copy()
    yield lambda text: write(tmp_path / "runs.yaml", text)
    sys.path[:] = before
    sys.modules.pop("own_sweep", None)


def write(path, text):
    path.write_text(text)
    return path


SMALL = "experiment: own_sweep.py:experiment\nlearning_rate: [0.1, 2e-1]\nseed: [0, 1]\nworkers: 0\n"


@pytest.mark.slow
def test_own_experiment(file, capsys):
    run_sweep(SweepOptions(file(SMALL + "factor: 0.5\n")))
    printed = capsys.readouterr().out
    assert "4 settings, 1 paths each, means at step 4" in printed and "0 of 1" in printed and "runs.zarr" in printed
    runs = xr.open_zarr(file(SMALL).with_suffix(".zarr")).load()
    import own_sweep

    alone = train(**own_sweep.experiment(0.2, 1, 0.5))
    np.testing.assert_allclose(runs["w"].sel(learning_rate=0.2, seed=1), alone.observables["w"], rtol=1e-12)


def test_numbers(file):
    task = read(file("learning_rate: [1e-3, 5.e-1, 1.0e-1]\nsampling: shuffled\nworkers: 3\n"), workers=0)
    assert task.axes == {"learning_rate": [0.001, 0.5, 0.1]} and task.options == {"workers": 0}
    assert task.experiment.keywords["sampling"] == "shuffled" and task.run is train


def test_digits():
    given = digits(equation="momentum", steps=10, hidden=4, schedule="cosine", weight_decay=0.1)
    assert given["steps"] == 10 and given["noise"] == "minibatch" and "substeps" not in given
    solved = digits(equation="momentum", steps=10, hidden=4, run="solve")
    assert solved["objective"] is given["objective"] and solved["substeps"] == 1 and "noise" not in solved


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("learning_rte: [0.1]", "'learning_rte' was given. Did you mean 'learning_rate'"),
        ("learning_rate: [0.1]\nworker: 2", "'worker' was given. Did you mean 'workers'"),
        (SMALL + "factr: 2", "'factr' was given. Did you mean 'factor'"),
        ("experiment: own_sweep.py:experiment\nseed: [1]", "a value for 'learning_rate'"),
        ("experiment: own_sweep.py:experimnt\nseed: [1]", "'experimnt' was given. Did you mean 'experiment'"),
        ("experiment: other.py:experiment\nseed: [1]", "`file.py:name`"),
        ("equation: [sgd, momentun]", "'momentun' was given. Did you mean 'momentum'"),
        ("problem: [digits, mine]", "`file.py:name`"),
        ("learning_rate: [-0.1]", "`learning_rate` must be a positive"),
        ("learning_rate: [0.1]\nrun: trian", "'trian' was given. Did you mean 'train'"),
        ("learning_rate: 0.1", "a list of values for some key"),
        ("learning_rate: [0.1", "`file` must be YAML"),
        ("- 1", "`file` must hold keys and their values"),
    ],
)
def test_refused(file, text, words, monkeypatch, capsys):
    """Before anything is run or written, with one line and the exit code of a wrong argument."""
    path = file(text)
    monkeypatch.setattr("sys.argv", ["traindyn", "sweep", str(path)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2 and words in capsys.readouterr().err
    assert not list(path.parent.glob("*.zarr"))


def test_no_file(tmp_path):
    with pytest.raises(ValueError, match="`file` must be a file"):
        read(tmp_path / "none.yaml")


def stopped(monkeypatch, file, error, code):
    def failing(*args, **kwargs):
        raise error

    monkeypatch.setattr("dynamics.sweep", failing)
    with pytest.raises(SystemExit) as found:
        command.run_sweep(SweepOptions(file(SMALL)))
    assert found.value.code == code


def test_interrupted(monkeypatch, file, capsys):
    stopped(monkeypatch, file, KeyboardInterrupt(), 130)
    assert "what is finished is stored" in capsys.readouterr().err


def test_full(monkeypatch, file, capsys):
    stopped(monkeypatch, file, OSError(28, "The disk is full"), 1)
    assert "The disk is full" in capsys.readouterr().err


def test_without_the_extra(monkeypatch, file, capsys):
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(SystemExit):
        run_sweep(SweepOptions(file(SMALL)))
    assert "pip install traindyn[sweep]" in capsys.readouterr().err


def test_the_example_is_read():
    task = read(EXAMPLES / "sweep.yaml")
    assert task.run is train and list(task.axes) == ["equation", "learning_rate", "batch_size", "seed"]
    assert task.options == {"workers": 2} and task.store == EXAMPLES / "sweep.zarr"


@pytest.mark.slow
def test_the_example_runs(tmp_path):
    shutil.copy(EXAMPLES / "sweep.yaml", tmp_path)
    done = traindyn("sweep", "sweep.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "24 settings, 2 paths each" in done.stdout
    runs = xr.open_zarr(tmp_path / "sweep.zarr")
    assert runs["loss"].dims == ("equation", "learning_rate", "batch_size", "seed", "path", "step")
    assert runs["equation"].values.tolist() == ["sgd", "momentum"] and runs["ok"].all()


def test_slurm():
    """Which needs a cluster: that it names what is there."""
    tree = ast.parse((EXAMPLES / "slurm.py").read_text())
    scope = {}
    keep = [node for node in tree.body if not isinstance(node, ast.If) and "dask" not in ast.unparse(node)]
    exec(compile(ast.Module(keep, []), "slurm.py", "exec"), scope)
    assert scope["experiment"](0.1, 4, 0)["steps"] % 10_000 == 0
    from dynamics._sweep.sweep import sweep

    call = next(n for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func) == "sweep")
    assert {keyword.arg for keyword in call.keywords} <= set(sweep.__kwdefaults__)
