"""What a dynamics is: signals, the contract, and each training algorithm as a differential equation beside its twin."""

from ._base import AbstractDynamics as AbstractDynamics
from ._base import AbstractEquation as AbstractEquation
from ._noise import AbstractGradientNoise as AbstractGradientNoise
from ._noise import Minibatch as Minibatch
from ._noise import noise_operator as noise_operator
from ._noise_models import Diagonal as Diagonal
from ._noise_models import Isotropic as Isotropic
from ._noise_models import LabelNoise as LabelNoise
from ._noise_models import StudentT as StudentT
from ._objective import Objective as Objective
from ._signal import AbstractSignal as AbstractSignal
from .adam import Adam as Adam
from .from_optax import from_optax as from_optax
from .langevin import Langevin as Langevin
from .lion import Lion as Lion
from .modified import Modified as Modified
from .modified import modified as modified
from .momentum import Momentum as Momentum
from .oja import Oja as Oja
from .sgd import SGD as SGD
from .sign_sgd import SignSGD as SignSGD
from .symbolic import symbolic as symbolic
from .underdamped_langevin import UnderdampedLangevin as UnderdampedLangevin
