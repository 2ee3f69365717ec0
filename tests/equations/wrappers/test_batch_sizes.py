"""Batch sizes that are scheduled: the noise of each step is that of its batch, in equation and algorithm."""

import dataclasses

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from marks import some
from mutants.scheduled_batches import Unscaled

from dynamics import minibatches, solve, stationary, train
from equations import (
    SGD,
    Adam,
    Diagonal,
    Isotropic,
    LabelNoise,
    Momentum,
    Objective,
    ScheduledBatches,
    accumulated,
    averaged,
    clipped,
    decayed,
    modified,
    scheduled,
)
from validation import irreversibility, scaling_rule

ETA, STEPS = 0.05, 20
CURVATURE = np.array([1.0, 2.0])
POINTS = np.array([[1.0, 0.5], [-1.0, 0.5], [0.5, -1.0], [-0.5, 0.0]])
BOWL = Objective(lambda w, x: 0.5 * jnp.sum(jnp.asarray(CURVATURE) * (w - x) ** 2), POINTS)
NOISE = CURVATURE**2 * POINTS.var(0)
SEEN = {"w": lambda w: w}


def growing(step):
    return jnp.where(step < 10, 1, 4)


def halved(step):
    return jnp.where(step < 10, 1.0, 0.5)


def variance(run, rates, factors):
    """By the recursion of a step, from rest: of the algorithm, or of the equation with its noise held within a step."""
    found = 0.0 * CURVATURE
    for rate, factor in zip(rates, factors, strict=True):
        kept = (1 - rate * CURVATURE) ** 2 if run is train else np.exp(-2 * rate * CURVATURE)
        fresh = rate**2 if run is train else rate * (1 - kept) / (2 * CURVATURE)
        found = kept * found + fresh * factor * NOISE
    return found


def distance(run, rule, factors, paths=4000):
    """Of the sampled variances at the end from those of the recursion, in standard errors."""
    found = run(
        rule, BOWL, jnp.zeros(2), steps=STEPS, save_every=STEPS, key=jax.random.key(1), paths=paths, observe=SEEN
    )
    samples = np.asarray(found.observables["w"][:, -1])
    wanted = variance(run, [ETA] * STEPS, factors)
    errors = np.std((samples - samples.mean(0)) ** 2, axis=0) / paths**0.5
    return np.max(np.abs(samples.var(0) - wanted) / errors)


SIZES = np.asarray(growing(np.arange(STEPS)))
FACTORS = {"with_replacement": 1 / SIZES, "without_replacement": (4 - SIZES) / (3 * SIZES)}


@pytest.mark.parametrize(
    ("run", "sampling"),
    [
        (train, "with_replacement"),
        (train, "without_replacement"),
        (solve, "with_replacement"),
        pytest.param(solve, "without_replacement", marks=pytest.mark.slow),
    ],
)
def test_the_variance_is_that_of_each_step(run, sampling):
    """In closed form, within 4 standard errors; the mutant, whose noise is that of the largest batch, is not."""
    rule = scheduled(SGD(ETA, 2, sampling), batch_size=growing)
    assert rule.batch_size == 4
    assert distance(run, rule, FACTORS[sampling]) < 4
    if run is solve and sampling == "with_replacement":  # all examples at once make no noise
        mutant = Unscaled(equation=rule.equation, schedule=growing)
        assert distance(run, mutant, FACTORS[sampling]) > 4


def test_half_the_rate_is_twice_the_batch():
    """To first order: over the same time, from the step where either changes, by the recursions that hold above."""
    for run in (train, solve):
        larger = variance(run, [ETA] * 20, [1.0] * 10 + [0.5] * 10)
        slower = variance(run, [ETA] * 10 + [ETA / 2] * 20, [1.0] * 30)
        unchanged = variance(run, [ETA] * 20, [1.0] * 20)
        np.testing.assert_allclose(larger, slower, rtol=0.06)
        assert np.all(np.abs(unchanged / slower - 1) > 0.2)


