"""Wrong arguments of equations and dynamics: refused before anything is compiled, by name, with the value given."""

import types

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dynamics._integrate
import dynamics._train
from dynamics import Strang, minibatches, solve, train
from equations import SGD, AbstractDynamics, Adam, Momentum, Objective, Oja

X, Y = np.arange(6.0).reshape(3, 2), np.array([1.0, 0.0, 2.0])
W = np.zeros(2)
KEY = jax.random.key(0)


def loss(w, example):
    x, y = example
    return 0.5 * (jnp.dot(x, w) - y) ** 2


GOOD = Objective(loss, (X, Y))


class Still(AbstractDynamics):
    def drift(self, t, state, signal):
        return 0 * state


@pytest.fixture(autouse=True)
def nothing_compiled(monkeypatch):
    """Whatever is jitted in `solve` and `train` must not be reached. (Type checks at run time are off, as for a user.)"""
    wrapper = type(eqx.filter_jit(lambda: None))
    for module in (dynamics._integrate, dynamics._train):
        jitted = [name for name, value in vars(module).items() if isinstance(value, wrapper)]
        assert jitted
        for name in jitted:
            monkeypatch.setattr(module, name, reached)


class Reached(Exception):
    """Arguments passed, and a compilation would have begun."""


def reached(*args, **kwargs):
    raise Reached


def run(function, **changes):
    """`solve` or `train` on good arguments but for the changes."""
    arguments = {"equation": SGD(0.1, 2), "objective": GOOD, "params": W, "steps": 4, "key": KEY} | changes
    return function(
        arguments.pop("equation"), arguments.pop("objective"), arguments.pop("params"), **arguments
    )  # fmt: skip


def check(call, error, *words):
    """The error, of this very type, with all words in its message: the argument's name, the value, what is allowed."""
    with pytest.raises(error) as found:
        call()
    assert type(found.value) is error
    for word in words:
        assert word in str(found.value), f"{word!r} is missing in: {found.value}"


@pytest.mark.parametrize("function", [solve, train])
def test_good_arguments_pass(function):
    """So that each refusal below has one reason."""
    with pytest.raises(Reached):
        run(function)
    with pytest.raises(Reached):
        run(function, equation=SGD(0.1), key=None, paths=2, save_every=2, observe={"w": lambda w: w})
    with pytest.raises(Reached):
        run(function, equation=SGD(np.float32(0.1), np.int64(3), "shuffled"), steps=np.int32(4), params={"w": 1.0},
            objective=Objective(lambda p, x: p["w"] * x, Y))  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# Equations


@pytest.mark.parametrize("value", [0, 0.0, -0.1, np.nan, np.inf, -np.inf, np.float32(-1), jnp.array(0.0)])
def test_learning_rate_of_the_wrong_value(value):
    for equation in (SGD, Momentum, Adam):
        check(lambda e=equation: e(value), ValueError, "`learning_rate`", "positive finite", repr(float(value)))


@pytest.mark.parametrize(
    "value",
    ["fast", None, True, 1j, [0.1], np.array([0.1]), np.bool_(True), KEY, lambda k: 0.1, np.array(True), jnp.array(True),
     np.array("0.1"), np.array("abc"), np.timedelta64(3), np.array(1j), np.array(None)],
)  # fmt: skip
def test_learning_rate_that_is_no_number(value):
    check(lambda: SGD(value), TypeError, "`learning_rate`", "positive finite", repr(value))


def test_learning_rate_of_too_many_digits():
    for value in (10**400, -(10**5000)):
        check(lambda v=value: SGD(v), ValueError, "`learning_rate`", "positive finite", "beyond float64")
    for value in (1, np.int32(1), np.array(1), jnp.float32(1), jnp.array(1), np.float16(1)):  # these are numbers
        assert SGD(value).learning_rate == 1


@pytest.mark.parametrize("value", [2.0, "4", True, np.array([2]), 1.5])
def test_batch_size_that_is_no_integer(value):
    check(lambda: SGD(0.1, value), TypeError, "`batch_size`", "integer of at least 1", "or None", repr(value))


@pytest.mark.parametrize("value", [0, -3])
def test_batch_size_below_one(value):
    check(lambda: Adam(0.1, value), ValueError, "`batch_size`", "at least 1", repr(value))


@pytest.mark.parametrize("function", [solve, train])
@pytest.mark.parametrize("sampling", ["without_replacement", "shuffled"])
def test_batch_size_above_the_data(function, sampling):
    check(
        lambda: run(function, equation=SGD(0.1, 4, sampling)), ValueError, "`batch_size`", "at most", "3", "4", sampling
    )
    with pytest.raises(Reached):  # with replacement there is no bound
        run(function, equation=SGD(0.1, 4))


