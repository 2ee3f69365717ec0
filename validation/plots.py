"""Figures: every function takes Matplotlib axes as `ax=`, or makes some, and returns them.

But `plot_regimes`, which makes a figure of several axes and returns it.
"""

from ._compare.plots import plot_difference as plot_difference
from ._compare.plots import plot_fan as plot_fan
from ._plots.orders import plot_orders as plot_orders
from ._plots.spectra import plot_entropy as plot_entropy
from ._plots.spectra import plot_spectrum as plot_spectrum
from ._plots.trajectories import plot as plot
from ._plots.trajectories import plot_density as plot_density
from ._plots.trajectories import plot_phase as plot_phase
from ._regimes.plot import plot_regimes as plot_regimes
