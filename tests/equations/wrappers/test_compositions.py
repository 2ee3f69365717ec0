"""Schedules, weight decay, volumization, penalties and reparametrizations, around any equation: exact facts about them."""

import dataclasses
import functools

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import laws
import numpy as np
import optax
import pytest
from changed import changed
from marks import some
from mutants.scheduled import RootOfTheFactor
from oracles import LinearRegression, squared_error
from registry import COSINE, EQUATIONS, Entry

from dynamics import solve, train
from equations import (
    SGD,
    AbstractDynamics,
    AbstractEquation,
    AbstractForwarder,
    Adam,
    AdamW,
    Decayed,
    Factors,
    Isotropic,
    LabelNoise,
    LaProp,
    Momentum,
    Objective,
    SignSGD,
    Spred,
    decayed,
    from_optax,
    modified,
    regularized,
    scheduled,
    syre,
    volumized,
)
from equations._modified.increment import Increment, TwinState
from equations.internal import check_sampling, fixed_gradient, split, twin_update
from validation import compare, orders
from validation._orders.runs import handover
from validation._orders.sides import MEASURES

CURVATURES, ETA, STEPS = np.array([1.0, 0.3]), 0.1, 40
WARM = optax.warmup_cosine_decay_schedule(0.0, 1.0, 10, STEPS, 0.1)


def quadratic(w, center):
    return 0.5 * jnp.sum(CURVATURES * (w - center) ** 2)


def at_rest(dimension=2):
    """A quadratic about the origin, and about eight centers around it."""
    centers = np.random.default_rng(0).normal(size=(8, dimension))
    return Objective(quadratic, np.zeros((1, dimension))), Objective(quadratic, centers - centers.mean(0))


def factors():
    """s of every training step, shape (STEPS,), and inside it, (STEPS, 64)."""
    with jax.numpy_dtype_promotion("standard"):
        fine = jax.vmap(WARM)((jnp.arange(STEPS * 64) + 0.5) / 64).reshape(STEPS, 64)
        return np.asarray(jax.vmap(WARM)(jnp.arange(STEPS))), np.asarray(fine)


# ---------------------------------------------------------------------------------------------------------------------
# Schedules


def warm_up(step):
    """`WARM` in float64 also at a count, where Optax computes in float32."""
    return WARM(jnp.asarray(step, float))


@pytest.mark.slow
def test_warm_up_on_a_quadratic_is_exact():
    """The algorithm: a product over steps; the equation: the exponential of the sum of the rates, or of their integral with
    a solver that chooses its steps; the times: sums of rates."""
    still, start = at_rest()[0], jnp.array([1.0, -2.0])
    each, inside = factors()
    rule = scheduled(SGD(ETA), warm_up)
    run, flow = (side(rule, still, start, steps=STEPS, save_every=10) for side in (train, solve))
    discrete = start * np.prod(1 - ETA * each[:, None] * CURVATURES, axis=0)
    held, continuous = (start * np.exp(-ETA * total * CURVATURES) for total in (each.sum(), inside.mean(1).sum()))
    np.testing.assert_allclose(run.final[0], discrete, rtol=1e-13)
    np.testing.assert_allclose(flow.final[0], held, rtol=1e-6)
    free = solve(rule, still, start, steps=STEPS, save_every=STEPS, stepsize_controller=dfx.PIDController(1e-8, 1e-8))
    np.testing.assert_allclose(free.final[0], continuous, rtol=1e-6)
    times = ETA * np.concatenate([[0], np.cumsum(each)])[::10]
    np.testing.assert_allclose(run.times, times, rtol=1e-13)
    np.testing.assert_allclose(flow.times, times, rtol=1e-13)
    np.testing.assert_allclose(flow.to_xarray()["time"], times, rtol=1e-13)
    assert min(abs(discrete / held - 1).max(), abs(continuous / held - 1).max()) > 1e-3  # the three are told apart


