"""Every test runs in float64 under strict promotion, on fixed keys."""

import gc
import itertools
import os
import pathlib

import jax
import jaxlib.version
import pytest
from edges_table import FOLDER, slow_brothers, slow_instances

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_traceback_in_locations_limit", 0)  # of source lines, which nobody reads in what is compiled
gc.set_threshold(50_000, 20, 50)  # tracing makes much that goes at once: looking through it takes an eighth of the time


def pytest_configure(config):
    """How XLA compiles, for the workers too.

    Nearly all the time of the tests goes into tracing and compiling. Of the latter LLVM without optimization takes the
    least, XLA's older emitter of fused loops half of what its MLIR one does, and a module in one part a sixth less than in
    many; a ninth goes into finding what is the same in all turns of a loop, which is no other number where it stays. What
    is slow runs, and does so three times as fast at level 1, for a quarter more until it starts.
    """
    fast = config.option.markexpr == "not slow"
    flags = [f"--xla_backend_optimization_level={0 if fast else 1}", "--xla_cpu_parallel_codegen_split_count=1"]
    if fast:
        flags.append("--xla_disable_hlo_passes=while-loop-invariant-code-motion")
    if jaxlib.version.__version_info__[:2] == (0, 10):  # a flag that a jaxlib does not know ends the process
        flags.append("--xla_cpu_use_fusion_emitters=false")
    os.environ.setdefault("XLA_FLAGS", " ".join(flags))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """The longest test first, for which no worker shall wait in the end; some brothers and some instances are slow."""
    items.sort(key=lambda item: item.path.name != "test_docs.py")
    slow = slow_brothers() | slow_instances()
    for item in items:
        if item.path.is_relative_to(FOLDER) and f"{item.path.relative_to(FOLDER)}::{item.name}" in slow:
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish():
    gc.collect()
    gc.freeze()


# Every compiled function holds maps of memory, of which Linux gives a process 65530; without one the compiler crashes.
_MOST_MAPS = 30_000
_tests = itertools.count(1)


@pytest.fixture(autouse=True)
def _room_for_compiled_functions():
    yield
    maps = pathlib.Path("/proc/self/maps")
    if next(_tests) % 8 == 0 and maps.exists() and maps.read_bytes().count(b"\n") > _MOST_MAPS:
        jax.clear_caches()


MUTANTS = ("changed", "mutants", "mutants_noise")  # where parts that are wrong on purpose come from


@pytest.fixture(autouse=True)
def _mutants_are_run(request, monkeypatch):
    """In modules that hold mutants, which `solve` would refuse before a measurement could reject them."""
    values = vars(request.module).values()
    given = (getattr(value, "__module__", None) or getattr(value, "__name__", None) or "" for value in values)
    if any(str(name).partition(".")[0] in MUTANTS for name in given):
        monkeypatch.setattr("dynamics._solvers.check_agreement", lambda *args: None)
        monkeypatch.setattr("equations._checks.overrides.unheard", lambda kind: None)


@pytest.fixture
def key():
    return jax.random.key(0)
