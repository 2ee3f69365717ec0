"""What is counted, and read at Runge-Kutta stages: schedules, in an equation or inside an Optax optimizer."""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dynamics import Strang, solve, train
from dynamics import _held as held_module
from dynamics import _strang as strang_module
from dynamics import _watched as watched_module
from equations import (
    SGD,
    Adam,
    Momentum,
    Objective,
    Scheduled,
    decayed,
    from_optax,
    modified,
    scheduled,
    volumized,
)  # fmt: skip
from equations._increment import Increment
from equations._slaved import Slaved
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
    ("stages", "brother", "gradients by two adjoints, vmap over rates", "test_a_schedule_under_transformations"),
    ("stages", "brother", "constant schedules count nothing", "test_what_counts_nothing_is_let_alone"),
    ("free steps", "instance", "a step-size controller across jumps", "test_a_controller_stops_at_jumps"),
    ("free steps", "instance", "the readings' orders, and those of mixtures", "test_two_readings_have_order_two"),
    ("free steps", "brother", "jumps between whole steps, under a trace; kinks", "test_jumps_are_found"),
    ("free steps", "brother", "implicit solvers, StepTo, slaved memory", "test_what_cannot_stop_is_refused"),
    ("slaved", "instance", "momentum .5 with a cosine: .1126 for .00746, times to 4", "test_slaved[scheduled]"),
    ("slaved", "brother", "from_optax of momentum with a schedule inside", "test_slaved[from_optax]"),
    ("slaved", "brother", "Nesterov's, with decay outside the schedule", "test_slaved[nesterov]"),
    ("slaved", "brother", "the order of the series", "test_a_slaved_schedule_has_order_two"),
    ("times", "instance", "sgd of a schedule", "test_times_are_sums_of_true_rates[sgd]"),
    ("times", "brother", "Adam of a schedule and a decay", "test_times_are_sums_of_true_rates[adamw]"),
    ("times", "brother", "a factor beside the rate", "test_times_are_sums_of_true_rates[factor]"),
    ("times", "brother", "inject_hyperparams", "test_times_are_sums_of_true_rates[injected]"),
    ("times", "brother", "a schedule before Adam, one of the decay", "test_a_schedule_of_something_else_is_said"),
]

ETA, STEPS = 0.05, 12
STILL = Objective(lambda w, e: 0.5 * (w - e) ** 2, jnp.zeros(2))
VECTOR = Objective(lambda w, e: jnp.sum(0.5 * (w - e) ** 2), jnp.zeros(2))  # of another shape, for what is patched
NOISY = Objective(lambda w, e: 0.5 * (w - e) ** 2, jnp.array([1.0, -1.0]))


def cosine_of(rate, steps):
    return optax.cosine_decay_schedule(rate, steps, 0.2)


SCHEDULES = {
    "piecewise": optax.piecewise_constant_schedule(1.0, {4: 0.1, 8: 0.1}),
    "staircase": optax.exponential_decay(1.0, 3, 0.4, staircase=True),
    "restarts": optax.sgdr_schedule(
        [dict(init_value=0.1, peak_value=1.0, warmup_steps=2, decay_steps=4, end_value=0.0)] * 3
    ),
    "then_zero": optax.join_schedules([optax.constant_schedule(1.0), optax.constant_schedule(0.0)], [5]),
    "warm_up": optax.join_schedules([optax.linear_schedule(0.0, 1.0, 4), optax.constant_schedule(1.0)], [4]),
}
PIECEWISE = SCHEDULES["piecewise"]


class AtStages(Scheduled):
    """Mutant: read at whatever time a stage has."""

    def held(self, step):
        return self


def rates_of(schedule):
    """eta s(k), as Optax gives it at a count, `(STEPS,)`."""
    with jax.numpy_dtype_promotion("standard"):
        return ETA * np.asarray(jax.vmap(schedule)(jnp.arange(STEPS)), float)


def final(rule, start=1.0, objective=STILL, steps=STEPS, **options):
    """The last parameter of a run without noise: what noise there is has no size."""
    run = solve(rule, objective, jnp.asarray(start), steps=steps, save_every=steps, key=jax.random.key(0), **options)
    return run.final[0], run


