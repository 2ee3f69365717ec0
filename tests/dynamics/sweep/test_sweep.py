"""A sweep in this process and in memory: what is stacked, what is compiled, and that it is what single runs are."""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sweeps import AXES, OBJECTIVE, X, Y, experiment, loss

from dynamics import solve, sweep, train
from dynamics._sweep.axes import Axes
from dynamics._sweep.plan import Plan
from dynamics._sweep.setting import Experiment
from dynamics._sweep.stack import Stack
from equations import SGD, Adam, Objective


def planned(experiment, axes, run=train, most=8):
    axes = Axes.of(axes)
    called = Experiment(experiment, axes, run)
    plan, firsts = Plan.of(called.at, len(axes), most)
    return called, plan, firsts


@pytest.mark.slow
def test_every_setting_is_a_run_of_its_own():
    runs = sweep(experiment, AXES, run=train, shard_size=4)
    assert runs["loss"].dims == ("learning_rate", "batch_size", "seed", "path", "step")
    assert runs["w"].dims == ("learning_rate", "batch_size", "seed", "path", "step", "w_axis_0")
    np.testing.assert_array_equal(runs["step"], [0, 4, 8])
    np.testing.assert_array_equal(runs["seed"], range(3))
    for setting in (
        {"learning_rate": 0.1, "batch_size": 2, "seed": 1},
        {"learning_rate": 0.2, "batch_size": 1, "seed": 2},
    ):
        alone, found = train(**experiment(**setting)), runs.sel(setting)
        np.testing.assert_allclose(found["w"], alone.observables["w"], rtol=1e-13)
        np.testing.assert_array_equal(found["time"], alone.times)
        np.testing.assert_array_equal(found["failed_at"], alone.failed_at)
    assert runs.attrs["equation"] == "SGD" and runs["loss"].notnull().all() and runs["ok"].all()


@pytest.mark.slow
@pytest.mark.parametrize("solver", [dfx.Euler(), pytest.param(None, marks=pytest.mark.slow)])
def test_solve(solver):
    more = {"solver": solver, "paths": 2}
    runs = sweep(lambda seed: experiment(0.1, 2, seed) | more, {"seed": [3, 4, 5]})
    alone = solve(**experiment(0.1, 2, 4) | more)
    np.testing.assert_allclose(runs["w"].sel(seed=4), alone.observables["w"], rtol=1e-13)
    assert runs.sizes["path"] == 2 and runs.attrs["kind"] == "equation"


@pytest.mark.slow
def test_one_program_for_each_structure():
    """24 settings of three seeds with four batch sizes; what is small is compiled by a first sweep."""
    programs = []

    def listen(event, duration, **kwargs):
        if event == "/jax/core/compile/backend_compile_duration":
            programs.append(duration)

    sweep(experiment, {"learning_rate": [0.1], "batch_size": [7], "seed": [0]}, run=train)
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        rates = np.linspace(0.05, 0.1, 6)
        sweep(experiment, {"learning_rate": rates, "batch_size": [1, 2, 3, 4], "seed": range(3)}, run=train)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert len(programs) == 4


def test_what_all_share_is_not_copied():
    called, plan, (first,) = planned(lambda seed: experiment(0.1, 2, seed), {"seed": range(3)})
    stack = Stack(first, plan.structures[0].varies, train)
    assert sum(leaf is OBJECTIVE.data[0] for leaf in stack.shared) >= 1
    (key,) = stack.row(called.at(2))
    assert key == jax.random.key(2)


def test_data_that_are_equal_are_shared_too():
    """An objective that is made in every call converts NumPy's arrays to others of its own."""

    def anew(seed):
        return experiment(0.1, 2, seed) | {
            "objective": Objective(lambda w, e: jnp.sum(w) * e[1], (X, Y)),
            "observe": None,
        }

    _, plan, (first,) = planned(anew, {"seed": range(3)})
    assert len(plan.structures) == 1 and sum(plan.structures[0].varies) == 1


class Width(eqx.Module):
    weights: jax.Array
    width: int = eqx.field(static=True)


@pytest.mark.parametrize(
    ("part", "structures"),
    [
        pytest.param(lambda x: {"observe": {"w": lambda w: w * 2}}, 1, id="equal functions"),
        pytest.param(lambda x: {"observe": {"w": lambda w: w * x}}, 2, id="functions that hold other numbers"),
        pytest.param(lambda x: {"params": Width(jnp.zeros(2) + x, 3)}, 1, id="arrays"),
        pytest.param(lambda x: {"params": Width(jnp.zeros(2), int(x))}, 2, id="static fields"),
        pytest.param(lambda x: {"params": jnp.zeros(int(x))}, 2, id="shapes"),
        pytest.param(lambda x: {"params": {"a": 0.5 * x}}, 1, id="floats"),
        pytest.param(lambda x: {"equation": SGD(0.1) if x > 1 else Adam(0.1)}, 2, id="classes"),
        pytest.param(lambda x: {"frozen": {"a": bool(x > 1)}}, 2, id="bools"),
        pytest.param(lambda x: {"noise": object()}, 2, id="what cannot be looked into"),
    ],
)
def test_structures(part, structures):
    _, plan, _ = planned(lambda x: experiment(0.1, 2, 0) | part(x), {"x": [1.0, 2.0]})
    assert len(plan.structures) == structures


