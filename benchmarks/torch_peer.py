"""Problems B1, B2 and B3 by torchsde's Euler-Maruyama, as its users write them, against ours in the same run.

Needs `pip install torchsde` (extra `benchmark`); skipped where it is missing.
"""

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np

from dynamics import solve
from equations import SGD

from . import b1, b2
from ._problems import b3
from ._timing import Figure, interleave
from .b3 import BATCH, RATE, STEPS


def quadratic(paths: int) -> Callable:
    """B1."""
    import torch
    import torchsde

    matrix = torch.tensor(b1.A)

    class Quadratic(torch.nn.Module):
        noise_type, sde_type = "general", "ito"

        def f(self, t, y):
            return -y @ matrix

        def g(self, t, y):
            return (b1.RATE**0.5 * b1.NOISE * matrix).expand(len(y), 2, 2)

    start, times = torch.tensor(b1.START).expand(paths, 2), torch.tensor([0.0, b1.RATE * b1.STEPS])

    def run():
        with torch.no_grad():
            return torchsde.sdeint(Quadratic(), start, times, dt=b1.RATE, method="euler")[-1]

    return run


def lagged_adam(paths: int) -> Callable:
    """B2, its noise as the dense 6 x 6 matrix."""
    import torch
    import torchsde

    s, q, a = (torch.tensor(x) for x in (b2.S, b2.Q, b2.HESSIAN))
    variance, tau, c1, c2 = torch.tensor(b2.VARIANCE), b2.TAU, b2.C1, b2.C2

    def schedule(t):
        decay1, decay2 = torch.exp(-(t + tau) * b2.SUM1), torch.exp(-t * b2.SUM2)
        gamma1, root = 1 - decay1, torch.sqrt(1 - decay2)
        slope = b2.SUM2 * decay2 / (2 * root)
        return root, root / gamma1, slope, (slope * gamma1 - root * b2.SUM1 * decay1) / gamma1**2

    class LaggedAdam(torch.nn.Module):
        noise_type, sde_type = "general", "ito"

        def f(self, t, y):
            theta, m, v = y[:, :2], y[:, 2:4], y[:, 4:]
            root, ratio, slope, ratio_slope = schedule(t)
            g, away = theta @ a, variance - v
            d = 1 / (torch.sqrt(torch.clamp(v, min=tau)) + b2.EPS * root)
            of_theta = -ratio * m * d + tau / 2 * (
                c1 * ratio * (m - g) * d
                - c2 / 2 * ratio * d**3 * away * m * (v > tau)
                + (ratio * slope * d**2 + ratio_slope * d) * m
            )
            of_m = c1 * (g - m) + tau / 2 * (c1 * ratio * ((m * d) @ a) + c1**2 * (g - m))
            return torch.cat([of_theta, of_m, c2 * away + tau * (c2 * g**2 + c2**2 / 2 * away)], 1)

        def g(self, t, y):
            theta, v = y[:, :2], y[:, 4:]
            root, ratio, _, _ = schedule(t)
            d = 1 / (torch.sqrt(torch.clamp(v, min=tau)) + b2.EPS * root)
            noise = y.new_zeros(len(y), 6, 6)
            noise[:, :2, 2:4] = -tau / 2 * (ratio * d)[:, :, None] * s
            noise[:, 2:4, 2:4] = c1 * s
            noise[:, 4:, 2:4] = -2 * tau * c2 * (theta @ a)[:, :, None] * s
            noise[:, 4:, 4:] = c2 * tau**0.5 * q
            return noise

    start = torch.tensor(b2.START).expand(paths, 6)
    times = torch.tensor([b2.BEGIN, b2.BEGIN + b2.DT * b2.STEPS])

    def run():
        with torch.no_grad():
            return torchsde.sdeint(LaggedAdam(), start, times, dt=b2.DT, method="euler")[-1]

    return run


