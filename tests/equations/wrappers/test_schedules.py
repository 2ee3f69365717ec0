"""What is counted is held within a training step: schedules, in an equation or inside an Optax optimizer."""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from marks import some
from schedules import (
    ETA,
    NOISY,
    PIECEWISE,
    QUARTIC,
    RULE,
    SCHEDULES,
    STEPS,
    STILL,
    VECTOR,
    AtStages,
    assert_held,
    final,
    rates_of,
)

from dynamics import Strang, solve
from dynamics._paths import held as held_module
from dynamics._paths import strang as strang_module
from dynamics._paths import watched as watched_module
from equations import SGD, Adam, Momentum, Objective, Scheduled, decayed, from_optax, modified, scheduled, volumized
from validation import compare, orders

CASES = [
    ("stages", "instance", "SGD, piecewise, no noise: .64076 for exp(-sum of rates) = .57407", "test_total[piecewise]"),
    ("stages", "instance", "compare: model error 3.96e-2 for .745e-2", "test_compare_finds_the_model_error"),
    ("stages", "instance", "modified(order=2): .62753", "test_compare_finds_the_model_error"),
    ("stages", "instance", "Strang with noise: .58062 +- .0019", "test_noisy_paths_decay_by_the_sum_of_the_rates"),
    ("stages", "brother", "staircase decay", "test_total[staircase]"),
    ("stages", "brother", "warm restarts", "test_total[restarts]"),
    ("stages", "brother", "constant, then 0", "test_total[then_zero]"),
    ("stages", "brother", "warm-up, then constant", "test_total[warm_up]"),
    ("stages", "brother", "decay outside a schedule, with noise: half flows part", "test_total[decayed]"),
    ("stages", "brother", "schedule in schedule, decay inside, a box around", "test_total[around]"),
    ("stages", "brother", "from_optax with a schedule inside", "test_total[from_optax]"),
    ("stages", "brother", "float32, where t/eta rounds to another step", "test_total[float32]"),
    ("stages", "brother", "momentum with a schedule, both solvers", "test_momentum_is_propagated_step_by_step"),
    ("stages", "brother", "Diffrax's Euler; Bosh3, which reuses a stage", "test_other_solvers_hold_too"),
    ("stages", "brother", "half flows of a series with noise", "test_half_flows_part"),
    ("stages", "brother", "Tsit5 reuses its last stage", "test_a_reused_stage_is_evaluated_anew"),
    ("stages", "brother", "bias corrections in the memory of Adam's twin", "test_what_an_optimizer_counts_is_held"),
    ("stages", "brother", "orders integrates by itself", "test_orders_holds"),
    ("stages", "brother", "gradients, vmap over rates, a backsolve adjoint", "test_a_schedule_under_transformations"),
    ("stages", "brother", "constant schedules count nothing", "test_what_counts_nothing_is_let_alone"),
]


def exact_rules(kind):
    """Pairs of a rule, which Strang or Tsit5 solves, and the sum of its rates."""
    rates, rule = rates_of(SCHEDULES.get(kind, PIECEWISE)).sum(), scheduled(SGD(ETA), SCHEDULES.get(kind, PIECEWISE))
    noisy = scheduled(SGD(ETA, 1), SCHEDULES.get(kind, PIECEWISE))
    if kind == "around":
        inside = scheduled(decayed(SGD(ETA), 0.3), optax.constant_schedule(0.5))
        return [(volumized(scheduled(inside, PIECEWISE), 10.0, 0.9), 0.65 * rates)]
    if kind == "decayed":
        return [(decayed(noisy, 0.3), rates + 0.3 * ETA * STEPS)]
    if kind == "from_optax":
        return [(from_optax(lambda learning_rate: optax.sgd(lambda k: learning_rate * PIECEWISE(k)), ETA), rates)]
    return [(rule, rates)] + [(noisy, rates)] * (kind in ("piecewise", "float32", "warm_up"))