@pytest.mark.parametrize("value", ["bootstrap", None, 3, ["with_replacement"]])
def test_sampling(value):
    check(
        lambda: SGD(0.1, 2, value), ValueError, "`sampling`", "'with_replacement', 'without_replacement'", repr(value)
    )


@pytest.mark.parametrize(
    ("equation", "name"), [(Momentum, "momentum"), (Adam, "b1"), (Adam, "b2"), (Adam, "eps"), (Adam, "eps_root")]
)
def test_other_hyperparameters(equation, name):
    for value in (-0.1, np.nan, np.inf) + ((1.0, 1.5) if "eps" not in name else ()):
        check(lambda v=value: equation(0.1, **{name: v}), ValueError, f"`{name}`", repr(float(value)))
    check(lambda: equation(0.1, **{name: "much"}), TypeError, f"`{name}`", "'much'")


# ---------------------------------------------------------------------------------------------------------------------
# Objective and data


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        ((X, Y[:2]), ValueError, ["same number of examples", "`data[0]` has 3", "`data[1]` has 2"]),
        ({"x": X, "y": Y[:1]}, ValueError, ["`data['x']` has 3", "`data['y']` has 1"]),
        (X[:0], ValueError, ["at least one example", "length 0"]),
        ((), ValueError, ["at least one array", "()"]),
        (None, ValueError, ["at least one array", "None"]),
        ((X, 3.0), TypeError, ["leading axis", "`data[1]`", "3.0"]),
        ((X, "names"), TypeError, ["`data[1]`", "'names'"]),
        ((X, np.array([1.0, np.nan, 0.0])), ValueError, ["finite", "`data[1]`", "NaN"]),
        ({"x": np.array([np.inf, 0.0])}, ValueError, ["finite", "`data['x']`"]),
        ((X, jax.random.split(KEY, 3)), TypeError, ["plain arrays of numbers", "`data[1]`", "key"]),
        ((X, np.ma.array(Y, mask=[0, 1, 0])), TypeError, ["plain arrays of numbers", "`data[1]`", "masked"]),
        ((X, np.array([1, 2, 3], "m8[s]")), TypeError, ["numbers", "`data[1]`", "timedelta64[s]"]),
    ],
)
def test_data(data, error, words):
    for signal in (lambda: Objective(loss, data), lambda: Oja(data)):
        check(signal, error, "`data`", *words)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.array([0.0, 1e300, 1e301]), ["fit float32", "1e+300"]),
        (np.array([0, 2**40, 1]), ["fit int32", "1099511627776"]),
        (np.array([0, 2**32 - 1, 2**32], np.uint64), ["fit uint32", "4294967296"]),
        (np.array([1e300j, 0, 0]), ["fit complex64", "1e+300j"]),
    ],
)
def test_data_that_do_not_fit_without_64_bits(values, words):
    with jax.enable_x64(False):
        check(lambda: Objective(loss, {"x": X, "y": values}), ValueError, "`data`", "`data['y']`", *words)
        kept = Objective(loss, np.array([-(2**31), 2**31 - 1])).data  # the largest ones that fit
        np.testing.assert_array_equal(np.asarray(kept), [-(2**31), 2**31 - 1])
    assert Objective(loss, {"x": X, "y": values}).data["y"][1] == values[1]


@pytest.mark.parametrize("value", [None, 3.0, "square", X])
def test_loss_that_is_not_callable(value):
    check(lambda: Objective(value, (X, Y)), TypeError, "`loss`", "callable", repr(value))


@pytest.mark.parametrize("function", [solve, train])
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda w, example: example[0] * w, ["one real floating-point number", "shape=(2,)"]),
        (lambda w, example: (w.sum(), w.sum()), ["one real floating-point number"]),
        (lambda w, example: None, ["one real floating-point number", "None"]),
        (lambda w, example: jnp.sum(w > 0), ["one real floating-point number", "int"]),
        (lambda w, example: jnp.sum(w) * (1 + 1j), ["complex"]),
        (lambda w, example: jnp.dot(jnp.ones(5), w), ["does not fit", "`data`"]),
        (lambda w: jnp.sum(w), ["does not fit"]),
        (lambda w, example: w["layer"], ["does not fit"]),
    ],
)
def test_loss_that_does_not_fit(function, wrong, words):
    check(lambda: run(function, objective=Objective(wrong, (X, Y))), ValueError, "`loss`", "`params`", *words)


@pytest.mark.parametrize("function", [solve, train])
def test_a_signal_that_does_not_fit(function):
    check(lambda: run(function, objective=Oja(X), params=np.zeros(5)), ValueError, "`objective`", "`params`")


