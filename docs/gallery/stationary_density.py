"""The stationary density of a Langevin equation.

512 paths in the double well (x² − 1)²/4 + x/10 at temperature 0.15, after a time of 400, and the density exp(−U/T)
that they should have.
"""

import jax
import jax.numpy as jnp

from dynamics import train
from equations import Langevin, Objective
from validation.plots import plot_density

TEMPERATURE = 0.15


def potential(x):
    return (x**2 - 1) ** 2 / 4 + x / 10


def measure():
    well = Objective(lambda x, e: potential(x) + 0 * e, jnp.zeros(1))
    start = jnp.linspace(-1.5, 1.5, 512)
    runs = train(Langevin(0.02, temperature=TEMPERATURE), well, start, key=jax.random.key(0), steps=20_000,
                 observe={"x": lambda x: x}, save_every=1000, paths=512, per_path=True)  # fmt: skip
    return {"x": runs.observables["x"][:, 10:].round(3)}


def draw(ax, data):
    plot_density(data["x"], lambda x: -potential(x) / TEMPERATURE, bins=80, name="x", ax=ax)
    ax.set_title("Langevin steps in a double well")
