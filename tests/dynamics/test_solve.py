"""`solve` and `train` as a user meets them: what is recorded, what is exact, and what one path may do to another."""

import functools

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optax
import pytest
import xarray as xr
from jaxtyping import Array
from oracles import LinearRegression, mlp, squared_error, within

from dynamics import Strang, Trajectory, solve, train
from dynamics._paths.record import is_ok
from equations import SGD, AbstractDynamics, AbstractEquation, Adam, Momentum, Objective, Splitting

PROBLEM = LinearRegression(examples=12)
LARGE = LinearRegression(examples=130)  # more normals per kick than a block of noise holds
OBSERVE = {"w": lambda w: w}
FAST = dfx.ForwardMode()  # compiles faster than the default, where nothing is differentiated
quickly = functools.partial(solve, adjoint=FAST)
ADAM = Adam(learning_rate=0.05, batch_size=4)

# As in the documentation, where what it says of `compare` is run.
SNIPPET = """
import jax, jax.numpy as jnp
from equations import Objective, SGD
from dynamics import solve, train
from validation import compare

def loss(w, example):                                   # one example
    x, y = example
    return 0.5 * (jnp.dot(x, w) - y) ** 2

objective = Objective(loss, (X, Y))                     # X (N, d), Y (N,)
sgd = SGD(learning_rate=0.05, batch_size=4)
observe = {"w": lambda w: w, "loss": objective.value}
key = jax.random.key(0)
flow = solve(sgd, objective, w0, steps=200, key=key, paths=512, observe=observe, save_every=10)
run = train(sgd, objective, w0, steps=200, key=key, paths=512, observe=observe, save_every=10)
flow.steps, flow.times                                  # (21,), step 0 included; times = 0.05 * steps
flow.observables["w"]                                   # (512, 21, d)
flow.ok, flow.failed_at                                 # (512,)
flow.to_xarray()                                        # dims path, step
"""


def test_the_snippet_of_the_contract():
    scope = {"X": PROBLEM.x, "Y": PROBLEM.y, "w0": PROBLEM.start}
    exec(SNIPPET, scope)
    for run in (scope["flow"], scope["run"]):
        np.testing.assert_array_equal(run.steps, np.arange(0, 201, 10))
        np.testing.assert_allclose(run.times, 0.05 * np.arange(0, 201, 10), rtol=1e-15)
        assert run.observables["w"].shape == (512, 21, 3) and run.observables["loss"].shape == (512, 21)
        assert run.ok.shape == run.failed_at.shape == (512,) and np.all(run.ok) and np.all(run.failed_at == -1)
        assert run.final.shape == (512, 3)
        np.testing.assert_array_equal(run.observables["w"][:, 0], np.tile(PROBLEM.start, (512, 1)))
        np.testing.assert_array_equal(run.observables["w"][:, -1], run.final)
        assert run.to_xarray()["w"].dims == ("path", "step", "w_axis_0")
        loss = [scope["objective"].value(w) for w in run.final[:3]]
        np.testing.assert_allclose(run.observables["loss"][:3, -1], loss, rtol=1e-12)


# ---------------------------------------------------------------------------------------------------------------------
# Dynamics whose answers can be counted


class Wiener(AbstractDynamics):
    """dX = dW, `size` independent components."""

    def drift(self, t, state, signal):
        return jnp.zeros_like(state)

    def diffusion(self, t, state, signal):
        return lx.DiagonalLinearOperator(jnp.ones_like(state))


class Counter(AbstractDynamics):
    """Adds dt by the flow and dt by every kick, which asks for `normals` random numbers; with none there is no kick."""

    normals: int = eqx.field(static=True, default=1)

    def drift(self, t, state, signal):
        return (2.0 if self.normals else 1.0) * jnp.ones_like(state)

    def splitting(self):
        return Counting(self)


class OneKick(Splitting):
    kicks = 1


class Counting(OneKick):
    def flow(self, t, state, signal):
        return jnp.ones_like(state)

    def noise(self, state, signal, kicks_per_step):
        return jax.ShapeDtypeStruct((self.dynamics.normals,), state.dtype) if self.dynamics.normals else None

    def kick(self, t, state, signal, noise, dt):
        return jnp.zeros_like(state) if noise is None else dt * jnp.ones_like(state)


