"""Examples that are not in memory: fresh ones of a population, rows of a file, batches of an iterator."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from dynamics import SVAG, minibatches, solve, train
from equations import SGD, Feed, LabelNoise, Momentum, Objective, Population, Stored
from validation import compare

START = jnp.array([1.0, -1.0])
OBSERVE = {"w": lambda w: w}
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(40, 2)), RNG.normal(size=40)
SOLVERS = {"train": (train, {}), "SVAG": (solve, {"solver": SVAG(3)})}


def loss(w, example):
    return 0.5 * (example[0] @ w - example[1]) ** 2


def gaussian(key):
    """x ~ N(0, diag(1, 1/4)), y = x . (2, 1) + N(0, 1/4)."""
    x = jax.random.normal(key, (2,)) * jnp.array([1.0, 0.5])
    return x, x @ jnp.array([2.0, 1.0]) + 0.5 * jax.random.normal(jax.random.fold_in(key, 1))


def of_scheme(rate, batch, steps, l):  # noqa: E741
    """Exact mean and second moment of w less its optimum, for Gaussian inputs: E[x x^T A x x^T] = 2 H A H + tr(H A) H."""
    h, spread = np.diag([1.0, 0.25]), 0.25
    mean = np.asarray(START) - [2.0, 1.0]
    second = np.outer(mean, mean)
    for _ in range(l * steps):
        gradients = h @ second @ h
        fourth = 2 * gradients + np.trace(h @ second) * h + spread * h
        noise = (rate / l) ** 2 * l / batch * (fourth - gradients)
        shrink = np.eye(2) - rate / l * h
        mean, second = shrink @ mean, shrink @ second @ shrink + noise
    return mean, np.diag(second)


def deviations(run, l, rate=0.2, batch=2, steps=8):  # noqa: E741
    """First and second moments in standard errors from the exact ones, and the largest relative error bar."""
    away = np.asarray(run.observables["w"][:, -1]) - [2.0, 1.0]
    values, wanted = np.hstack([away, away**2]), np.hstack(of_scheme(rate, batch, steps, l))
    error = values.std(axis=0, ddof=1) / len(values) ** 0.5
    return np.abs(values.mean(axis=0) - wanted) / error, (error / np.abs(wanted)).max()


@pytest.mark.slow
@pytest.mark.parametrize("side", SOLVERS)
@pytest.mark.parametrize("paths", [4000, pytest.param(60_000, marks=pytest.mark.slow)])
def test_a_population_has_its_own_moments(side, paths, key):
    """And not those of the sample that stands for it elsewhere, of 20 draws here."""
    run, more = SOLVERS[side]
    objective = Objective(loss, Population(gaussian, draws=20))
    result = run(SGD(0.2, 2), objective, START, steps=8, key=key, paths=paths, observe=OBSERVE, save_every=8, **more)
    found, bars = deviations(result, 1 if side == "train" else 3)
    assert found.max() < 4 and bars < 0.01 * (60_000 / paths) ** 0.5
    assert dict(result.details)["data"] == "batches of Population(draws=20)"
    fixed = Objective(loss, objective.examples)
    wrong = run(SGD(0.2, 2), fixed, START, steps=8, key=key, paths=paths, observe=OBSERVE, save_every=8, **more)
    assert deviations(wrong, 1 if side == "train" else 3)[0].max() > 8


@pytest.mark.slow
def test_elsewhere_a_population_is_a_sample(key):
    objective = Objective(loss, Population(gaussian, draws=50))
    assert objective.size == 50
    fixed = Objective(loss, objective.examples)
    assert_allclose(objective.gradient(START), fixed.gradient(START), rtol=1e-14)
    mine, other = (
        solve(SGD(0.2, 2), signal, START, steps=3, key=key, observe=OBSERVE, paths=2) for signal in (objective, fixed)
    )
    assert np.array_equal(mine.observables["w"], other.observables["w"])
    assert dict(mine.details)["data"] == "mean and noise of 50 examples of Population(draws=50)"


@pytest.mark.slow
def test_a_comparison_of_a_sample_with_all_is_warned_of(key):
    objective = Objective(loss, Population(gaussian, draws=50))
    how = dict(steps=2, key=key, paths=3, observe=OBSERVE)
    with pytest.warns(UserWarning, match="those of 50 examples of Population"):
        compare(SGD(0.2, 2), objective, START, **how)
    compare(SGD(0.2, 2), objective, START, solver=SVAG(1), **how)


class Chunked:
    """As Zarr's arrays are read: not by NumPy's rules, and counted."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.rows = array, array.shape, array.dtype, 0

    @property
    def oindex(self):
        return self

    def __getitem__(self, index):
        assert np.all(np.diff(index) > 0)
        self.rows += len(index)
        return self.array[index]


@pytest.fixture
def mapped(tmp_path):
    np.save(tmp_path / "x.npy", X)
    return np.load(tmp_path / "x.npy", mmap_mode="r"), Chunked(Y)


