"""Four measures of irreversibility: equal to leading order for SGD, apart for all else, at the rates that theory gives."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from oracles import mlp

import validation._irreversibility.irreversibility as front
from equations import (
    SGD,
    AbstractSignal,
    AdaGrad,
    Adam,
    AMSGrad,
    Isotropic,
    LaProp,
    Momentum,
    Objective,
    SignSGD,
    decayed,
    from_optax,
    regularized,
    scheduled,
)
from equations._signals.base import is_parameter
from equations._signals.examples import checked_examples
from validation import irreversibility
from validation._commands.digits import cross_entropy, digits_problem
from validation._compare.student import skewed
from validation._irreversibility.batches import count, enumerated, potential, sampled
from validation._irreversibility.curl import curl
from validation._irreversibility.one_batch import Step, square
from validation._irreversibility.result import VECTORS

KEY = jax.random.key(0)
NAMES = (*VECTORS, "entropy_production")
SLOW = pytest.mark.slow


def rescaling(params, y):
    """Invariant under (u, w) -> (c u, w/c) but for the second term."""
    u, w = params
    return 0.5 * (u * w - y) ** 2 + 0.1 * jnp.sin(u) * w**2


def deep_linear(weights, example):
    x, y = example
    for w in weights:
        x = w @ x
    return 0.5 * jnp.sum((x - y) ** 2)


def regression(network, example):
    x, y = example
    return 0.5 * jnp.sum((network(x) - y) ** 2)


RESCALING = Objective(rescaling, jnp.array([1.0, 0.5, 2.0]))
START = jnp.array([1.3, 0.4])


def problem(name):
    """Objective, parameters, batch size, largest learning rate."""
    draw = lambda place, *shape: jax.random.normal(jax.random.fold_in(KEY, place), shape)  # noqa: E731
    if name == "rescaling model":
        return RESCALING, START, 2, 0.02
    if name == "deep linear network":
        return (
            Objective(deep_linear, (draw(1, 5, 3), draw(2, 5, 3))),
            [0.6 * draw(3 + i, 3, 3) for i in range(3)],
            2,
            0.01,
        )
    if name == "tanh MLP":
        return Objective(regression, (draw(1, 5, 4), draw(2, 5, 2))), mlp(KEY, (4, 6, 2)), 2, 0.03
    objective, network, _ = digits_problem(KEY, 16)
    wide = lambda leaf: leaf.astype(jnp.float64) if is_parameter(leaf) else leaf  # noqa: E731
    return Objective(cross_entropy, jax.tree.map(wide, objective.data)), jax.tree.map(wide, network), 32, 0.04


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["rescaling model", *(pytest.param(n, marks=SLOW) for n in ("digits MLP", "deep linear network", "tanh MLP"))],
)
def test_sgd_the_four_are_one(name):
    """Slope 1 of every distance to phi in the last of three halvings, and below 2 % at the smallest learning rate."""
    objective, params, batch, eta = problem(name)
    rates = eta / 2.0 ** np.arange(4)
    results = [irreversibility(SGD(r, batch), objective, params, key=KEY, batches=32, probes=0) for r in rates]
    errors = {n: np.array([r.distances[n] for r in results]) for n in VECTORS}
    errors["entropy_production"] = np.array([abs(r.entropy_production / r.phi - 1) for r in results])
    print(f"\n{name}\n{results[-1]}")
    for n, error in errors.items():
        slope = np.log2(error[-2] / error[-1])
        print(f"{n}: {error}, slope {slope:.3f}")
        assert abs(slope - 1) < 0.1 and error[-1] < 0.02
    assert results[0].enumerated == (name != "digits MLP")
    assert all((e == 0) == results[0].enumerated for e in results[0].standard_errors.values())


@pytest.mark.slow
def test_phi_is_the_mean_over_all_batches():
    """The pass over the examples against the enumeration, for every sampling and any size of the last chunk."""
    for sampling in ("with_replacement", "without_replacement", "shuffled"):
        equation = SGD(0.1, 2, sampling)
        indices, weights = enumerated(equation, 3)
        assert len(indices) == count(equation, 3) and abs(weights.sum() - 1) < 1e-15
        mean = lambda p: sum(  # noqa: E731
            w * square(RESCALING.take(jnp.asarray(i)).gradient(p)) / 4
            for i, w in zip(indices, weights, strict=True)  # noqa: B023
        )
        truth, gradient = jax.value_and_grad(mean)(START)
        phi, phi_gradient = potential(equation, RESCALING, START)
        assert abs(phi - truth) < 1e-14
        np.testing.assert_allclose(phi_gradient, gradient, rtol=1e-12)


def test_batches_drawn_without_replacement_hold_no_example_twice():
    for sampling in ("without_replacement", "shuffled"):
        indices = np.sort(sampled(SGD(0.1, 4, sampling), 5, KEY, 50), axis=1)
        assert np.all(np.diff(indices, axis=1) > 0) and len(np.unique(indices, axis=0)) == 5


@pytest.mark.slow
def test_drawn_batches_agree_with_all(monkeypatch):
    """Within 4 standard errors, and these are those of the exact spread between batches and of repeated draws. Mutants: the
    error from a raw second moment, and for a distance the length of the noise vector."""
    sgd = SGD(0.02, 2)
    whole = irreversibility(sgd, RESCALING, START, probes=0)
    indices, weights = map(jnp.asarray, enumerated(sgd, 3))
    *_, (scalars, squares, cubes) = front._averages(
        Step.of(sgd, START, "adiabatic", 3), RESCALING, START, indices, weights
    )
    exact, raw = np.sqrt(np.asarray(squares - scalars**2) / 399), np.sqrt(np.asarray(squares) / 399)
    skewness = (cubes - 3 * scalars * squares + 2 * scalars**3) / (exact * 399**0.5) ** 3
    exact = exact * skewed(skewness, 400)
    monkeypatch.setattr(front, "LARGEST", 2)
    draws = [irreversibility(sgd, RESCALING, START, key=jax.random.key(k), batches=400, probes=0) for k in range(24)]
    assert not draws[0].enumerated and draws[0].phi == pytest.approx(whole.phi, rel=1e-12)
    print()
    for place, name in enumerate(NAMES):
        errors = np.array([d.standard_errors[name] for d in draws])
        worst = max(abs(d.values[name] - whole.values[name]) / d.standard_errors[name] for d in draws)
        print(
            f"{name}: error {errors.mean():.2e}, exact {exact[place]:.2e}, mutant {raw[place]:.2e}; worst {worst:.1f}"
        )
        assert abs(errors.mean() / exact[place] - 1) < 0.05 and worst < 4
    assert max(raw / exact) > 1.15  # rejected
    for name in VECTORS:
        values, errors = (
            np.array([getattr(d, part)[name] for d in draws]) for part in ("distances", "distance_errors")
        )
        spread = values.std(ddof=1)
        print(f"distance of {name}: error {errors.mean():.2e}, spread of draws {spread:.2e}")
        assert (
            0.85 < errors.mean() / spread < 2
        )  # wider where three of them nearly reach 0; the spread is known to 15 %
        assert abs(values.mean() - whole.distances[name]) < 4 * spread / len(draws) ** 0.5


class Counted(AbstractSignal):
    """Counts its gradients, one batch at a time."""

    data: jax.Array = eqx.field(converter=checked_examples)
    calls: list = eqx.field(static=True)

    def surrogate(self, active, frozen, example):
        return rescaling(active, example)

    def gradient(self, params, weights=None):
        jax.debug.callback(lambda: self.calls.append(1))
        return super().gradient(params, weights)


@pytest.mark.parametrize("equation, number", [(SGD(0.01), 7), (Momentum(0.01), 10)], ids=["SGD", "momentum"])
def test_cost_of_one_batch(equation, number):
    """At most twelve gradients for the four measures and their leading term, which differentiates one of them."""
    calls = []
    signal = Counted(RESCALING.data, calls)
    step = Step.of(equation, START, "adiabatic", 3)
    measures = eqx.filter_jit(lambda p: front._one(step, signal, p, None))(START)
    jax.block_until_ready(measures)
    jax.effects_barrier()
    print(f"\n{len(calls)} gradients, and backward through one of them")
    assert len(calls) == number and number + 2 <= 12


# Beyond SGD


@pytest.mark.slow
@pytest.mark.parametrize("mu", [0.5, 0.9])
def test_momentum_on_its_slow_manifold(mu):
    """(1 + mu) gamma^3 and gamma^2: time asymmetry over backward error is (1 - mu)/(1 + mu) within 2 %."""
    r = irreversibility(Momentum(2e-4, 2, momentum=mu), RESCALING, START, probes=0)
    gamma = 1 / (1 - mu)
    ratio = r.time_asymmetry / r.backward_error
    print(f"\n{r}\nratio {ratio:.5f}, theory {(1 - mu) / (1 + mu):.5f}")
    assert abs(ratio / ((1 - mu) / (1 + mu)) - 1) < 0.02
    assert abs(r.backward_error / r.phi / ((1 + mu) * gamma**3) - 1) < 0.02
    assert abs(r.time_asymmetry / r.phi / gamma**2 - 1) < 0.02
    # n steps of eta/n, each on the manifold of its own length, leave an n-th of the backward error.
    assert abs(r.time_renormalized / r.backward_error - 1) < 0.02
    assert r.manifold_correction < 0.1 and "No slow manifold" not in str(r)


@pytest.mark.slow
def test_adam_at_its_own_betas():
    """b2 = .999 multiplies the learning rate by a thousand: no manifold at usual rates, which is said, with no nan."""
    with pytest.raises(ValueError, match="must have a slow manifold at its learning rate, but that of Adam at 0.01"):
        irreversibility(Adam(0.01, 2), RESCALING, START, probes=0)
    uphill = jnp.array([1.3, -0.4])  # the second moment grows back in time, and stays positive
    with pytest.warns(UserWarning, match="no slow manifold at this learning rate, since its correction is"):
        r = irreversibility(Adam(0.01, 2), RESCALING, uphill, probes=0)
    assert r.manifold_correction > 1 and "No slow manifold at this learning rate" in str(r)
    adam, squares = Adam(1e-6, 2), []
    r = irreversibility(adam, RESCALING, START, probes=0)
    for index, weight in zip(*enumerated(adam, 3), strict=True):
        batch = RESCALING.take(jnp.asarray(index))
        gradient = batch.gradient(START)
        change = (batch.gradient(START - 1e-6 * jnp.sign(gradient)) ** 2 - gradient**2) / 0.001
        squares.append(weight * np.array([jnp.sum(change**2), jnp.sum(gradient**4)]))
    expected = np.sqrt(np.divide(*np.sum(squares, axis=0)))
    print(f"\n{r}\ncorrection {r.manifold_correction:.6e}, expected {expected:.6e}")
    assert abs(r.manifold_correction / expected - 1) < 1e-6 and "No slow manifold" not in str(r)
    assert json.loads(json.dumps(r.to_dict()))["manifold_correction"] == r.manifold_correction


@pytest.mark.slow
def test_steps_beyond_the_leading_order_are_warned_of():
    bowl, start = Objective(lambda w, a: 0.5 * a * w**2, np.array([1.0, 3.0])), jnp.array(0.3)
    with pytest.warns(UserWarning, match="a force is .*e.* times .* a step of 100000 is too large"):
        r = irreversibility(SGD(1e5, 1), bowl, start, probes=0)
    assert r.gradient_steps and r.distances["backward_error"] > 1e8
    r = irreversibility(SGD(0.1, 1), bowl, start, probes=0)  # no warning, nor at rest, nor where nothing is claimed
    assert 0.08 < r.distances["backward_error"] < 1
    irreversibility(SGD(1e5, 1), bowl, jnp.array(0.0), probes=0)
    irreversibility(SignSGD(1e5, 1), bowl, start, probes=0)


@pytest.mark.slow
def test_memory_that_never_settles():
    """From an empty memory the velocity is that of the first step: of AdaGrad -g/sqrt(v0 + g^2)."""
    gradient = RESCALING.gradient(START)
    first = -gradient / jnp.abs(gradient)
    for equation, expected in (
        (AdaGrad(0.01, initial_accumulator_value=0.1, eps=1e-7), -gradient / jnp.sqrt(0.1 + gradient**2 + 1e-7)),
        (LaProp(0.01), first),
        (AMSGrad(0.01), first),
        (scheduled(Adam(0.01), halved), 0.5 * first),
    ):
        step = Step.of(equation, START, "empty", 3)
        np.testing.assert_allclose(step.field(START, RESCALING), expected, rtol=1e-6)
    assert np.isfinite(curl(lambda p: [step.field(p, RESCALING)], START, KEY, 2)).all()


def test_mutant_slow_manifold_ignored():
    """From zero velocity the displacement of the time asymmetry is eta mu g, of first order."""
    displacement = []
    for eta in (2e-4, 1e-4):
        r = irreversibility(Momentum(eta, momentum=0.5), RESCALING, START, memory="empty", probes=0)
        displacement.append(2 * eta**2 * np.asarray(r.forces["time_asymmetry"]))
    slope = np.log2(np.linalg.norm(displacement[0]) / np.linalg.norm(displacement[1]))
    expected = 0.5 * 1e-4 * np.asarray(RESCALING.gradient(START))
    print(
        f"\nslope {slope:.4f}, where the slow manifold has 2; ratio {r.time_asymmetry / r.backward_error:.2f} for .33"
    )
    assert abs(slope - 1) < 0.01
    np.testing.assert_allclose(displacement[1], expected, rtol=0.01)
    assert abs(r.time_asymmetry / r.backward_error - 1 / 3) > 0.02  # rejected
    assert "From an empty memory" in str(r)


class Rotation(AbstractSignal):
    """-(y, -x): no gradient; the flow goes round."""

    data: jax.Array = eqx.field(converter=checked_examples)

    def surrogate(self, active, frozen, example):
        return active[0] * frozen[1] - active[1] * frozen[0]


@pytest.mark.slow
def test_a_rotation_has_no_potential():
    """The displacement is eta^2 theta, where -grad phi = -theta/2; the entropy production is |v|^2/4 all the same."""
    eta, theta = 0.01, jnp.array([1.0, 0.5])
    r = irreversibility(SGD(eta), Rotation(jnp.ones(1)), theta)
    np.testing.assert_allclose(r.phi_gradient, theta / 2, rtol=1e-12)
    for name in VECTORS:
        np.testing.assert_allclose(r.forces[name], theta / 2, rtol=0.02)
        assert abs(r.distances[name] - 2) < 0.02 and r.curl[name] < 0.02  # theta/2 is a gradient, of the wrong sign
    assert abs(r.curl["velocity"] - 1) < 1e-12
    assert not r.gradient_steps and "need not agree" in str(r)
    assert abs(r.entropy_production / r.phi - 1) < 0.02


@pytest.mark.slow
def test_curls_are_those_of_the_limit():
    """Of a force at eta -> 0, from eta and eta/2; without that a rotation's has the curl eta/3."""
    r = irreversibility(SGD(0.06), Rotation(jnp.ones(1)), jnp.array([1.0, 0.5]))
    print(f"\n{r.curl}")
    assert r.curl["backward_error"] < 0.005