def assert_held(rule, wanted, start=1.0, rtol=1e-8, **options):
    last, run = final(rule, start, **options)
    np.testing.assert_allclose(last, wanted, rtol=rtol)
    assert ("counts", "held within a training step") in run.details
    return run


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


@pytest.mark.parametrize("kind", [*SCHEDULES, "around", "decayed", "from_optax", "float32"])
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


def test_other_solvers_hold_too():
    rule, rates = scheduled(SGD(ETA), PIECEWISE), rates_of(PIECEWISE)
    assert_held(rule, np.prod(1 - rates), solver=dfx.Euler())
    assert_held(rule, np.exp(-rates.sum()), solver=dfx.Bosh3(), rtol=1e-5)
    assert_held(rule, np.exp(-rates.sum()), solver=Strang(), rtol=1e-5, substeps=2)


def test_half_flows_part(monkeypatch):
    """Where the rate's square enters: without noise the flow of each step is exact. Mutant: the later rate for both halves."""
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


class HeldWithDerivative(Increment):
    """Mutant: counts are held, but the series still differentiates the field along them."""

    def _counted(self, state):
        seen = super()._counted(state)
        if self._step is None:
            return seen

        def both(seen, leaf):
            real = seen.astype(leaf.dtype)
            return leaf + jax.lax.stop_gradient(real - leaf) if jnp.issubdtype(seen.dtype, jnp.integer) else seen

        return jax.tree.map(both, seen, state.memory)


class ContinuousWithout(Increment):
    """Mutant: counts are read continuously, but the series takes them for constants."""

    def _counted(self, state):
        return jax.lax.stop_gradient(super()._counted(state)) if self._step is None else super()._counted(state)


QUARTIC = Objective(lambda w, e: 0.5 * (w - e) ** 2 + 0.1 * w**4, jnp.zeros(1))
RULE = scheduled(SGD(0.2), optax.cosine_decay_schedule(1.0, 16, 0.1))


def slope(controller, kind):
    """log2 of the error's ratio between two learning rates, of the modified equation against the algorithm."""
    errors = []
    for halvings in (2, 3):
        rule = RULE.rescaled(0.5**halvings)
        series = modified(rule, order=2)
        leading = kind(rule.learning_rate, rule.batch_size, rule.sampling, equation=rule)
        series = eqx.tree_at(lambda e: e.equation, series, leading)
        options = dict(steps=16 * 2**halvings, save_every=16 * 2**halvings)
        ran = train(rule, QUARTIC, jnp.asarray(1.0), **options).final[0]
        errors.append(
            abs(
                float(
                    solve(series, QUARTIC, jnp.asarray(1.0), stepsize_controller=controller, **options).final[0] - ran
                )
            )
        )
    return np.log2(errors[0] / errors[1])


def test_two_readings_have_order_two():
    """And mixtures of them 1."""
    free = dfx.PIDController(rtol=1e-10, atol=1e-10)
    found = {
        "held": slope(None, Increment),
        "continuous": slope(free, Increment),
        "held with df/dt": slope(None, HeldWithDerivative),
        "continuous without df/dt": slope(free, ContinuousWithout),
    }
    print(f"\n{found}")
    assert all(abs(found[name] - 2) < 0.25 for name in ("held", "continuous"))
    assert all(found[name] < 1.4 for name in ("held with df/dt", "continuous without df/dt"))


def test_orders_holds():
    report = orders(modified(RULE, order=2), QUARTIC, jnp.asarray(1.0), time=3.2, learning_rates=[0.1, 0.05, 0.025])
    assert report.verdict["parameters"]["mean"] == "holds" and abs(report.slope["parameters"]["mean"] - 2) < 0.2


