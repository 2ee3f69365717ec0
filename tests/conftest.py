"""Every test runs in float64 under strict promotion, on fixed keys."""

import itertools
import os
import pathlib

# Nearly all the time of the tests goes into compiling, of which LLVM without optimisation takes the least.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import jax  # noqa: E402
import jaxtyping  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")


# Every compiled function holds maps of memory, of which Linux gives a process 65530; without one the compiler crashes.
_MOST_MAPS = 30_000
_tests = itertools.count(1)


@pytest.fixture(autouse=True)
def _room_for_compiled_functions():
    yield
    maps = pathlib.Path("/proc/self/maps")
    if next(_tests) % 8 == 0 and maps.exists() and maps.read_bytes().count(b"\n") > _MOST_MAPS:
        jax.clear_caches()


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture
def unchecked():
    """Type checks at run time off, as a user has it: the package's own checks of its arguments answer."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
