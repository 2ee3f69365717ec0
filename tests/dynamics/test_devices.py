"""Ensembles in blocks and over devices: the same bits for any number of these, which the process below simulates."""

import os
import pathlib
import subprocess
import sys

import diffrax as dfx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from dynamics import Histogram, solve, train
from equations import SGD, AbstractDynamics, Adam, Langevin, Momentum, Objective

X = np.sin(np.arange(144.0).reshape(24, 6) ** 2)
DATA = X, np.sin(X[:, :1])
PARAMS = {"a": 0.3 * np.cos(np.arange(48.0)).reshape(6, 8), "b": 0.3 * np.sin(np.arange(8.0))[:, None]}
KEPT = ("mean", "variance", Histogram(np.linspace(-3.0, 3.0, 7)))


def squared(params, example):
    x, y = example
    return 0.5 * jnp.sum((jnp.tanh(x @ params["a"]) @ params["b"] - y) ** 2)


NETWORK = Objective(squared, DATA)


class Bath(AbstractDynamics):
    def drift(self, t, state, signal):
        return -state

    def diffusion(self, t, state, signal):
        return lx.DiagonalLinearOperator(jnp.ones_like(state))


def network(run, equation, objective=NETWORK, **more):
    given = dict(steps=4, save_every=2, paths=10, key=jax.random.key(0), observe={"loss": objective.value}) | more
    return lambda **more: run(equation, objective, PARAMS, **given, **more)


def bath(**more):
    observe = {"x": lambda x: x, "first": lambda x: x[0]}
    given = dict(steps=4, dt=0.1, key=jax.random.key(0), observe=observe) | more
    return lambda **more: solve(Bath(), None, jnp.zeros(3), **given, **more)


RUNS = {
    "train": network(train, SGD(0.1, 4)),
    "reduced": bath(paths=50, reduce=KEPT, block=8),
    "solve": network(solve, SGD(0.1, 4)),
    "adam": network(solve, Adam(0.01, 4), keep_states=True),
    "momentum": network(solve, Momentum(0.1, batch_size=4)),
    "euler": network(solve, SGD(0.1, 4), solver=dfx.Euler()),
    "of Diffrax": network(solve, Langevin(0.05, temperature=0.1), solver=dfx.SRA1()),
    "per path": lambda **more: solve(
        SGD(0.1, 4),
        NETWORK,
        jax.tree.map(lambda leaf: leaf * np.linspace(0.5, 1.5, 10)[:, None, None], PARAMS),
        steps=4,
        key=jax.random.key(0),
        per_path=True,
        **more,
    ),
}


def same(one, other):
    """To the bit, in all that is random."""
    kinds = ("observables", "final", "states", "failed_at", "mean", "variance", "histogram", "count")
    one, other = ([getattr(run, kind, None) for kind in kinds] for run in (one, other))
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in pairs)


def simulated():
    """What is asserted where there are four devices."""
    assert len(jax.devices()) == 4
    one, four = (RUNS["train"](devices=devices) for devices in (1, 4))
    assert same(one, four) and ("block", "1 paths") in one.details


def all_simulated():
    for name, run in RUNS.items():
        one, two, four = (run(devices=devices) for devices in (1, 2, jax.devices()))
        assert same(one, two) and same(one, four), name
    half = RUNS["train"](devices=2)
    more = dict(steps=4, observe={"loss": NETWORK.value}, block=1)
    one, two = (train(SGD(0.1, 4), NETWORK, start=half, devices=devices, **more) for devices in (4, 1))
    assert same(one, two)
    with pytest.raises(ValueError, match="Argument `devices` must name each device once"):
        RUNS["train"](devices=[jax.devices()[0]] * 2)


def sharded():
    """Data along one axis of a mesh and paths along the other, whose types are automatic or explicit."""
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = Mesh(np.asarray(jax.devices()).reshape(2, 2), ("data", "paths"), axis_types=(kind,) * 2)
        data = jax.device_put(DATA, NamedSharding(mesh, PartitionSpec("data")))
        for run in (solve, train):
            here, plain = (network(run, SGD(0.1, 4), Objective(squared, d)) for d in (data, DATA))
            here, plain = here(devices=mesh), plain()
            np.testing.assert_allclose(here.observables["loss"], plain.observables["loss"], rtol=1e-13)
            assert len(here.final["a"].sharding.device_set) == 4


def process(code: str):
    here = pathlib.Path(__file__)
    begin = "import jax, sys; jax.config.update('jax_enable_x64', True)"
    code = f"{begin}; sys.path.append({str(here.parent)!r}); {code}"
    # By XLA as users have it: under the options of these tests a program for one device may be fused in another way.
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "PYTHONPATH": str(here.parents[2])}
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, env=os.environ | flags)


@pytest.mark.slow
def test_bits_do_not_depend_on_the_number_of_devices():
    process("import test_devices as t; t.simulated()")


@pytest.mark.slow
def test_bits_of_all_kinds_of_runs_do_not_depend_on_it_either():
    process("import test_devices as t; t.all_simulated()")


@pytest.mark.slow
def test_data_along_another_axis():
    process("import test_devices as t; t.sharded()")


@pytest.mark.slow
def test_a_path_is_the_same_in_a_larger_ensemble():
    """Which it need not be where all paths are computed at once: that is why blocks are of one size."""
    few, many = (network(solve, SGD(0.1, 4), paths=paths, block=2) for paths in (3, 8))
    few, many = few(), many()
    np.testing.assert_array_equal(few.observables["loss"], many.observables["loss"][:3])
    assert few.failed_at.shape == (3,) and ("block", "2 paths") in few.details


@pytest.mark.parametrize(
    "more, error, message",
    [
        ({"block": 0}, ValueError, "Argument `block` must be an integer of at least 1"),
        ({"block": 1.5}, TypeError, "Argument `block` must be an integer of at least 1"),
        ({"devices": 99}, ValueError, "Argument `devices` must be a number from 1 to"),
        ({"devices": "cpu"}, TypeError, "Argument `devices` must be a number of devices, a sequence of jax.Device or"),
        ({"devices": []}, TypeError, "Argument `devices` must be a number of devices"),
        ({"devices": True}, TypeError, "Argument `devices` must be a number of devices"),
    ],
)
def test_refusals(more, error, message):
    for run in (RUNS["train"], bath(paths=3)):
        with pytest.raises(error, match=message):
            run(**more)