def test_a_controller_stops_at_jumps():
    """The closed form at its tolerance, in both precisions; the details say how a run reads what it counts."""
    controller = dfx.PIDController(rtol=1e-9, atol=1e-9)
    for name, count in (("piecewise", 2), ("staircase", 3)):
        rates = rates_of(SCHEDULES[name])
        last, run = final(modified(scheduled(SGD(ETA), SCHEDULES[name])), stepsize_controller=controller)
        np.testing.assert_allclose(last, np.exp(-np.sum(rates + rates**2 / 2)), rtol=1e-7)
        assert ("counts", f"continuous, stopping at {count} jumps") in run.details
    small = Objective(STILL.loss, STILL.data.astype(jnp.float32))
    last, _ = final(scheduled(SGD(ETA), PIECEWISE), jnp.ones((), jnp.float32), small,
                    stepsize_controller=dfx.PIDController(rtol=1e-5, atol=1e-6))  # fmt: skip
    np.testing.assert_allclose(last, np.exp(-rates_of(PIECEWISE).sum()), rtol=1e-4)
    _, run = final(scheduled(SGD(ETA), cosine_of(1.0, STEPS)), stepsize_controller=controller)
    assert ("counts", "continuous, stopping at 0 jumps") in run.details


def test_jumps_are_found():
    """And kinks, steep slopes and float32 schedules are none."""
    smooth = [SCHEDULES["warm_up"], cosine_of(1.0, 5), optax.exponential_decay(1.0, 1, 0.3), optax.polynomial_schedule(1.0, 0.0, 3, 9),
              optax.piecewise_interpolate_schedule("cosine", 1.0, {3: 0.1, 6: 5.0}), lambda k: 1.0 + jnp.sin(k) ** 2]  # fmt: skip
    for schedule in smooth:
        assert held_module.jumps(scheduled(SGD(ETA), schedule), 20)[0].size == 0
    wanted = {"piecewise": [4, 8], "staircase": [3, 6, 9, 12, 15, 18], "then_zero": [5], "restarts": [4, 8]}
    for name, steps in wanted.items():
        np.testing.assert_array_equal(held_module.jumps(scheduled(SGD(ETA), SCHEDULES[name]), 20)[0], steps)
    stretched = scheduled(SGD(ETA), PIECEWISE).rescaled(0.7)  # jumps at 5.71 and 11.43
    stops, tops = held_module.jumps(stretched, 20)
    np.testing.assert_array_equal(stops, [6, 12])
    assert np.all(tops[:2] < [5.7, 11.4]) and np.all(tops[:2] > stops - 1) and tops[2] == 20
    traced = jax.jit(lambda rate: held_module.jumps(scheduled(SGD(rate), PIECEWISE), 20))(ETA)
    np.testing.assert_array_equal(traced[0][:3], [4, 8, np.inf])
    np.testing.assert_array_equal(traced[1][:3], [4, 8, 20])


def test_what_cannot_stop_is_refused():
    rule, controller = scheduled(SGD(ETA), PIECEWISE), dfx.PIDController(rtol=1e-6, atol=1e-6)
    slaved = modified(scheduled(Momentum(ETA, momentum=0.5), PIECEWISE), memory="slaved")
    for error, name, call in (
        (ValueError, "solver", lambda: final(rule, solver=dfx.Kvaerno3(), stepsize_controller=controller)),
        (TypeError, "stepsize_controller", lambda: final(rule, stepsize_controller=dfx.StepTo(jnp.arange(13.0)))),
        (ValueError, "stepsize_controller", lambda: final(slaved, stepsize_controller=controller)),
    ):
        with pytest.raises(error, match=f"Argument `{name}`"):
            call()


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


def test_a_schedule_under_transformations():
    """d final/d start is exp(-sum of rates), whichever way it is found."""
    rule, wanted = scheduled(SGD(ETA), PIECEWISE), np.exp(-rates_of(PIECEWISE).sum())
    for adjoint in (None, dfx.BacksolveAdjoint()):
        slope = jax.grad(lambda w, a=adjoint: solve(rule, STILL, w, steps=STEPS, save_every=STEPS, adjoint=a).final[0])
        np.testing.assert_allclose(slope(jnp.asarray(1.0)), wanted, rtol=1e-7)
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


ENDS = 0.2
LONG = 100


def momentum_with_a_schedule(kind):
    if kind == "from_optax":
        return from_optax(
            lambda learning_rate, momentum, decay_steps: optax.sgd(cosine_of(learning_rate, decay_steps), momentum),
            0.02, momentum=0.5, decay_steps=LONG, scaling={"decay_steps": lambda steps, factor: steps / factor},
        )  # fmt: skip
    rule = scheduled(
        Momentum(0.02, momentum=0.5, nesterov=kind == "nesterov"), optax.cosine_decay_schedule(1.0, LONG, ENDS)
    )
    return decayed(rule, 0.1) if kind == "nesterov" else rule


