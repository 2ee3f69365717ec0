"""How long a series remembers: Sokal's estimate of the autocorrelation time, as emcee has it."""

import numpy as np
from jaxtyping import Float

WINDOW = (
    5.0  # autocorrelation times that the sum runs over (Sokal 1997, "Monte Carlo methods in statistical mechanics")
)
RELIABLE = 50.0  # autocorrelation times that a series must be long for its own estimate to be trusted, as in emcee


def autocorrelation_time(series: Float[np.ndarray, "paths n *rest"]) -> Float[np.ndarray, "*rest"]:
    """tau = 1 + 2 sum_{k > 0} rho(k) in steps of the series, for each of its numbers, over all paths together.

    The sum ends at the first window of five times its own value (Sokal). The autocovariance is the mean over paths
    (Foreman-Mackey, Hogg, Lang and Goodman 2013, Publ. Astron. Soc. Pacific 125, 306), about the mean of all. A series
    that does not move has 1.
    """
    paths, count = series.shape[:2]
    centered = np.moveaxis((series - series.mean(axis=(0, 1))).reshape(paths, count, -1), 1, -1)
    spectrum = np.fft.rfft(centered, n=2 * count, axis=-1)
    covariance = np.fft.irfft(np.abs(spectrum) ** 2, axis=-1)[..., :count].mean(axis=0)  # (numbers, n)
    with np.errstate(invalid="ignore", divide="ignore"):
        sums = 2 * np.cumsum(covariance / covariance[:, :1], axis=-1) - 1
    inside = np.arange(count) < WINDOW * sums
    place = np.where(inside.all(axis=-1), count - 1, np.argmin(inside, axis=-1))
    found = np.take_along_axis(sums, place[:, None], axis=-1)[:, 0]
    still = covariance[:, 0] <= 1e-24 * np.square(np.abs(series).max(initial=0.0))
    return np.where(still, 1.0, found).reshape(series.shape[2:])
