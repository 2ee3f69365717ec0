"""What `orders` says beside its verdict: the error it resolves, what stayed fixed, and that a run has diverged."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from equations import SGD, AbstractEquation, Adam, Momentum, Objective, ScalingLimit, decayed
from validation import orders
from validation._orders.orders import _fixed

CASES = [
    ("an order holds down to an error", "instance", "a velocity wrong by .1 %", "test_the_error_resolved[wrong]"),
    ("an order holds down to an error", "brother", "exact moments", "test_the_error_resolved_by_moments"),
    ("an order holds down to an error", "brother", "a velocity wrong by more", "test_a_larger_error_is_seen"),
    ("memory without a scaling", "instance", "an equation of one's own without `rescaled`", "test_what_stayed_fixed"),
    ("memory without a scaling", "brother", "the same under weight decay", "test_who_has_something_fixed"),
    ("memory without a scaling", "brother", "with a `rescaled`", "test_who_has_something_fixed"),
    ("a run that has diverged is said to have", "instance", "eta lambda 2.5", "test_divergence_is_said[deterministic]"),
    ("a run that has diverged is said to have", "brother", "exact moments", "test_divergence_is_said[moments]"),
    ("a run that has diverged is said to have", "brother", "sampling", "test_divergence_is_said[sampling]"),
]  # fmt: skip
DATA = np.array([[-1.0], [1.0], [0.5], [-0.5]])
START = jnp.array([2.0])


def quadratic(w, example):
    return 0.5 * jnp.sum((w - example) ** 2)


OBJECTIVE = Objective(quadratic, DATA)
RUN = dict(time=1.0, learning_rates=[0.1, 0.05, 0.025])
WAY = 2 * (1 - np.exp(-1.0))  # of the mean, for steps that vanish


class Off(SGD):
    """Its velocity is wrong by a factor."""

    factor: jax.Array = eqx.field(default=1.0, kw_only=True, converter=jnp.asarray)

    def velocity(self, t, state, gradient):
        return jax.tree.map(lambda rate: self.factor * rate, super().velocity(t, state, gradient))


def parameters(report):
    return report.sweeps["parameters"]["mean"]


@pytest.mark.slow
@pytest.mark.parametrize("factor", [1.0, 1.001], ids=["right", "wrong"])
def test_the_error_resolved(factor):
    report = orders(Off(0.1, factor=factor), OBJECTIVE, START, **RUN)
    sweep = parameters(report)
    assert sweep.verdict == "holds"  # the slopes are the same
    np.testing.assert_allclose(sweep.resolved, sweep.errors.value[-1] / WAY, rtol=0.01)
    assert 0.001 < sweep.resolved < 0.01
    line = next(line for line in str(report).splitlines() if line.startswith("parameters"))
    assert line.split()[-2:] == [f"{sweep.resolved:.1e}", "holds"]
    assert report.to_dict()["observables"]["parameters"]["mean"]["resolved"] == sweep.resolved


def test_a_larger_error_is_seen():
    """Four times what is resolved, of either sign, no longer holds."""
    size = 4 * parameters(orders(Off(0.1), OBJECTIVE, START, **RUN)).resolved
    for factor in (1 - size, 1 + size):
        assert parameters(orders(Off(0.1, factor=factor), OBJECTIVE, START, **RUN)).verdict != "holds"


@pytest.mark.slow
def test_the_error_resolved_by_moments():
    report = orders(SGD(0.1, 1), OBJECTIVE, START, **RUN)
    assert report.method == "exact moments"
    mean, variance = (report.sweeps["parameters"][measure] for measure in ("mean", "variance/eta"))
    np.testing.assert_allclose(mean.resolved, mean.errors.value[-1] / WAY, rtol=0.01)
    spread = DATA.var() * (1 - np.exp(-2.0)) / 2
    np.testing.assert_allclose(variance.resolved, variance.errors.value[-1] / spread, rtol=0.1)


class Own(AbstractEquation):
    """An average of the gradients, without a word of its scaling."""

    b: jax.Array = eqx.field(default=0.5, converter=jnp.asarray)

    def init(self, params):
        return params, jax.tree.map(jnp.zeros_like, params)

    def params(self, state):
        return state[0]

    def velocity(self, t, state, gradient):
        _, memory = state
        change = jax.tree.map(lambda m, g: (1 - self.b) * (g - m) / self.learning_rate, memory, gradient)
        return jax.tree.map(jnp.negative, memory), change

    def twin(self):
        return optax.chain(optax.ema(self.b, debias=False), optax.scale(-self.learning_rate))


class Moved(Own):
    def scaling_limit(self):
        return ScalingLimit(self, decays={"b": 1})


def test_what_stayed_fixed():
    report = orders(Own(0.1), OBJECTIVE, START, **RUN)
    assert report.fixed == ("b",) and report.to_dict()["fixed"] == ["b"]
    text = str(report)
    assert "for want of a `scaling_limit`: b." in text
    suggested = next(line.strip() for line in text.splitlines() if "ScalingLimit" in line)
    assert suggested == "return equations.ScalingLimit(self, decays={'b': 1})"


@pytest.mark.parametrize(
    "equation, names",
    [(decayed(Own(0.1), 0.1), ("b",)), (Moved(0.1), ()), (Momentum(0.1), ()), (Adam(0.1), ()), (Off(0.1), ())],
)
def test_who_has_something_fixed(equation, names):
    assert _fixed(equation, START) == names


@pytest.mark.filterwarnings("ignore:eta \\* lambda_max")
@pytest.mark.parametrize(
    "equation, given",
    [
        (SGD(2.5), {}),
        (SGD(2.5, 1), {}),
        (SGD(2.5, 1), dict(observe={"fourth": lambda w: w**4}, paths=2, key=jax.random.key(0))),
    ],
    ids=["deterministic", "moments", "sampling"],
)  # fmt: skip
def test_divergence_is_said(equation, given):
    """30 to 60 steps by a factor of -1.5 to -2: 1e9 to 1e10, no number overflows."""
    report = orders(equation, OBJECTIVE, START, time=150.0, learning_rates=[3.0, 2.75, 2.5][:1] + [2.5, 2.0], **given)
    assert report.failed[0] == report.failed[1] == 1 and report.failed[2] == 0
    assert "100.0%" in str(report)