@pytest.mark.slow
def test_a_whole_step_has_the_factor_that_optax_takes():
    """To the last bit, in Optax's own arithmetic, which at a count is that of float32; at a real step it is another."""
    counts = jnp.arange(60, dtype=jnp.int32)
    for schedule in (WARM, optax.linear_schedule(1.0, 0.1, 30), optax.polynomial_schedule(1.0, 0.1, 2, 30),
                     optax.warmup_exponential_decay_schedule(0.1, 1.0, 5, 10, 0.7)):  # fmt: skip
        rule = scheduled(SGD(ETA), schedule)
        with jax.numpy_dtype_promotion("standard"):
            wanted = np.asarray(jax.vmap(schedule)(counts), float)
        np.testing.assert_array_equal(jax.vmap(rule.factor)(counts), wanted)
        assert np.abs(jax.vmap(rule.factor)(counts.astype(float)) - wanted).max() > 1e-9
        half = np.asarray(jax.vmap(rule.scaling_limit().rescaled(0.5).factor)(2 * counts))
        np.testing.assert_allclose(half, wanted, atol=1e-6)


@pytest.mark.slow  # the law kick_moments sums this noise exactly, and rejects the mutant
def test_the_noise_has_the_factor_of_the_schedule():
    """V' = (1 - eta s h)^2 V + (eta s)^2 sigma^2 for the algorithm, dV/dt = -2 s h V + eta s^2 sigma^2 for the equation."""
    noisy, paths = at_rest()[1], 4000
    each, _ = factors()
    sigma2 = CURVATURES**2 * np.var(np.asarray(noisy.data), axis=0)
    exact = {train: np.zeros(2), solve: np.zeros(2), "root": np.zeros(2)}
    for s in each:
        exact[train] = (1 - ETA * s * CURVATURES) ** 2 * exact[train] + (ETA * s) ** 2 * sigma2
        for side, power in ((solve, 2), ("root", 1)):
            for _ in range(64):
                exact[side] += ETA / 64 * (-2 * s * CURVATURES * exact[side] + ETA * s**power * sigma2)

    def distance(side, rule, wanted):
        run = side(rule, noisy, jnp.zeros(2), steps=STEPS, key=jax.random.key(0), paths=paths, save_every=STEPS)
        squares = np.asarray(run.final) ** 2
        return np.max(np.abs(squares.mean(0) - wanted) / (squares.std(0) / paths**0.5))

    rule = scheduled(SGD(ETA, 1), WARM)
    found = {side.__name__: distance(side, rule, exact[side]) for side in (train, solve)}
    mutant = distance(solve, RootOfTheFactor(**laws.fields(rule)), exact[solve])
    print(f"\nvariances {exact}: {found} s.e.; noise with sqrt(s) rejected at {mutant:.0f} s.e.")
    assert max(found.values()) < 4 and mutant > 8


@pytest.mark.slow
def test_adamw_is_a_composition():
    """Optax's AdamW with a schedule, to 1e-12 over a hundred steps; its equation is ours for AdamW."""
    decay, schedule = 0.1, optax.cosine_decay_schedule(1.0, 200)
    entry = dataclasses.replace(EQUATIONS["adam"], optax=optax.adamw(lambda k: 0.05 * schedule(k), weight_decay=decay))
    laws.twin_is_plain_optax(entry, scheduled(decayed(Adam(0.05, 2), decay), schedule))
    one, other = decayed(Adam(0.05, 2), decay), AdamW(0.05, 2, weight_decay=decay)
    state, t = laws.some_state(one), laws.some_time(one)
    np.testing.assert_allclose(*(laws.flat(e.drift(t, state, laws.OBJECTIVE)) for e in (one, other)), rtol=1e-13)


@pytest.mark.slow
def test_decay_before_the_optimizer_is_a_penalty():
    """`regularized` by decay/2 |theta|^2 is optax.add_decayed_weights before Adam."""
    network, images, labels = laws.classification()
    penalty = lambda p: 0.05 * sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(laws.arrays(p)))  # noqa: E731
    objective = regularized(Objective(laws.cross_entropy, (images, labels)), penalty)
    plain = optax.chain(optax.add_decayed_weights(0.1), optax.adam(0.05))
    record = laws.plain_loop(plain, network, images, labels, laws.batches(len(labels), 20))
    run = train(Adam(0.05, laws.BATCH), objective, network, steps=20, key=jax.random.key(0), observe=laws.WEIGHTS)
    np.testing.assert_allclose(run.observables["weights"][0], record, rtol=0, atol=1e-12)
    np.testing.assert_allclose(objective.value(network) - objective.signal.value(network), penalty(network), rtol=1e-12)


