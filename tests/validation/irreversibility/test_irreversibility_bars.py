"""`irreversibility` from few batches and at large steps: error bars that hold, and a word beyond the leading order."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import validation._irreversibility.irreversibility as front
from equations import SGD, AdaGrad, Momentum, Objective, decayed, scheduled
from validation import irreversibility
from validation._compare.student import root_with_error, skewed, widening
from validation._irreversibility.leading_order import of_empty_memories, of_others
from validation._irreversibility.one_batch import Step

CASES = [
    ("error bars from few batches", "instance", "scalars, 32 to 128 batches", "test_coverage_of_the_scalars"),
    ("error bars from few batches", "instance", "distances, 32 to 128 batches", "test_coverage_of_the_distances"),
    ("error bars of skewed draws", "instance", "linear regression, a skewness of 6", "test_coverage_of_skewed_scalars"),
    ("error bars of skewed draws", "instance", "the same through the function, 32 batches", "test_coverage_by_keys"),
    ("error bars of skewed draws", "brother", "distances of linear regression", "test_coverage_of_skewed_distances"),
    ("error bars of skewed draws", "brother", "squares of draws, either sign", "test_skewed_means"),
    ("error bars of skewed draws", "brother", "no skewness, none known, more than there can be", "test_the_factor"),
    ("error bars from few batches", "brother", "the error of before: normal, clipped", "test_mutant_errors"),
    ("error bars from few batches", "brother", "a square below 0", "test_the_root_of_a_square"),
    ("error bars from few batches", "brother", "4 and 16 batches", "test_too_few_batches"),
    ("error bars from few batches", "brother", "a distance that is not resolved", "test_the_bound_is_one_sided"),
    ("steps beyond the leading order", "instance", "SGD, eta at the edge", "test_beyond_the_leading_order[SGD]"),
    ("steps beyond the leading order", "brother", "scheduled SGD", "test_beyond_the_leading_order[scheduled]"),
    ("steps beyond the leading order", "brother", "decayed SGD", "test_beyond_the_leading_order[decayed]"),
    ("steps beyond the leading order", "brother", "heavy ball", "test_beyond_the_leading_order[momentum]"),
    ("steps beyond the leading order", "brother", "drawn batches, far off", "test_noise_does_not_warn"),
    ("an empty memory at large steps", "instance", "Momentum, eta = .4", "test_an_empty_memory[momentum]"),
    ("an empty memory at large steps", "brother", "AdaGrad, which has no other", "test_an_empty_memory[adagrad]"),
    (
        "an empty memory at large steps",
        "brother",
        "displacements of first and second order",
        "test_orders_of_displacements",
    ),
    ("a standard error of 0", "instance", "one deterministic start", "test_nothing_drawn"),
    ("a standard error of 0", "brother", "all batches enumerated", "test_nothing_drawn"),
    ("a standard error of 0", "brother", "drawn batches have one", "test_the_bound_is_one_sided"),
]
KEY = jax.random.key(0)
START = jnp.array([1.3, 0.4])


def rescaling(params, y):
    u, w = params
    return 0.5 * (u * w - y) ** 2 + 0.1 * jnp.sin(u) * w**2


MANY = Objective(rescaling, 1 + jax.random.normal(KEY, (3000,)))
FEW = Objective(rescaling, jnp.array([1.0, 0.5, 2.0]))


def neuron(w, example):
    return 0.5 * (jnp.tanh(example[0] @ w) - example[1]) ** 2


def left_over(objective, start, equation, count):
    """What `count` batches leave of three forces, `(count, 3, d)`, and of the four scalars, `(count, 4)`."""
    step = Step.of(equation, start, "adiabatic", 3)
    phi, g = front.potential(step.equation, objective, start)

    def residual(index):
        measures, own, own_phi = front._one(step, objective, start, index)
        vectors = jnp.stack([getattr(measures, name) + own for name in front.VECTORS])
        return vectors, jnp.append(-phi * vectors @ g / (g @ g), measures.entropy_production - own_phi)

    batches = jax.random.randint(KEY, (count, equation.batch_size), 0, objective.size)
    vectors, scalars = eqx.filter_jit(lambda: jax.lax.map(residual, batches, batch_size=500))()
    return np.asarray(vectors), np.asarray(scalars)


@pytest.fixture(scope="module")
def residuals():
    """Of 3000 batches of eight at a tanh neuron: their kurtosis is 20."""
    x = jax.random.normal(KEY, (3000, 4))
    y = jnp.tanh(x @ jnp.array([1.0, -1.0, 0.5, 0.0])) + 0.3 * jax.random.normal(jax.random.key(1), (3000,))
    return left_over(Objective(neuron, (x, y)), jnp.array([0.3, 0.2, -0.5, 0.1]), SGD(0.1, 8), 3000)


@pytest.fixture(scope="module")
def regression():
    x = jax.random.normal(jax.random.key(1), (40, 3))
    y = x @ jnp.array([1.0, -0.5, 0.2]) + 0.5 * jax.random.normal(jax.random.key(2), (40,))
    return Objective(lambda w, example: 0.5 * (example[0] @ w - example[1]) ** 2, (x, y)), jnp.zeros(3), SGD(0.01, 4)


@pytest.fixture(scope="module")
def skewed_residuals(regression):
    """Of 20000 batches: their skewness is -6, their kurtosis 70."""
    return left_over(*regression, 20000)


def drawn(values, batches, keys=400):
    rng = np.random.default_rng(batches)
    return values[rng.integers(0, len(values), (keys, batches))]


def beyond(scalars, batches, errors=lambda powers, number: front._mean_errors(powers, number)):
    """How many of 4000 are off by more than three and by more than two errors, `(2, ...)`."""
    sample = drawn(scalars, batches, 4000)
    bars = errors(np.stack([np.mean(sample**power, axis=1) for power in (1, 2, 3)]), batches)
    z = np.abs(sample.mean(axis=1) - scalars.mean(axis=0)) / bars
    print(f"\n{batches} batches: {np.mean(z > 3, axis=0)}, {np.mean(z > 2, axis=0)}")
    return np.mean(z > 3, axis=0), np.mean(z > 2, axis=0)


def check_coverage(scalars):
    for batches in (32, 64, 128):
        three, two = beyond(scalars, batches)
        assert three.max() <= 0.01 and two.max() <= 0.07


@pytest.mark.slow
def test_coverage_of_the_scalars(residuals):
    """|z| > 3 in at most 1 % of 4000 keys, |z| > 2 in at most 7 %."""
    check_coverage(residuals[1])


@pytest.mark.slow
def test_coverage_of_skewed_scalars(skewed_residuals):
    """The same. Mutant: Student's quantile alone."""
    scalars = skewed_residuals[1]
    check_coverage(scalars)
    assert beyond(scalars, 32, students)[0].max() > 0.03


