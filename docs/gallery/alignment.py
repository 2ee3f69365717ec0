"""Networks of any shape come to one kernel.

How far the farthest layer of deep linear networks, of several widths and trained on different views, is from the
kernel that the entropic loss predicts: a distance that vanishes with the learning rate; gradient flow stays where it
began.
"""

from validation import atlas
from validation.atlas import platonic


def measure():
    return atlas.run("platonic").findings.data


def draw(ax, data):
    platonic.plot(ax, data)