@pytest.mark.parametrize("function", [solve, train])
@pytest.mark.parametrize("value", [None, loss, X, Objective])
def test_objective_that_is_no_signal(function, value):
    check(lambda: run(function, objective=value), TypeError, "`objective`", "signal", repr(value))


# ---------------------------------------------------------------------------------------------------------------------
# Parameters


@pytest.mark.parametrize("function", [solve, train])
@pytest.mark.parametrize(
    ("params", "error", "words"),
    [
        (np.zeros(2, int), TypeError, ["float32 or float64", "int64"]),
        ({"a": W, "b": np.array([True])}, TypeError, ["`params['b']`", "bool"]),
        (jnp.zeros(2, jnp.float16), TypeError, ["float16"]),
        (W * 1j, TypeError, ["complex128"]),
        (KEY, TypeError, ["key"]),
        (np.array([0.0, np.nan]), ValueError, ["finite", "NaN"]),
        ([W, np.array([np.inf])], ValueError, ["finite", "`params[1]`"]),
        (np.nan, ValueError, ["finite"]),
        ({}, TypeError, ["at least one floating-point array", "{}"]),
        (None, TypeError, ["at least one floating-point array", "None"]),
        ("weights", TypeError, ["'weights'"]),
        (3, TypeError, ["3"]),
    ],
)
def test_params(function, params, error, words):
    check(lambda: run(function, params=params), error, "`params`", *words)


# ---------------------------------------------------------------------------------------------------------------------
# The schedule, the key, the observables


@pytest.mark.parametrize("function", [solve, train])
@pytest.mark.parametrize("name", ["steps", "paths", "save_every"])
def test_numbers_of_the_schedule(function, name):
    for value in (2.0, "4", *([] if name == "paths" else [None]), True, np.array([2])):  # None: paths are left out
        check(lambda v=value: run(function, **{name: v}), TypeError, f"`{name}`", "integer", repr(value))
    for value in (0, -2):
        check(lambda v=value: run(function, **{name: v}), ValueError, f"`{name}`", "at least 1", repr(value))


@pytest.mark.parametrize("function", [solve, train])
def test_numbers_that_no_run_can_count(function):
    for value in (2**31, 2**70):
        for name in ("steps", "paths"):
            check(
                lambda n=name, v=value: run(function, **{n: v}),
                ValueError,
                f"`{name}`",
                "at most 2147483647",
                str(value),
            )
        check(lambda v=value: SGD(0.1, v), ValueError, "`batch_size`", "at most 2147483647", str(value))
    with pytest.raises(Reached):
        run(function, steps=2**31 - 1, paths=2**31 - 1, equation=SGD(0.1, 2**31 - 1))


@pytest.mark.parametrize("function", [solve, train])
def test_save_every_divides_steps(function):
    check(lambda: run(function, steps=10, save_every=4), ValueError, "`save_every`", "divide `steps`", "10", "4")
    check(lambda: run(function, steps=10, save_every=20), ValueError, "`save_every`", "divide `steps`", "20")


@pytest.mark.parametrize("function", [solve, train])
def test_a_key_is_needed_where_something_is_random(function):
    for equation in (SGD(0.1, 2), Momentum(0.1, 2, "without_replacement"), Adam(0.1, 1)):
        check(lambda e=equation: run(function, equation=e, key=None), ValueError, "`key`", "random", "None")
    with pytest.raises(Reached):
        run(function, equation=SGD(0.1), key=None)
    shuffled = SGD(0.1, 2, "shuffled")
    if function is train:  # the order of the epochs is random, the equation has no noise
        check(lambda: run(train, equation=shuffled, key=None), ValueError, "`key`", "None")
    else:
        with pytest.raises(Reached):
            run(solve, equation=shuffled, key=None)


@pytest.mark.parametrize("function", [solve, train])
@pytest.mark.parametrize("value", [0, "seed", jax.random.PRNGKey(0), jax.random.split(KEY, 2), np.zeros(2, np.uint32)])
def test_a_key_of_the_wrong_kind(function, value):
    check(lambda: run(function, key=value), TypeError, "`key`", "single typed key", repr(value))
    check(lambda: run(function, equation=SGD(0.1), key=value), TypeError, "`key`")  # also where it is not needed


@pytest.mark.parametrize("function", [solve, train])
@pytest.mark.parametrize("value", [[lambda w: w], "loss", lambda w: w, {1: lambda w: w}])
def test_observe_that_is_no_dict(function, value):
    check(lambda: run(function, observe=value), TypeError, "`observe`", "dict", repr(value))