def students(powers, number):
    return widening(number - 1) * np.sqrt((powers[1] - powers[0] ** 2) / (number - 1))


def test_skewed_means():
    """Of a chi-square with one degree of freedom, squared exponentials and normal numbers. Mutant: Student's quantile."""
    rng = np.random.default_rng(0)
    normal, size = rng.normal(size=20000), rng.exponential(size=20000)
    draws = np.stack([normal**2, -(normal**2), size**2, normal], axis=1)
    check_coverage(draws)
    assert beyond(draws, 32, students)[0].max() > 0.03


def test_the_factor():
    """Student's where there is no skewness; the same for either sign; finite for any that so many numbers can have."""
    assert np.allclose(skewed([0.0, np.nan], 32), widening(31)) and skewed(2.0, 32) == skewed(-2.0, 32)
    factors = skewed(np.linspace(0, 20, 50), 32)
    assert np.all(np.diff(factors) >= -0.02) and factors[-1] == skewed(30 / 31**0.5, 32) < 10
    assert skewed(1.0, 10**8) < 1.001


@pytest.mark.slow
def test_coverage_by_keys(regression):
    """The same by 400 calls, against that of 60000 batches."""
    objective, start, equation = regression

    def call(seed, batches):
        return irreversibility(equation, objective, start, key=jax.random.key(seed), batches=batches, probes=0)

    truth = call(1000, 60000)
    found = [call(n, 32) for n in range(400)]
    names = list(truth.values)
    off = np.array([[(r.values[n] - truth.values[n]) / r.standard_errors[n] for n in names] for r in found])
    three, two = np.mean(np.abs(off) > 3, axis=0), np.mean(np.abs(off) > 2, axis=0)
    print(f"\n{dict(zip(names, zip(three, two, strict=True), strict=True))}")
    assert three.max() <= 0.01 and two.max() <= 0.07


def lengths(sample):
    """By the code of `irreversibility`, of `(keys, batches, 4)`."""
    batches = sample.shape[1]
    groups = min(16, batches)
    means = np.stack([sample[:, place::groups].mean(axis=1) for place in range(groups)], axis=1)
    return np.array([front._length(one @ one.T, batches) for one in means]).T


def small(vectors):
    """The same with a mean that is a tenth of the spread over 32 batches, hard to tell from 0."""
    centered = vectors - vectors.mean(axis=0)
    return centered + 0.1 * centered.std(axis=0) / 32**0.5