def test_a_penalty_makes_no_noise():
    params, weights = laws.PARAMS, jnp.array([1.0, -2.0, 1.0])
    more = regularized(laws.OBJECTIVE, lambda p: jnp.sum(p["w"] ** 2))
    np.testing.assert_allclose(*(laws.flat(s.gradient(params, weights)) for s in (more, laws.OBJECTIVE)), atol=1e-15)
    change = more.gradient(params)["w"] - laws.OBJECTIVE.gradient(params)["w"]
    np.testing.assert_allclose(change, 2 * params["w"], rtol=1e-14)


# ---------------------------------------------------------------------------------------------------------------------
# Free composition


@pytest.mark.slow
def test_the_series_of_a_composition():
    """modified(scheduled(decayed(...))) has the order it says; the schedule is a function of the natural time."""
    rule = scheduled(decayed(SGD(0.2), 0.3), optax.cosine_decay_schedule(1.0, 20))
    for order in (1, 2):
        equation = modified(rule, order=order) if order > 1 else rule
        report = orders(equation, laws.OBJECTIVE, laws.PARAMS, time=1.6, learning_rates=[0.2, 0.1, 0.05, 0.025],
                        observe=laws.VECTOR)  # fmt: skip
        slope = report.slope["params"]["mean"]
        print(f"\norder {order} of a scheduled, decayed SGD: slope {slope:.2f}")
        assert abs(slope - order) < 0.15 and report.verdict["params"]["mean"] == "holds"


@pytest.mark.slow
def test_the_order_of_a_composition_with_noise():
    """Decay beside momentum, in the clock sqrt(eta) * step, by exact moments; for Adam see test_adaptive.py."""
    problem, rates = LinearRegression(examples=8), [0.01, 0.0025, 0.000625]
    rule = decayed(Momentum(0.01, 4, momentum=0.8), 1.0)
    report = orders(rule, problem.objective, problem.start, time=2.0, learning_rates=rates, observe={"w": lambda w: w})
    found = {measure: float(report.slope["w"][measure]) for measure in ("mean", "variance/eta")}
    print(f"\n{report.method}: {found}")
    assert report.method == "exact moments" and all(abs(slope - 1) < 0.15 for slope in found.values())


