"""What the command `traindyn irreversibility` computes: the digits networks along their training."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from dynamics import train
from equations import SGD, Objective
from equations.internal import is_parameter

from .._irreversibility.irreversibility import irreversibility
from .._symmetry.measures import generator_moments
from .._symmetry.symmetry import Symmetry
from .digits import cross_entropy, digits_problem

_HALVINGS = 4
_RUNS = 8


def _problem(key, hidden: int, activation: Callable):
    objective, network, _ = digits_problem(key, hidden)
    wide = lambda leaf: leaf.astype(jnp.float64) if is_parameter(leaf) else leaf  # noqa: E731
    network = eqx.tree_at(lambda net: net.activation, jax.tree.map(wide, network), activation)
    return Objective(cross_entropy, jax.tree.map(wide, objective.data)), network


def _converged(run, fewest: int) -> np.ndarray:
    """Which runs did not diverge; a ValueError if these are too few."""
    ok = np.asarray(run.ok)
    if ok.sum() < fewest:
        raise ValueError(
            f"Argument `learning_rate` must be so small that training does not diverge, but {ok.size - ok.sum()} of "
            f"{ok.size} runs did so at {float(run.equation.learning_rate):g}."
        )
    return ok


def measurements(sgd: SGD, key, steps: int, every: int, batches: int, hidden: int, stage):
    """The four measures along the training of a tanh network, and at its first record over falling learning rates.

    **Returns:** pairs (step, `Irreversibility`), and a list of `Irreversibility` from twice the learning rate on.
    """
    objective, network = _problem(jax.random.fold_in(key, 0), hidden, jnp.tanh)
    run = train(
        sgd, objective, network, steps=steps, key=jax.random.fold_in(key, 1), save_every=every, keep_states=True
    )
    _converged(run, 1)
    static = eqx.partition(network, is_parameter)[1]
    options: dict[str, Any] = dict(key=jax.random.fold_in(key, 2), batches=batches, probes=0)

    def at(place):
        return eqx.combine(jax.tree.map(lambda leaf: leaf[0, place], run.states), static)

    along = []
    for place, step in enumerate(np.asarray(run.steps).tolist()):
        stage(f"measures at step {step}")
        along.append((step, irreversibility(sgd, objective, at(place), **options)))
    sweep = []
    for halving in range(_HALVINGS):
        stage("learning rates")
        sweep.append(irreversibility(sgd.scaling_limit().rescaled(2.0 ** (1 - halving)), objective, at(1), **options))
    return along, sweep


@dataclasses.dataclass(frozen=True)
class Charges:
    """The charges of a ReLU network along its training, means of eight runs. `print` gives a few lines.

    - `steps`: `(saves,)`; `total`, `total_error`: the charge of the two layers and its standard error, `(saves,)`.
    - `neurons`: the charge of each neuron, `(saves, width)`.
    - `flow`: `(saves,)`, the total charge by the Noether flow from the start, its rate measured along the runs.
    - `parts`: the rate's noise, mean-gradient and decay parts, each `(saves,)`, per training step.
    - `step_error`: the worst relative error of the exact charge step over 20 steps; `tanh_error`: for a tanh network.
    - `failed`: the fraction of the runs that diverged and are left out of the means.
    """

    steps: np.ndarray
    total: np.ndarray
    total_error: np.ndarray
    neurons: np.ndarray
    flow: np.ndarray
    parts: dict[str, np.ndarray]
    step_error: float
    tanh_error: float
    failed: float

    def __str__(self):
        change, predicted = self.total[-1] - self.total[0], self.flow[-1] - self.flow[0]
        lost = f" ({100 * self.failed:.0f} % of the runs diverged and are left out)" if self.failed else ""
        return (
            f"ReLU network: charge |W_in|^2 + |b|^2 - |W_out|^2 from {self.total[0]:.4f} to {self.total[-1]:.4f}, a "
            f"change of {change:.4f} ± {self.total_error[-1]:.4f}; by the Noether flow {predicted:.4f}{lost}\n"
            f"exact charge step over 20 steps: relative error {self.step_error:.1e} with ReLU, {self.tanh_error:.1e} with "
            "tanh, which has no such symmetry"
        )

    def to_dict(self) -> dict:
        """Plain dicts, lists and numbers."""
        arrays = {name: getattr(self, name).tolist() for name in ("steps", "total", "total_error", "neurons", "flow")}
        parts = {name: values.tolist() for name, values in self.parts.items()}
        numbers = {name: getattr(self, name) for name in ("step_error", "tanh_error", "failed")}
        return arrays | {"parts": parts} | numbers


def charges(sgd: SGD, key, steps: int, every: int, gamma: float, hidden: int, stage) -> Charges:
    """The charges of a ReLU network under SGD with the decay gamma |theta|^2."""
    stage("charges")
    objective, network = _problem(jax.random.fold_in(key, 0), hidden, jax.nn.relu)

    def coming(net):
        return [net.layers[0].weight, net.layers[0].bias]

    def going(net):
        return [net.layers[1].weight]

    layers = Symmetry.between(coming, going, jnp.eye(hidden))
    eta = float(sgd.learning_rate)

    def decayed(net, example):
        return cross_entropy(net, example) + gamma * sum(
            jnp.sum(leaf**2) for leaf in jax.tree.leaves(eqx.filter(net, is_parameter))
        )

    def neurons(net):
        weight, bias = coming(net)
        return jnp.sum(weight**2, axis=1) + bias**2 - jnp.sum(going(net)[0] ** 2, axis=0)

    def gains(net):
        theta, static = eqx.partition(net, is_parameter)
        return eta * jnp.stack(generator_moments(layers, sgd, objective.bind(static), theta))

    observe = {"total": layers.charge, "neurons": neurons, "gains": gains}
    every = every // 5 if every % 5 == 0 else every  # the rate is summed up between records
    run = train(
        sgd, Objective(decayed, objective.data), network, steps=steps, key=jax.random.fold_in(key, 1), observe=observe,
        save_every=every, paths=_RUNS,
    )  # fmt: skip
    ok = _converged(run, 2)
    total, each, gain = (np.asarray(run.observables[name], float)[ok].mean(axis=0) for name in observe)
    spread = np.asarray(run.observables["total"], float)[ok].std(axis=0, ddof=1) / ok.sum() ** 0.5
    loss = 4 * gamma * (1 - eta * gamma) * total
    rate = gain[:, 1] - loss
    flow = total[0] + np.concatenate([[0.0], np.cumsum((rate[1:] + rate[:-1]) / 2 * every * eta)])
    stage("charge steps")
    batch: Any = sgd.batch_size
    draws = [jax.random.randint(jax.random.fold_in(key, place), (batch,), 0, objective.size) for place in range(20)]
    tanh = eqx.tree_at(lambda net: net.activation, network, jnp.tanh)
    errors = [layers.steps(sgd, objective, net, draws, decay=gamma).error for net in (network, tanh)]
    parts = {"noise": gain[:, 1] - gain[:, 0], "mean gradient": gain[:, 0], "decay": -loss}
    return Charges(
        steps=np.asarray(run.steps),
        total=total,
        total_error=spread,
        neurons=each,
        flow=flow,
        parts={name: eta * part for name, part in parts.items()},
        step_error=errors[0],
        tanh_error=errors[1],
        failed=float(1 - ok.mean()),
    )