@pytest.mark.slow
def test_coverage_of_the_distances(residuals):
    """Also where the true one is small or 0; the distance and its error are never both 0."""
    whole = residuals[0][:, 0]
    for vectors in (whole, small(whole), whole - whole.mean(axis=0)):
        truth = np.linalg.norm(vectors.mean(axis=0))
        for batches in (32, 64, 128):
            values, errors = lengths(drawn(vectors, batches))
            off = np.mean(np.abs(values - truth) > 3 * errors)
            print(f"\n{batches} batches, {truth:.2e}: {off}, {np.mean(values == 0):.2f} are 0")
            assert np.all(errors > 0) and off <= 0.03


@pytest.mark.slow
def test_coverage_of_skewed_distances(skewed_residuals):
    whole = skewed_residuals[0][:, 0]
    for batches in (32, 64, 128):
        values, errors = lengths(drawn(whole, batches))
        off = np.abs(values - np.linalg.norm(whole.mean(axis=0))) / errors
        print(f"\n{batches} batches: {np.mean(off > 3)}, {np.mean(off > 2)}")
        assert np.mean(off > 3) <= 0.03 and np.mean(off > 2) <= 0.07


def clipped(products, batches):
    """Mutant: the error of before, the jackknife of a root that is cut off at 0, without Student's quantile."""
    number = len(products)
    off = products - np.diag(np.diagonal(products))
    total, rows = off.sum(), off.sum(axis=1)
    value = max(total / (number * (number - 1)), 0.0) ** 0.5
    left = np.sqrt(np.maximum((total - 2 * rows) / ((number - 1) * (number - 2)), 0))
    return value, float(np.sqrt((number - 1) / number * np.sum((left - left.mean()) ** 2)))


def test_mutant_errors(residuals, monkeypatch):
    """Rejected by the coverage: normal error bars, the root of a clipped square, Student's quantile of as many groups."""
    vectors, scalars = residuals
    off = beyond(scalars, 4, lambda powers, number: students(powers, number) / widening(3))[0]
    with monkeypatch.context() as patch:
        patch.setattr(front, "_length", clipped)
        values, errors = lengths(drawn(small(vectors[:, 0]), 32))
        both = np.mean((values == 0) & (errors == 0))
    monkeypatch.setattr(front, "widening", lambda freedom: widening(15))
    values, errors = lengths(drawn(vectors[:, 0], 32))
    groups = np.mean(np.abs(values - np.linalg.norm(vectors[:, 0].mean(axis=0))) > 3 * errors)
    print(f"\nscalars {off}; distances: both exactly 0 in {both:.2f}, off in {groups:.2f} of all")
    assert off.max() > 0.03 and both > 0.05 and groups > 0.05


def test_the_root_of_a_square():
    """Three errors of the root span three of the square's: by hand."""
    for square, error in ((4.0, 0.1), (1.0, 1.0), (0.0, 1.0), (-2.0, 1.0)):
        value, bar = root_with_error(square, error)
        assert value == max(square, 0) ** 0.5 and bar > 0
        assert (value + 3 * bar) ** 2 >= max(square, 0) + 3 * error - 1e-12
        assert max(value - 3 * bar, 0) ** 2 <= max(square - 3 * error, 0) + 1e-12
    assert root_with_error(4.0, 0.0) == (2.0, 0.0)
    assert abs(widening(7) - 1.51) < 0.01 and abs(widening(10**6) - 1) < 1e-4  # Student's tables: 4.53 and 3.00


def test_too_few_batches():
    for batches in (4, 16):
        with pytest.raises(
            ValueError, match=f"Argument `batches` must be an integer of at least 32.*{batches} was given"
        ):
            irreversibility(SGD(0.02, 2), MANY, START, key=KEY, batches=batches)


def test_the_bound_is_one_sided():
    """Where three errors reach 0 the table gives an upper bound."""
    r = irreversibility(SGD(1e-4, 2), MANY, START, key=KEY, batches=32, probes=0)
    print(f"\n{r}")
    unresolved = [n for n in r.distances if r.distances[n] <= 3 * r.distance_errors[n]]
    assert all(error > 0 for error in (*r.standard_errors.values(), *r.distance_errors.values()))
    assert str(r).count("< ") == len(unresolved)
    for name in unresolved:
        assert f"{r.distances[name]:.2e} < {r.distances[name] + 3 * r.distance_errors[name]:.1e}" in str(r)


def constant(step):
    return 0.5 + 0.0 * step


