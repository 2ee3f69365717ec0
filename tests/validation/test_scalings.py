"""The scalings by name, and the rules for the learning rate across batch sizes."""

import dataclasses
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from equations import (
    SGD,
    AdaGrad,
    Adam,
    AdamW,
    Isotropic,
    Langevin,
    LaProp,
    Lion,
    Momentum,
    Objective,
    RMSProp,
    ScalingLimit,
    UnderdampedLangevin,
    decayed,
    from_optax,
    modified,
    scheduled,
    volumized,
)
from validation import orders, scaling_rule
from validation._compare.statistics import Estimate
from validation._scaling_rule import _deviations, _verdict, at_batch_size

RNG = np.random.default_rng(0)
CENTERS = RNG.normal(size=(32, 2))
CENTERS = 16.0 * (CENTERS - CENTERS.mean(0)) / CENTERS.std(0)  # noise far above the gradient
PROBLEM = Objective(lambda w, center: jnp.sum((w - center) ** 2 / 2), CENTERS)
START = jnp.array([2.0, -1.0])
W = {"w": lambda w: w}


# ---------------------------------------------------------------------------------------------------------------------
# Thresholds of stability


def growth(equation, curvature):
    """The largest modulus of an eigenvalue of a training step on curvature w^2/2."""
    twin, zero = equation.twin(), jnp.zeros(())
    with jax.numpy_dtype_promotion("standard"):
        origin, unravel = ravel_pytree((zero, twin.init(zero)))

        def step(flat):
            w, memory = unravel(flat)
            updates, memory = twin.update(curvature * w, memory, w)
            return ravel_pytree((w + updates, memory))[0]

        return np.max(np.abs(np.linalg.eigvals(jax.jacfwd(step)(origin))))


def is_the_edge(equation):
    """Whether a step is stable just below the threshold that the equation says, and unstable just above."""
    edge = float(equation.scaling_limit().threshold) / float(equation.learning_rate)
    return growth(equation, 0.999 * edge) < 1 < growth(equation, 1.001 * edge)


@dataclasses.dataclass(frozen=True)
class Averaged(ScalingLimit):
    """Mutant: 2 (1 - b), as if the sum of the gradients were all of the memory."""

    def __post_init__(self):
        object.__setattr__(self, "threshold", 2 * (1 - self.equation.momentum))


class TooEarly(Momentum):
    def scaling_limit(self):
        return Averaged(self)


class ColdTooEarly(UnderdampedLangevin):
    def scaling_limit(self):
        return Averaged(self)


EDGES = {
    "sgd": SGD(0.05),
    "langevin": Langevin(0.05, temperature=0.0),
    "heavy ball": Momentum(0.05),
    "heavy ball, little": Momentum(0.2, momentum=0.3, scaling="fixed"),
    "nesterov": Momentum(0.05, nesterov=True),
    "nesterov, little": Momentum(0.2, momentum=0.3, nesterov=True, scaling="fixed"),
    "underdamped": UnderdampedLangevin(0.05, friction=2.0, temperature=0.0),
}


@pytest.mark.parametrize("name", EDGES)
def test_the_threshold_is_where_a_step_becomes_unstable(name):
    assert is_the_edge(EDGES[name])


@pytest.mark.parametrize(
    "mutant", [TooEarly(0.05), TooEarly(0.05, nesterov=True), ColdTooEarly(0.05, friction=2.0, temperature=0.0)]
)
def test_a_wrong_threshold_is_seen(mutant):
    assert not is_the_edge(mutant)
    assert growth(mutant, 1.001 * float(mutant.scaling_limit().threshold) / float(mutant.learning_rate)) < 1


def test_others_say_no_threshold():
    """It would depend on more than the curvature and the learning rate."""
    for equation in (Adam(0.1), AdaGrad(0.1), Lion(0.1), decayed(SGD(0.1), 0.1)):
        assert equation.scaling_limit().threshold is None


# ---------------------------------------------------------------------------------------------------------------------


