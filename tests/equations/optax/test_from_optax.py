"""Optimizers from Optax: which have an equation, which are refused, and what is said of them."""

import inspect
from functools import partial
from types import FunctionType

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dynamics import entropy_production, solve, train
from equations import Objective, decayed, from_optax, modified, scheduled
from equations._optax import probe as _probe
from equations._optax.ignored import ignored_numbers, misused_rate
from equations._optax.probe import apart, fault
from validation import Symmetry, corrected, irreversibility, scaling_rule
from validation._compare.statistics import Estimate
from validation._orders import fit as _order_fit
from validation._orders.fit import sweep

CASES = [
    ("steps far from the identity", "instance", "SAM, which climbs by a length of its own", "test_refused[sam]"),
    ("steps far from the identity", "instance", "apply_every(4)", "test_refused[apply_every]"),
    ("steps far from the identity", "instance", "MultiSteps as a transformation", "test_refused[multi_steps]"),
    ("steps far from the identity", "brother", "optax.MultiSteps itself", "test_refused[multi_steps_object]"),
    (
        "steps far from the identity",
        "brother",
        "a rule of one's own that rests in two of three steps",
        "test_refused[resting]",
    ),
    ("steps far from the identity", "brother", "SAM whose ascent is short", "test_refused[short_sam]"),
    ("steps far from the identity", "brother", "apply_every(40): no step in the first 32", "test_refused[late]"),
    ("steps far from the identity", "brother", "apply_every(5000), of which no step is seen", "test_refused[unseen]"),
    ("steps far from the identity", "brother", "MultiSteps over 30 steps", "test_refused[multi_steps_30]"),
    ("steps far from the identity", "brother", "MultiSteps over ever more steps", "test_refused[multi_steps_more]"),
    ("steps far from the identity", "brother", "SAM for one label", "test_refused[sam_label]"),
    ("steps far from the identity", "brother", "apply_every(4) for one label", "test_refused[every_label]"),
    ("steps far from the identity", "brother", "apply_every(100) for one label", "test_refused[late_label]"),
    ("steps far from the identity", "brother", "mechanize: far, though it falls", "test_warned[mechanize]"),
    ("steps far from the identity", "brother", "a rule of one's own that never moves", "test_what_never_moves"),
    (
        "steps far from the identity",
        "brother",
        "steps left out by a schedule or a condition, a label that is frozen",
        "test_rests_are_no_fault[adam]",
    ),
    ("steps far from the identity", "brother", "LARS on a bias of 0", "test_rests_are_no_fault[from nothing]"),
    (
        "steps far from the identity",
        "brother",
        "apply_every(4) as XLA compiles by default",
        "test_no_verdict_depends_on_rounding",
    ),
    ("steps far from the identity", "instance", "rprop", "test_warned[rprop]"),
    ("steps far from the identity", "brother", "a rate that is a tenth larger in every step", "test_warned[growing]"),
    ("steps far from the identity", "brother", "another direction in every other step", "test_warned[alternating]"),
    ("steps far from the identity", "brother", "apply_every inside scheduled, decayed and modified", "test_wrapped"),
    (
        "steps far from the identity",
        "brother",
        "apply_every in whatever measures an algorithm",
        "test_refused_by_whatever_measures_it",
    ),
    ("steps far from the identity", "brother", "train runs what solve refuses", "test_train_runs_what_solve_refuses"),
    ("steps far from the identity", "brother", "adam, momentum, clipping, schedules: nothing is said", "test_quiet"),
    ("steps far from the identity", "brother", "every optimizer of Optax with a learning rate", "test_every_optimizer"),
    ("steps far from the identity", "brother", "an optimizer that is not in the table", "test_the_table_is_complete"),
    (
        "steps far from the identity",
        "instance",
        "adabelief loses its paths",
        "test_moments_about_a_mean_stay_positive[adabelief]",
    ),
    (
        "steps far from the identity",
        "brother",
        "acprop loses its paths",
        "test_moments_about_a_mean_stay_positive[acprop]",
    ),
    ("invented parameters", "instance", "adamw(mask=a tree)", "test_trees_like_the_parameters[mask]"),
    ("invented parameters", "instance", "multi_transform with labels", "test_trees_like_the_parameters[labels]"),
    ("invented parameters", "instance", "add_decayed_weights(mask=a tree)", "test_trees_like_the_parameters[decay]"),
    ("invented parameters", "brother", "masked by a tree", "test_trees_like_the_parameters[masked]"),
    ("invented parameters", "brother", "rates of each leaf, of its shape", "test_trees_like_the_parameters[rates]"),
    ("invented parameters", "brother", "a tree unlike the parameters", "test_one_reason[unlike]"),
    ("invented parameters", "brother", "the remainder of a matrix rule", "test_remainder_on_the_parameters"),
    ("one reason", "instance", "noisy_sgd", "test_one_reason[noisy]"),
    ("one reason", "instance", "dpsgd", "test_one_reason[private]"),
    ("one reason", "brother", "lbfgs", "test_one_reason[lbfgs]"),
    ("one reason", "brother", "apply_if_finite", "test_one_reason[flags]"),
    ("one reason", "brother", "zero_nans", "test_one_reason[nans]"),
    ("one reason", "brother", "optimistic_adam_v2, which has a flag and no guard", "test_one_reason[optimistic]"),
    ("one reason", "brother", "a Python branch on the learning rate", "test_one_reason[branch]"),
    ("one reason", "instance", "SAM, optimistic gradients, lookahead", "test_what_to_take_instead"),
    ("one reason", "brother", "opaque SAM", "test_one_reason[opaque]"),
    (
        "errors that grow",
        "instance",
        "errors that grow as the learning rate falls",
        "test_growing_errors_fail[growing]",
    ),
    ("errors that grow", "brother", "errors that overflow", "test_growing_errors_fail[overflow]"),
    ("errors that grow", "brother", "faster and faster, with a wide interval", "test_growing_errors_fail[faster]"),
    ("errors that grow", "brother", "a jump, and then no fall", "test_growing_errors_fail[jump]"),
    ("errors that grow", "brother", "a jump, and then a dip", "test_growing_errors_fail[dip]"),
    ("errors that grow", "brother", "beyond all numbers at every rate", "test_growing_errors_fail[infinite]"),
    ("errors that grow", "brother", "tenfold, with error bars of 30 %", "test_growing_errors_fail[noisy]"),
    ("errors that grow", "brother", "less than twofold, or falling after a rise", "test_growth_that_says_nothing"),
    ("errors that grow", "brother", "falling errors are judged as before", "test_falling_errors_are_judged_as_before"),
]