def test_the_curl_of_a_linear_field():
    """|J - J^T|/(2 |J|), of which the square would be 1/2; 0 where there is no Jacobian. By 4000 probes."""
    fields = lambda p: [jnp.stack([p[1], 0 * p[0]]), jnp.sign(p)]  # noqa: E731
    shear, still = curl(fields, START, KEY, 4000)
    assert abs(shear - 0.5**0.5) < 0.03 and still == 0


@pytest.mark.slow
def test_what_is_plain():
    for equation, plain in (
        (SGD(0.1), True),
        (decayed(SGD(0.1), 0.1), False),
        (SignSGD(0.1), False),
        (Momentum(0.1), False),
    ):
        assert front._is_plain(Step.of(equation, START, "adiabatic", 3), RESCALING, START) == plain
    ridge = lambda p: jnp.sum(p**2)  # noqa: E731
    for signal, loss in ((RESCALING, True), (Rotation(jnp.ones(1)), False)):  # a penalty does not change what it is
        assert signal.is_loss == regularized(signal, ridge).is_loss == loss


class FeedbackAlignment(AbstractSignal):
    """A linear network of two layers whose error goes back through a fixed matrix, not through the second layer."""

    data: tuple = eqx.field(converter=checked_examples)
    feedback: jax.Array

    def surrogate(self, active, frozen, example):
        x, y = example
        hidden = frozen[0] @ x
        error = frozen[1] @ hidden - y
        return jnp.dot(error, active[1] @ hidden) + jnp.dot(self.feedback @ error, active[0] @ x)


