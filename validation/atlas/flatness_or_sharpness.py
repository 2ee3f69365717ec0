"""The noise of SGD keeps a deep linear network flat where label noise is isotropic, and sharpens it where it is not.

Source: "Does SGD Seek Flatness or Sharpness?" (arXiv:2602.05065), the solvable model and its corollaries; recalled, the
trace of the Hessian, which stands for sharpness here, derived here.

y = V x + e, loss |y - W_D ... W_1 x|^2/2, started at the flattest minimum. SGD comes to rest where Tr E[g g^T] is least;
with M = Se^(1/2) V Sx^(1/2), t = |M|_*, K = (Tr Se Tr Sx)^(1/D) t^(2 - 2/D), d outputs, as eta -> 0

    Tr H = K [(D - 1) Tr(Se^-1 (M M^T)^(1/2))/t + d/Tr Se],   the flattest: D (d Tr Sx)^(1/D) |V Sx^(1/2)|_*^(2 - 2/D).
"""

import jax
import jax.numpy as jnp
import numpy as np

from dynamics import train
from equations import SGD, Objective
from validation import Estimate, extrapolated, judge_number

from . import Findings

NOISES = {"anisotropic": (1.0, 0.3), "isotropic": (0.5, 0.5)}  # standard deviations of the labels
RATES = (0.05, 0.035, 0.025)
V = np.eye(2)


def predicted(noise, depth):
    """Tr H at rest and at the flattest minimum, for V = Sx = 1."""
    variances = np.array(noise) ** 2
    t, total = np.sum(noise), np.sum(variances)
    K = (2 * total) ** (1 / depth) * t ** (2 - 2 / depth)
    return K * ((depth - 1) * np.sum(1 / np.array(noise)) / t + 2 / total), depth * 4 ** (1 / depth) * 2 ** (
        2 - 2 / depth
    )


def product(layers):
    return layers[-1] @ product(layers[:-1]) if len(layers) > 1 else layers[0]


def loss(layers, example):
    x, e = example
    return jnp.sum((V @ x + e - product(layers) @ x) ** 2) / 2


def trace(layers):
    """Of the Hessian at a minimum, sum over outputs and unit inputs of |d output|^2."""
    return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(jax.jacfwd(product)(layers)))


def measure(key, full):
    depth, paths, time = (3, 64, 200) if full else (2, 16, 60)
    # Inputs and noise of two values each, all pairs: their covariances are exact, and they are independent.
    signs = jnp.stack(jnp.meshgrid(*[jnp.array([-1.0, 1.0])] * 4), -1).reshape(16, 4)
    limits, courses = {}, {}
    for name, noise in NOISES.items():
        objective, means = Objective(loss, (signs[:, :2], signs[:, 2:] * jnp.array(noise))), []
        for rate in RATES:
            steps = 100 * round(time / rate**2 / 100)
            run = train(
                SGD(rate, 1), objective, [jnp.asarray(V)] * depth, steps=steps, key=key, paths=paths,
                observe={"trace": trace}, save_every=steps // 100,
            )  # fmt: skip
            course = np.asarray(run.observables["trace"])
            means.append(course[:, 50:].mean(axis=1))
        courses[name] = course
        error = np.std(means, axis=1) / np.sqrt(paths - 1)
        limits[name] = extrapolated(RATES, Estimate(np.mean(means, axis=1), error))
    (rest, flattest), (same, _) = (predicted(noise, depth) for noise in NOISES.values())
    return Findings(
        claims=(
            judge_number("Tr H under anisotropic noise, as eta -> 0", limits["anisotropic"], rest, mutant=flattest),
            judge_number("Tr H under isotropic noise, as eta -> 0", limits["isotropic"], same, mutant=rest),
        ),
        data={
            "courses": courses, "time": np.asarray(run.times) * RATES[-1], "depth": depth, "limit": limits["anisotropic"],
        },
        note="Mutants: the flattest minimum, and the value of the other noise. V = Sx = 1, where the slow drift does not "
        "rotate hidden layers (see entropic-forces); where it does, SGD does not rest at the least Tr E[g g^T].",
    )  # fmt: skip


def plot(ax, data):
    rest, flattest = predicted(NOISES["anisotropic"], data["depth"])
    for name, marker in zip(NOISES, "os", strict=True):
        course = data["courses"][name][:, ::5]
        error = 3 * course.std(axis=0) / len(course) ** 0.5
        ax.errorbar(
            data["time"][::5],
            course.mean(axis=0),
            error,
            fmt=marker,
            color="#1b1b1b",
            ms=4,
            label=f"{name} noise, η = {RATES[-1]}",
        )
    value, error = data["limit"]
    ax.errorbar(
        [1.04 * data["time"][-1]], [value], [3 * error], fmt="d", color="#1b1b1b", mfc="w", label="anisotropic, η → 0"
    )
    ax.axhline(rest, color="#0072b2", label="least gradient fluctuation")
    ax.axhline(flattest, color="#d55e00", ls="--", label="flattest minimum")
    ax.set_ylim(flattest - 1.4, None)
    ax.set_xlabel("η² × training steps")
    ax.set_ylabel("trace of the Hessian (± 3 standard errors)")
    ax.legend(frameon=False, loc="lower center", ncols=2, fontsize=8)