contrib, SAM = optax.contrib, partial(optax.contrib.sam, opaque_mode=True)
PARAMS = {"w": jnp.array([[1.0, -0.7], [0.3, 0.9]]), "b": jnp.array([0.5, -1.0])}
DATA = jnp.array([[1.0, 0.5], [0.2, -1.0], [0.5, 0.3]])
OBJECTIVE = Objective(lambda p, x: 0.5 * jnp.sum((p["w"] @ x + p["b"]) ** 2), DATA)
MASK = {"w": True, "b": False}


def around(*before, after=()):
    return lambda learning_rate: optax.chain(*before, optax.sgd(learning_rate), *after)


def sam(length):
    climb = optax.chain(contrib.normalize(), optax.sgd(length))
    return lambda learning_rate: contrib.sam(optax.sgd(learning_rate), climb, opaque_mode=False)


def gathering(learning_rate):
    """SGD that moves in every third step, by the mean of the gradients since; a mutant of SGD."""

    def update(updates, state, params=None):
        place, total = jnp.asarray(state[0]).astype(int) % 3, state[1]
        total = jax.tree.map(lambda m, g: jnp.where(place == 0, 0, m) + g, total, updates)
        step = jax.tree.map(lambda m: jnp.where(place == 2, -learning_rate * m / 3, 0), total)
        return step, (state[0] + 1, total)

    return optax.GradientTransformation(
        lambda params: (jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, params)), update
    )


def growing(learning_rate):
    """SGD whose rate is a tenth larger in every step, however small it is; a mutant."""

    def update(updates, size, params=None):
        return jax.tree.map(lambda g: -size.astype(g.dtype) * g, updates), 1.1 * size

    return optax.GradientTransformation(lambda params: jnp.asarray(learning_rate), update)