@pytest.mark.parametrize("function", [solve, train])
@pytest.mark.parametrize(
    ("observable", "error", "words"),
    [
        (3.0, TypeError, ["callables", "3.0"]),
        (lambda w: w.missing, ValueError, ["fails on `params`", "AttributeError", "missing"]),
        (lambda w: w @ jnp.ones(7), ValueError, ["fails on `params`", "TypeError"]),
        (lambda w, state, extra: w, ValueError, ["fails on `params`", "extra"]),
        (lambda w: (w, w), TypeError, ["one array"]),
        (lambda w: None, TypeError, ["one array", "None"]),
        (lambda w: "text", TypeError, ["one array", "text"]),
        (lambda w: jax.lax.complex(w, w), TypeError, ["real numbers", "complex128"]),
    ],
)
def test_observables(function, observable, error, words):
    observe = {"fine": lambda w: w, "culprit": observable}
    check(lambda: run(function, observe=observe), error, "`observe`", "'culprit'", *words)


@pytest.mark.parametrize("function", [solve, train])
def test_observables_under_the_names_of_the_record(function):
    check(lambda: run(function, observe={"step": lambda w: w}), ValueError, "`observe`", "'step'")


# ---------------------------------------------------------------------------------------------------------------------
# What is run, and how


@pytest.mark.parametrize("function", [solve, train])
@pytest.mark.parametrize("value", [None, SGD, "sgd", 0.1, GOOD, types.SimpleNamespace(learning_rate=0.1)])
def test_equation_that_is_none(function, value):
    kind = {solve: "AbstractDynamics", train: "AbstractEquation"}[function]
    check(lambda: run(function, equation=value), TypeError, "`equation`", f"equations.{kind}", repr(value))


def test_train_needs_a_training_algorithm():
    check(lambda: run(train, equation=Still()), TypeError, "`equation`", "AbstractEquation", "Still")


def test_a_twin_that_is_no_optimizer():
    class Twinless(SGD):
        def twin(self):
            return "sgd"

    check(lambda: run(train, equation=Twinless(0.1)), TypeError, "`equation`", "optax.GradientTransformation", "'sgd'")


def test_noise_of_train():
    check(lambda: run(train, noise="laplace"), ValueError, "`noise`", "'minibatch', 'gaussian'", "'laplace'")


def test_the_step_in_time():
    still = {"equation": Still(), "objective": None}
    check(lambda: run(solve, **still), ValueError, "`dt`", "Still", "None")
    check(lambda: run(solve, dt=0.1), ValueError, "`dt`", "SGD", "0.1")
    for value in (0, -1.0, np.nan):
        check(lambda v=value: run(solve, dt=v, **still), ValueError, "`dt`", "positive", repr(float(value)))
    check(lambda: run(solve, dt="long", **still), TypeError, "`dt`", "'long'")


def test_substeps():
    for value in (1.0, "2", True):
        check(lambda v=value: run(solve, substeps=v), TypeError, "`substeps`", "integer", repr(value))
    for value in (0, -1, 129):
        check(lambda v=value: run(solve, substeps=v), ValueError, "`substeps`", "at least 1", repr(value))
    for equation in (Adam(0.1, 2), Adam(0.1, 2, "without_replacement")):
        euler = {"equation": equation, "solver": dfx.Euler(), "substeps": 2}
        check(lambda e=euler: run(solve, **e), ValueError, "`substeps`", "must be 1", "Adam")
    with pytest.raises(Reached):  # one step, or a rule affine in the gradient
        run(solve, equation=Adam(0.1, 2), solver=dfx.Euler())
    with pytest.raises(Reached):
        run(solve, equation=Momentum(0.1, 2), solver=dfx.Euler(), substeps=2)


@pytest.mark.parametrize("name", ["solver", "stepsize_controller", "adjoint", "progress_meter"])
@pytest.mark.parametrize("value", ["fast", 3, dfx.Heun, jnp.zeros(2)])
def test_what_is_passed_to_diffrax(name, value):
    check(lambda: run(solve, **{name: value}), TypeError, f"`{name}`", "diffrax.Abstract", repr(value))


@pytest.mark.parametrize("solver", [dfx.Heun(), dfx.EulerHeun(), dfx.ItoMilstein(), dfx.Tsit5()])
def test_solvers_that_would_solve_another_equation(solver):
    check(lambda: run(solve, solver=solver), ValueError, "`solver`", "Strang()", "Itô", repr(solver))