class AtItsEnd(Slaved):
    """Mutant: the schedule stands at its last value."""

    def _count(self, t):
        return None


@pytest.mark.parametrize("kind", ["scheduled", "from_optax", "nesterov"])
def test_slaved(kind):
    """As near to its twin as the series says, and its times are the twin's."""
    rule = momentum_with_a_schedule(kind)
    series = modified(rule, order=2, memory="slaved")
    (ran, twin), (last, run) = (
        (side.final[0], side)
        for side in (f(series, STILL, jnp.asarray(1.0), steps=LONG, save_every=LONG) for f in (train, solve))
    )
    np.testing.assert_allclose(run.times, twin.times, rtol=1e-12)
    assert 1.2 < run.times[-1] < 1.21  # and 2 if it were constant
    assert abs(last / ran - 1) < 0.03
    slaved = series.equation
    fields = {name: getattr(slaved, name) for name in slaved.__dataclass_fields__}
    mutant = eqx.tree_at(lambda e: e.equation, series, AtItsEnd(**fields))
    with pytest.raises(AssertionError):
        assert abs(final(mutant, steps=LONG)[0] / ran - 1) < 0.03


def test_a_slaved_schedule_has_order_two():
    for kind in ("scheduled", "from_optax"):
        series = modified(momentum_with_a_schedule(kind), order=2, memory="slaved")
        report = orders(series, QUARTIC, jnp.asarray(1.0), time=2.0, learning_rates=[0.02, 0.01, 0.005])
        slope = report.slope["parameters"]["mean"]
        print(f"\n{kind}: slope {slope:.2f}")
        assert abs(slope - 2) < 0.15 and report.verdict["parameters"]["mean"] == "holds"


TRANSFORMATIONS = {
    "sgd": lambda learning_rate: optax.sgd(cosine_of(learning_rate, 50), 0.9, nesterov=True),
    "adamw": lambda learning_rate: optax.chain(
        optax.adamw(cosine_of(learning_rate, 50)), optax.add_decayed_weights(-0.1 * learning_rate)
    ),
    "factor": lambda learning_rate: optax.chain(
        optax.scale_by_adam(), optax.scale_by_schedule(cosine_of(1.0, 50)), optax.scale(-learning_rate)
    ),
    "injected": lambda learning_rate: optax.inject_hyperparams(optax.adam)(cosine_of(learning_rate, 50)),
}


@pytest.mark.parametrize("kind", TRANSFORMATIONS)
def test_times_are_sums_of_true_rates(kind):
    rule = from_optax(TRANSFORMATIONS[kind], ETA)
    with jax.numpy_dtype_promotion("standard"):
        wanted = ETA * np.asarray(jax.vmap(cosine_of(1.0, 50))(jnp.arange(20)), float)
    found = jax.vmap(rule.learning_rate_at)(jnp.arange(20))
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    for other in (modified(rule), Increment.of(rule), decayed(rule, 0.1)):
        np.testing.assert_allclose(other.learning_rate_at(jnp.asarray(7)), wanted[7], rtol=1e-6)


def test_a_schedule_of_something_else_is_said():
    """Before Adam it does not scale the step: the times are those of `learning_rate`, with a word; a decay's has none."""
    rule = from_optax(
        lambda learning_rate: optax.chain(optax.scale_by_schedule(cosine_of(1.0, 50)), optax.adam(learning_rate)), ETA
    )
    with pytest.warns(UserWarning, match="Argument `factory`: a schedule inside acts otherwise"):
        assert rule.learning_rate_at(jnp.asarray(7)) is rule.learning_rate
    quiet = from_optax(
        lambda learning_rate: optax.inject_hyperparams(optax.adamw)(learning_rate, weight_decay=cosine_of(0.1, 50)), ETA
    )
    assert quiet.learning_rate_at(jnp.asarray(7)) is quiet.learning_rate