KINDS = [*SCHEDULES, "around", "decayed", "from_optax", "float32"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", some(KINDS, ["piecewise", "staircase", "then_zero", "around", "from_optax", "float32"])
)
def test_total(kind):
    """exp(-sum of rates) to the solvers' error, which no stage at the next step's rate would leave; a mutant does not."""
    single = kind == "float32"
    objective = Objective(STILL.loss, STILL.data.astype(jnp.float32)) if single else STILL
    start = jnp.ones((), jnp.float32) if single else 1.0
    for rule, total in exact_rules(kind):
        # One step by Ralston3 of a flow at the rate r is wrong by r^4/24, one by Tsit5 by less than r^6/720.
        rtol = 3e-6 if single or rule.batch_size else 1e-8
        run = assert_held(rule, np.exp(-total), start, rtol, objective=objective, substeps=3 if single else 1)
        if kind not in ("around", "decayed"):
            np.testing.assert_allclose(run.times[-1], total, rtol=1e-6 if single else 1e-9)
    if kind == "piecewise":
        assert abs(final(AtStages.around(SGD(ETA), schedule=PIECEWISE))[0] / np.exp(-total) - 1) > 1e-2


@pytest.mark.slow
def test_compare_finds_the_model_error():
    """|prod(1 - eta s) - exp(-sum)| and not the solver's; the modified equation is nearer by an order."""
    rule, rates = scheduled(SGD(ETA), PIECEWISE), rates_of(PIECEWISE)
    twin, model = np.prod(1 - rates), np.exp(-rates.sum())
    found = compare(rule, NOISY, jnp.asarray(1.0), steps=STEPS, save_every=STEPS, observe={"w": lambda w: w})
    moment = found.moments["w"]["mean"]
    np.testing.assert_allclose(np.abs(moment.model_error.value[-1]), abs(twin - model), rtol=1e-5)
    np.testing.assert_allclose(
        [side.observables["w"][0, -1] for side in (found.run, found.flow)], [twin, model], rtol=1e-8
    )
    corrected_rate = np.prod(np.exp(-rates - rates**2 / 2))
    assert_held(modified(rule, order=2), corrected_rate)
    assert abs(corrected_rate - twin) < 0.1 * abs(model - twin)


@pytest.mark.slow
def test_noisy_paths_decay_by_the_sum_of_the_rates():
    """The mean of paths on (w - e)^2/2 is exp(-sum of rates), within four standard errors; that of the mutant is not."""
    wanted, paths = np.exp(-rates_of(PIECEWISE).sum()), 4000

    def distance(kind):
        rule = kind.around(SGD(ETA, 1), schedule=PIECEWISE)
        last = np.asarray(final(rule, objective=NOISY, paths=paths)[1].final)
        return abs(last.mean() - wanted) / (last.std() / paths**0.5)

    assert distance(Scheduled) < 4 and distance(AtStages) > 4


@pytest.mark.parametrize("size", [None, 1])
def test_momentum_is_propagated_step_by_step(size):
    """The exponential of (w, m)' = (-s m, (w - (1 - beta) m)/eta) over each step at its own s."""
    beta, state = 0.5, np.array([1.0, 0.0])
    rule = scheduled(Momentum(ETA, size, momentum=beta), PIECEWISE)
    for rate in rates_of(PIECEWISE) / ETA:
        matrix = ETA * np.array([[0, -rate], [1 / ETA, -(1 - beta) / ETA]])
        state = np.asarray(jax.scipy.linalg.expm(jnp.asarray(matrix))) @ state
    last = final(rule, substeps=16)[0]
    np.testing.assert_allclose(last, state[0], rtol=2e-5 if size else 1e-8)


@pytest.mark.slow
def test_other_solvers_hold_too():
    rule, rates = scheduled(SGD(ETA), PIECEWISE), rates_of(PIECEWISE)
    assert_held(rule, np.prod(1 - rates), solver=dfx.Euler())
    assert_held(rule, np.exp(-rates.sum()), solver=dfx.Bosh3(), rtol=1e-5)
    assert_held(rule, np.exp(-rates.sum()), solver=Strang(), rtol=1e-5, substeps=2)