@SLOW
def test_feedback_alignment():
    """The three displacements still agree, -(Dv) v/2, but not with -grad phi, and they have no potential."""
    draw = lambda place, *shape: jax.random.normal(jax.random.fold_in(KEY, place), shape)  # noqa: E731
    weights = [0.5 * draw(1, 3, 4), 0.5 * draw(2, 2, 3)]
    examples = draw(3, 6, 4), draw(4, 6, 2)
    r = irreversibility(SGD(1e-3, 2), FeedbackAlignment(examples, draw(5, 3, 2)), weights)
    print(f"\n{r}")
    assert r.curl["velocity"] > 0.05 and min(r.curl[name] for name in VECTORS) > 0.05
    assert all(r.distances[name] > 0.1 for name in VECTORS)
    forces = [ravel_pytree(r.forces[name])[0] for name in VECTORS]
    for force in forces[1:]:
        assert np.linalg.norm(force - forces[0]) < 0.02 * np.linalg.norm(forces[0])
    aligned = FeedbackAlignment(examples, weights[1].T)  # and backpropagation is the case B = W^T, at this very point
    assert np.allclose(
        ravel_pytree(aligned.gradient(weights))[0], ravel_pytree(Objective(deep_linear, examples).gradient(weights))[0]
    )


def test_entropy_production_of_a_quadratic():
    """(sigma^2/8 eta^2) E Delta s = |(1 - eta H/2) grad L|^2/4 for sigma -> 0; E Delta s in closed form."""
    curvature, theta, eta, sigma = np.array([1.0, 3.0]), np.array([1.0, -0.5]), 0.1, 1e-4
    quadratic = Objective(lambda w, h: 0.5 * jnp.sum(h * w**2), curvature[None])
    step = Step.of(SGD(eta), jnp.asarray(theta), "adiabatic", 3)
    measured = eqx.filter_jit(lambda p: step.measures(p, quadratic).entropy_production)(jnp.asarray(theta))
    m = 1 - eta * curvature
    entropy = np.sum(((1 - m**2) * theta) ** 2) / (2 * sigma**2) + 0.5 * np.sum(m**2 - 1)
    assert abs(measured / (sigma**2 / (8 * eta**2) * entropy) - 1) < 1e-6
    assert abs(measured / (np.sum(((1 - eta * curvature / 2) * curvature * theta) ** 2) / 4) - 1) < 1e-12