@pytest.mark.slow
@pytest.mark.parametrize("inner", [SGD(ETA), Adam(ETA)])
def test_the_twin_takes_so_many_examples(inner):
    """The first B(k) of those that are drawn, under a schedule of the rate too."""
    rule = scheduled(inner, halved, batch_size=growing)
    options = dict(steps=STEPS, key=jax.random.key(0))
    run = train(rule, BOWL, jnp.ones(2), observe=SEEN, **options)
    drawn = np.asarray(minibatches(rule, BOWL, **options))
    optimizer = optax.chain(inner.twin(), optax.scale_by_schedule(halved))
    params, memory, record = jnp.ones(2), optimizer.init(jnp.ones(2)), [jnp.ones(2)]
    for indices, size in zip(drawn, SIZES, strict=True):
        gradient = BOWL.take(jnp.asarray(indices[:size])).gradient(params)
        with jax.numpy_dtype_promotion("standard"):
            updates, memory = optimizer.update(gradient, memory, params)
            params = optax.apply_updates(params, updates)
        record.append(params)
    np.testing.assert_allclose(run.observables["w"][0], record, rtol=0, atol=1e-12)
    np.testing.assert_allclose(run.times[-1], ETA * (10 + 5), rtol=1e-6)


@pytest.mark.slow
def test_what_is_injected_stays():
    """Only what is of batches has another size, for any model of that and under any wrapper."""
    for model, share in ((Isotropic(0.3), 0.09), (Diagonal(), 0.0), (Isotropic(0.3, on=Diagonal()), 0.09)):
        rule = averaged(scheduled(SGD(ETA, noise_model=model), batch_size=growing))
        for step, size in ((3, 1), (12, 4)):
            held = rule.held(step)
            found = held.gradient_noise.variance(held.batches(BOWL), jnp.zeros(2))
            np.testing.assert_allclose(found, NOISE / size + share, rtol=1e-12)