def alternating(learning_rate):
    """The gradient, and then the one before it as a memory that is emptied in every other step."""

    def update(updates, state, params=None):
        count, last = state
        odd = jnp.asarray(count).astype(int) % 2 == 1
        step = jax.tree.map(
            lambda g, m: jnp.where(odd, -learning_rate * (g + 5 * m), -learning_rate * g), updates, last
        )
        return step, (count + 1, jax.tree.map(lambda g: jnp.where(odd, jnp.zeros_like(g), g), updates))

    return optax.GradientTransformation(
        lambda params: (jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, params)), update
    )


def labeled(inner):
    """SGD for one leaf, another optimizer for the other."""
    return lambda learning_rate: optax.partition(
        {"a": optax.sgd(learning_rate), "b": inner(learning_rate)}, {"w": "a", "b": "b"}
    )


def every(steps):
    return around(after=[optax.apply_every(steps)])


def multi(steps):
    return lambda learning_rate: optax.MultiSteps(optax.sgd(learning_rate), steps).gradient_transformation()


REFUSED = {
    "late": (every(40), "batch_size=80"),
    "unseen": (every(5000), "one of k"),
    "multi_steps_30": (multi(30), "batch_size=60"),
    "multi_steps_more": (multi(lambda step: jnp.where(step < 3, 2, 5)), "one of k"),
    "sam_label": (labeled(sam(0.05)), "vanish with the learning rate"),
    "every_label": (labeled(every(4)), "batch_size=8"),
    "late_label": (labeled(every(100)), "batch_size=200"),
    "sam": (sam(0.05), "vanish with the learning rate"),
    "short_sam": (sam(0.001), "vanish with the learning rate"),
    "apply_every": (every(4), "batch_size=8.*apply_every"),
    "multi_steps": (multi(4), "batch_size=8"),
    "multi_steps_object": (lambda learning_rate: optax.MultiSteps(optax.sgd(learning_rate), 4), "k times the batch_size"),
    "gathering": (gathering, "batch_size=6"),
}  # fmt: skip


def run(equation, side=solve):
    return side(equation, OBJECTIVE, PARAMS, steps=4, key=jax.random.key(0))


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    factory, words = REFUSED[name]
    with pytest.raises(ValueError, match=f"(?s)`factory`.*{words}"):
        run(from_optax(factory, 0.05, 2))


WARNED = {
    "rprop": optax.rprop,
    "growing": growing,
    "alternating": alternating,
    "mechanize": lambda learning_rate: contrib.mechanize(optax.sgd(learning_rate)),
}


@pytest.mark.parametrize("name", WARNED)
def test_warned(name):
    factory = WARNED[name]
    refused, message = fault(from_optax(factory, 0.05), PARAMS)
    assert not refused and ("is far from" if name == "mechanize" else "does not come nearer") in message
    if name == "growing":
        with pytest.warns(UserWarning, match="`factory`.*nearer"):
            run(from_optax(factory, 1e-6))


def test_wrapped():
    every = from_optax(REFUSED["apply_every"][0], 0.05)
    halved = optax.exponential_decay(1.0, 100, 0.5)
    for equation in (scheduled(every, halved), decayed(every, 0.1), modified(every, route="map")):
        with pytest.raises(ValueError, match="moves in one of 4"):
            run(equation)


@pytest.mark.parametrize("name", ["irreversibility", "rule", "entropy", "flow", "corrected"])
def test_refused_by_whatever_measures_it(name):
    equation = from_optax(REFUSED["apply_every"][0], 0.05, 2)
    given, key = (equation, OBJECTIVE, PARAMS), jax.random.key(0)
    calls = {
        "irreversibility": lambda: irreversibility(*given),
        "rule": lambda: scaling_rule(*given, rule="linear", batch_sizes=[4], steps=4, key=key),
        "entropy": lambda: entropy_production(
            equation, OBJECTIVE, train(*given, steps=2, keep_states=True, key=key, noise="gaussian")
        ),
        "flow": lambda: Symmetry(lambda v: v).flow(*given),
        "corrected": lambda: corrected(equation),
    }
    words = {"flow": "plain gradient steps", "corrected": "without memory"}
    with pytest.raises(ValueError, match=words.get(name, "moves in one of 4")):
        calls[name]()