class Fragile(AbstractDynamics):
    """dX = -0.1 X dt + dW up to the threshold, where noise or drift becomes too large for any number."""

    threshold: Array
    by: str = eqx.field(static=True)

    def _burst(self, state, by):
        return jnp.where((state > self.threshold) & (self.by == by), 1e300, 0.0)

    def drift(self, t, state, signal):
        return jnp.zeros_like(state) if self.by == "noise" else self._burst(state, "drift") - 0.1 * state

    def diffusion(self, t, state, signal):
        return lx.DiagonalLinearOperator(1.0 + self._burst(state, "noise"))

    def splitting(self):
        return OneKick(self)


class Power(AbstractDynamics):
    """dX/dt = X^2, which from X(0) = 1 leaves every bound at t = 1: X = 1/(1 - t)."""

    def drift(self, t, state, signal):
        return state**2


@pytest.mark.parametrize(
    ("normals", "solver", "per_step"),
    [(0, dfx.Euler(), 1), (0, None, 1), (1, None, 2), (200, None, 2), (1, dfx.Euler(), 2)],
)
def test_exactly_so_many_steps(normals, solver, per_step, key):
    """A float32 clock that adds 1e5 times loses steps near its end. (A float32 counts exactly up to 1.6e7.)"""
    steps = 100_000 if normals < 100 else 10_010  # one more than a call of Diffrax makes, and not a multiple of it
    flow = quickly(
        Counter(normals), None, jnp.float32(0), steps=steps, dt=1.0, key=key, save_every=steps, solver=solver,
        observe={"x": lambda x: x},
    )  # fmt: skip
    assert flow.final.dtype == jnp.float32 and bool(flow.ok[0])
    assert float(flow.final[0]) == per_step * steps


@pytest.mark.slow
@pytest.mark.parametrize("normals", [0, 1])
def test_a_million_float32_steps(normals, key):
    flow = solve(Counter(normals), None, jnp.float32(0), steps=10**6, dt=1.0, key=key, save_every=10**6)
    assert float(flow.final[0]) == (1 + normals) * 10**6


@pytest.mark.slow
def test_intervals_that_fit_no_block_of_noise(key):
    flow = quickly(Counter(7), None, 0.0, steps=20 * 97, dt=0.5, key=key, save_every=97, observe={"x": lambda x: x})
    np.testing.assert_array_equal(flow.observables["x"][0], np.arange(21) * 97)
    np.testing.assert_array_equal(flow.times, np.arange(21) * 97 * 0.5)


# ---------------------------------------------------------------------------------------------------------------------
# The same key, the same Brownian motion


