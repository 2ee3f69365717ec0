"""The current of a stationary state out of equilibrium.

SGD on a loss whose noise has other directions than its curvature comes to rest in a density with a current that turns
around. Shades are the density, arrows the current.
"""

import jax
import jax.numpy as jnp
import numpy as np

from dynamics import stationary
from equations import SGD, Objective


def figure(ax):
    curvature = jnp.diag(jnp.array([1.0, 0.4]))
    pulls = jnp.array([[1.0, 0.4], [-1.0, -0.4], [0.1, 0.8], [-0.1, -0.8]])
    objective = Objective(lambda w, e: 0.5 * w @ curvature @ w - e @ w, pulls)
    rest = stationary(SGD(0.1, batch_size=1), objective, jnp.zeros(2))

    reach = 2.6 * np.sqrt(np.diag(rest.covariance))
    places = jnp.stack(jnp.meshgrid(*(jnp.linspace(-r, r, 41) for r in reach)), axis=-1)
    density = np.exp(jax.vmap(jax.vmap(rest.log_density))(places))
    current = np.asarray(jax.vmap(jax.vmap(rest.probability_current))(places))[2::4, 2::4]
    ax.contourf(*np.moveaxis(places, -1, 0), density / density.max(), np.linspace(0.05, 1, 9), cmap="Blues", alpha=0.8)
    ax.quiver(*np.moveaxis(places[2::4, 2::4], -1, 0), *np.moveaxis(current, -1, 0), color="C1", width=0.005)
    ax.set(xlabel="first parameter", ylabel="second parameter")
    ax.set_title(f"entropy production {rest.entropy_production_rate:.2f} per unit of time")