def test_train_runs_what_solve_refuses():
    """Four steps with gradients gathered are one step with four times the batch."""
    gathered = run(from_optax(REFUSED["apply_every"][0], 0.05), train).final
    gradient = OBJECTIVE.gradient(PARAMS)
    np.testing.assert_allclose(gathered["w"][0], PARAMS["w"] - 4 * 0.05 * gradient["w"], rtol=1e-12)


def test_what_never_moves():
    refused, message = fault(from_optax(lambda learning_rate: optax.set_to_zero(), 0.05), PARAMS)
    assert not refused and "does not move in 4096 steps" in message


RESTS = {
    "adam": lambda learning_rate: optax.adam(lambda step: learning_rate * (step % 2)),
    "condition": around(after=[optax.conditionally_mask(optax.identity(), lambda step: step % 3 == 0)]),
    "frozen": labeled(lambda learning_rate: optax.set_to_zero()),
    "from nothing": optax.lars,
}


@pytest.mark.parametrize("name", RESTS)
def test_rests_are_no_fault(name):
    """Neither is a bias that begins at 0."""
    assert fault(from_optax(RESTS[name], 0.05, 2), PARAMS | {"b": jnp.zeros(2)}) is None


@pytest.mark.slow
def test_no_verdict_depends_on_rounding(monkeypatch):
    """Counts are whole numbers whatever eta * (1/eta) is rounded to, which compilers do differently."""
    equation = from_optax(REFUSED["apply_every"][0], 0.05, 2)
    distances = [apart(equation, PARAMS["b"])]
    options = {"xla_backend_optimization_level": 3, "xla_cpu_use_fusion_emitters": True}  # as without any flags
    monkeypatch.setattr(_probe, "_runs", eqx.filter_jit(_probe._runs.__wrapped__, compiler_options=options))
    for rate in (1.0, 0.123, 1 / 3):
        distances.append(apart(eqx.tree_at(lambda e: e.learning_rate, equation, 0.05 * rate), PARAMS["b"]))
    np.testing.assert_allclose(distances, [distances[0]] * len(distances), rtol=1e-9)
    assert min(distances[0]) > 0.4


QUIET = {
    "momentum": lambda learning_rate: optax.sgd(learning_rate, momentum=0.9),
    "clipped": around(optax.clip_by_global_norm(0.5)),
    "cyclic": lambda learning_rate: optax.sgd(lambda step: learning_rate * (1 + 0.5 * jnp.cos(jnp.pi * step))),
}


def test_quiet():
    for factory in QUIET.values():
        assert fault(from_optax(factory, 0.05, 2), PARAMS) is None
    coarse, fine = apart(from_optax(QUIET["momentum"], 0.05), PARAMS)
    assert fine < coarse / 8  # first order, and sixteen times as many steps


# What is said of every optimizer with a learning rate: nothing, a warning, or why it is refused.
TABLE = {
    optax: {
        "": "adabelief adadelta adafactor adagrad adam adamax adamaxw adamw adan amsgrad fromage lamb lars lion nadam "
        "nadamw novograd radam rmsprop sgd sign_sgd signum sm3 yogi",
        "nearer": "rprop",
        "random key": "noisy_sgd",
        "real numbers": "optimistic_adam optimistic_adam_v2 optimistic_gradient_descent",
        "no more than": "lbfgs",
    },
    contrib: {
        "": "acprop ademamix adopt dadapt_adamw dowg madgrad muon prodigy schedule_free_adamw schedule_free_sgd "
        "simplified_ademamix",
        "nearer": "galore",
        "vanish": "cocob",
        "random key": "sophia",
        "real numbers": "dog",
        "no more than": "momo momo_adam",
        "must take": "dpsgd schedule_free",
    },
}  # fmt: skip
ROWS = [
    (module, name, words) for module, row in TABLE.items() for words, names in row.items() for name in names.split()
]


