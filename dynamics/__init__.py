"""How a dynamics is run: the equation with Diffrax, its discrete twin with Optax."""

from ._entropy import EntropyProduction as EntropyProduction
from ._entropy import entropy_production as entropy_production
from ._sampling import minibatches as minibatches
from ._solve import solve as solve
from ._stationary import Stationary as Stationary
from ._stationary import stationary as stationary
from ._stimuli import stimuli as stimuli
from ._strang import Strang as Strang
from ._train import train as train
from ._trajectory import Trajectory as Trajectory