@SLOW
def test_adam_and_black_boxes():
    """Adam's velocity is no gradient; its leading correction at fixed betas is that of equations/modified."""
    adam = Adam(3e-5, b1=0.9, b2=0.99, eps=0.1)
    r = irreversibility(adam, RESCALING, START, probes=0)
    assert r.memory == "adiabatic" and "need not agree" in str(r)
    step = Step.of(adam, START, "adiabatic", 3)
    assert curl(lambda p: [step.field(p, RESCALING)], START, KEY, 4) > 0.01
    gradient, hessian = RESCALING.gradient(START), jax.jacfwd(RESCALING.gradient)(START)
    d = jnp.abs(gradient) + 0.1
    q = hessian @ (gradient / d)
    expected = -(q / d) * (9 - 99 * jnp.abs(gradient) / d + 0.05 / d)
    np.testing.assert_allclose(r.forces["backward_error"], expected, rtol=0.02)
    same = irreversibility(from_optax(optax.sgd, 0.01, 2), RESCALING, START, probes=0)
    plain = irreversibility(SGD(0.01, 2), RESCALING, START, probes=0)
    np.testing.assert_allclose(list(same.values.values()), list(plain.values.values()), rtol=1e-9)


# Mutants


def test_mutant_a_half_in_phi(monkeypatch):
    class OtherType(SGD):
        """So that it is compiled anew."""

    def half(*arguments):
        return jax.tree.map(lambda leaf: 2 * leaf, potential(*arguments))

    monkeypatch.setattr(front, "potential", half)
    monkeypatch.setattr(front, "_one", lambda *a: (front_one(*a)[0], *jax.tree.map(lambda x: 2 * x, front_one(*a)[1:])))
    with pytest.warns(UserWarning, match="is beyond the leading order"):  # which is what it looks like
        r = irreversibility(OtherType(0.001, 2), RESCALING, START, probes=0)
    print(f"\nentropy production over phi {r.entropy_production / r.phi:.4f}, distances {r.distances}")
    assert abs(r.entropy_production / r.phi - 0.5) < 0.01 and all(abs(d - 0.5) < 0.01 for d in r.distances.values())