@pytest.mark.parametrize(
    "rule",
    [
        scheduled(volumized(decayed(Momentum(0.05, 2, nesterov=True), 0.1), 0.5, 0.9), WARM),
        decayed(scheduled(from_optax(optax.rmsprop, 0.05, 2), WARM), 0.1),
        scheduled(SignSGD(0.05, 2), WARM),
        volumized(SGD(0.05, noise_model=LabelNoise(0.3)), 0.5, 0.9),
    ],
    ids=["momentum", "rmsprop", "sign_sgd", "label_noise"],
)
def test_wrappers_keep_what_the_equation_says(rule):
    """Drift, kick and diffusion fit each other under any of them, in any order, also where they are not the defaults."""
    laws.structure(None, rule)
    laws.no_recompilation(None, rule)
    if rule.is_affine(laws.some_state(rule)) and not rule.gradient_noise.injects:  # the moments are known exactly
        laws.kick_moments(None, rule)
    state, t = laws.some_state(rule), laws.some_time(rule)
    changed = rule.changed(t, state, rule.equation.drift(t, state, laws.OBJECTIVE))
    np.testing.assert_allclose(laws.flat(rule.drift(t, state, laws.OBJECTIVE)), laws.flat(changed), rtol=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize(
    "rule",
    [
        scheduled(Momentum(0.05, 2), COSINE),
        decayed(scheduled(AdamW(0.05, 2), COSINE), 0.1),
        volumized(Momentum(0.05, 2), 0.2, 0.9),
        scheduled(from_optax(optax.rmsprop, 0.05, 2, initial_scale=1.0), COSINE),
        volumized(scheduled(LaProp(0.05, 2), COSINE), 0.3, 0.9),
    ],
    ids=["momentum", "adamw", "volumized", "rmsprop", "laprop"],
)
def test_the_order_of_a_composition(rule):
    laws.order(Entry(rule, rule.twin(), orders={"steps": 80, "factor": 0.2}), rule)


def test_other_batches_reach_the_inner_equation():
    rule = scheduled(decayed(SGD(0.1, 2), 0.1), WARM)
    still = dataclasses.replace(rule, batch_size=None)
    assert rule.random and not still.random and still.equation.equation.batch_size is None
    heated = dataclasses.replace(still, noise_model=Isotropic(0.3))
    assert heated.random and isinstance(heated.equation.equation.gradient_noise, Isotropic)
    assert float(rule.scaling_limit().rescaled(0.5).equation.equation.learning_rate) == 0.05
    series = dataclasses.replace(modified(Momentum(0.1, 2)), batch_size=4, sampling="without_replacement")
    assert series.equation.equation.batch_size == 4 and series.equation.equation.sampling == "without_replacement"
    assert not dataclasses.replace(series, batch_size=None).random


def one(step):
    return 1.0 + 0.0 * step


class InItsOwnTime(Decayed):
    """Mutant: its variances vanish as the learning rate does, whatever it is around."""

    scaling_limit = changed(variance_scale=lambda s: jnp.asarray(s.equation.learning_rate))


class Startless(Decayed):
    """Mutant: the first step is not the algorithm's."""

    splitting = changed(start=lambda s, state, signal, noise: None)


class WithoutHandover(Decayed):
    """Mutant: a state of the twin is not its own."""

    splitting = changed(resumed=lambda s, params, memory: None)


SCANS = {"drift", "diffusion"}  # over examples, dear to compile: under the mark slow


def gradient_at(equation, params, signal, normals):
    gradient = equation.gradient(params, signal, normals)
    return gradient(params) if equation.several_gradients else gradient


def said(equation, without=SCANS):
    """All that an equation says in public, by name; no name of the contract is missing."""
    t, state, eta, signal = laws.some_time(equation), laws.some_state(equation), equation.learning_rate, laws.OBJECTIVE
    full = lambda tree: jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.3, leaf.dtype), tree)  # noqa: E731
    normals, pair = (full(split(equation).noise(state, signal, kicks)) for kicks in (1, 2))
    params, half = equation.params(state), equation.scaling_limit().rescaled(0.5)
    over = handover(equation, Increment.of(equation), params)
    given = fixed_gradient(equation, params)

    def diffusion():
        operator = equation.diffusion(t, state, signal)
        return operator.mv(full(operator.in_structure()))

    with jax.numpy_dtype_promotion("standard"):
        step, memory = twin_update(equation, given, equation.twin().init(params), params)
    found = {
        "batches": lambda: equation.batches(signal).factor,
        "check": lambda: equation.check(params, signal),
        "check_sampling": lambda: check_sampling(equation, signal),
        "claimed_order": lambda: [equation.scaling_limit().claimed_order(measure) for measure in MEASURES],
        "diffusion": diffusion,
        "drift": lambda: equation.drift(t, state, signal),
        "euler": lambda: split(equation).euler(t, state, signal, normals, eta),
        "flow": lambda: split(equation).flow(t, state, signal),
        "gradient": lambda: gradient_at(equation, params, signal, normals),
        "held": lambda: equation.held(jnp.asarray(3)).velocity(t, state, given),
        "held between": lambda: equation.held(*jnp.array([1.0, 9.0])).velocity(t, state, given),
        "init": lambda: equation.init(params),
        "is_affine": lambda: equation.is_affine(state),
        "kick": lambda: [split(equation).kick(t, state, signal, n, eta / k) for k, n in ((1, normals), (2, pair))],
        "learning_rate_at": lambda: equation.scaling_limit().learning_rate_at(jnp.asarray(3.0)),
        "noise": lambda: (normals, pair),
        "params": lambda: params,
        "rescaled": lambda: (half.learning_rate, half.scaling_limit().time_per_step(), half.velocity(t, state, given)),
        "resumed": lambda: None if over is None else over(TwinState.of(params, memory)),
        "sees": lambda: equation.sees(signal).gradient(params),
        "start": lambda: split(equation).start(state, signal, normals),
        "time_per_step": equation.scaling_limit().time_per_step,
        "twin": lambda: step,
        "variance_scale": equation.scaling_limit().variance_scale,
        "velocity": lambda: equation.velocity(t, state, given),
        "splitting": lambda: [getattr(split(equation), name) for name in ("kicks", "leapfrog", "smooth")],
        "scaling_limit": lambda: None,  # its members are compared above
        "series": lambda: equation.series().order,
    }
    contract = {
        name for kind in (AbstractEquation, AbstractDynamics) for name in [*vars(kind), *kind.__dataclass_fields__]
    }
    for name in {name for name in contract if name[0] != "_"} - set(found):  # fields and properties
        assert not callable(getattr(equation, name)), f"{name} of the contract is not compared"
        found[name] = lambda name=name: getattr(equation, name)
    return {name: value() for name, value in found.items() if name not in without}


