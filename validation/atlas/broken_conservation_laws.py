"""What gradient flow conserves of a ReLU network, every step of training changes by eta^2 g.Ag exactly.

Source: Ziyin, Wang, Li and Wu, "Parameter Symmetry and Noise Equilibrium of Stochastic Gradient Descent"
(arXiv:2402.07193), the Noether flow; the step at a finite learning rate derived here.

A loss that keeps its value under exp(lambda A), A symmetric, has the charge C = theta.A theta: of a layer of ReLUs the
squares of the weights and biases that come in less those that go out. Gradient flow conserves it; a step with the decay
gamma makes C' = (1 - 2 eta gamma)^2 C + eta^2 g.A g, whatever the batch, exactly.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

from dynamics import solve, train
from equations import SGD, Objective, modified
from validation import Estimate, Symmetry, extrapolated, judge_equality, judge_number

from . import Findings

WIDTH, GAMMA, RATES, STEPS, TIME = 8, 0.05, (0.2, 0.1, 0.05), 80, 4.0
layers = Symmetry.between(
    lambda net: [net.layers[0].weight, net.layers[0].bias], lambda net: [net.layers[-1].weight], np.eye(WIDTH)
)


class Pooled(eqx.Module):
    """A convolution, ReLUs, the mean over the image, and a linear layer."""

    layers: list

    def __call__(self, x):
        return self.layers[1](jnp.mean(jax.nn.relu(self.layers[0](x.reshape(1, 8, 8))), (1, 2)))


def cross(net, example):
    return -jax.nn.log_softmax(net(example[0]))[example[1]]


def batches(equation, objective, net, key, decay):
    """The charge before and after the worst of four steps on minibatches, and what the rule says of it."""
    indices = list(jax.random.randint(key, (4, 8), 0, objective.size))
    step = layers.steps(equation, objective, net, indices, decay=decay)
    return step, (1 - 2 * float(equation.learning_rate) * decay) ** 2 * step.before


def measure(key, full):
    keys = jax.random.split(key, 3)
    images, labels = load_digits(return_X_y=True)
    count = len(images) if full else 100
    digits = Objective(cross, (jnp.asarray(images[:count] / 16), jnp.asarray(labels[:count])))
    net = eqx.nn.MLP(64, 10, WIDTH, 1, jax.nn.relu, key=keys[0])
    watch = {"C": layers.charge, "gAg": lambda net: layers.charge(eqx.filter_grad(digits.value)(net))}

    charges, share = {}, []
    for rate in RATES:
        place = round(TIME / rate)
        seen = [
            run(one, digits, net, steps=STEPS, observe=watch).observables
            for run, one in ((train, SGD(rate)), (solve, modified(SGD(rate), order=2)), (solve, SGD(rate)))
        ]
        charges[rate] = [np.asarray(values["C"][0, : place + 1]) for values in seen]
        gains = [values[-1] - values[0] for values in charges[rate][:2]]
        share.append(gains[0] / gains[1])
        gained = rate**2 * np.asarray(seen[0]["gAg"][0, :place])
    found = charges[rate][0]
    summed = found[0] + np.concatenate([[0], np.cumsum(gained)])
    limit = extrapolated(RATES, Estimate(np.array(share), np.zeros(len(RATES))))
    (dense, shrunk), (conv, kept) = (
        batches(SGD(0.1), digits, one, keys[1], GAMMA)
        for one in (net, Pooled([eqx.nn.Conv2d(1, WIDTH, 3, key=keys[2]), eqx.nn.Linear(WIDTH, 10, key=keys[2])]))
    )
    return Findings(
        claims=(
            judge_equality(
                "charge of a network on digits", found, summed, mutant=found[0] + 0 * summed, operations=1000
            ),
            judge_equality("on minibatches, with decay", dense.after, dense.predicted, mutant=shrunk, operations=1000),
            judge_number("gain, in that of the modified equation, as the rate vanishes", limit, 1.0, mutant=0.0),
        ),
        data={str(rate): np.stack(values) for rate, values in charges.items()},
        beyond=(
            judge_equality("of a convolution's channels", conv.after, conv.predicted, mutant=kept, operations=1000),
        ),
        note="The mutants conserve the charge, but for the decay, and so does the equation of first order.",
    )


def plot(ax, data):
    for rate in RATES:
        algorithm, second, first = data[str(rate)] - data[str(rate)][0, 0]
        times, last = rate * np.arange(len(first)), rate == RATES[-1]
        ax.plot(times, second, color="#0072b2", lw=1, label="modified equation" if last else None)
        some = slice(None, None, len(times) // 10)
        ax.plot(times[some], algorithm[some], "o", color="#1b1b1b", ms=4, label="gradient descent" if last else None)
        ax.annotate(f"η = {rate}", (times[-1], algorithm[-1]), xytext=(4, -3), textcoords="offset points")
    ax.plot(times, first, "--", color="#d55e00", lw=1, label="gradient flow")
    ax.set_xlabel("time, learning rate x step")
    ax.set_ylabel("change of the charge")
    ax.legend(frameon=False)