def test_shards_have_one_size():
    _, plan, _ = planned(lambda seed: experiment(0.1, 2, seed), {"seed": range(9)}, most=4)
    assert plan.structures[0].size == 3 and [len(shard.members) for shard in plan.shards] == [3, 3, 3]
    _, plan, _ = planned(experiment, AXES, most=4)
    assert [shard.structure for shard in plan.shards] == [0, 1, 0, 1]  # none waits for what another compiles


def test_divergence_is_data():
    runs = sweep(lambda learning_rate: experiment(learning_rate, 2, 0), {"learning_rate": [0.1, 1e200]}, run=train)
    assert runs["ok"].values.ravel().tolist() == [True, False]
    assert runs["failed_at"].values.ravel()[0] == -1 and 0 < runs["failed_at"].values.ravel()[1] <= 8


def test_single_precision_stays():
    """A weakly typed learning rate is one among stacked ones too."""
    single = Objective(loss, (X.astype(np.float32), Y.astype(np.float32)))

    def narrow(learning_rate):
        given = experiment(learning_rate, 2, 0) | {"objective": single, "observe": {"w": lambda w: w}}
        return given | {"params": jnp.zeros(2, jnp.float32)}

    assert sweep(narrow, {"learning_rate": [0.1, 0.2]}, run=train)["w"].dtype == np.float32


@pytest.mark.slow
def test_labels_stand_for_anything():
    axes = {"batch": {"four": 4, "full": None}, "kind": {"a": SGD, "b": Adam}}
    runs = sweep(
        lambda batch, kind: experiment(0.1, 2, 0) | {"equation": kind(0.1, batch)},
        axes,
        run=train,
    )
    assert runs["batch"].values.tolist() == ["four", "full"] and runs.attrs["equation"] == "SGD, Adam"
    full = train(**experiment(0.1, 2, 0) | {"equation": Adam(0.1)}).observables["w"]
    np.testing.assert_allclose(runs["w"].sel(batch="full", kind="b"), full, rtol=1e-13)


def test_starts_of_every_path():
    starts = jnp.arange(6.0).reshape(3, 2)
    runs = sweep(
        lambda scale: experiment(0.1, 2, 0) | {"params": scale * starts, "per_path": True},
        {"scale": [1.0, 2.0]},
        run=train,
    )
    np.testing.assert_array_equal(runs["w"].sel(scale=2.0, step=0), 2 * starts)


WRONG = [
    ("axes", [1], TypeError, "`axes` must be a dict"),
    ("axes", {"learning_rte": [1.0]}, ValueError, "'learning_rte' was given. Did you mean 'learning_rate'"),
    ("axes", {"learning_rate": [0.1], "seed": [0]}, ValueError, "'batch_size' has none"),
    ("axes", AXES | {"seed": []}, ValueError, "'seed' at least one value"),
    ("axes", AXES | {"seed": "012"}, TypeError, "'seed' a list of values"),
    ("axes", AXES | {"seed": [0, 0]}, ValueError, "'seed' values that differ"),
    ("axes", AXES | {"batch_size": [2, None]}, TypeError, "'batch_size' numbers, strings or bools"),
    ("axes", AXES | {"step": [2]}, ValueError, "name 'step'"),
    ("experiment", 3, TypeError, "`experiment` must be a function"),
    ("experiment", lambda learning_rate, batch_size, seed: 3, TypeError, "a dict of the arguments of `train`"),
    ("given", {"step": 8}, ValueError, "'step' was given. Did you mean 'steps'.*learning_rate=0.1"),
    ("given", {"start": None}, ValueError, "must leave out 'start'"),
    ("given", {"keep_states": True}, ValueError, "must leave out 'keep_states'"),
    ("given", {"params": jnp.array([jnp.nan])}, ValueError, "`params` must be finite.*seed=0"),
    ("given", {"save_every": 3}, ValueError, "`save_every` must divide.*batch_size=1"),
    ("given", {"observe": {"seed": lambda w: w}}, ValueError, "observable 'seed'"),
    ("run", sum, ValueError, "`run` must be dynamics.solve or dynamics.train"),
    ("shard_size", 0, ValueError, "`shard_size` must be an integer of at least 1"),
    ("workers", -1, ValueError, "`workers` must be an integer of at least 0"),
    ("progress", "yes", TypeError, "`progress` must be True"),
    ("store", 3, TypeError, "`store` must be a path"),
    ("store", "nowhere/runs.zarr", ValueError, "`store` must lie in a directory that exists"),
    ("checkpoint_every", 4, ValueError, "`checkpoint_every` must be None without a `store`"),
    ("client", 3, TypeError, "`client` must be a dask"),
]


@pytest.mark.parametrize(("name", "value", "kind", "words"), WRONG)
def test_wrong_arguments(name, value, kind, words):
    arguments = {"experiment": experiment, "axes": AXES, "run": train} | {name: value}
    if given := arguments.pop("given", None):
        arguments["experiment"] = lambda learning_rate, batch_size, seed: (
            experiment(learning_rate, batch_size, seed) | given
        )
    with pytest.raises(kind, match=words):
        sweep(**arguments)


def test_records_that_differ_are_refused():
    with pytest.raises(ValueError, match="`experiment` must record the same"):
        sweep(lambda steps: experiment(0.1, 2, 0) | {"steps": steps}, {"steps": [4, 8]}, run=train)
    with pytest.raises(ValueError, match="'w' is observed in some"):
        observed = {"a": {"w": lambda w: w}, "b": {}}
        sweep(lambda observe: experiment(0.1, 2, 0) | {"observe": observe}, {"observe": observed}, run=train)
