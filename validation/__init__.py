"""Whether an equation is true: comparison with the discrete algorithm, and reports."""

from ._compare import Comparison as Comparison
from ._compare import compare as compare
from ._orders import Orders as Orders
from ._orders import orders as orders
from ._plots import plot_difference as plot_difference
from ._plots import plot_fan as plot_fan
from ._scaling_rule import ScalingRule as ScalingRule
from ._scaling_rule import scaling_rule as scaling_rule
from ._statistics import Estimate as Estimate
from ._statistics import Moment as Moment
from ._tails import hill as hill
from ._tails import tail_index as tail_index
