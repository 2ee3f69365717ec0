"""The command `traindyn circuit`: what it writes, what it says to a wrong argument, and what circuits learn of MNIST."""

import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command import traindyn

import validation._commands.circuit_run
from equations._circuits.state import Weights
from validation._commands.circuit import CircuitOptions, _check_rules, _completed, _times, run_circuit
from validation._commands.circuit_data import circles, mnist
from validation._commands.circuit_run import Times, delay_law, learn, step_length

SHORT = ("--time", 4, "--paths", 2, "--hidden", 5, "--delays", 0.5, "--ratios", 50, "--rules", "FA")


@pytest.mark.parametrize(
    "change, words",
    [
        ({"rules": ("FA", "kb")}, "`rules` must be of SGD, FA, DFA, KP, but 'kb' was given. Did you mean 'KP'"),
        ({"rules": ()}, "`rules` must name at least one"),
        ({"time": 1.01}, "`time` must be two or more durations"),
        ({"tau_plasticity": 0.0}, "`tau_plasticity` must be a positive finite number"),
        (
            {"delays": (0.33,)},
            "`delays` must be multiples of the solver's step, 0.0005 s, over the duration, 0.025, but 0.33",
        ),
        ({"paths": 0}, "`paths` must be an integer of at least 1"),
        ({"hidden": (0,)}, "`hidden` must be an integer of at least 1"),
    ],
)
def test_wrong_arguments(change, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        run_circuit(CircuitOptions(output=tmp_path / "never", **change))
    assert not (tmp_path / "never").exists()


def test_defaults_belong_to_the_data():
    options = _completed(CircuitOptions(data="mnist", time=2.0))
    assert options.time == 2.0 and options.rules == ("SGD", "DFA", "KP") and options.delays == ()
    assert _check_rules(("KP", "FA", "KP")) == ("KP", "FA")
    times = _times(_completed(CircuitOptions()))
    assert times.count == 30_000 and abs(step_length(times) - times.propagation / 2) < 1e-12


@pytest.mark.slow
def test_data():
    task = circles(jax.random.key(0))
    radii = np.linalg.norm(np.asarray(task.x[:, :2]), axis=1)
    assert np.abs(radii - np.where(np.asarray(task.y)[:, 0] > 0, 1.0, 0.5)).max() < 0.3
    assert task.x.shape == task.x_test.shape == (400, 3) and np.all(np.asarray(task.x[:, 2]) == 0.5)
    assert not np.any(np.asarray(task.x) == np.asarray(task.x_test)[:, :1])


TINY = Times(duration=0.1, propagation=0.01, plasticity=1.0, decay=500.0, count=6)


@pytest.mark.filterwarnings("ignore:delay / duration")  # of a wrong one, which the numbers reject
@pytest.mark.slow
def test_circuits_that_learn(monkeypatch):
    """What is recorded of a run, which a delay of half a stimulus reaches as seconds."""
    used, solve = [], validation._commands.circuit_run.solve

    def watched(circuit, stream, weights, **arguments):
        used.append((circuit, weights))
        return solve(circuit, stream, weights, **arguments)

    monkeypatch.setattr(validation._commands.circuit_run, "solve", watched)
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):  # as the command has it
        run = learn(circles(jax.random.key(0), 30), TINY, "FA", (4,), 2, jax.random.key(1), delay=0.5)
        ((circuit, weights),) = used
        first = np.asarray(circuit.alignment(weights))
    assert circuit.layers == (3, 4, 1) and circuit.feedback == "FA" and run.ok.all()
    np.testing.assert_allclose(circuit.delay, 0.05, rtol=1e-12)
    np.testing.assert_allclose(run.times, np.arange(7) * 0.1)
    assert run.accuracy.shape == run.test.shape == (2, 7) and run.alignment.shape == (2, 7, 1)
    np.testing.assert_allclose(run.alignment[:, 0], np.tile(first, (2, 1)), rtol=1e-6)
    assert np.all(run.alignment[:, -1] != run.alignment[:, 0]) and abs(run.ratio - 10) < 1e-9
    assert np.all((run.accuracy >= 0) & (run.accuracy <= 1)) and run.surface is None


@pytest.mark.slow
def test_the_law_of_delay_from_neurons_that_follow_it(monkeypatch):
    """Given neurons that learn at (1 - delay/T)/tau_plasticity, with some scatter, the law has their rates."""
    durations, scatter = 80, 0.02 * np.random.default_rng(0).normal(size=200)

    def by_law(neuron, stream, start, *, steps, paths, **arguments):
        assert steps == durations and paths == 200
        pace = stream.duration / float(neuron.tau_plasticity) * max(0.0, 1 - neuron.delay / stream.duration)
        learned = 1 - np.exp(-pace * steps) + scatter - scatter.mean()
        teacher = np.full(5, 5**-0.5)
        weights = Weights((jnp.asarray(learned[:, None, None] * teacher, jnp.float32),), None)
        return SimpleNamespace(final=weights, ok=np.ones(paths, bool))

    monkeypatch.setattr(validation._commands.circuit_run, "solve", by_law)
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):  # as the command has it
        law = delay_law(TINY, (0.2, 0.6, 1.0, 1.4), jax.random.key(0), paths=200, count=durations)
    np.testing.assert_allclose(law.rate, [0.8, 0.4, 0, 0], atol=1e-5)
    left, whole = np.exp(-0.4 * np.array([0.8, 0.4, 0, 0])), scatter.std() / 200**0.5 / np.exp(-0.4) / 0.4
    own = scatter.std() / 200**0.5 / left / 0.4
    np.testing.assert_allclose(law.error, np.hypot(own, law.rate * whole), rtol=1e-3)


@pytest.mark.slow
def test_report(tmp_path):
    done = traindyn("circuit", *SHORT, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "cosine of V and W^T" in done.stdout and "written: traindyn-circuit" in done.stdout
    folder = tmp_path / "traindyn-circuit"
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "results.json"]
    document = json.loads((folder / "results.json").read_text())
    assert {kind: len(runs) for kind, runs in document["runs"].items()} == {"curve": 1, "delay": 1, "ratio": 1}
    assert np.shape(document["runs"]["curve"][0]["alignment"])[2] == 1
    assert abs(document["delay_law"]["rate"][0] - 0.5) < 0.02
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "<dd>FA</dd>" in page and "<dd>0.5</dd>" in page and "&#39;" not in page
    assert page.count("<svg") == 3 and "<script" not in page and "src=" not in page and "<style>" in page


@pytest.mark.slow  # some minutes
def test_mnist_as_well_as_backpropagation():
    """DFA and KP within two points of the circuit that sends its errors back through W^T, on images not shown."""
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):  # as the command has it
        key = jax.random.key(0)
        options = _completed(CircuitOptions(data="mnist"))
        task, times = mnist(jax.random.fold_in(key, 0)), _times(options)
        accuracy = {
            rule: learn(task, times, rule, options.hidden, 1, jax.random.fold_in(key, 1)).test[0, -1]
            for rule in ("SGD", "DFA", "KP")
        }
    print(f"\nMNIST: {accuracy}")
    assert accuracy["SGD"] > 0.85 and min(accuracy["DFA"], accuracy["KP"]) > accuracy["SGD"] - 0.02
