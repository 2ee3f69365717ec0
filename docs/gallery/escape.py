"""SGD leaves a minimum at a power of the barrier.

The rate of escape over the ratio of batch size and learning rate: exact first-passage times of the equation, the
power law for small noise, and SGD itself.
"""

from validation import atlas
from validation.atlas import power_law_escape


def measure():
    return atlas.run("power-law-escape").findings.data


def draw(ax, data):
    power_law_escape.plot(ax, data)