@pytest.mark.slow
@pytest.mark.parametrize("side", SOLVERS)
@pytest.mark.parametrize("sampling", ["with_replacement", pytest.param("without_replacement", marks=pytest.mark.slow)])
def test_rows_of_a_file_are_those_in_memory(side, sampling, mapped, key):
    """To the bit, and no others are read than those of the batches and of the sample."""
    run, more = SOLVERS[side]
    how = dict(steps=4, key=key, paths=3, observe=OBSERVE, **more)
    stored = Stored(mapped, draws=10)
    mine = run(Momentum(0.1, 2, sampling), Objective(loss, stored), START, **how)
    other = run(Momentum(0.1, 2, sampling), Objective(loss, (X, Y)), START, **how)
    assert_allclose(mine.observables["w"], other.observables["w"], rtol=1e-13)
    assert 0 < mapped[1].rows <= 10 + 4 * 3 * 2 * (1 if side == "train" else 6)


@pytest.mark.slow
def test_shuffled_epochs_and_labels_of_a_file(mapped, key):
    equation = SGD(0.1, 8, "shuffled", noise_model=LabelNoise(0.1))
    how = dict(steps=6, key=key, paths=2, observe=OBSERVE)
    mine = train(equation, Objective(loss, Stored(mapped, draws=10)), START, **how)
    other = train(equation, Objective(loss, (X, Y)), START, **how)
    assert_allclose(mine.observables["w"], other.observables["w"], rtol=1e-13)
    assert np.array_equal(
        minibatches(equation, Objective(loss, Stored(mapped)), steps=6, key=key),
        minibatches(equation, Objective(loss, (X, Y)), steps=6, key=key),
    )


def batches(size=4):
    """A pass over the data, with a smaller batch at its end."""
    return [(X[:38][i : i + size], Y[:38][i : i + size]) for i in range(0, 38, size)]


def by_hand(order, rate=0.1):
    w = np.asarray(START)
    for x, y in order:
        w = w - rate * x.T @ (x @ w - y) / len(y)
    return w


@pytest.mark.slow
def test_batches_of_an_iterator_in_their_order(key):
    """Each run begins anew with what can be iterated again, at its end too; smaller batches are left out."""
    objective, given = Objective(loss, Feed(batches(), draws=8)), batches()[:-1]
    order = [given[k % 9] for k in range(12)]
    for _ in range(2):
        run = train(SGD(0.1, 4), objective, START, steps=12, key=key, observe=OBSERVE)
        assert_allclose(run.observables["w"][0, -1], by_hand(order), rtol=1e-12)
    rest = train(SGD(0.1, 4), objective, start=run, steps=2, observe=OBSERVE)
    assert_allclose(rest.observables["w"][0, -1], by_hand([*order, *given[3:5]]), rtol=1e-12)
    flow = solve(SGD(0.1, 4), objective, START, steps=6, key=key, observe=OBSERVE, solver=SVAG(1))
    assert_allclose(flow.observables["w"][0, -1], by_hand(order[:6]), rtol=1e-12)
    many = train(SGD(0.1, 4), objective, START, steps=3, key=key, paths=3, observe=OBSERVE)
    first = np.asarray(many.observables["w"][:, 1])
    assert_allclose(np.sort(first[:, 0]), np.sort([by_hand([batch])[0] for batch in given[:3]]), rtol=1e-12)


def test_an_iterator_goes_on_and_ends(key):
    """What was looked at for the sample is not lost; where there is no more a run says so."""
    objective = Objective(loss, Feed(iter(batches()), draws=8))
    run = train(SGD(0.1, 4), objective, START, steps=4, key=key, observe=OBSERVE)
    assert_allclose(run.observables["w"][0, -1], by_hand(batches()[:4]), rtol=1e-12)
    with pytest.raises(Exception, match="has no more batches"):
        jax.block_until_ready(train(SGD(0.1, 4), objective, START, steps=9, key=key).final)


def two(key):
    return jax.random.normal(key, (2,))


REFUSED = {
    "not held": (lambda: Objective(loss, (X, Chunked(Y))), TypeError, r"equations\.Stored takes arrays"),
    "no function": (lambda: Population(3), TypeError, "`sampler` must be callable"),
    "no arrays": (lambda: Stored(["a"]), TypeError, "`data` must hold arrays with a shape"),
    "other sizes": (lambda: Stored((X, Y[:3])), ValueError, "same number of examples"),
    "no iterable": (lambda: Feed(3), TypeError, "`batches` must be an iterable"),
    "empty": (lambda: Feed([]), ValueError, "at least one batch"),
}
FIRST = Objective(lambda w, x: x @ w, Population(two, draws=4))
RUNS = {
    "epochs": (SGD(0.1, 2, "shuffled"), FIRST, "`sampling` must be 'with_replacement'"),
    "subsets": (SGD(0.1, 2, "without_replacement"), FIRST, "`sampling` must be 'with_replacement'"),
    "another size": (SGD(0.1, 3), Objective(loss, Feed(batches())), "`batch_size` must be 4"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_source_is_refused(name):
    make, kind, message = REFUSED[name]
    with pytest.raises(kind, match=message):
        make()


@pytest.mark.parametrize("name", RUNS)
def test_batches_that_a_source_has_not_are_refused(name, key):
    with pytest.raises(ValueError, match="`batch_size` must be given"):
        train(SGD(0.1), FIRST, START, steps=2, key=key)
    equation, objective, message = RUNS[name]
    with pytest.raises(ValueError, match=message):
        train(equation, objective, START, steps=2, key=key)
    with pytest.raises(ValueError, match="`objective` must have examples with numbers"):
        minibatches(SGD(0.1, 4), objective, steps=2, key=key)