def differences(mine, bare):
    """The names of what two equations say differently."""
    return [name for name in bare if not bool(eqx.tree_equal(mine[name], bare[name], rtol=1e-12, atol=1e-15))]


TRIVIAL = {
    "decayed": lambda equation: decayed(equation, 0.0),
    "scheduled": lambda equation: scheduled(equation, one),
    "volumized": lambda equation: volumized(equation, 1e30, 0.5),
}
BARE = {name: entry.equation for name, entry in EQUATIONS.items() if not isinstance(entry.equation, AbstractForwarder)}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", some(BARE, ["sgd", "nesterov", "adam", "rmsprop_corrected", "sam", "lion", "langevin"])
)
def test_a_trivial_wrapper_changes_nothing(name):
    """No decay, the factor one, a box without walls: all around it, a bare equation says all that it says alone."""
    wrapped = functools.reduce(lambda equation, wrap: wrap(equation), TRIVIAL.values(), BARE[name])
    assert not differences(said(wrapped), said(BARE[name]))


@pytest.mark.slow
@pytest.mark.parametrize("name", BARE)
def test_nor_does_any_of_them_alone_with_drift_and_diffusion(name):
    bare = said(BARE[name], ())
    for kind in TRIVIAL:
        assert not differences(said(TRIVIAL[kind](BARE[name]), ()), bare), kind


@pytest.mark.parametrize(
    "mutant, name, what", [(InItsOwnTime, "langevin", "variance_scale"), (Startless, "adam", "start"),
                           (WithoutHandover, "adam", "resumed")]
)  # fmt: skip
def test_a_wrapper_that_does_not_forward_is_seen(mutant, name, what):
    wrapped = mutant(**laws.fields(decayed(BARE[name], 0.0)))
    assert what in differences(said(wrapped), said(BARE[name]))


@pytest.mark.slow
def test_compare_takes_a_composition_and_names_it():
    found = compare(scheduled(decayed(Adam(0.05), 0.1), WARM), regularized(at_rest()[0], jnp.sum), jnp.ones(2), steps=20,
                    paths=1, save_every=10)  # fmt: skip
    assert "Scheduled(Decayed(Adam)), learning rate 0.05" in str(found) and list(found.moments) == ["loss"]
    document = found.to_dict()
    assert document["hyperparameters"]["weight_decay"] == 0.1 and document["hyperparameters"]["b1"] == 0.9
    np.testing.assert_allclose(document["times"], found.run.times, rtol=1e-6)


# ---------------------------------------------------------------------------------------------------------------------
# Volumization


