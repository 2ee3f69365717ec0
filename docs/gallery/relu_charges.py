"""Charges that gradient flow conserves, and training does not.

The imbalance between two layers of a network under gradient descent at three learning rates (dots): gradient flow
keeps it, every step moves it at second order in the learning rate, and the modified equation knows.
"""

from validation import atlas
from validation.atlas import broken_conservation_laws


def measure():
    return atlas.run("broken-conservation-laws").findings.data


def draw(ax, data):
    broken_conservation_laws.plot(ax, data)
