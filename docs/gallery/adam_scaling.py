"""The scaling rule of Adam.

With ever smaller batches Adam tends to one equation if its learning rate and memories follow the square-root rule
(points, extrapolated, with three standard errors); under the linear rule it is another algorithm at every batch size.
"""

from validation import atlas
from validation.atlas import adam_scaling_rule


def measure():
    return atlas.run("adam-scaling-rule").findings.data


def draw(ax, data):
    adam_scaling_rule.plot(ax, data)