@pytest.mark.slow
def test_volumization_at_its_ends():
    """V = 0 is weight decay, alpha = 1 nothing, alpha = 0 a box that no weight leaves."""
    inner, params = SGD(0.1, 2), laws.PARAMS
    drift = lambda e: laws.flat(e.drift(jnp.zeros(()), params, laws.OBJECTIVE))  # noqa: E731
    np.testing.assert_allclose(drift(volumized(inner, 0.0, 0.9)), drift(decayed(inner, 1.0)), rtol=1e-13)
    np.testing.assert_allclose(drift(volumized(inner, 0.1, 1.0)), drift(inner), rtol=1e-15)
    objective = Objective(quadratic, np.array([[3.0, -3.0]]))
    for side, slack in ((train, 1e-12), (solve, 0.5)):
        run = side(volumized(Momentum(0.1, momentum=0.5), 1.0), objective, jnp.zeros(2), steps=60, save_every=60)
        assert np.all(np.abs(np.asarray(run.final)) <= 1 + slack) and np.all(np.abs(np.asarray(run.final)) > 0.9)


def test_volumization_scales_a_trace_back_too():
    """Momentum's, as Adam's first moment: a loop written out, of two weights that meet the wall and one that does not."""
    force, eta, beta, volume, alpha = np.array([3.0, -3.0, 0.02]), 0.1, 0.5, 1.0, 0.6
    objective = Objective(lambda w, pull: jnp.dot(w, pull), -force[None])
    run = train(
        volumized(Momentum(eta, momentum=beta), volume, alpha), objective, jnp.zeros(3), steps=12, save_every=12
    )
    w, m = np.zeros(3), np.zeros(3)
    for _ in range(12):
        m = beta * m - force
        w = w - eta * m
        out = np.abs(w) > volume
        w = np.where(out, np.sign(w) * (alpha * np.abs(w) + (1 - alpha) * volume), w)
        m = np.where(out, alpha * m, m)
    np.testing.assert_allclose(run.final[0], w, rtol=1e-13)


# ---------------------------------------------------------------------------------------------------------------------
# Spred


@functools.cache
def lasso():
    """A sparse regression, and the minimum of its L1 penalty 0.2 by proximal gradient steps (ISTA)."""
    rng = np.random.default_rng(0)
    x, kappa = rng.normal(size=(60, 20)), 0.1
    y = x @ np.where(np.arange(20) < 6, 2 * rng.normal(size=20), 0) + 0.3 * rng.normal(size=60)
    hessian, force, v = x.T @ x / 60, x.T @ y / 60, np.zeros(20)
    step = 1 / np.linalg.eigvalsh(hessian)[-1]
    for _ in range(5000):
        u = v - step * (hessian @ v - force)
        v = np.sign(u) * np.maximum(np.abs(u) - step * 2 * kappa, 0)
    return Objective(squared_error, (x, y)), kappa, v


@pytest.mark.parametrize("rule", [SGD(0.05), Momentum(0.02, momentum=0.9)], ids=["sgd", "momentum"])
def test_spred_is_the_lasso(rule):
    """To 1e-12, its zeros far below that; half the decay is another lasso."""
    objective, kappa, exact = lasso()
    start, steps = Factors.of(jnp.zeros(20)), 20_000

    def distance(kappa):
        found = train(rule, Spred(objective, kappa), start, steps=steps, save_every=steps).final.product()[0]
        return np.asarray(found), np.abs(np.asarray(found) - exact).max()

    (found, off), (_, other) = distance(kappa), distance(kappa / 2)
    print(f"\nspred - lasso {off:.1e}, zeros {np.abs(found[exact == 0]).max():.0e}, half the decay {other:.2f}")
    assert 5 < np.sum(exact == 0) < 20
    assert off < 1e-12 and np.abs(found[exact == 0]).max() < 1e-30 and other > 1e-2


def test_the_lasso_is_that_of_scikit_learn():
    from sklearn.linear_model import Lasso

    objective, kappa, exact = lasso()
    model = Lasso(alpha=2 * kappa, fit_intercept=False, tol=1e-14, max_iter=100_000).fit(
        *map(np.asarray, objective.data)
    )
    np.testing.assert_allclose(model.coef_, exact, atol=1e-12)