def test_step_size_control_and_noise():
    controller = dfx.PIDController(rtol=1e-3, atol=1e-3)
    check(
        lambda: run(solve, stepsize_controller=controller),
        ValueError,
        "`stepsize_controller`",
        "noise",
        repr(controller),
    )
    for solver in (dfx.Euler(), Strang()):
        quiet = {"equation": SGD(0.1), "stepsize_controller": controller, "solver": solver}
        check(lambda q=quiet: run(solve, **q), ValueError, "`solver`", "`stepsize_controller`", repr(solver))


def test_a_controller_that_chooses_no_steps():
    controller = dfx.ConstantStepSize()
    for equation in (SGD(0.1), SGD(0.1, 2)):
        wrong = {"equation": equation, "stepsize_controller": controller}
        check(lambda w=wrong: run(solve, **w), ValueError, "`stepsize_controller`", "PIDController", repr(controller))


def test_adjoints_that_do_not_fit():
    check(lambda: run(solve, adjoint=dfx.ImplicitAdjoint()), ValueError, "`adjoint`", "ImplicitAdjoint")
    quiet = {"equation": SGD(0.1), "adjoint": dfx.BacksolveAdjoint()}
    controller = dfx.PIDController(rtol=1e-3, atol=1e-3)
    check(
        lambda: run(solve, stepsize_controller=controller, **quiet),
        ValueError, "`adjoint`", "`stepsize_controller`", "BacksolveAdjoint",
    )  # fmt: skip
    with pytest.raises(Reached):
        run(solve, **quiet)


def test_strang():
    for flow in (dfx.Kvaerno3(), "heun", None):
        check(lambda f=flow: Strang(flow=f), ValueError, "`flow`", "explicit", repr(flow))
    for kicks in (0, 3, "one"):
        check(lambda k=kicks: Strang(kicks=k), ValueError, "`kicks`", "1, 2 or None", repr(kicks))


def test_minibatches():
    good = {"equation": SGD(0.1, 2), "objective": GOOD, "steps": 3, "key": KEY}

    def wrong(error, *words, **changes):
        arguments = good | changes
        check(lambda: minibatches(arguments.pop("equation"), arguments.pop("objective"), **arguments), error, *words)

    wrong(TypeError, "`batch_size`", "None", equation=SGD(0.1))
    wrong(TypeError, "`equation`", "3", equation=3)
    wrong(TypeError, "`objective`", "None", objective=None)
    wrong(ValueError, "`batch_size`", "at most", "3", "4", equation=SGD(0.1, 4, "shuffled"))
    wrong(ValueError, "`steps`", "0", steps=0)
    wrong(ValueError, "`steps`", "at most", str(2**31), steps=2**31)
    wrong(ValueError, "`path`", "at most", str(2**40), path=2**40)
    wrong(ValueError, "`path`", "-1", path=-1)
    wrong(ValueError, "`key`", "None", key=None)


# ---------------------------------------------------------------------------------------------------------------------
# Inside a trace: shapes and types at once, values when the program runs


def check_traced(function, bad, good, *words):
    jitted = eqx.filter_jit(function)  # which, unlike jax.jit, reports an error of the run as such
    jax.block_until_ready(jitted(jnp.asarray(good)))
    with pytest.raises(eqx.EquinoxRuntimeError) as found:
        jax.block_until_ready(jitted(jnp.asarray(bad)))
    for word in words:
        assert word in str(found.value)


def test_traced_values_of_an_equation():
    check_traced(lambda x: SGD(x).learning_rate, -1.0, 1.0, "`learning_rate`", "positive finite")
    check_traced(lambda x: Adam(0.1, b2=x).b2, 1.0, 0.5, "`b2`", "including, 1")
    check(lambda: jax.jit(lambda x: SGD(x).learning_rate)(jnp.ones(2)), TypeError, "`learning_rate`", "(2,)")
    check(lambda: jax.jit(lambda x: SGD(x).learning_rate)(1), TypeError, "`learning_rate`", "int")


def test_traced_data():
    check_traced(lambda x: Objective(loss, (x, Y)).value(W), X + np.nan, X, "`data`", "`data[0]`", "finite")
    check(lambda: jax.jit(lambda x: Objective(loss, (x, Y)).value(W))(X[:2]), ValueError, "`data`", "has 2", "has 3")


@pytest.mark.parametrize("function", [solve, train])
def test_traced_params(function, monkeypatch):
    monkeypatch.undo()  # this one is meant to be compiled

    def final(w):
        return run(function, equation=SGD(0.1), params=w, key=None).final

    check_traced(final, jnp.array([0.0, np.nan]), jnp.zeros(2), "`params`", "finite")
    check(lambda: jax.jit(final)(jnp.zeros(2, int)), TypeError, "`params`", "int64")