@pytest.mark.slow
def test_half_flows_part(monkeypatch):
    """Where the square of the rate enters. Mutant: both halves at the later rate."""
    rule, rates = modified(scheduled(SGD(ETA, 1), PIECEWISE)), rates_of(PIECEWISE)
    wanted = np.exp(-np.sum(rates + rates**2 / 2))
    np.testing.assert_allclose(final(rule, substeps=2)[0], wanted, rtol=1e-5)
    monkeypatch.setattr(strang_module, "differ", lambda a, b: jnp.zeros((), bool))
    assert abs(final(rule, start=jnp.ones(1), objective=VECTOR, substeps=2)[0][0] / wanted - 1) > 1e-2


def test_a_reused_stage_is_evaluated_anew(monkeypatch):
    """Mutant: Tsit5's first stage is the last one of the step before, at the rate of that."""
    monkeypatch.setattr(watched_module, "differ", lambda a, b: jnp.zeros((), bool))
    last, run = final(scheduled(SGD(ETA), PIECEWISE), start=jnp.ones(1), objective=VECTOR)
    assert abs(last[0] / np.exp(-run.times[-1]) - 1) > 1e-3


def test_orders_holds():
    report = orders(modified(RULE, order=2), QUARTIC, jnp.asarray(1.0), time=3.2, learning_rates=[0.1, 0.05, 0.025])
    assert report.verdict["parameters"]["mean"] == "holds" and abs(report.slope["parameters"]["mean"] - 2) < 0.2


def test_what_an_optimizer_counts_is_held():
    """The twin of Adam is given its own whole count, whatever the state holds, at any iterate of the series."""
    for route in ("derivatives", "map"):
        series = modified(Adam(0.01), order=2, route=route)
        state = series.init(jnp.ones(2))
        state = eqx.tree_at(lambda s: s.memory, state, jax.tree.map(lambda leaf: leaf + 0.3, state.memory))
        moved = eqx.tree_at(lambda s: s.memory[0].count, state, state.memory[0].count + 0.4)
        held = series.held(jnp.asarray(3))
        rates = [held.velocity(jnp.zeros(()), s, jnp.ones(2)) for s in (state, moved)]
        np.testing.assert_array_equal(rates[0].params, rates[1].params)
        np.testing.assert_allclose(rates[0].memory[0].count, 1 / 0.01)


@pytest.mark.slow
def test_a_schedule_under_transformations():
    """d final/d start is exp(-sum of rates); jit and vmap over learning rates."""
    rule, wanted = scheduled(SGD(ETA), PIECEWISE), np.exp(-rates_of(PIECEWISE).sum())
    slope = jax.grad(lambda w: solve(rule, STILL, w, steps=STEPS, save_every=STEPS).final[0])(jnp.asarray(1.0))
    np.testing.assert_allclose(slope, wanted, rtol=1e-7)
    with pytest.raises(ValueError, match="Argument `adjoint` must not be a BacksolveAdjoint"):
        final(rule, adjoint=dfx.BacksolveAdjoint())
    over = jax.jit(
        jax.vmap(lambda rate: solve(scheduled(SGD(rate), PIECEWISE), STILL, jnp.asarray(1.0), steps=STEPS).final[0])
    )
    np.testing.assert_allclose(over(jnp.array([ETA, 2 * ETA])), [wanted, wanted**2], rtol=1e-6)


def test_what_counts_nothing_is_let_alone():
    """No details, no extra evaluation: a constant schedule, an optimizer whose count nothing reads, plain rules."""
    for rule in (SGD(ETA), modified(SGD(ETA)), decayed(Momentum(ETA), 0.1), modified(Momentum(ETA)), Adam(ETA),
                 scheduled(SGD(ETA), optax.constant_schedule(0.5)), from_optax(optax.sgd, ETA)):  # fmt: skip
        assert not held_module.counted(rule, STILL, jnp.asarray(1.0))
    for rule in (scheduled(SGD(ETA), PIECEWISE), modified(Adam(ETA)), decayed(scheduled(SGD(ETA), PIECEWISE), 0.1)):
        assert held_module.counted(rule, STILL, jnp.asarray(1.0))