def test_the_imbalance_of_the_factors_decays_as_it_should():
    """u^2 - w^2 falls as e^{-4 kappa t} under the flow, whatever the loss; the sign of the product may change before."""
    objective, kappa, _ = lasso()
    start = Factors.of(jnp.full(20, 0.1), imbalance=0.5)
    np.testing.assert_allclose(start.product(), 0.1, rtol=1e-14)
    flow = solve(SGD(0.05), Spred(objective, kappa), start, steps=60, save_every=20,
                 observe={"c": lambda f: f.u**2 - f.w**2, "v": lambda f: f.product()})  # fmt: skip
    np.testing.assert_allclose(
        flow.observables["c"][0], 0.5 * np.exp(-4 * kappa * flow.times)[:, None] + np.zeros(20), rtol=1e-5
    )
    assert np.min(np.asarray(flow.observables["v"])) < -0.1


@pytest.mark.slow
def test_spred_takes_a_module():
    network, images, labels = laws.classification()
    factors, objective = Factors.of(network), Objective(laws.cross_entropy, (images, labels))
    signal = Spred(objective, 0.0)
    np.testing.assert_allclose(signal.value(factors), objective.value(network), rtol=1e-12)
    run = train(Adam(1e-2, 16), signal, factors, steps=3, key=jax.random.key(0), observe={"loss": signal.value})
    assert np.all(np.isfinite(run.observables["loss"]))


# ---------------------------------------------------------------------------------------------------------------------
# Syre


def neurons(params, example):
    x, y = example
    return 0.5 * (jnp.dot(params["a"], jnp.tanh(params["w"] @ x)) - y) ** 2