front_one = front._one


class IndependentBatch(Step):
    """The way back on a batch of its own."""

    def measures(self, params, signal, gradient=None):
        right = super().measures(params, signal, gradient)
        eta = self.increment.learning_rate
        rates = self.rates(self.start(params, signal, eta), signal.gradient(params), eta)
        after = jax.tree.map(lambda y, r: y + eta * r, self.start(params, signal, eta), rates)
        back = self.rates(after, RESCALING.gradient(after.params), -eta)  # the mean over all batches
        return right._replace(time_asymmetry=(rates.params - back.params) / (2 * eta))


def test_mutant_independent_batch_on_the_way_back():
    """Its force is -grad |E g|^2/4: the part of phi that is noise is missing."""
    equation = SGD(1e-4, 2)
    indices, weights = map(jnp.asarray, enumerated(equation, 3))
    norms = {}
    for kind in (Step, IndependentBatch):
        step = kind.of(equation, START, "adiabatic", 3)
        _, gradient, mean, *_ = front._averages(step, RESCALING, START, indices, weights)
        norms[kind] = float(np.linalg.norm(mean[2]) / np.linalg.norm(gradient))
        force = mean[2] - gradient
    whole = jax.grad(lambda p: square(RESCALING.gradient(p)) / 4)(START)
    print(f"\ndistance of the force: same batch {norms[Step]:.1e}, independent {norms[IndependentBatch]:.3f}")
    assert norms[Step] < 0.001 and norms[IndependentBatch] > 0.1
    np.testing.assert_allclose(force, -whole, atol=1e-3)


