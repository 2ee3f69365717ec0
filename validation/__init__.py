"""Whether an equation is true: comparison with the discrete algorithm, and reports."""

from ._compare import Comparison as Comparison
from ._compare import compare as compare
from ._corrected import corrected as corrected
from ._entropy_estimators import neural_estimate as neural_estimate
from ._entropy_estimators import short_time_bound as short_time_bound
from ._fluctuation import FluctuationTheorem as FluctuationTheorem
from ._fluctuation import fluctuation_theorem as fluctuation_theorem
from ._hebbian import HebbianAlignment as HebbianAlignment
from ._hebbian import anti_hebbian_noise as anti_hebbian_noise
from ._hebbian import noisy_alignment as noisy_alignment
from ._invariance import invariance as invariance
from ._irreversibility import irreversibility as irreversibility
from ._irreversibility_report import Irreversibility as Irreversibility
from ._orders import Orders as Orders
from ._orders import orders as orders
from ._plots import plot_difference as plot_difference
from ._plots import plot_fan as plot_fan
from ._scaling_rule import ScalingRule as ScalingRule
from ._scaling_rule import scaling_rule as scaling_rule
from ._statistics import Estimate as Estimate
from ._statistics import Moment as Moment
from ._symmetry import Symmetry as Symmetry
from ._tails import hill as hill
from ._tails import tail_index as tail_index