def test_batch_equivalent_moves_what_the_noise_moves():
    adam = AdamW(0.1, 16, b1=0.9, b2=0.99, eps=1e-3, eps_root=1e-4, weight_decay=0.1, scaling="batch_equivalent")
    half = adam.scaling_limit().rescaled(0.5)
    assert half.batch_size == 4
    for name, value in {"b1": 0.975, "b2": 0.9975, "eps": 2e-3, "eps_root": 4e-4, "weight_decay": 0.05}.items():
        np.testing.assert_allclose(getattr(half, name), value, rtol=1e-12)
    np.testing.assert_allclose(
        half.scaling_limit().time_per_step(), adam.scaling_limit().time_per_step() / 4, rtol=1e-12
    )
    inside, outside = (
        RMSProp(0.1, 16, eps=1e-3, eps_in_sqrt=root, scaling="batch_equivalent").scaling_limit().rescaled(0.5)
        for root in (True, False)
    )
    np.testing.assert_allclose([inside.eps, outside.eps], [4e-3, 2e-3], rtol=1e-12)
    full = RMSProp(0.1, 16, initial_scale=0.5, scaling="batch_equivalent").scaling_limit().rescaled(0.5)
    sums = AdaGrad(0.1, initial_accumulator_value=0.5, eps=1e-3).scaling_limit().rescaled(0.5)  # in its only scaling
    np.testing.assert_allclose([full.initial_scale, sums.initial_accumulator_value, sums.eps], [2, 2, 4e-3], rtol=1e-12)


@pytest.mark.parametrize("equation", [Adam(0.1, 4, scaling="fixed"), Momentum(0.1, 4, scaling="fixed")])
def test_fixed_moves_nothing_but_the_learning_rate(equation):
    half = equation.scaling_limit().rescaled(0.5)
    wanted = type(equation)(0.05, 4, scaling="fixed")
    assert jax.tree.all(jax.tree.map(lambda a, b: bool(a == b), half, wanted))
    np.testing.assert_allclose(equation.scaling_limit().time_per_step(), 0.1)


@pytest.mark.parametrize(
    "call, kind, words",
    [
        (lambda: Adam(0.1, scaling="square_root"), ValueError, "Argument `scaling` must be one of 'ballistic'"),
        (lambda: Momentum(0.1, scaling="ballistic"), ValueError, "Argument `scaling` must be one of 'square_root'"),
        (
            lambda: Adam(0.1, 2, scaling="batch_equivalent").scaling_limit().rescaled(0.5),
            ValueError,
            r"batch_size \* factor\*\*2",
        ),
        (
            lambda: Adam(0.1, scaling="batch_equivalent").scaling_limit().rescaled(0.5),
            ValueError,
            "noise is that of minibatches",
        ),
        (
            lambda: Adam(0.1, 16, noise_model=Isotropic(1.0), scaling="batch_equivalent").scaling_limit().rescaled(0.5),
            ValueError,
            "noise is that of minibatches",
        ),
        (
            lambda: jax.jit(lambda f: Adam(0.1, 16, scaling="batch_equivalent").scaling_limit().rescaled(f).b1)(0.5),
            TypeError,
            "Argument `factor` must be a plain number",
        ),
        (lambda: RMSProp(0.1, centered=True, bias_correction=True), ValueError, "Argument `bias_correction`"),
        (lambda: rule(Adam(0.1), "linear"), ValueError, "Argument `equation` must have a batch size"),
        (lambda: rule(Adam(0.1, 2), "cubic"), ValueError, "Argument `rule` must be one of 'linear', 'square_root'"),
        (
            lambda: rule(Adam(0.1, 2, "shuffled"), "square_root"),
            ValueError,
            "Argument `equation` must have .*'shuffled' was given",
        ),
        (
            lambda: rule(Adam(0.1, 2, noise_model=Isotropic(1.0)), "square_root"),
            ValueError,
            "Argument `equation` must have .*Isotropic.* was given",
        ),
        (
            lambda: rule(from_optax(optax.adam, 0.1, 2), "square_root"),
            ValueError,
            "Argument `equation` must not be one of",
        ),
        (lambda: rule(Adam(0.1, 2), "linear", batch_sizes=8), TypeError, "Argument `batch_sizes`"),
        (lambda: rule(Adam(0.1, 2), "linear", batch_sizes=[7]), ValueError, "Argument `steps`"),
        (lambda: rule(Adam(0.1, 2), "linear", tolerance=-1), ValueError, "Argument `tolerance`"),
    ],
)
def test_bad_input(call, kind, words):
    with pytest.raises(kind, match=words):
        call()