# What it says


@pytest.mark.slow
def test_the_report_and_wrong_arguments():
    r = irreversibility(SGD(0.02, 2), RESCALING, START, probes=0)
    assert "all 6 batches" in str(r) and "time renormalized" in str(r)
    still = irreversibility(
        SGD(0.02, 2), RESCALING, jnp.zeros(2), probes=0
    )  # the gradient of every example vanishes here
    assert (
        still.phi == 0
        and json.loads(json.dumps(still.to_dict(), allow_nan=False))["distances"]["time_asymmetry"] is None
    )
    assert json.loads(json.dumps(r.to_dict()))["values"]["backward_error"] == r.backward_error
    for options, words in (
        ({"memory": "warm"}, "Argument `memory` must be one of 'adiabatic', 'empty'"),
        ({"substeps": 1}, "Argument `substeps` must be an integer of at least 2"),
        ({"batches": 31}, "Argument `batches` must be an integer of at least 32"),
    ):
        with pytest.raises(ValueError, match=words):
            irreversibility(SGD(0.02, 2), RESCALING, START, **options)
    many = Objective(rescaling, jnp.ones(200))
    with pytest.raises(ValueError, match="Argument `key` must be a key"):
        irreversibility(SGD(0.02, 4), many, START)
    with pytest.raises(ValueError, match="must have no noise but that of its minibatches"):
        irreversibility(SGD(0.02, noise_model=Isotropic(0.1)), RESCALING, START)
    assert r.gradient_steps and "need not agree" not in str(r)
    amsgrad = from_optax(optax.amsgrad, 0.01)
    with pytest.raises(ValueError, match="Argument `memory` must be 'empty' unless"):
        irreversibility(amsgrad, RESCALING, START)
    with pytest.raises(ValueError, match="Argument `memory` must be 'empty' for an algorithm whose steps end"):
        irreversibility(AdaGrad(0.01), RESCALING, START)
    with pytest.raises(ValueError, match="its schedule begins with 0"):
        irreversibility(scheduled(SGD(0.04, 2), lambda step: 0.1 * step), RESCALING, START)


def halved(step):
    return 0.5 / (1.0 + step)


@pytest.mark.slow
def test_a_schedule_only_counts():
    """Scheduled SGD remembers nothing: the four measures are those of the rate of its first step."""
    r = irreversibility(scheduled(SGD(0.04, 2), halved), RESCALING, START, probes=0)
    same = irreversibility(SGD(0.02, 2), RESCALING, START, probes=0)
    assert r.memory == "none" and r.gradient_steps
    np.testing.assert_allclose(list(r.values.values()), list(same.values.values()), rtol=1e-12)