EQUATIONS = {
    "SGD": (lambda eta: SGD(eta, 2), 0.5),
    "scheduled": (lambda eta: scheduled(SGD(2 * eta, 2), constant), 0.5),
    "decayed": (lambda eta: decayed(SGD(eta, 2), 0.1), 0.6),
    "momentum": (lambda eta: Momentum(eta, 2, momentum=0.2), 0.3),
}


@pytest.mark.parametrize("name", EQUATIONS)
def test_beyond_the_leading_order(name):
    """A word where a measure is more than half off its limit; at the rate that it names it is not."""
    equation, eta = EQUATIONS[name]
    with pytest.warns(UserWarning, match="is beyond the leading order, since the ") as said:
        r = irreversibility(equation(eta), FEW, START, probes=0)
    (message,) = [str(w.message) for w in said]
    print(f"\n{message}")
    assert r.gradient_steps == (name in ("SGD", "scheduled")) and said[0].filename == __file__
    good = irreversibility(equation(eta / 10), FEW, START, probes=0)
    if r.gradient_steps:
        worst = max(abs(good.values[n] / good.phi - 1) for n in good.values)
        assert max(*good.distances.values(), worst) < 0.15


def quartic(w, x):
    return 0.5 * (w - x) ** 2 + w**4 / 4


EMPTY = {
    "momentum": (lambda eta: Momentum(eta, 2, momentum=0.5), 0.4, 0.002),
    "adagrad": (lambda eta: AdaGrad(eta, 2), 1.0, 0.002),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", EMPTY)
def test_an_empty_memory(name):
    """A displacement of first order is held against its own limit: large steps warn, small ones do not."""
    equation, large, small = EMPTY[name]
    objective, start = (FEW, START) if name == "adagrad" else (Objective(quartic, FEW.data), jnp.ones(()))
    with pytest.warns(UserWarning, match="is beyond the leading order, since the force of") as said:
        irreversibility(equation(large), objective, start, memory="empty", probes=0)
    assert len(said) == 1 and said[0].filename == __file__
    irreversibility(equation(small), objective, start, memory="empty", probes=0)


def test_orders_of_displacements():
    """a/eta + b + c eta, with a or without; where both terms are alike it is of neither order. Mutant: one order alone."""
    for a, b, c, eta, far in (
        (1.0, 1.0, 1.0, 0.01, False), (0.0, 1.0, 1.0, 0.01, False), (0.0, 1.0, 1.0, 10.0, True),
        (1.0, -1.0, 0.0, 1.0, True), (1.0, 1.0, 5.0, 2.0, True), (0.0, 1e-3, 0.0, 1.0, False),
    ):  # fmt: skip
        forces = {n: {"f": np.array([a * n / eta + b + c * eta / n])} for n in (1, 2, 16)}
        off = of_empty_memories(forces.pop(1), forces, 1.0)
        assert (off.part > 0.5) == far, (a, b, c, eta, off)
    first = [{"f": np.array([1 / h])} for h in (0.01, 0.005)]
    assert of_others(*first, 1.0).part > 0.5 > of_empty_memories(first[0], {2: first[1]}, 1.0).part  # mutant


@pytest.mark.slow
def test_noise_does_not_warn():
    """What is off beyond its error bars warns, what may be noise does not."""
    irreversibility(SGD(0.3, 2), MANY, START, key=KEY, batches=32, probes=0)  # entropy production .48 ± .04
    of_steps = front.leading_order.of_gradient_steps
    assert of_steps({"a": 0.3}, {"a": 0.01}, {}, {}).part > 0.5 > of_steps({"a": 0.3}, {"a": 0.2}, {}, {}).part
    assert of_steps({}, {}, {"a": 0.9}, {"a": 0.1}) == ("force of a", 0.9 - 3 * 0.1)
    off = of_others({"a": np.array([1.4])}, {"a": np.array([1.2])}, 0.1)  # on its way to 1
    assert off.measure == "a" and abs(off.part - 0.4) < 1e-12
    assert of_others({"a": np.array([0.01])}, {"a": np.array([0.02])}, 1.0).part < 0.1  # small beside what matters


def test_nothing_drawn():
    """One start, one batch or all of them: no standard error is estimated, and none is printed as 0."""
    for equation in (SGD(0.02), SGD(0.02, 2)):
        r = irreversibility(equation, FEW, START, probes=0)
        assert set(r.standard_errors.values()) == {0.0} and json.loads(json.dumps(r.to_dict()))
        assert (
            "0.0e+00" not in str(r) and str(r).count("none") == 4 and "No standard errors: nothing was drawn" in str(r)
        )