PRIVATE = {
    "outside": scheduled(clipped(SGD(ETA, 2), norm=100.0, noise=0.005), batch_size=growing),
    "inside": clipped(scheduled(SGD(ETA), batch_size=growing), norm=100.0, noise=0.005),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", some(PRIVATE, ["outside"]))
@pytest.mark.parametrize("run", [train, pytest.param(solve, marks=pytest.mark.slow)])
def test_what_is_added_to_the_sum_is_divided_by_its_size(kind, run):
    """Of DP-SGD, noise norm/B(k), by its variance and by the recursion; what the mutant divides by is what is drawn."""
    rule = averaged(PRIVATE[kind])
    for step, size in ((3, 1), (12, 4)):
        held = rule.held(step)
        found = held.gradient_noise.variance(held.batches(BOWL), jnp.zeros(2))
        np.testing.assert_allclose(found, NOISE / size + (0.5 / size) ** 2, rtol=1e-12)
    sizes = SIZES[:, None]
    assert distance(run, PRIVATE[kind], 1 / sizes + (0.5 / sizes) ** 2 / NOISE) < 4
    assert distance(run, PRIVATE[kind], 1 / sizes + (0.5 / 4) ** 2 / NOISE) > 4


def doubled(rule):
    return accumulated(rule, 2)


GATHERED = {
    "schedule": lambda rule: doubled(scheduled(rule, batch_size=growing)),
    "both": lambda rule: doubled(scheduled(rule, halved, batch_size=growing)),
    "around the rate": lambda rule: doubled(scheduled(scheduled(rule, halved), batch_size=growing)),
    "average": lambda rule: doubled(averaged(scheduled(rule, batch_size=growing))),
    "clipped": lambda rule: doubled(clipped(scheduled(rule, batch_size=growing), norm=1e3)),
    "decayed": lambda rule: doubled(decayed(scheduled(rule, batch_size=growing), 0.1)),
    "average outside": lambda rule: averaged(doubled(scheduled(rule, batch_size=growing))),
}


@pytest.mark.parametrize("kind", GATHERED)
def test_accumulated_batches_are_so_many_times_as_large(kind):
    """In every step, wherever the schedule is inside; twice is four times."""
    for rule, times in ((GATHERED[kind](SGD(ETA)), 2), (doubled(GATHERED[kind](SGD(ETA))), 4)):
        assert rule.batch_size == 4 * times
        for step, size in ((3, 1), (12, 4)):
            held = rule.held(step)
            found = held.gradient_noise.variance(held.batches(BOWL), jnp.zeros(2))
            np.testing.assert_allclose(found, NOISE / (size * times), rtol=1e-12)


@pytest.mark.parametrize("run", [train, pytest.param(solve, marks=pytest.mark.slow)])
def test_the_variance_of_accumulated_batches(run):
    """Mutant: what is drawn alone is larger, and not what is weighed."""
    rule = doubled(scheduled(SGD(ETA), batch_size=growing))
    assert distance(run, rule, FACTORS["with_replacement"] / 2) < 4
    assert distance(run, rule, FACTORS["with_replacement"]) > 4


@pytest.mark.slow
@pytest.mark.parametrize("run", [train, solve])
@pytest.mark.parametrize("rule", [SGD(ETA), Adam(ETA), Momentum(ETA)])
def test_runs_go_on(rule, run):
    """To the bit, over the step where the size changes."""
    rule, options = scheduled(rule, halved, batch_size=growing), dict(key=jax.random.key(2), paths=2)
    whole = run(rule, BOWL, jnp.ones(2), steps=16, **options)
    half = run(rule, BOWL, jnp.ones(2), steps=8, **options)
    np.testing.assert_array_equal(run(rule, BOWL, start=half, steps=8).final, whole.final)


@pytest.mark.slow
def test_without_batches_nothing_is_scheduled():
    rule = ScheduledBatches(equation=SGD(ETA), schedule=growing)
    runs = [run(rule, BOWL, jnp.ones(2), steps=3).final for run in (train, solve)]
    np.testing.assert_array_equal(runs[0], train(SGD(ETA), BOWL, jnp.ones(2), steps=3).final)
    np.testing.assert_array_equal(runs[1], solve(SGD(ETA), BOWL, jnp.ones(2), steps=3).final)


def at(rule, **options):
    return solve(rule, BOWL, jnp.ones(2), steps=3, key=jax.random.key(0), **options)


RULE = scheduled(SGD(ETA), batch_size=growing)
NOISY = Objective(lambda w, x, key: 0.5 * jnp.sum((w - x + jax.random.normal(key, (2,))) ** 2), POINTS, random=True)
REFUSED = {
    "nothing": (lambda: scheduled(SGD(ETA)), "Argument `schedule` or `batch_size` must be given"),
    "number": (lambda: scheduled(SGD(ETA), batch_size=3), "`batch_size` must be a function"),
    "fraction": (lambda: scheduled(SGD(ETA), batch_size=lambda k: 1 + 0.5 * (k == 7)), "at step 7 it is 1.5"),
    "no example": (lambda: scheduled(SGD(ETA), batch_size=lambda k: 2 - k), "at step 2 it is 0"),
    "endless": (lambda: scheduled(SGD(ETA), batch_size=lambda k: 2.0 ** (k // 100)), "at step 3100 it is 2.1"),
    "vector": (lambda: scheduled(SGD(ETA), batch_size=lambda k: jnp.ones(2)), "an array of shape"),
    "epochs": (lambda: at(scheduled(SGD(ETA, 4, "shuffled"), batch_size=growing)), "`sampling` must be"),
    "subsets": (
        lambda: at(scheduled(SGD(ETA, 4, "without_replacement"), batch_size=lambda k: 5 + 0 * k)), "`batch_size` must be",
    ),
    "twice": (lambda: scheduled(RULE, batch_size=lambda k: 2 + 0 * k), "must not have a scheduled batch size already"),
    "twice alike": (lambda: scheduled(RULE, batch_size=growing), "must not have a scheduled batch size already"),
    "twice inside": (
        lambda: scheduled(decayed(scheduled(RULE, halved), 0.1), halved, batch_size=growing),
        "must not have a scheduled batch size already",
    ),
    "twice by hand": (
        lambda: ScheduledBatches(equation=averaged(RULE), schedule=growing), "must not have a scheduled batch size already",
    ),
    "larger": (lambda: dataclasses.replace(averaged(RULE), batch_size=8), "must be the largest of the schedule, 4, but 8"),
    "labels": (lambda: at(scheduled(SGD(ETA, noise_model=LabelNoise(0.1)), batch_size=growing)), "`noise_model` must be"),
    "keys": (
        lambda: solve(RULE, NOISY, jnp.ones(2), steps=1, key=jax.random.key(0)), "`batch_size` must be one number",
    ),
    "series": (lambda: modified(RULE), "must have one batch size for a series"),
    "series inside": (lambda: scheduled(modified(SGD(ETA, 2)), batch_size=growing), "must not be a series"),
    "controller": (
        lambda: at(RULE, stepsize_controller=dfx.PIDController(rtol=1e-3, atol=1e-3)), "`stepsize_controller` must be None",
    ),
    "irreversibility": (lambda: irreversibility(RULE, BOWL, jnp.ones(2)), "must have one batch size"),
    "at rest": (lambda: stationary(RULE, BOWL, jnp.ones(2), discrete=True), "must have one batch size"),
    "rule": (
        lambda: scaling_rule(RULE, BOWL, jnp.ones(2), rule="linear", batch_sizes=[8], steps=4, key=jax.random.key(0)),
        "must have one batch size",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_refused(kind):
    call, words = REFUSED[kind]
    with pytest.raises((TypeError, ValueError), match=words):
        call()
