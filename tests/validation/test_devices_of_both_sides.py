"""Comparisons and order sweeps in blocks and over devices: the same bits for any number of these, which are simulated."""

import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics.internal import Layout
from equations import SGD, Objective
from validation import compare, orders

DATA = np.sin(np.arange(24.0)).reshape(12, 2)
NETWORK = Objective(lambda w, x: jnp.square(jnp.tanh(w[0] * x[0]) * w[1] - x[1]), DATA)
PARAMS = jnp.asarray([0.8, -0.5])


def compared(**more):
    run = compare(SGD(0.1, 4), NETWORK, PARAMS, steps=4, key=jax.random.key(0), paths=10, save_every=2, **more)
    return [getattr(run, side).observables["loss"] for side in ("flow", "refined", "run")]


def swept(**more):
    """By sampling, as the velocity is no polynomial of the state."""
    rates = [0.1, 0.05, 0.025]
    run = orders(SGD(0.1, 4), NETWORK, PARAMS, time=0.2, learning_rates=rates, key=jax.random.key(0), paths=64, **more)
    assert run.method.startswith("sampling")
    return [error for measures in run.sweeps.values() for one in measures.values() for error in one.errors]


def same(one, other):
    return all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(one, other, strict=True))


def simulated():
    """What is asserted where there are two devices, and of comparisons that it is not so by a mutant that gives both the
    same keys."""
    assert len(jax.devices()) == 2
    for run in (swept, compared):
        first = run(devices=1)
        assert same(first, run(devices=2)) and len(first) > 2, run
    over = Layout._over_devices

    def alike(self, one, rows):
        return over(self, one, [jnp.concatenate([row[: len(row) // 2]] * 2) for row in rows])

    Layout._over_devices = alike
    jax.clear_caches()
    assert not same(first, compared(devices=2))


@pytest.mark.slow
def test_bits_do_not_depend_on_the_number_of_devices():
    here = pathlib.Path(__file__)
    begin = "import jax, sys; jax.config.update('jax_enable_x64', True)"
    code = f"{begin}; sys.path.append({str(here.parent)!r}); import {here.stem} as t; t.simulated()"
    # By XLA as users have it: under the options of these tests a program for one device may be fused in another way.
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "PYTHONPATH": str(here.parents[2])}
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, env=os.environ | flags)


@pytest.mark.slow
def test_blocks_of_paths_are_those_of_the_runs(key):
    run = compare(SGD(0.1, 4), NETWORK, PARAMS, steps=2, key=key, paths=5, block=2)
    assert all(("block", "2 paths") in side.details for side in (run.flow, run.refined, run.run))


@pytest.mark.parametrize("run", [compared, swept])
def test_refusals(run):
    with pytest.raises(ValueError, match="Argument `devices` must be a number from 1 to"):
        run(devices=99)
    with pytest.raises(ValueError, match="Argument `block` must be an integer of at least 1"):
        run(block=0)