def test_the_table_is_complete():
    for module in TABLE:
        named = {
            name
            for name, function in vars(module).items()
            if isinstance(function, FunctionType | partial)
            and not name.startswith(("scale_by", "_"))
            and "learning_rate" in inspect.signature(function).parameters
        }
        assert named == {name for other, name, _ in ROWS if other is module}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Specifying a key", "ignore::DeprecationWarning")
@pytest.mark.parametrize(("module", "name", "words"), ROWS, ids=[row[1] for row in ROWS])
def test_every_optimizer(module, name, words):
    try:
        equation = from_optax(getattr(module, name), 0.05)
        said = fault(equation, PARAMS) or misused_rate(equation, PARAMS) or ignored_numbers(equation, PARAMS) or None
    except (TypeError, ValueError) as error:
        said = str(error)
    assert said is None if words == "" else words in str(said)


def rated(learning_rate):
    rates = {"w": jnp.array([[1.0, 2.0], [3.0, 4.0]]), "b": jnp.ones(2)}
    scale = lambda updates, params=None: jax.tree.map(jnp.multiply, updates, rates)  # noqa: E731
    return optax.chain(optax.stateless(scale), optax.sgd(learning_rate))


TREES = {
    "mask": lambda learning_rate: optax.adamw(learning_rate, mask=MASK),
    "decay": around(optax.add_decayed_weights(0.1, mask=MASK)),
    "masked": lambda learning_rate: optax.masked(optax.sgd(learning_rate), MASK),
    "rates": rated,
    "labels": lambda learning_rate: optax.multi_transform(
        {"a": optax.sgd(learning_rate), "b": optax.sgd(learning_rate, momentum=0.5)}, {"w": "a", "b": "b"}
    ),
}


@pytest.mark.parametrize("name", TREES)
def test_trees_like_the_parameters(name):
    """A step of Euler is the algorithm's."""
    equation = from_optax(TREES[name], 0.05)
    equation.check(PARAMS, OBJECTIVE)
    assert fault(equation, PARAMS) is None
    gradient, state = OBJECTIVE.gradient(PARAMS), equation.init(PARAMS)
    step = equation.velocity(jnp.zeros(()), state, gradient).params
    with jax.numpy_dtype_promotion("standard"):
        expected = equation.twin().update(gradient, equation.twin().init(PARAMS), PARAMS)[0]
    np.testing.assert_allclose(0.05 * step["w"], expected["w"], rtol=1e-12)


@pytest.mark.slow
def test_remainder_on_the_parameters():
    assert "does not vanish" in modified(from_optax(contrib.muon, 0.05)).remainder_on(PARAMS)
    assert modified(from_optax(rated, 0.05)).remainder_on(PARAMS).startswith("O(h^2)")


def branch(learning_rate):
    return optax.sgd(learning_rate if learning_rate > 0 else 0.0)


