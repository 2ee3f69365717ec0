"""SGD with a large constant learning rate, and AMSGrad, can converge to a local maximum.

Source: Ziyin, Li, Simon and Ueda, "SGD with a Constant Large Learning Rate Can Converge to Local Maxima"
(arXiv:2107.11774); recalled from the abstract, the conditions derived here. The paper's own example for AMSGrad could not
be read: the one here is of its kind.

w' = (1 - eta h) w near a point where all gradients vanish: SGD converges to it where E ln|1 - eta h| < 0, whatever E h is.
h = 1 or -1.1 with equal chances makes it a maximum, E h = -.05, to which SGD converges at eta = .5 (exponent -.127) and
which it leaves at .05 (.0011). The differential equation has -eta E h - eta^2 Var h/2. AMSGrad without momentum keeps its
largest second moment nu, and so becomes SGD at the learning rate eta/sqrt(nu); Adam forgets it, and does not converge.
"""

import jax
import jax.numpy as jnp
import numpy as np

from dynamics import solve, train
from equations import SGD, Adam, AMSGrad, Objective
from validation import judge_curve, judge_number

from . import Findings

COIN, RARE = np.array([1.0, -1.1]), np.array([1.0, 1.0, 1.0, 1.0, -5.0])  # values of h, equally likely, with E h < 0
RATES = np.array([0.05, 0.2, 0.5, 0.8, 1.2])
TINY = 1e-20  # so near the maximum that the quartic term is nothing
LOG = {"log": lambda w: jnp.log(jnp.abs(w))}


def loss(w, h):
    return h * w**2 / 2 + w**4 / 4


def exponent(h, rates):
    """E ln|1 - eta h| for each rate."""
    return np.mean(np.log(np.abs(1 - np.asarray(rates)[..., None] * np.asarray(h))), axis=-1)


def measure(key, full):
    keys, paths, steps = jax.random.split(key, 8), 1024 if full else 128, 200
    coin, rare = Objective(loss, jnp.array(COIN)), Objective(loss, jnp.array(RARE))
    options = dict(paths=paths, save_every=steps, steps=steps)

    def growth(run, rate, key, **more):
        logs = np.asarray(
            run(SGD(rate, 1), coin, jnp.asarray(TINY), key=key, observe=LOG, **options, **more).observables["log"]
        )
        return (logs[:, 1] - logs[:, 0]) / steps

    rates = np.array([growth(train, rate, k) for rate, k in zip(RATES, jax.random.split(keys[0], 5), strict=True)]).T
    equation = growth(solve, 0.8, keys[1], substeps=128)
    start, found = jnp.asarray(0.3), []
    for rate, k in ((0.5, keys[2]), (0.05, keys[3])):
        run = train(SGD(rate, 1), coin, start, steps=1000, save_every=1000, paths=paths, key=k)
        found.append(np.abs(np.asarray(run.final)) < 1e-12)
    run = train(
        Adam(0.3, 1, b1=0.0, b2=0.9), rare, start, steps=1000, save_every=500, paths=paths, key=keys[4], observe=LOG
    )
    adam = np.diff(np.asarray(run.observables["log"])[:, 1:], axis=1)[:, 0] / 500
    frozen = {**LOG, "nu": lambda w, state: state.nu_max}
    ams = AMSGrad(0.3, 1, b1=0.0, b2=0.9)
    run = train(ams, rare, start, steps=450, save_every=150, paths=paths, key=keys[5], observe=frozen)
    logs, nu = np.asarray(run.observables["log"]), np.asarray(run.observables["nu"])[:, -1]
    kept = exponent(RARE, 0.3 / np.sqrt(nu))
    stays = logs[:, 1] < np.log(1e-6)
    slopes = (logs[stays, 2] - logs[stays, 1]) / 150
    return Findings(
        claims=(
            judge_curve(
                "growth of ln|w| under SGD", rates, exponent(COIN, RATES),
                mutant=np.log(np.abs(1 - RATES * COIN.mean())),
            ),
            judge_curve(
                "share of SGD's runs that end at the maximum, at .5 and .05", np.array(found).T.astype(float), [1, 0],
                mutant=[0.0] * 2,
            ),
            judge_number(
                "growth under AMSGrad less that of SGD at its last rate",
                slopes - kept[stays], 0.0, mutant=float(np.mean(slopes)),
            ),
            judge_number("growth under Adam, which stays near but does not converge", adam, 0.0, mutant=np.mean(slopes)),
            judge_number(
                "growth under the differential equation", equation, -0.8 * COIN.mean() - 0.32 * COIN.var(),
                mutant=float(exponent(COIN, 0.8)),
            ),
        ),
        data={"growth": rates},
        note="Mutants: the exponents of the mean step, by which nothing stays at a maximum; no growth under AMSGrad, its "
        f"own under Adam, SGD's under its equation. Of the AMSGrad runs {np.mean(stays):.0%} are at the maximum after 150 "
        "steps; others have met so large a second moment that they leave it.",
    )  # fmt: skip


def plot(ax, data):
    rates, growth = np.linspace(0.01, 1.3, 300), data["growth"]
    ax.plot(rates, exponent(COIN, rates), color="#0072b2", label="E ln|1 - ηh|")
    ax.plot(rates, np.log(np.abs(1 - rates * COIN.mean())), "--", color="#d55e00", label="ln|1 - ηE h|")
    error = 3 * growth.std(axis=0) / len(growth) ** 0.5
    ax.errorbar(RATES, growth.mean(axis=0), error, fmt="o", color="#1b1b1b", label="SGD (± 3 standard errors)")
    ax.axhline(0, color="#1b1b1b", lw=0.8)
    ax.set_ylim(-1.3, 0.3)
    ax.set_xlabel("learning rate")
    ax.set_ylabel("growth of ln|w| per step at the maximum")
    ax.legend(frameon=False, loc="lower left")