def network(paths: int) -> Callable:
    """B3: the gradient of every example, of which drift and noise are made."""
    import torch
    import torchsde

    objective, layers = b3()
    x, y = (torch.tensor(np.asarray(leaf)) for leaf in objective.data)
    theta = torch.tensor(np.concatenate([np.asarray(leaf).ravel() for leaf in jax.tree.leaves(layers)]))
    size = len(x)

    def loss(p, x, y):
        hidden = torch.tanh(x @ p[:32].reshape(2, 16) + p[32:48])
        return 0.5 * (hidden @ p[48:64] + p[64] - y) ** 2

    each = torch.func.vmap(torch.func.vmap(torch.func.grad(loss), (None, 0, 0)), (0, None, None))

    class Network(torch.nn.Module):
        noise_type, sde_type = "general", "ito"

        def f_and_g(self, t, p):
            gradients = each(p, x, y)
            mean = gradients.mean(1)
            noise = (RATE / (BATCH * size)) ** 0.5 * (gradients - mean[:, None])
            return -mean, noise.transpose(1, 2)

        def f(self, t, p):
            return self.f_and_g(t, p)[0]

        def g(self, t, p):
            return self.f_and_g(t, p)[1]

    start, times = theta.expand(paths, -1), torch.tensor([0.0, RATE * STEPS])

    def run():
        with torch.no_grad():
            return torchsde.sdeint(Network(), start, times, dt=RATE, method="euler")[-1]

    return run


def _row(name: str, times: Any, peer: str, limit: float | None) -> Figure:
    note = f"{times.median(name) * 1e3:.0f} ms, torchsde {times.median(peer) * 1e3:.0f}"
    return Figure(f"torchsde: {name} / torchsde Euler", times.ratio(name, peer), limit, note)


def of_quadratic(paths: int, limits: dict[str, float | None]) -> list[Figure]:
    """B1: the default with nothing said, and Euler's step with two-point noise where moments alone are kept."""
    key = jax.random.key(0)
    common: Any = dict(steps=b1.STEPS, save_every=b1.STEPS, key=key, paths=paths)
    names = [f"B1, {paths} paths, {what}" for what in ("the default", "Euler, two-point")]

    def default():
        return solve(b1.Quadratic(jnp.asarray(b1.RATE)), None, jnp.asarray(b1.START), **common).final

    def moments():
        options: Any = dict(solver=dfx.Euler(), reduce=("mean", "variance"), observe={"x": b1.same})
        return solve(b1.Quadratic(jnp.asarray(b1.RATE)), None, jnp.asarray(b1.START), **options, **common).mean["x"]

    peer = quadratic(paths)
    times = interleave({names[0]: default, names[1]: moments, "peer": peer}, 7)
    rows = [_row(name, times, "peer", limits[what]) for name, what in zip(names, limits, strict=True)]
    off = Figure(
        f"torchsde: B1, {paths} paths, its mean and covariance, standard errors", b1.worst(peer().numpy()), 4.0
    )
    return [*rows, off]


def of_others() -> list[Figure]:
    """B2 and B3 by our Euler step, and B3 by the default."""
    key = jax.random.key(0)
    objective, layers = b3()

    def adam():
        options: Any = dict(steps=b2.STEPS, dt=b2.DT, save_every=b2.STEPS, solver=dfx.Euler())
        return solve(b2.LaggedAdam(), None, jnp.asarray(b2.START), key=key, paths=4096, **options).final

    def sgd(solver=None):
        options: Any = dict(steps=STEPS, save_every=STEPS, solver=solver, key=key, paths=256)
        return solve(SGD(RATE, BATCH), objective, layers, **options).final

    published, theirs = lagged_adam(4096), network(256)
    second = interleave({"B2, Euler": adam, "peer": published}, 3)
    third = interleave({"B3, Euler": partial(sgd, dfx.Euler()), "B3, the default": sgd, "peer": theirs}, 3)
    return [
        _row("B2, Euler", second, "peer", 1 / 16),
        Figure("torchsde: B2, means against ours, standard errors", b2.worst(adam(), published().numpy()), 4.0),
        _row("B3, Euler", third, "peer", 1 / 22),
        _row("B3, the default", third, "peer", None),
    ]


def run() -> list[Figure]:
    try:
        importlib.import_module("torchsde")
    except ImportError:
        return [Figure("torchsde", None, None, "not installed: pip install torchsde")]
    few = of_quadratic(4096, {"the default": 1 / 4, "Euler, two-point": 1 / 25})
    many = of_quadratic(65536, {"the default": 1 / 3, "Euler, two-point": 1 / 25})
    return [*few, *many, *of_others()]