REASONS = {
    "unlike": (lambda learning_rate: optax.adamw(learning_rate, mask={"u": True}), "on these it fails"),
    "noisy": (lambda learning_rate: optax.noisy_sgd(learning_rate, key=0), "Isotropic"),
    "private": (lambda learning_rate: contrib.dpsgd(learning_rate, 1.0, 0.1, 0), "Isotropic"),
    "lbfgs": (optax.lbfgs, "no more than the gradient"),
    "flags": (lambda learning_rate: optax.apply_if_finite(optax.sgd(learning_rate), 3), "real numbers"),
    "nans": (around(optax.zero_nans()), "real numbers"),
    "optimistic": (optax.optimistic_adam_v2, "real numbers"),
    "branch": (branch, "traced"),
    "opaque": (lambda learning_rate: SAM(optax.sgd(learning_rate), optax.sgd(0.1)), "no more than"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*seed")
@pytest.mark.parametrize("name", REASONS)
def test_one_reason(name):
    factory, words = REASONS[name]
    with pytest.raises(ValueError, match=words) as caught:
        from_optax(factory, 0.05).check(PARAMS, OBJECTIVE)
    others = ["Isotropic", "no more than", "real numbers", "traced", "on these it fails"]
    assert [other for other in others if other in str(caught.value)] == [
        next(other for other in others if other in words)
    ]
    assert ("equations.SAM" in str(caught.value)) == (name == "opaque")
    guards = {"flags": "apply_if_finite", "nans": "zero_nans"}  # of which each is told to who has it
    assert [g for g in guards.values() if g in str(caught.value)] == [g for n, g in guards.items() if n == name]


INSTEAD = {
    "sam": (lambda: from_optax(contrib.sam, 0.05, 2), ValueError, "take learning_rate, .* use equations.SAM"),
    "a part of sam": (lambda: from_optax(SAM, 0.05, 2), ValueError, "take learning_rate, .* use equations.SAM"),
    "a sam": (lambda: from_optax(contrib.sam(optax.sgd(0.1), optax.sgd(0.1)), 0.05, 2), TypeError, "use equations.SAM"),
    "a transformation": (lambda: from_optax(optax.sgd(0.1), 0.05, 2), TypeError, "give the function of `learning_rate`"),
    "optimistic": (lambda: from_optax(optax.optimistic_gradient_descent, 0.05, 2), ValueError, "OptimisticGradient is"),
    "optimistic_adam": (lambda: from_optax(optax.optimistic_adam_v2, 0.05, 2), ValueError, "OptimisticGradient is"),
    "lookahead": (
        lambda: from_optax(lambda learning_rate: optax.lookahead(optax.sgd(learning_rate), 5, 0.5), 0.05, 2), ValueError,
        "optax.lookahead is one of pairs",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", INSTEAD)
def test_what_to_take_instead(name):
    call, error, words = INSTEAD[name]
    with pytest.raises(error, match=f"Argument `factory` must .*{words}") as caught:
        call()
    assert "`train` runs" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adabelief", "acprop"])
def test_moments_about_a_mean_stay_positive(name):
    factory = {"adabelief": optax.adabelief, "acprop": contrib.acprop}[name]
    objective = Objective(lambda w, x: 0.5 * jnp.sum((w - x) ** 2), jnp.array([1.0, -1.0, 0.5, 0.2]))
    result = solve(
        from_optax(factory, 0.05, 2), objective, jnp.array([1.0, -0.8]), steps=16, key=jax.random.key(0), paths=64
    )
    assert np.all(result.ok)


RATES = np.array([0.1, 0.05, 0.025, 0.0125])
GROWING = {
    "growing": [1.0, 2.1, 3.9, 8.0],
    "overflow": [1.0, 1e200, np.inf, np.nan],
    "faster": [0.1, 0.3, 1e3, 1e9],
    "jump": [1.0, 1e5, 1e5, 1e5],
    "dip": [1.0, 1e5, 5e4, 1.1e5],
    "infinite": [np.inf] * 4,
    "noisy": [1.0, 10.0, 100.0, 1000.0],
}


def judged(errors, bars=0.0):
    zero, errors = np.zeros(4), np.array(errors)
    return sweep(RATES, Estimate(errors, bars * np.ones(4) * np.nan_to_num(errors)), Estimate(zero, zero), zero, 1.0)


@pytest.mark.parametrize("name", GROWING)
def test_growing_errors_fail(name):
    assert judged(GROWING[name], bars=0.3 if name == "noisy" else 0.0).verdict == "fails"


def test_growth_that_says_nothing(monkeypatch):
    """Less than twofold, an error that goes through 0 at a large rate, and what error bars cover."""
    faster = [1.0, 1.01, 1.1, 1.8]
    assert judged(faster).verdict == "cannot tell"
    assert judged([0.01, 0.5, 0.25, 0.125]).verdict == "cannot tell"
    assert judged([1.0, 3.0, 2.2, 2.1], bars=0.25).verdict == "cannot tell"
    monkeypatch.setattr(_order_fit, "GROWTH", 1.0)
    assert judged(faster).verdict == "fails"  # the mutant


def test_falling_errors_are_judged_as_before():
    assert judged(RATES).verdict == "holds" and judged(RATES**0.2).verdict == "fails"
    assert judged([np.nan] * 4).verdict == "cannot tell" and judged([np.inf, 1.0, 0.5, 0.25]).verdict == "holds"