def rule(equation, name, steps=1600, **options):
    defaults = {"batch_sizes": [8], "key": jax.random.key(0), "paths": 4000, "observe": W, "tolerance": 0.2}
    return scaling_rule(equation, PROBLEM, START, rule=name, steps=steps, **(defaults | options))


RULES = {
    "adam": (Adam(0.01, 2, b1=0.99, b2=0.995), 1600, "square_root"),
    "rmsprop": (RMSProp(0.01, 2, decay=0.995, bias_correction=True), 1600, "square_root"),
    "laprop": (LaProp(0.01, 2, b1=0.99, b2=0.995), 1600, "square_root"),
    "sgd": (SGD(0.002, 2), 400, "linear"),
    "momentum": (Momentum(0.0005, 2, momentum=0.8), 400, "linear"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sgd", "adam", "rmsprop", "laprop", "momentum"])
def test_one_rule_holds_and_the_other_fails(name):
    """Each is the other's mutant: four times the batch at four times the learning rate, and at twice."""
    equation, steps, right = RULES[name]
    wrong = {"linear": "square_root", "square_root": "linear"}[right]
    good, bad = (rule(equation, which, steps) for which in (right, wrong))
    print(f"\n{good}\n{bad}")
    assert good.verdict == "holds" and not any(good.failed)
    assert bad.verdicts["w"] == {"mean": "fails", "variance": "fails"}
    distance = np.abs(bad.deviations["w"]["mean"].value) / bad.deviations["w"]["mean"].error
    print(f"the mean rejects the {wrong} rule at {distance[0]:.0f} s.e.")
    assert distance[0] > 20
    assert bad.to_dict()["verdict"] == "fails"


def test_the_rules_move_what_is_around_an_optimizer():
    """At four times the batch, a step of it goes as far on the clock of the examples as four steps did."""
    adam = Adam(0.01, 2, b1=0.98, b2=0.99, eps=1e-3)
    around = scheduled(volumized(decayed(adam, 0.1), 1.0, 0.9), optax.cosine_decay_schedule(1.0, 100))
    for name, rate in (("square_root", 0.02), ("linear", 0.04)):
        moved = at_batch_size(around, name, 8)
        box, decay, inner = moved.equation, moved.equation.equation, moved.equation.equation.equation
        np.testing.assert_allclose([moved.learning_rate, box.learning_rate, inner.learning_rate], rate, rtol=1e-12)
        np.testing.assert_allclose([moved.stretch, box.alpha, inner.b1], [4.0, 0.6, 0.92], rtol=1e-12)
        np.testing.assert_allclose(decay.weight_decay * rate, 4 * 0.1 * 0.01, rtol=1e-12)
        assert {e.batch_size for e in (moved, box, decay, inner)} == {8} and inner.scaling == "ballistic"
    bare = at_batch_size(adam, "square_root", 8)
    assert eqx.tree_equal(at_batch_size(scheduled(adam, one), "square_root", 8).equation, bare)


def test_what_is_forgotten_moves_by_kappa_in_both_rules():
    """1 - beta by four at four times the batch, in any rule with such a memory and in the series of one."""
    adam = Adam(0.01, 2, b1=0.98, b2=0.99)
    for name, rate in (("square_root", 0.02), ("linear", 0.04)):
        lion = at_batch_size(Lion(0.01, 2, b1=0.7, b2=0.99), name, 8)
        np.testing.assert_allclose([lion.learning_rate, lion.b1, lion.b2], [rate, 0.7, 0.96], rtol=1e-12)
        ball = at_batch_size(Momentum(0.01, 2, momentum=0.8), name, 8)  # but momentum's, which stays
        np.testing.assert_allclose([ball.learning_rate, ball.momentum], [rate, 0.8], rtol=1e-12)
        for memory in ("dynamic", "adiabatic"):
            series = at_batch_size(modified(adam, memory=memory), name, 8)
            again = modified(at_batch_size(adam, name, 8), memory=memory)
            assert eqx.tree_equal(series, again) and series.batch_size == 8
            np.testing.assert_allclose(at_batch_size(adam, name, 8).b1, 0.92, rtol=1e-12)
    one_by_one = {
        optax.adam: ({"b1": 0.98}, {"b1": 0.92, "b2": 0.996}),
        optax.sgd: ({"momentum": 0.8}, {"momentum": 0.8}),
    }
    for factory, (before, after) in one_by_one.items():
        moved = at_batch_size(from_optax(factory, 0.01, 2, **before), "linear", 8)
        assert eqx.tree_equal(moved.hyperparameters, {k: jnp.asarray(v) for k, v in after.items()}, rtol=1e-12)
        assert eqx.tree_equal(moved.scaling_limit().rescaled(0.25).learning_rate, jnp.asarray(0.01), rtol=1e-12)


def test_an_observable_that_stays():
    """Nothing has no deviation; and of what moves in the other run alone one cannot tell, without a warning."""
    still, moving = np.zeros((8, 2)), np.stack([np.zeros(8), np.arange(8.0)], axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for records, value, verdict in (([still, still], 0.0, "holds"), ([still, moving], np.nan, "cannot tell")):
            found = _deviations(records)
            for estimate, _ in found.values():
                np.testing.assert_array_equal(estimate.value, [value])
                assert _verdict(estimate, 0.1) == verdict


def test_a_deviation_must_be_sure():
    """Within by four standard errors, beyond by four, or neither."""
    for value, error, verdict in ((0.05, 0.01, "holds"), (0.05, 0.02, "cannot tell"), (0.15, 0.02, "cannot tell"),
                                  (-0.15, 0.01, "fails"), (-0.05, 0.02, "cannot tell")):  # fmt: skip
        assert _verdict(Estimate(np.array([value]), np.array([error])), 0.1) == verdict


@pytest.mark.slow
def test_the_square_root_rule_holds_with_decay_and_schedule():
    """A wrapper that stays as it is, its decay and its schedule, misses it."""
    around = scheduled(decayed(RULES["adam"][0], 0.3), optax.cosine_decay_schedule(1.0, 1600))
    good, bad = rule(around, "square_root"), rule(around, "linear")
    print(f"\n{good}\n{bad}")
    assert good.verdict == "holds" and bad.verdict == "fails"


def one(step):
    return 1.0 + 0.0 * step


@pytest.mark.slow
def test_the_square_root_rule_ends_where_the_gradient_dominates():
    """It is a rule for noise: with hardly any, Adam's step is the sign of the gradient, and twice as long."""
    calm = Objective(lambda w, center: jnp.sum((w - center / 160.0) ** 2 / 2), CENTERS)
    adam = Adam(0.002, 2, b1=0.99, b2=0.995)
    report = scaling_rule(adam, calm, START, rule="square_root", batch_sizes=[8], steps=400, key=jax.random.key(0),
                          paths=64, observe=W)  # fmt: skip
    assert report.verdicts["w"]["mean"] == "fails"


def test_fixed_momentum_is_of_first_order_in_eta():
    """Without noise; the series of its slow path, `memory="adiabatic"`, says the rest."""
    calm = Objective(lambda w, center: jnp.sum((w - center / 16.0) ** 2 / 2 + jnp.cos(w) / 2), CENTERS)
    ball = Momentum(0.01, momentum=0.5, scaling="fixed")
    report = orders(ball, calm, START, time=1.0, learning_rates=[0.02, 0.01, 0.005], observe=W)
    print(f"\n{report}")
    assert abs(report.slope["w"]["mean"] - 1) < 0.15 and report.verdict["w"]["mean"] == "holds"