@pytest.mark.slow
@pytest.mark.parametrize(("size", "settings"), [(3, [(12, 4)]), (200, [(6, 2)])])
def test_brownian_motion_does_not_depend_on_how_it_is_looked_at(size, settings, key):
    """Neither on the records nor on the substeps; in blocks (3 numbers per step) and step by step (200)."""

    def run(save_every, substeps):
        flow = solve(
            Wiener(), None, jnp.zeros(size), steps=48, dt=0.25, key=key, paths=2, save_every=save_every,
            substeps=substeps, observe=OBSERVE, adjoint=FAST,
        )  # fmt: skip
        return np.asarray(flow.observables["w"])

    every = run(1, 1)
    for save_every, substeps in settings:
        np.testing.assert_allclose(run(save_every, substeps), every[:, ::save_every], rtol=1e-12, atol=1e-13)
    increments = np.diff(every, axis=1) / 0.5  # independent and standard, by three moments
    products = increments[:, 1:] * increments[:, :-1]
    for values, mean in ((increments, 0), (increments**2, 1), (products, 0)):
        assert abs(values.mean() - mean) < 4 * values.std() / values.size**0.5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("problem", "equation", "save_every"),
    [(PROBLEM, ADAM, 1)]
    + [pytest.param(problem, SGD(0.05, 4), 7, marks=pytest.mark.slow) for problem in (PROBLEM, LARGE)],
)
def test_records_do_not_change_a_path(problem, equation, save_every, key):
    """For the default solver, in blocks of noise (12 examples) and step by step (130), and with a first step of its own.

    Merged half flows would, if they merged between two records only: by the flow's error, 1e-6 to 1e-4 here.
    """

    def run(save_every):
        flow = solve(
            equation, problem.objective, problem.start, steps=21, key=key, paths=2, observe=OBSERVE,
            save_every=save_every, adjoint=FAST,
        )  # fmt: skip
        return flow.observables["w"], flow.final

    (few, final), (many, same) = run(21), run(save_every)
    np.testing.assert_allclose(many[:, :: 21 // save_every], few, rtol=0, atol=1e-12)
    np.testing.assert_allclose(same, final, rtol=0, atol=1e-12)
    assert np.abs(few[:, 1] - few[:, 0]).min() > 1e-2


@pytest.mark.slow
def test_substeps_refine_the_same_path(key):
    """Pathwise: the distance of one and four substeps from two falls with the learning rate.

    The increments over a training step are shared and what happens within one is not, so that the distance is bounded by
    the training step and not by the substep; another key is far away.
    """

    def run(substeps, rate, key=key):
        flow = solve(SGD(rate, 4), PROBLEM.objective, PROBLEM.start, steps=8, key=key, paths=64, substeps=substeps,
                     save_every=8, observe=OBSERVE, adjoint=FAST)  # fmt: skip
        return np.asarray(flow.final)

    distances = []
    for rate in (0.1, 0.025):
        one, two, four = (run(substeps, rate) for substeps in (1, 2, 4))
        spread = np.sqrt(np.mean((two - run(2, rate, jax.random.key(1))) ** 2))
        distances.append([np.sqrt(np.mean((other - two) ** 2)) / spread for other in (one, four)])
    print(f"\ndistance of 1 and 4 substeps from 2, over that of another key: {distances}")
    coarse, fine = np.array(distances)
    assert np.all(coarse < 0.2)
    assert np.all(fine < coarse / 2)


@pytest.mark.slow
@pytest.mark.parametrize("run", [solve, train])
def test_a_path_does_not_depend_on_their_number(run, key):
    arguments = {"steps": 8, "key": key, "observe": OBSERVE} | ({"solver": dfx.Euler()} if run is solve else {})
    few = run(SGD(0.05, 4), PROBLEM.objective, PROBLEM.start, paths=2, **arguments).observables["w"]
    many = run(SGD(0.05, 4), PROBLEM.objective, PROBLEM.start, paths=5, **arguments).observables["w"]
    np.testing.assert_allclose(few, many[:2], rtol=1e-13)
    assert np.unique(np.round(many[:, -1, 0], 6)).size == 5


# ---------------------------------------------------------------------------------------------------------------------
# Divergence


def check_frozen(calm, broken, every, crossed, save_every):
    """`crossed`: step at which a path first lies beyond the threshold, so that the next step breaks it; -1: never."""
    steps = calm.steps[-1]
    expected = np.where((crossed >= 0) & (crossed < steps), crossed + 1, -1)
    assert 0 < np.sum(expected > 0) < len(expected)  # some and not all
    assert len(set(expected)) > 2
    np.testing.assert_array_equal(broken.failed_at, expected)
    np.testing.assert_array_equal(broken.ok, expected < 0)
    assert np.all(calm.ok)
    for path, failed in enumerate(expected):
        records = np.asarray(broken.observables["w"][path])
        before = np.asarray(calm.observables["w"][path])
        if failed < 0:
            np.testing.assert_array_equal(records, before)  # to the last bit
            np.testing.assert_array_equal(broken.final[path], calm.final[path])
        else:
            last = (failed - 1) // save_every
            np.testing.assert_array_equal(records[: last + 1], before[: last + 1])
            np.testing.assert_array_equal(records[last:], np.broadcast_to(records[last], records[last:].shape))
            np.testing.assert_array_equal(broken.final[path], records[last])


def first_crossing(values, threshold):
    beyond = np.asarray(values) > threshold
    return np.where(beyond.any(1), beyond.argmax(1), -1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("by", "solver", "save_every"), [("noise", None, 1), ("noise", None, 6), ("drift", dfx.Euler(), 6)]
)
def test_a_diverged_path_is_frozen_and_alone(by, solver, save_every, key):
    arguments = {"steps": 24, "dt": 0.25, "key": key, "paths": 12, "solver": solver, "observe": OBSERVE}
    every = quickly(Fragile(jnp.asarray(1e30), by), None, 0.0, save_every=1, **arguments)
    calm = quickly(Fragile(jnp.asarray(1e30), by), None, 0.0, save_every=save_every, **arguments)
    broken = quickly(Fragile(jnp.asarray(2.0), by), None, 0.0, save_every=save_every, **arguments)
    check_frozen(calm, broken, every, first_crossing(every.observables["w"], 2.0), save_every)


def cliff(w, example):
    """A square, and beyond the edge a slope that no step survives."""
    x, edge = example
    return 0.5 * (w - x) ** 2 + jnp.where(w > edge, 1e200, 0.0) * w


@pytest.mark.slow
@pytest.mark.parametrize("save_every", [1, 6])
def test_a_diverged_run_of_training_too(save_every, key):
    x = np.random.default_rng(0).normal(size=10)
    arguments = {"steps": 24, "key": key, "paths": 12, "observe": OBSERVE}
    sgd, far, near = SGD(0.3, 2), np.full(10, 1e30), np.full(10, 0.35)
    every = train(sgd, Objective(cliff, (x, far)), 0.0, save_every=1, **arguments)
    calm = train(sgd, Objective(cliff, (x, far)), 0.0, save_every=save_every, **arguments)
    broken = train(sgd, Objective(cliff, (x, near)), 0.0, save_every=save_every, **arguments)
    check_frozen(calm, broken, every, first_crossing(every.observables["w"], 0.35), save_every)


@pytest.mark.slow
def test_a_solution_that_ends_in_finite_time():
    """Constant steps and adaptive ones: flagged in the step that holds t = 1, true before it, finite after it."""
    arguments = {"steps": 30, "dt": 0.1, "observe": OBSERVE, "save_every": 2, "paths": 2}
    fixed = solve(Power(), None, 1.0, **arguments)
    adaptive = solve(Power(), None, 1.0, stepsize_controller=dfx.PIDController(rtol=1e-10, atol=1e-10), **arguments)
    truth = 1 / (1 - 0.2 * np.arange(5))
    np.testing.assert_allclose(adaptive.observables["w"][0, :5], truth, rtol=1e-8)
    np.testing.assert_allclose(fixed.observables["w"][0, :4], truth[:4], rtol=1e-3)
    for flow in (fixed, adaptive):
        assert not np.any(flow.ok) and np.all(np.isfinite(flow.observables["w"])) and np.all(np.isfinite(flow.final))
    np.testing.assert_array_equal(adaptive.failed_at, [10, 10])
    np.testing.assert_array_equal(adaptive.observables["w"][:, 5:], adaptive.observables["w"][:, 4:5].repeat(11, 1))
    last = (int(fixed.failed_at[0]) - 1) // 2
    assert 5 <= last <= 6  # explicit steps jump over the pole, and overflow soon after
    np.testing.assert_array_equal(fixed.observables["w"][:, last:], fixed.final[:, None].repeat(16 - last, 1))


# ---------------------------------------------------------------------------------------------------------------------
# Transformations


def final_mean(rate, start, **arguments):
    flow = solve(SGD(rate, 4), PROBLEM.objective, start, steps=4, key=jax.random.key(0), paths=3, save_every=2,
                 observe=OBSERVE, **arguments)  # fmt: skip
    return jnp.sum(flow.observables["w"][:, -1] ** 2) + jnp.sum(flow.final)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_derivatives_of_a_run(mode):
    """By the learning rate and by the start, against central differences."""
    start = jnp.asarray(PROBLEM.start)
    value = functools.partial(final_mean, adjoint=FAST)
    derivative = jax.grad(final_mean, (0, 1)) if mode == "reverse" else jax.jacfwd(value, (0, 1))
    by_rate, by_start = jax.jit(derivative)(jnp.asarray(0.1), start)
    h = 1e-5
    difference = (value(0.1 + h, start) - value(0.1 - h, start)) / (2 * h)
    np.testing.assert_allclose(by_rate, difference, rtol=1e-6)
    unit = jnp.array([1.0, -2.0, 0.5])
    difference = (value(0.1, start + h * unit) - value(0.1, start - h * unit)) / (2 * h)
    np.testing.assert_allclose(by_start @ unit, difference, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("run", [solve, train])
def test_under_jit_and_vmap_over_learning_rates(run, key):
    rates = jnp.array([0.02, 0.05, 0.1])

    def final(rate):
        flow = run(SGD(rate, 4), PROBLEM.objective, PROBLEM.start, steps=4, key=key, paths=2, save_every=4)
        return flow.final, flow.times, flow.ok

    together, times, ok = jax.jit(jax.vmap(final))(rates)
    np.testing.assert_allclose(together, [final(float(rate))[0] for rate in rates], rtol=1e-12)
    np.testing.assert_allclose(times, 4 * np.asarray(rates)[:, None] * [0, 1], rtol=1e-15)
    assert ok.shape == (3, 2) and np.all(ok)


# ---------------------------------------------------------------------------------------------------------------------
# Parameters and observables of every kind


@pytest.mark.slow
@pytest.mark.parametrize("run", [pytest.param(solve, marks=pytest.mark.slow), train])
def test_a_raw_network(run, key):
    network = mlp(key, (3, 4, 2))
    objective = Objective(lambda network, example: jnp.sum((network(example[0]) - example[1]) ** 2),
                          (PROBLEM.x, PROBLEM.x[:, :2]))  # fmt: skip
    flow = run(Momentum(0.05, 4), objective, network, steps=4, key=key, paths=2, observe={"loss": objective.value},
               save_every=2)  # fmt: skip
    assert isinstance(flow.final, eqx.nn.MLP) and flow.final.layers[0].weight.shape == (2, 4, 3)
    assert flow.final.activation is network.activation
    second = jax.tree.map(lambda leaf: leaf[1] if eqx.is_array(leaf) else leaf, flow.final)
    np.testing.assert_allclose(objective.value(second), flow.observables["loss"][1, -1], rtol=1e-12)


def half_square(w, example):
    return 0.5 * (w["a"] - example) ** 2 + 0.5 * w["b"] ** 2


@pytest.mark.parametrize("run", [pytest.param(solve, marks=pytest.mark.slow), train])
def test_python_floats_and_no_observables(run, key):
    objective = Objective(half_square, np.array([1.0, 3.0, 2.0]))
    plain = run(SGD(0.5), objective, {"a": 0.0, "b": 1.0}, steps=3, paths=2, observe=None)
    assert plain.observables == {} and plain.to_xarray().sizes["step"] == 4
    rate = {solve: np.exp(-1.5), train: 0.5**3}[run]
    for path in range(2):  # without noise all paths are the same, and the leading axis is there
        np.testing.assert_allclose(plain.final["a"][path], 2 - 2 * rate, rtol=1e-5)
        np.testing.assert_allclose(plain.final["b"][path], rate, rtol=1e-4)
    noisy = run(SGD(0.5, 1), objective, {"a": 0.0, "b": 1.0}, steps=3, key=key, observe={})
    assert noisy.observables == {} and noisy.final["a"].shape == (1,)


@pytest.mark.slow
def test_noise_free_paths_are_solved_once(key):
    """A key is allowed and does nothing; observables keep their shape; shuffled epochs are noise-free for `solve` alone."""
    shuffled = SGD(0.1, 4, "shuffled")
    flow = quickly(shuffled, PROBLEM.objective, PROBLEM.start, steps=4, paths=3, observe=OBSERVE)
    keyed = quickly(SGD(0.1), PROBLEM.objective, PROBLEM.start, steps=4, paths=1, observe=OBSERVE, key=key)
    assert flow.observables["w"].shape == (3, 5, 3)
    np.testing.assert_array_equal(flow.observables["w"], np.tile(keyed.observables["w"], (3, 1, 1)))
    exact = PROBLEM.trace(PROBLEM.sde_map(0.1, 1e300), 4, 1)[0]
    np.testing.assert_allclose(flow.observables["w"][0], exact, rtol=1e-5)


@pytest.mark.slow
def test_step_size_control_agrees_with_constant_steps():
    """Adam has a first step of its own."""
    arguments = {"steps": 8, "observe": OBSERVE, "save_every": 2}
    controller = dfx.PIDController(rtol=1e-10, atol=1e-12)
    constant = solve(Adam(0.02), PROBLEM.objective, PROBLEM.start, substeps=8, adjoint=FAST, **arguments)
    controlled = solve(
        Adam(0.02), PROBLEM.objective, PROBLEM.start, paths=2, stepsize_controller=controller, **arguments
    )
    assert controlled.observables["w"].shape == (2, 5, 3) and np.all(controlled.ok)
    np.testing.assert_allclose(controlled.observables["w"][1], constant.observables["w"][0], rtol=1e-6)
    np.testing.assert_array_equal(controlled.final[0], controlled.observables["w"][0, -1])


def test_euler_takes_no_substeps_of_a_nonlinear_rule(key):
    with pytest.raises(ValueError, match="`substeps`"):
        solve(ADAM, PROBLEM.objective, PROBLEM.start, steps=2, key=key, solver=dfx.Euler(), substeps=2)
    flow = solve(ADAM, PROBLEM.objective, PROBLEM.start, steps=2, key=key, solver=dfx.Euler())
    assert np.all(flow.ok)


@pytest.mark.parametrize("controller", [None, dfx.PIDController(rtol=1e-6, atol=1e-6)])
def test_progress_is_shown(controller, capfd):
    solve(SGD(0.1), PROBLEM.objective, PROBLEM.start, steps=4, progress_meter=dfx.TextProgressMeter(),
          stepsize_controller=controller)  # fmt: skip
    jax.effects_barrier()
    assert "100.00%" in capfd.readouterr().out


@pytest.mark.slow
def test_progress_of_an_ensemble(capfd, key):
    quickly(SGD(0.1, 4), PROBLEM.objective, PROBLEM.start, steps=4, paths=3, key=key, solver=dfx.Euler(),
          progress_meter=dfx.TextProgressMeter())  # fmt: skip
    jax.effects_barrier()
    assert "100.00%" in capfd.readouterr().out


@pytest.mark.slow
def test_a_flow_solver_of_the_user(key):
    """Strang around another flow is another approximation of the same path."""
    default, heun = (
        solve(SGD(0.1, 4), PROBLEM.objective, PROBLEM.start, steps=8, key=key, paths=64, solver=solver, save_every=8,
              observe=OBSERVE, adjoint=FAST).final
        for solver in (None, Strang(flow=dfx.Heun()))
    )  # fmt: skip
    assert 0 < np.abs(heun - default).max() < 1e-2


# ---------------------------------------------------------------------------------------------------------------------
# What is handed on


@pytest.mark.slow
def test_to_xarray_and_back_from_netcdf(tmp_path, key):
    observe = {"w": lambda w: w, "square": lambda w: jnp.outer(w, w), "norm": jnp.linalg.norm}
    flow = quickly(Momentum(0.05, 4, nesterov=True), PROBLEM.objective, PROBLEM.start, steps=6, key=key, paths=2,
                 save_every=3, observe=observe, solver=dfx.Euler())  # fmt: skip
    data = flow.to_xarray()
    assert data["norm"].dims == ("path", "step") and data["square"].dims == (
        "path",
        "step",
        "square_axis_0",
        "square_axis_1",
    )
    assert data["ok"].dims == data["failed_at"].dims == ("path",)
    np.testing.assert_array_equal(data["step"], [0, 3, 6])
    np.testing.assert_allclose(data["time"], [0, 0.15, 0.3])
    assert data["time"].dims == ("step",) and data["time"].attrs["units"] and data["step"].attrs["units"]
    wanted = {"kind": "equation", "equation": "Momentum", "learning_rate": 0.05, "batch_size": 4, "momentum": 0.9,
              "sampling": "with_replacement", "nesterov": "True", "substeps": "1"}  # fmt: skip
    assert {name: data.attrs[name] for name in wanted} == wanted
    assert {"solver", "traindyn", "jax"} <= set(data.attrs)
    np.testing.assert_array_equal(data["w"].sel(step=6), flow.final)

    data.to_netcdf(tmp_path / "flow.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "flow.nc", engine="h5netcdf") as back:
        xr.testing.assert_equal(back, data)
        assert back.attrs["learning_rate"] == 0.05 and back.attrs["kind"] == "equation"
        assert back["ok"].dtype == bool


@pytest.mark.slow
def test_a_trajectory_is_a_tree_of_arrays(key):
    """It passes through jit and comes out whole."""
    run = jax.jit(lambda rate: train(SGD(rate, 4), PROBLEM.objective, PROBLEM.start, steps=4, key=key, observe=OBSERVE))
    flow = run(0.05)
    assert isinstance(flow, Trajectory) and flow.kind == "discrete"
    assert flow.to_xarray().attrs["learning_rate"] == pytest.approx(0.05)
    again = train(SGD(0.05, 4), PROBLEM.objective, PROBLEM.start, steps=4, key=key, observe=OBSERVE)
    np.testing.assert_allclose(flow.observables["w"], again.observables["w"], rtol=1e-12)


# ---------------------------------------------------------------------------------------------------------------------
# Dynamics and algorithms of a user


class OrnsteinUhlenbeck(AbstractDynamics):
    """dX = -A X dt + S dW in two dimensions, with drift and diffusion only."""

    def drift(self, t, state, signal):
        assert signal is None
        return -jnp.array([[1.0, 0.5], [-0.5, 1.0]]) @ state

    def diffusion(self, t, state, signal):
        return lx.MatrixLinearOperator(jnp.array([[0.5, 0.0], [0.3, 0.2]]))


@pytest.mark.slow
def test_a_dynamics_of_the_user(key):
    """Its moments after t = 1, exactly known: mean e^{-At} x, and dC/dt = -AC - CA^T + SS^T."""
    flow = quickly(OrnsteinUhlenbeck(), None, jnp.array([1.0, -1.0]), steps=10, dt=0.1, key=key, paths=4000, save_every=5,
                 observe={"x": lambda x: x})  # fmt: skip
    a, s = np.array([[1.0, 0.5], [-0.5, 1.0]]), np.array([[0.5, 0.0], [0.3, 0.2]])
    one = np.eye(2)
    generator = -np.kron(a, one) - np.kron(one, a)
    for record, t in ((1, 0.5), (2, 1.0)):
        values, vectors = np.linalg.eig(a)
        mean = np.real(vectors @ np.diag(np.exp(-t * values)) @ np.linalg.inv(vectors)) @ np.array([1.0, -1.0])
        values, vectors = np.linalg.eig(generator)
        grown = np.real(vectors @ np.diag((np.exp(t * values) - 1) / values) @ np.linalg.inv(vectors))
        covariance = (grown @ (s @ s.T).ravel()).reshape(2, 2)
        samples = flow.observables["x"][:, record]
        assert within(samples, mean, covariance) < 1
        assert within(samples, mean, 1.2 * covariance) > 1
    np.testing.assert_allclose(flow.times, [0.0, 0.5, 1.0], rtol=1e-15)
    assert flow.to_xarray().attrs["equation"] == "OrnsteinUhlenbeck"


@pytest.mark.slow
def test_a_dynamics_that_depends_on_time():
    """dX/dt = 3 t^2, from any segment's own clock: X = t^3."""

    class Cubic(AbstractDynamics):
        def drift(self, t, state, signal):
            return 3 * t**2 + 0 * state

    flow = quickly(Cubic(), None, 0.0, steps=30, dt=0.1, save_every=10, observe=OBSERVE)
    np.testing.assert_allclose(flow.observables["w"][0], np.arange(4.0) ** 3, rtol=1e-12, atol=1e-15)


@pytest.mark.slow
def test_the_euler_step_of_a_user_s_rule_is_its_twin_on_gaussian_gradients(key):
    """A velocity and a twin are enough. (Trap 1 of the design: the step is the algorithm itself; it draws the same.)"""

    class Decayed(AbstractEquation):
        decay: float = 0.1

        def velocity(self, t, state, gradient):
            return jax.tree.map(lambda x, g: -(g + self.decay * x), state, gradient)

        def twin(self):
            return optax.chain(optax.add_decayed_weights(self.decay), optax.sgd(self.learning_rate))

    own = Decayed(0.05, 4, decay=0.2)
    arguments = {"steps": 5, "key": key, "paths": 2, "observe": OBSERVE}
    euler = quickly(own, PROBLEM.objective, PROBLEM.start, solver=dfx.Euler(), **arguments)
    run = train(own, PROBLEM.objective, PROBLEM.start, noise="gaussian", **arguments)
    np.testing.assert_allclose(euler.observables["w"], run.observables["w"], rtol=1e-12)
    other = quickly(Decayed(0.05, 4, decay=0.0), PROBLEM.objective, PROBLEM.start, solver=dfx.Euler(), **arguments)
    assert np.abs(other.final - euler.final).max() > 1e-3


@pytest.mark.slow
def test_large_gradients_are_no_divergence():
    """Adam's second moment holds squares of gradients; only the parameters are held to a bound."""
    problem = LinearRegression()
    objective = Objective(
        lambda w, example: 1e6 * squared_error(w, example),
        tuple(leaf.astype(np.float32) for leaf in (problem.x, problem.y)),
    )
    start = problem.start.astype(np.float32)
    for run in (solve, train):
        found = run(Adam(0.01, 4), objective, start, steps=20, key=jax.random.key(0), paths=8, save_every=20)
        assert np.all(found.ok)


@pytest.mark.parametrize("run", [solve, train])
def test_nan_is_no_number(run):
    """The root of a negative parameter, in a leaf so large that a maximum over it may pass over NaN (XLA's does)."""
    objective = Objective(lambda w, x: jnp.mean(jnp.sqrt(w) * (1 + x)), np.zeros((8, 100), np.float32))
    start = np.full(100, 0.01, np.float32)
    found = run(SGD(1.0, 4), objective, start, steps=40, key=jax.random.key(0), paths=64, observe=OBSERVE)
    assert not np.any(found.ok) and np.all(found.failed_at <= 2)
    assert np.all(np.isfinite(found.final)) and np.all(np.isfinite(found.observables["w"]))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e10])
@pytest.mark.parametrize("size", [3, 100, 2000])
def test_one_bad_number_among_many(size, bad):
    params = np.zeros((64, size), np.float32)
    params[::2, size // 2] = bad
    good = jax.jit(jax.vmap(is_ok))(jnp.asarray(params))
    np.testing.assert_array_equal(good, np.arange(64) % 2 == 1)


class Hoard(AbstractEquation):
    """SGD beside a memory that nothing reads, which grows by a factor of 1e20 in a step."""

    def init(self, params):
        return params, jax.tree.map(jnp.ones_like, params)

    def params(self, state):
        return state[0]

    def velocity(self, t, state, gradient):
        grow = 1e20 / self.learning_rate
        return jax.tree.map(jnp.negative, gradient), jax.tree.map(lambda m: grow * m, state[1])

    def twin(self):
        hoard = optax.GradientTransformation(
            lambda params: jax.tree.map(jnp.ones_like, params),
            lambda updates, memory, params=None: (updates, jax.tree.map(lambda m: 1e20 * m, memory)),
        )
        return optax.chain(hoard, optax.sgd(self.learning_rate))


@pytest.mark.parametrize(("run", "options"), [(solve, {"solver": dfx.Euler()}), (train, {})])
def test_a_memory_that_overflows_is_a_divergence(run, options):
    """Though the parameters are finite: from 1 the memory of float32 comes to 1e20 and then to infinity."""
    data, start = PROBLEM.x.astype(np.float32), np.zeros(3, np.float32)
    objective = Objective(lambda w, x: jnp.sum((w - x) ** 2), data)
    found = run(Hoard(0.1), objective, start, steps=4, observe=OBSERVE, **options)
    sound = run(SGD(0.1), objective, start, steps=4, observe=OBSERVE, **options)
    np.testing.assert_array_equal(found.failed_at, [2])
    assert np.all(sound.ok) and not np.any(found.ok)
    np.testing.assert_allclose(found.observables["w"][:, :2], sound.observables["w"][:, :2], rtol=1e-6)
    np.testing.assert_array_equal(found.final, found.observables["w"][:, 1])


@pytest.mark.slow
def test_objective_inside_a_trace():
    problem = LinearRegression()
    x, y = jnp.asarray(problem.x), jnp.asarray(problem.y)

    def final(x):
        return solve(SGD(0.05), Objective(squared_error, (x, y)), problem.start, steps=2).final

    np.testing.assert_allclose(jax.jit(final)(x), final(x), rtol=1e-12)


def test_a_velocity_of_another_shape_is_refused():
    class Summed(SGD):
        def velocity(self, t, state, gradient):
            return -jnp.sum(gradient)

    problem = LinearRegression()
    with pytest.raises(ValueError, match="Argument `equation` must have a velocity or drift like its state"):
        solve(Summed(0.1), problem.objective, problem.start, steps=2)