@pytest.mark.slow
def test_syre_tells_duplicated_neurons_apart():
    """Four neurons that begin alike stay alike under plain decay, and fit three different ones under syre."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 3))
    y = np.tanh(x @ rng.normal(size=(3, 3)).T) @ np.array([1.0, -1.5, 2.0])
    objective = Objective(neurons, (x, y))
    start = {"w": jnp.tile(0.5 * jnp.asarray(rng.normal(size=3)), (4, 1)), "a": jnp.full(4, 0.3)}
    found = {}
    for spread, diagonal in ((0.0, False), (0.001, False), (0.1, False), (0.0, True)):
        penalty = syre(start, jax.random.key(7), strength=1e-3, spread=spread, diagonal=diagonal)
        run = train(Momentum(0.05), regularized(objective, penalty), start, steps=20_000, save_every=20_000)
        final = jax.tree.map(lambda leaf: leaf[0], run.final)
        rank = np.linalg.matrix_rank(np.asarray(final["w"]), tol=1e-6)
        found[spread, diagonal] = rank, 2 * float(objective.value(final))
        print(
            f"\nspread {spread}, diagonal {diagonal}: rank {rank}, mean squared error {found[spread, diagonal][1]:.2e}"
        )
    assert found.pop((0.0, False))[0] == 1
    assert all(rank == 3 and error < 1e-2 for rank, error in found.values())


@pytest.mark.slow
def test_the_penalty_of_syre_is_what_it_says():
    """strength |theta - theta_0|^2, theta_0 ~ N(0, spread^2), and with `diagonal` weights uniform on [1/2, 3/2]."""
    params, strength, spread = {"w": jnp.zeros((100, 200)), "b": jnp.ones(3)}, 0.3, 0.02
    key, count = jax.random.key(1), 20_000
    plain, weighted = (syre(params, key, strength, spread, diagonal=diagonal) for diagonal in (False, True))
    # At the origin, and by the second derivative, for what the penalty is of.
    off = 5 * 2**0.5 / count**0.5
    centers = -jax.grad(plain)(params)["w"] / (2 * strength)
    np.testing.assert_allclose(jnp.mean(centers**2), spread**2, rtol=off)
    assert abs(jnp.mean(centers)) < 5 * spread / count**0.5
    np.testing.assert_allclose(plain(params), strength * (jnp.sum(centers**2) + jnp.sum((1 - plain.center["b"]) ** 2)),
                               rtol=1e-12)  # fmt: skip
    ones = jax.tree.map(jnp.ones_like, params)
    for penalty, spread_of_weights in ((plain, 0.0), (weighted, 1 / 12)):
        curvature = jax.jvp(jax.grad(penalty), (params,), (ones,))[1]["w"] / (2 * strength)
        np.testing.assert_allclose(jnp.mean(curvature), 1.0, atol=5 * (1 / 12 / count) ** 0.5)
        np.testing.assert_allclose(jnp.var(curvature), spread_of_weights, rtol=off, atol=1e-20)
        assert jnp.all((curvature >= 0.5 - 1e-12) & (curvature <= 1.5 + 1e-12))


# ---------------------------------------------------------------------------------------------------------------------
# Bad input


SLOWLY, KEY = SGD(0.1), jax.random.key(0)
BAD_INPUT = [
    (TypeError, "equation", lambda: scheduled(SGD, WARM)),
    (TypeError, "equation", lambda: decayed(laws.OBJECTIVE, 0.1)),
    (TypeError, "schedule", lambda: scheduled(SLOWLY, 0.5)),
    (ValueError, "schedule", lambda: scheduled(SLOWLY, lambda step: jnp.ones(2))),
    (ValueError, "schedule", lambda: scheduled(SLOWLY, lambda step: 1 if step > 3 else 2)),
    (ValueError, "weight_decay", lambda: decayed(SLOWLY, -0.1)),
    (TypeError, "weight_decay", lambda: decayed(SLOWLY, "0.1")),
    (ValueError, "volume", lambda: volumized(SLOWLY, -1.0)),
    (ValueError, "alpha", lambda: volumized(SLOWLY, 1.0, -1.0)),
    (ValueError, "alpha", lambda: volumized(SLOWLY, 1.0, float("nan"))),
    (TypeError, "signal", lambda: regularized(None, jnp.sum)),
    (TypeError, "penalty", lambda: regularized(laws.OBJECTIVE, 0.1)),
    (TypeError, "signal", lambda: Spred(squared_error, 0.1)),
    (ValueError, "kappa", lambda: Spred(laws.OBJECTIVE, -0.1)),
    (ValueError, "imbalance", lambda: Factors.of(laws.PARAMS, 0.0)),
    (TypeError, "params", lambda: train(SLOWLY, Spred(laws.OBJECTIVE, 0.1), laws.PARAMS, steps=2)),
    (TypeError, "params", lambda: Spred(laws.OBJECTIVE, 0.1).value(jnp.ones(2))),
    (ValueError, "strength", lambda: syre(laws.PARAMS, KEY, strength=-1.0)),
    (TypeError, "key", lambda: syre(laws.PARAMS, 0)),
    (TypeError, "params", lambda: syre({}, KEY)),
    (TypeError, "diagonal", lambda: syre(laws.PARAMS, KEY, diagonal=1)),
    (TypeError, "params", lambda: Factors.of(jnp.arange(3))),
    (ValueError, "params", lambda: syre(laws.PARAMS, KEY)({"w": jnp.ones(3)})),
    (
        ValueError,
        "equation",
        lambda: train(scheduled(SLOWLY, lambda k: 1 - k / 4), laws.OBJECTIVE, laws.PARAMS, steps=6),
    ),
    (
        ValueError,
        "equation",
        lambda: solve(scheduled(SLOWLY, lambda k: jnp.log(k)), laws.OBJECTIVE, laws.PARAMS, steps=6),
    ),
    (
        ValueError,
        "objective",
        lambda: train(SLOWLY, regularized(laws.OBJECTIVE, lambda p: p["w"]), laws.PARAMS, steps=2),
    ),
]


@pytest.mark.parametrize(("error", "name", "call"), BAD_INPUT)
def test_bad_input(error, name, call):
    with pytest.raises(error, match=f"Argument `{name}`"):
        call()


@pytest.mark.slow
def test_a_schedule_that_was_asked_for_is_kept_under_jit():
    """An equation is a PyTree: a learning rate that is traced reaches the inner one."""
    still, rule = at_rest()[0], scheduled(SGD(ETA), warm_up)

    @jax.jit
    def final(rate):
        changed = eqx.tree_at(lambda e: e.learning_rate, rule, rate)
        return train(changed, still, jnp.ones(2), steps=STEPS, save_every=STEPS).final[0]

    each, _ = factors()
    np.testing.assert_allclose(final(0.05), np.prod(1 - 0.05 * each[:, None] * CURVATURES, axis=0), rtol=1e-12)
