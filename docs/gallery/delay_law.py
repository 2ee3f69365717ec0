"""How late an error may come.

A circuit learns from the product of a stimulus and of an error that arrives later: the share of what it learns falls
linearly with the delay and is gone at the duration of a stimulus.
"""

from validation import atlas
from validation.atlas import continuous_time_learning


def measure():
    return atlas.run("continuous-time-learning").findings.data


def draw(ax, data):
    continuous_time_learning.plot(ax, data)
