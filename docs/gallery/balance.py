"""The law of balance.

The stationary density of the product of two weights that fit a noisy line, by SGD, with three standard errors, and
what the equation predicts. A power of one half more or less is rejected by the same data.
"""

from validation import atlas
from validation.atlas import law_of_balance


def measure():
    return atlas.run("law-of-balance").findings.data


def draw(ax, data):
    law_of_balance.plot(ax, data)
