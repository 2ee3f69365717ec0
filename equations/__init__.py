"""What a dynamics is: signals, the contract, and each training algorithm as a differential equation beside its twin."""

from ._base import AbstractDynamics as AbstractDynamics
from ._base import AbstractEquation as AbstractEquation
from ._noise import noise_operator as noise_operator
from ._objective import Objective as Objective
from ._signal import AbstractSignal as AbstractSignal
from .adagrad import AdaGrad as AdaGrad
from .adam import Adam as Adam
from .adamw import AdamW as AdamW
from .amsgrad import AMSGrad as AMSGrad
from .from_optax import from_optax as from_optax
from .laprop import LaProp as LaProp
from .modified import Modified as Modified
from .modified import modified as modified
from .momentum import Momentum as Momentum
from .nadam import NAdam as NAdam
from .oja import Oja as Oja
from .rmsprop import RMSProp as RMSProp
from .sgd import SGD as SGD
from .symbolic import symbolic as symbolic
