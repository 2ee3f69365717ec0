"""Time averages of SGD on a quadratic, whose covariance and memory are known at any learning rate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics import solve, time_average, train
from dynamics._long_runs.arrival import halves_apart, mean_and_error, starts_apart
from equations import SGD, Isotropic, Objective
from validation import judge_number

RATE, SCALE = 0.5, 0.3
NOISY = SGD(RATE, noise_model=Isotropic(SCALE))
QUADRATIC = Objective(lambda w, e: w**2 / 2 + 0 * e, jnp.zeros(1))
VARIANCE = RATE * SCALE**2 / (2 - RATE)  # of w' = (1 - eta) w - eta s xi
MEMORY = (2 - RATE) / RATE  # (1 + a)/(1 - a) with a = 1 - eta
SQUARE = {"square": lambda w: w**2, "w": lambda w: w}


def averaged(w0=0.0, **more):
    options = dict(steps=32 * 400, key=jax.random.key(1), paths=16, observe=SQUARE) | more
    return time_average(NOISY, QUADRATIC, jnp.asarray(w0), **options)


@pytest.mark.slow
def test_variance_and_memory_of_the_algorithm():
    """That of the equation, eta s^2/2, is the mutant: by 33 % off at this rate."""
    found = averaged(5.0)
    assert (
        found.arrived == "arrived" and found.failed == 0 and str(found).startswith("arrived: 12800 steps of 16 paths")
    )
    for measured, freedom in ((found.samples["square"], None), (found.mean["square"], found.freedom["square"])):
        assert (
            judge_number("variance", measured, VARIANCE, mutant=RATE * SCALE**2 / 2, freedom=freedom).verdict == "holds"
        )
    assert 0 < found.burn_in <= 32 * 400 // 2  # the start is 13 standard deviations off
    assert abs(found.autocorrelation_time["w"] / MEMORY - 1) < 0.1
    kept = 16 * (found.steps - found.burn_in)
    assert found.effective_samples["w"] == pytest.approx(kept / found.autocorrelation_time["w"])
    assert found.series["w"].shape == (16, 12800 - found.burn_in) and found.thinning == 1


@pytest.mark.slow
def test_errors_are_the_spread_of_repeated_runs():
    """Of one path, whose errors come from batches, and of sixteen."""
    found = averaged(paths=256, batches=16, steps=16 * 50)
    for paths in (1, 2, 16):
        groups = found.batch_means["square"].reshape(256 // paths, paths, -1)
        values, errors, _ = map(np.array, zip(*map(mean_and_error, groups), strict=True))
        assert 0.8 < values.std(ddof=1) / np.sqrt(np.mean(errors**2)) < 1.25


def test_what_has_arrived_is_not_sent_back():
    """An autoregressive series, 66 autocorrelation times long, whose halves and paths do agree."""
    generator, rho, found = np.random.default_rng(0), 0.8, []
    x, sums = generator.normal(size=800), []
    for _ in range(30):
        total = np.zeros(800)
        for _ in range(20):
            x = rho * x + (1 - rho**2) ** 0.5 * generator.normal(size=800)
            total += x
        sums.append(total / 20)
    for means in np.stack(sums, axis=1).reshape(100, 8, 30):
        found.append((halves_apart(means), starts_apart(means)))
    assert np.max(found) < 4 and np.mean(np.array(found) > 3) < 0.03


@pytest.mark.slow
def test_a_run_goes_on():
    whole = averaged(batches=16)
    half = averaged(steps=16 * 400, batches=8)
    rest = time_average(NOISY, QUADRATIC, steps=16 * 400, batches=8, observe=SQUARE, start=half.end)
    assert float(rest.end.final[0]) == float(whole.end.final[0])


@pytest.mark.slow
def test_of_the_equation():
    found = averaged(run=solve, steps=32 * 100)
    assert judge_number("variance", found.samples["square"], RATE * SCALE**2 / 2, mutant=VARIANCE).verdict == "holds"


@pytest.mark.slow
def test_a_run_that_has_not_arrived_is_told():
    """A hundred times slower, and begun far away: the halves say so. Two wells: the paths do, and the halves do not."""
    slow = SGD(RATE / 1000, noise_model=Isotropic(SCALE))
    begun = time_average(slow, QUADRATIC, jnp.array(1.0), steps=640, key=jax.random.key(0), paths=16, observe=SQUARE)
    assert begun.arrived == "not arrived" and begun.halves["w"] > 4
    wells = Objective(lambda w, e: (w**2 - 1) ** 2 / 4 + 0 * e, jnp.zeros(1))
    sides = jnp.array([-1.0, 1.0] * 4)
    options = dict(steps=3200, key=jax.random.key(0), observe={"w": lambda w: w})
    two = time_average(SGD(0.1, noise_model=Isotropic(0.3)), wells, sides, paths=8, per_path=True, **options)
    assert two.arrived == "not arrived" and two.starts["w"] > 4 > 3 > two.halves["w"]
    one = time_average(SGD(0.1, noise_model=Isotropic(0.3)), wells, jnp.array(1.0), paths=8, **options)
    assert one.starts["w"] < 3


@pytest.mark.slow
def test_a_short_run_cannot_tell():
    slow = SGD(RATE / 1000, noise_model=Isotropic(SCALE))
    found = time_average(slow, QUADRATIC, jnp.array(0.0), steps=160, key=jax.random.key(0), observe=SQUARE, batches=16)
    assert found.arrived == "cannot tell"


@pytest.mark.slow
def test_failed_paths_are_left_out():
    """Where paths begin beyond the well, they run away."""
    well = Objective(lambda w, e: w**2 / 2 - w**4 / 4 + 0 * e, jnp.zeros(1))
    starts = jnp.array([0.0, 0.1, 5.0, 0.05])
    found = time_average(
        SGD(0.1, noise_model=Isotropic(0.1)), well, starts, steps=800, key=jax.random.key(0), paths=4, per_path=True,
        observe=SQUARE, batches=8,
    )  # fmt: skip
    assert found.failed == 1 and found.paths.tolist() == [0, 1, 3] and found.samples["w"].shape == (3,)


@pytest.mark.slow
def test_vectors_and_thinning(monkeypatch):
    monkeypatch.setattr("dynamics._long_runs.time_average._KEPT", 500)
    found = averaged(observe={"pair": lambda w: jnp.stack([w, w**2])}, steps=800, batches=8, paths=2, save_every=5)
    assert found.mean["pair"].value.shape == found.autocorrelation_time["pair"].shape == (2,)
    assert found.thinning == 10 and found.series["pair"].shape[1:] == ((800 - found.burn_in) // 10, 2)
    assert "largest of 2" in str(found)


def test_refusals():
    for name, wrong in (("steps", dict(steps=1000)), ("batches", dict(batches=4, steps=4)), ("run", dict(run=max)),
                        ("batches", dict(batches=9, steps=9)), ("observe", dict(observe=None)),
                        ("reduce", dict(reduce=("mean",))), ("keep_states", dict(keep_states=True))):  # fmt: skip
        with pytest.raises(ValueError, match=f"Argument `{name}`"):
            averaged(**wrong)
    with pytest.raises(RuntimeError, match="All 1 paths failed"):
        time_average(SGD(3.0), QUADRATIC, jnp.array(1.0), steps=8000, observe=SQUARE, batches=8, run=train)
