"""How a dynamics is run: the equation with Diffrax, its discrete twin with Optax."""

from ._entropy.production import EntropyProduction as EntropyProduction
from ._entropy.production import entropy_production as entropy_production
from ._entropy.stationary import Stationary as Stationary
from ._entropy.stationary import stationary as stationary
from ._exponents.lyapunov import Exponents as Exponents
from ._exponents.lyapunov import lyapunov as lyapunov
from ._exponents.mean_square import mean_square_radius as mean_square_radius
from ._exponents.mean_square import mean_square_threshold as mean_square_threshold
from ._long_runs.time_average import Average as Average
from ._long_runs.time_average import TimeAverage as TimeAverage
from ._long_runs.time_average import time_average as time_average
from ._paths.control_variate import ControlVariate as ControlVariate
from ._paths.fused import Fused as Fused
from ._paths.large_batches import LargeBatches as LargeBatches
from ._paths.sampler import minibatches as minibatches
from ._paths.strang import Strang as Strang
from ._paths.svag import SVAG as SVAG
from ._reduced import Histogram as Histogram
from ._reduced import Reduced as Reduced
from ._solve import solve as solve
from ._stimuli import Stimuli as Stimuli
from ._stimuli import stimuli as stimuli
from ._sweep.sweep import sweep as sweep
from ._train import train as train
from ._trajectory import Trajectory as Trajectory
